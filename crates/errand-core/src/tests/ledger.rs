//! The ledger: one fixed log whose hash may not change, stored bytes that newer code must open, and what alters them.

use super::sample::*;
use crate::*;

/// Ledger head of the log of [`every_event`]. If this changes, so did the canonical form of records: every stored run
/// would read as altered. Write a new schema number instead.
const GOLDEN: &str = "7208563a6d1a1291cd24f657dce31c45bb1ac7786ec2f9d20cdd52ee1fab0092";

/// Histories as this code's first schema stored them: the record's bytes and its ledger hash, a line each.
const STORED: [&str; 2] = [
    include_str!("../../../../tests/fixtures/histories/v1-effectful_crash_happened.jsonl"),
    include_str!("../../../../tests/fixtures/histories/v1-fork_points.jsonl"),
];

/// A log with every kind of event, and every kind of item consumed.
fn every_event() -> RunLog {
    let mut log = begun_with(Budget { tokens: Some(50_000), ..budget() });
    let message = UserMessage { id: "a".to_owned(), text: "schneller, größer".to_owned() };
    let key = ItemKey::Message { id: "a".to_owned() };
    let item = Item { key: key.clone(), at: at(5), body: ItemBody::Message { message: message.clone() } };
    let consumed = Consumed { key, sha256: item.digest() };
    push_with(&mut log, Event::Messaged(Messaged { messages: vec![message] }), Vec::new(), vec![consumed]);
    let lost = Booked {
        record: 3,
        attempt: 1,
        spent: Spent { amount: Amount { usd: Usd::from_nanos(77), tokens: 7 }, confirmed: false },
    };
    push_with(&mut log, failed(ModelErrorKind::TimedOut, Some(2_000)), vec![lost], Vec::new());
    let event = reply(&log, "I act.", &["quick", "look", "pay", "gate", "ask", "wait", "delegate"]);
    push(&mut log, event);
    let snapshot = Some(Snapshot { turn: 3, manifest: Hash::of(b"files") });
    let seen = Observation { workspace: snapshot, sandbox_ms: 12, ..observation(4, 1, ok("seen")) };
    let lost = observation(4, 2, Outcome::Unknown { reason: "lost".to_owned() });
    let answered = observation(4, 4, Outcome::error("no_answer", "nobody answered"));
    let over = observation(4, 5, ok("the time has come"));
    let did = Observation { spent: Amount { usd: Usd::from_nanos(3), tokens: 1 }, ..observation(4, 6, ok("did")) };
    push(&mut log, Event::Observed(Observed { observations: vec![seen, lost, answered, over, did] }));
    push(&mut log, decided(4, 2, Decision::Happened { note: "seen".to_owned() }));
    push(&mut log, decided(4, 3, Decision::Edit { arguments: r#"{"a":1}"#.to_owned() }));
    push(&mut log, observed(4, 3, ok("sent")));
    push(&mut log, Event::BudgetExceeded(BudgetExceeded { bound: BudgetBound::Tokens }));
    let by = Allowance { amount: Amount { usd: Usd::from_nanos(1), tokens: 9 }, steps: 1, active_ms: 1 };
    push(&mut log, Event::BudgetRaised(BudgetRaised { by, who: "ann".to_owned() }));
    let model =
        ModelChoice { image_tokens: 0, name: "other".to_owned(), price: None, context_tokens: Some(9_000), endpoint: None };
    let mut fork = forked(Some("And now?"), vec![observation(4, 1, ok("seen"))]);
    if let Event::Forked(forked) = &mut fork {
        forked.model = Some(model);
        forked.budget = Some(Budget { usd: None, ..budget() });
    }
    push(&mut log, fork);
    push(&mut log, Event::Failed(Failed { code: "step_failed".to_owned(), message: "every worker died".to_owned() }));
    log
}

#[test]
fn the_form_of_records_has_not_changed() {
    let mut log = every_event();
    assert_eq!(log.run.hash.to_string(), GOLDEN);
    log = begun();
    push(&mut log, cancelled());
    let bytes = &log.records[1].bytes;
    let start = r#"{"schema":1,"run":"run_01M32ZSC0000000000000000001","number":2,"at":1790000001000,"made_under":0,"attempt":0,"maker":"0000000000000007","event":{"event":"cancelled","reason":"enough","by":"ann"},"head":{"status":{"status":"cancelled","reason":"enough"},"due":{"due":"nothing"},"#;
    assert!(bytes.starts_with(&start.replace("run_01M32ZSC0000000000000000001", &run_id(1).to_string())), "{bytes}");
}

#[test]
fn every_kind_of_event_survives_storing() {
    let mut kinds = std::collections::BTreeSet::new();
    let mut logs = vec![every_event(), compacted(ModelReply { text: "in short".to_owned(), ..summary() })];
    logs.extend(states().into_iter().map(|(_, log)| log));
    for log in logs {
        let opened = verify(stored(&log)).unwrap();
        assert_eq!(opened, log.records);
        kinds.extend(log.records.iter().map(|sealed| sealed.record.event.kind()));
        let fold = RunLog::fold(log.run.id, opened, []).unwrap();
        assert_eq!(fold.run, log.run);
    }
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

fn stored(log: &RunLog) -> impl Iterator<Item = (&str, Hash)> {
    log.records.iter().map(|sealed| (&*sealed.bytes, sealed.hash))
}

#[test]
fn what_is_stored_is_checked_before_it_is_read() {
    let log = every_event();
    let (first, second) = (&log.records[0], &log.records[1]);
    let open = |bytes: &str, number| Sealed::open(bytes, second.hash, &first.hash, number);
    assert_eq!(open(&second.bytes, 2).unwrap(), *second);
    assert_eq!(open(&second.bytes.replace("gr", "kl"), 2), Err(RecordError::Altered { number: 2 }));
    assert_eq!(open("", 2), Err(RecordError::Altered { number: 2 }));
    assert_eq!(open(&second.bytes, 3), Err(RecordError::Gap { expected: 3, found: 2 }));
    let elsewhere = Sealed::open(&second.bytes, second.hash, &second.hash, 2);
    assert_eq!(elsewhere, Err(RecordError::Altered { number: 2 }), "the hash before it is part of it");
}

/// Bytes that their hash confirms and that this code cannot read.
#[test]
fn newer_and_foreign_records_are_told_apart() {
    let open = |bytes: &str| {
        let mut chained = [0u8; 32].to_vec();
        chained.extend_from_slice(bytes.as_bytes());
        Sealed::open(bytes, Hash::of(&chained), &Hash::default(), 1)
    };
    assert_eq!(open(r#"{"schema":2,"what":"ever"}"#), Err(RecordError::Newer { number: 1, schema: 2 }));
    assert!(matches!(open(r#"{"schema":1,"what":"ever"}"#), Err(RecordError::Unreadable { number: 1, .. })));
    assert!(matches!(open("PK"), Err(RecordError::Unreadable { number: 1, .. })));
}

#[test]
fn records_missing_doubled_or_swapped_are_named() {
    let log = every_event();
    let all: Vec<(&str, Hash)> = stored(&log).collect();
    let without = all.iter().enumerate().filter(|(index, _)| *index != 3).map(|(_, one)| *one);
    assert_eq!(verify(without), Err(RecordError::Altered { number: 4 }));
    let mut swapped = all.clone();
    swapped.swap(2, 3);
    assert_eq!(verify(swapped), Err(RecordError::Altered { number: 3 }));
    let doubled = all[..3].iter().chain(&all[2..]).copied();
    assert_eq!(verify(doubled), Err(RecordError::Altered { number: 4 }));
    assert!(matches!(RunLog::fold(log.run.id, Vec::new(), []), Err(LogError::NotStarted)));
    assert!(matches!(RunLog::fold(log.run.id, log.records[1..].to_vec(), []), Err(LogError::NotStarted)));
    let mut gap = log.records.clone();
    gap.remove(1);
    assert!(matches!(RunLog::fold(log.run.id, gap, []), Err(LogError::Record(RecordError::Gap { expected: 2, found: 3 }))));
}

#[test]
fn stored_histories_still_open_and_replay() {
    #[derive(serde::Deserialize)]
    struct Line {
        hash: Hash,
        record: String,
    }
    for text in STORED {
        let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records = verify(lines.iter().map(|line| (line.record.as_str(), line.hash))).unwrap();
        let (run, last) = (records[records.len() - 1].record.run, records[records.len() - 1].hash);
        let replayed = replay(&RunLog::fold(run, records, []).unwrap(), &[]).unwrap();
        assert_eq!(replayed.hash, last);
        assert!(replayed.effects > 2 && replayed.requests > 1, "{replayed:?}");
    }
}
