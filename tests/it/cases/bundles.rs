//! Every run of every case is exported, read back, verified and replayed; altered, cut off and forged in every record.

use super::PLAYED;
use super::play::Played;
use errand_core::{
    CallState, Due, Event, Hash, Head, Message, ModelTask, PendingCall, Record, RecordError, RunId, RunLog, SUMMARY_NOTE,
    Sealed, Timestamp, Usd, replay, verify,
};
use errand_engine::bundle::{self, Bundle, Error, Writer};

/// A run with the runs of its thread before it, the oldest first.
fn thread<'a>(played: &'a Played, log: &'a RunLog) -> Vec<&'a RunLog> {
    let mut thread = vec![log];
    while let Some(history) = &thread[thread.len() - 1].started().history {
        thread.push(played.runs.iter().find(|log| log.run.id == history.run).expect("the case has the whole thread"));
    }
    thread.reverse();
    thread
}

fn export(thread: &[&RunLog]) -> Vec<u8> {
    let run = thread[thread.len() - 1].run.id;
    let mut writer = Writer::new(Vec::new(), run, Timestamp::from_millis(9), false).unwrap();
    thread.iter().for_each(|log| writer.log(log).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Bundle, Error> {
    let bundle = bundle::read(bytes)?;
    bundle.check()?;
    Ok(bundle)
}

/// Each run of each case, with its bundle.
fn each_run(mut act: impl FnMut(&str, &RunLog, &[Message], &[u8])) {
    for (case, played) in PLAYED.iter() {
        for (number, (log, history)) in (1..).zip(played.runs.iter().zip(&played.histories)) {
            act(&format!("{} R{number}", case.name), log, history, &export(&thread(played, log)));
        }
    }
}

#[test]
fn what_was_exported_verifies_and_replays() {
    let (mut effects, mut requests, mut runs) = (0, 0, 0);
    each_run(|name, log, history, bytes| {
        let bundle = read(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bundle.history().unwrap(), history, "{name}");
        let read = bundle.log().unwrap();
        let replayed = replay(read, &bundle.history().unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((replayed.hash, replayed.records), (log.run.hash, log.run.number), "{name}");
        let asked: usize = log.records.iter().map(|sealed| sealed.record.head.effects().len()).sum();
        assert_eq!(replayed.effects, asked as u64, "{name}");
        // Only a run that ends with its first record asks for nothing.
        assert!(replayed.effects > 0 || log.run.number == 1, "{name}");
        effects += replayed.effects;
        requests += replayed.requests;
        runs += 1;
    });
    assert!(runs > 60 && effects > 2 * runs && requests > runs, "{runs} runs, {effects} effects, {requests} requests");
}

#[test]
fn times_in_a_log_never_go_back() {
    each_run(|name, log, _, _| {
        assert!(log.records.is_sorted_by_key(|sealed| sealed.record.at), "{name}");
    });
}

#[test]
fn later_requests_begin_with_earlier_ones() {
    let (mut turns, mut shortened) = (0, 0);
    each_run(|name, log, history, _| {
        let mut before: Vec<Message> = Vec::new();
        for number in 1..=log.run.number {
            let prefix = log.prefix(log.run.id, number).unwrap();
            let Some(request) = prefix.request(history) else { continue };
            match prefix.run.head.due.task() {
                // What a summarizer reads is the conversation up to where the summary ends, and what to do.
                Some(ModelTask::Compact { cut: false }) => {
                    let (_, read) = request.messages.split_last().unwrap();
                    assert!(before.starts_with(read) || read.starts_with(&before), "{name}: the summary after {number}");
                    shortened += 1;
                    continue;
                }
                Some(ModelTask::Compact { cut: true }) => continue,
                _ if matches!(prefix.last().event, Event::Compacted(_)) => {
                    let summary = request.messages.iter().any(|message| match message {
                        Message::User { text, .. } => text.starts_with(SUMMARY_NOTE),
                        _ => false,
                    });
                    assert!(summary, "{name}: no summary after record {number}");
                }
                _ => assert!(request.messages.starts_with(&before), "{name}: the request after record {number}"),
            }
            before = request.messages;
            turns += 1;
        }
    });
    assert!(turns > 100 && shortened > 3, "{turns} turns, {shortened} shortened");
}

#[test]
fn one_altered_byte_is_noticed_in_every_record() {
    let mut altered = 0;
    each_run(|name, log, _, bytes| {
        for sealed in &log.records {
            let number = sealed.record.number;
            let at = find(bytes, sealed.bytes.as_bytes());
            for position in positions(&sealed.bytes) {
                for forged in other_bytes(sealed.bytes.as_bytes()[position]) {
                    let mut doctored = bytes.to_vec();
                    doctored[at + position] = forged;
                    let error = read(&doctored).expect_err(name);
                    let named = matches!(&error, Error::Record { run, source: RecordError::Altered { number: of } }
                        if *run == log.run.id && *of == number);
                    assert!(named, "{name}: byte {position} of record {number} became {forged}: {error}");
                    altered += 1;
                }
                chain_names(name, log, number, position);
            }
        }
    });
    assert!(altered > 2_000, "{altered}");
}

#[test]
fn an_altered_item_is_noticed_and_the_record_that_took_it_in_is_named() {
    let mut altered = 0;
    each_run(|name, log, _, bytes| {
        for sealed in log.records.iter().filter(|sealed| sealed.record.run == log.run.id) {
            for consumed in &sealed.record.consumed {
                let stored = serde_json::to_vec(&log.items[&consumed.key]).unwrap();
                let at = find(bytes, &stored) + find(&stored, b"\"at\":") + 9;
                let mut doctored = bytes.to_vec();
                doctored[at] ^= 1;
                let error = bundle::read(&doctored[..]).err();
                // The digest of the whole notices first; whoever makes that anew is found out by the record.
                assert!(matches!(error, Some(Error::Altered { .. })), "{name}: {error:?}");
                let mut forged = log.clone();
                let item = forged.items.get_mut(&consumed.key).unwrap();
                item.at = item.at.plus(1);
                let error = bundle::consumed_items(&forged).unwrap_err();
                let named = matches!(&error, Error::Item { record, .. } if *record == sealed.record.number);
                assert!(named, "{name}: {error}");
                altered += 1;
            }
        }
    });
    assert!(altered > 60, "{altered}");
}

/// The core's own check of stored bytes names the record too.
fn chain_names(name: &str, log: &RunLog, number: u64, position: usize) {
    let mut stored: Vec<(String, Hash)> = log.records.iter().map(|one| (one.bytes.to_string(), one.hash)).collect();
    let bytes = &mut stored[number as usize - 1].0;
    let other = if bytes.as_bytes()[position] == b'x' { "y" } else { "x" };
    bytes.replace_range(position..=position, other);
    let error = verify(stored.iter().map(|(bytes, hash)| (bytes.as_str(), *hash))).expect_err(name);
    assert_eq!(error, RecordError::Altered { number }, "{name}");
}

/// Some bytes of a record: within texts, where it stays JSON, within names of fields and numbers, and at both ends.
fn positions(bytes: &str) -> Vec<usize> {
    let ascii = |at: &usize| bytes.as_bytes()[*at].is_ascii();
    let spread = (0..bytes.len()).step_by(bytes.len() / 7 + 1);
    let words = bytes.match_indices("\":\"").map(|(at, _)| at + 3).step_by(5);
    spread.chain(words).chain([bytes.len() - 1]).filter(ascii).collect()
}

/// What a byte becomes: its neighbour, which leaves most JSON readable, and a quotation mark, which does not.
fn other_bytes(byte: u8) -> [u8; 3] {
    [byte ^ 1, byte ^ 0x80, if byte == b'"' { b'\\' } else { b'"' }]
}

#[test]
fn no_cut_off_bundle_is_taken_for_a_whole_one() {
    each_run(|name, log, _, bytes| {
        // Whole lines, the places around them, and a spread of others.
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        let places = ends.flat_map(|at| [at, at + 1, at + 2]).chain((0..bytes.len()).step_by(bytes.len() / 40 + 1));
        for end in places.filter(|end| *end < bytes.len()) {
            let error = read(&bytes[..end]).expect_err(name);
            assert_eq!(error.code(), "bundle_truncated", "{name}, {} cut at {end}: {error}", log.run.id);
        }
    });
}

/// What a forger would change in a record, and what a replay then says.
type Forgery = (&'static str, fn(&mut Record) -> bool, &'static str);

const FORGERIES: [Forgery; 7] = [
    ("money disappears", |record| spend(&mut record.head), "Ledger"),
    ("time disappears", |record| std::mem::replace(&mut record.head.totals.active_ms, 77) != 77, "Ledger"),
    ("a call is not asked for", drop_call, "Effects"),
    ("the run never ends", go_on, "Effects"),
    ("another request", ask_otherwise, "Request"),
    ("another answer", answer_otherwise, "Ledger"),
    ("an outcome for no call", observe_nothing, "Rejected"),
];

fn spend(head: &mut Head) -> bool {
    head.totals.spent.usd += Usd::from_nanos(1);
    true
}

fn drop_call(record: &mut Record) -> bool {
    let Due::Calls { calls } = &mut record.head.due else { return false };
    let asks = |call: &PendingCall| !matches!(call.state, CallState::Done | CallState::Timer { .. });
    calls.iter().position(asks).map(|at| calls.remove(at)).is_some()
}

fn go_on(record: &mut Record) -> bool {
    let ended = record.head.status.is_ended();
    if ended {
        record.head.due = Due::Model {
            task: Default::default(),
            reserve: Default::default(),
            max_output_tokens: 9,
            timeout_ms: 9,
            not_before: None,
        };
    }
    ended
}

fn ask_otherwise(record: &mut Record) -> bool {
    let Event::ModelReplied(replied) = &mut record.event else { return false };
    replied.request = Hash::of(b"another request");
    true
}

/// A longer answer makes the context larger, if the provider did not count it; else the totals are touched as well.
fn answer_otherwise(record: &mut Record) -> bool {
    let Event::ModelReplied(replied) = &mut record.event else { return false };
    // Where there was no text, some would end the run.
    if replied.reply.text.is_empty() {
        return false;
    }
    replied.reply.text.push_str(" and more");
    spend(&mut record.head)
}

fn observe_nothing(record: &mut Record) -> bool {
    let Event::Observed(observed) = &mut record.event else { return false };
    observed.observations.iter_mut().for_each(|one| one.call.index += 40);
    true
}

#[test]
fn a_ledger_that_was_forged_whole_verifies_and_does_not_replay() {
    let mut forged = std::collections::BTreeMap::<&str, u32>::new();
    each_run(|name, log, history, _| {
        for sealed in log.records.iter().filter(|sealed| sealed.record.run == log.run.id) {
            for (what, forge, expected) in FORGERIES {
                let number = sealed.record.number;
                let Some(doctored) = chained_anew(log, number, forge) else { continue };
                let stored: Vec<_> = doctored.records.iter().map(|one| (one.bytes.to_string(), one.hash)).collect();
                verify(stored.iter().map(|(bytes, hash)| (bytes.as_str(), *hash))).unwrap();
                let divergence = replay(&doctored, history).expect_err(&format!("{name} record {number}: {what}"));
                let said = format!("{divergence:?}");
                assert!(said.starts_with(expected), "{name} record {number}: {what}: {divergence}");
                assert!(said.contains(&format!("number: {number}")), "{name} record {number}: {what}: {divergence}");
                *forged.entry(expected).or_default() += 1;
            }
        }
    });
    for kind in ["Ledger", "Effects", "Request", "Rejected"] {
        assert!(forged.get(kind).is_some_and(|count| *count > 20), "{forged:?}");
    }
}

#[test]
fn a_forged_bundle_reads_as_whole_and_does_not_replay() {
    for (case, played) in PLAYED.iter().filter(|(_, played)| !played.runs.is_empty()) {
        let log = &played.runs[0];
        let Some(doctored) = chained_anew(log, log.run.number, |record| spend(&mut record.head)) else { continue };
        let bundle = read(&export(&[&doctored])).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(replay(bundle.log().unwrap(), &[]).is_err(), "{}", case.name);
    }
}

/// The log with one record changed and the ledger made anew from there on: it agrees with itself again.
fn chained_anew(log: &RunLog, number: u64, forge: fn(&mut Record) -> bool) -> Option<RunLog> {
    let run: RunId = log.run.id;
    let mut records: Vec<Sealed> = Vec::new();
    for sealed in &log.records {
        let before = records.last().map_or(Hash::default(), |last| last.hash);
        let mut record = Record::clone(&sealed.record);
        if record.number == number && !forge(&mut record) {
            return None;
        }
        records.push(Sealed::seal(record, &before));
    }
    RunLog::fold(run, records, log.items.values().cloned()).ok()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("the bundle holds the record as it is stored")
}
