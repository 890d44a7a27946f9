//! What is next, and what goes first where several things could be.

use super::sample::*;
use crate::*;

fn put(log: &mut RunLog, key: ItemKey, moment: u64, body: ItemBody) {
    log.items.insert(key.clone(), Item { key, at: at(moment), body });
}

fn say(log: &mut RunLog, id: &str, moment: u64) {
    let message = UserMessage { id: id.to_owned(), text: format!("text of {id}") };
    put(log, ItemKey::Message { id: id.to_owned() }, moment, ItemBody::Message { message });
}

fn bring(log: &mut RunLog, index: u32, outcome: Outcome) {
    let observation = observation(2, index, outcome);
    put(log, ItemKey::Result { call: observation.call }, 0, ItemBody::Result { observation });
}

fn decide(log: &mut RunLog, key: fn(CallId) -> ItemKey, index: u32, decision: Decision) {
    let call = CallId { record: 2, index };
    put(log, key(call), 0, ItemBody::Decision { decision, by: "ann".to_owned() });
}

fn approval(call: CallId) -> ItemKey {
    ItemKey::Approval { call }
}

fn resolution(call: CallId) -> ItemKey {
    ItemKey::Resolution { call }
}

fn claim(log: &mut RunLog, expires: Timestamp) {
    let body = ItemBody::Claim { by: Nonce(1), bound: Amount::ZERO, expires };
    put(log, ItemKey::Claim { record: log.run.number + 1, attempt: 1 }, 0, body);
}

/// Kind of what is next, and how many items it takes in.
fn next(log: &RunLog, now: Timestamp) -> (String, usize) {
    match log.next(now) {
        Next::Nothing => ("nothing".to_owned(), 0),
        Next::Wait => ("wait".to_owned(), 0),
        Next::NotBefore(time) => (format!("not before {}", time.since(at(0))), 0),
        Next::Commit { event, consumed } => (event.kind().to_owned(), consumed.len()),
        Next::Model => ("model".to_owned(), 0),
    }
}

fn is(log: &RunLog, moment: u64, kind: &str, items: usize) {
    assert_eq!(next(log, at(moment)), (kind.to_owned(), items));
}

#[test]
fn with_nothing_beside_the_log() {
    let expected = |name: &str| match name {
        "model" => "model",
        "done" | "failed" | "cancelled" | "cancelled, calls" | "budget" | "withdrawn" => "nothing",
        "model, later" => "not before",
        _ => "wait",
    };
    for (name, log) in states() {
        assert!(next(&log, at(1_000)).0.starts_with(expected(name)), "{name}: {:?}", next(&log, at(1_000)));
    }
}

#[test]
fn messages_go_before_the_model_and_in_the_order_they_came() {
    let mut log = begun();
    say(&mut log, "b", 1);
    say(&mut log, "a", 2);
    is(&log, 10, "messaged", 2);
    let Next::Commit { event: Event::Messaged(messaged), consumed } = log.next(at(10)) else { unreachable!() };
    assert_eq!(messaged.messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    push_with(&mut log, Event::Messaged(messaged), Vec::new(), consumed);
    is(&log, 9_000, "model", 0);
    assert_eq!(log.unread().count(), 0);
}

#[test]
fn a_message_is_read_before_a_retry_is_due_and_does_not_hurry_it() {
    let mut log = begun();
    push(&mut log, failed(ModelErrorKind::RateLimited, Some(60_000)));
    let due = log.run.head.due.deadline();
    say(&mut log, "a", 0);
    is(&log, 2_000, "messaged", 1);
    let Next::Commit { event, consumed } = log.next(at(2_000)) else { unreachable!() };
    push_with(&mut log, event, Vec::new(), consumed);
    assert_eq!(log.run.head.due.deadline(), due);
}

#[test]
fn an_attempt_under_way_keeps_messages_waiting() {
    let mut log = begun();
    say(&mut log, "a", 0);
    claim(&mut log, at(5_000));
    is(&log, 4_999, "model", 0);
    is(&log, 5_000, "messaged", 1);
    put(&mut log, ItemKey::Void { record: 2, attempt: 1 }, 0, ItemBody::Void);
    is(&log, 10, "messaged", 1);
}

#[test]
fn the_last_result_finds_all_the_others() {
    let mut log = called(&["look", "pay", "look"]);
    bring(&mut log, 2, ok("c"));
    is(&log, 9_000, "wait", 0);
    bring(&mut log, 0, ok("a"));
    is(&log, 9_000, "wait", 0);
    bring(&mut log, 1, ok("b"));
    is(&log, 9_000, "observed", 3);
    let Next::Commit { event: Event::Observed(observed), .. } = log.next(at(9_000)) else { unreachable!() };
    let order: Vec<u32> = observed.observations.iter().map(|observation| observation.call.index).collect();
    assert_eq!(order, [0, 1, 2], "in the order of the calls, whatever order they came in");
}

#[test]
fn decisions_go_before_results_and_messages_wait_for_the_model() {
    let mut log = called(&["look", "gate"]);
    bring(&mut log, 0, ok("seen"));
    say(&mut log, "a", 0);
    is(&log, 9_000, "observed", 1);
    decide(&mut log, approval, 1, Decision::Approve);
    is(&log, 9_000, "decided", 1);
    let Next::Commit { event, consumed } = log.next(at(9_000)) else { unreachable!() };
    push_with(&mut log, event, Vec::new(), consumed);
    is(&log, 9_000, "wait", 0);
    bring(&mut log, 1, ok("sent"));
    is(&log, 9_000, "observed", 2);
    let Next::Commit { event, consumed } = log.next(at(9_000)) else { unreachable!() };
    push_with(&mut log, event, Vec::new(), consumed);
    is(&log, 9_000, "messaged", 1);
}

#[test]
fn a_decision_that_does_not_fit_is_left_alone() {
    let mut log = called(&["gate"]);
    decide(&mut log, approval, 0, Decision::Happened { note: String::new() });
    is(&log, 9_000, "wait", 0);
    let mut log = called(&["look"]);
    decide(&mut log, approval, 0, Decision::Approve);
    is(&log, 9_000, "wait", 0);
    let mut log = called(&["pay"]);
    push(&mut log, observed(2, 0, Outcome::Unknown { reason: "lost".to_owned() }));
    bring(&mut log, 0, ok("paid"));
    is(&log, 9_000, "wait", 0);
    decide(&mut log, resolution, 0, Decision::NotHappened { note: String::new() });
    is(&log, 9_000, "decided", 1);
}

#[test]
fn the_clock_acts_at_its_time_and_not_before() {
    let mut log = called(&["wait", "ask"]);
    is(&log, 3_599_999, "wait", 0);
    is(&log, 3_600_000, "observed", 0);
    bring(&mut log, 1, ok("yes"));
    is(&log, 10, "observed", 1);
    let log = called(&["wait", "look"]);
    is(&log, 9_999_999, "wait", 0);
}

#[test]
fn a_question_is_answered_or_its_time_is_over() {
    let mut log = begun();
    let mut event = reply(&log, "", &["ask"]);
    if let Event::ModelReplied(replied) = &mut event {
        replied.verdicts = vec![Verdict::Accepted { class: None, until: Some(at(60_000)), share: None }];
    }
    push(&mut log, event);
    is(&log, 59_999, "wait", 0);
    is(&log, 60_000, "observed", 0);
    bring(&mut log, 0, ok("yes"));
    // An answer that is there counts, also after its time.
    is(&log, 60_000, "observed", 1);
}

#[test]
fn only_a_raise_wakes_a_paused_run() {
    let mut log = begun();
    push(&mut log, Event::BudgetExceeded(BudgetExceeded { bound: BudgetBound::Usd }));
    say(&mut log, "a", 0);
    is(&log, 9_000, "wait", 0);
    let by = Allowance { steps: 1, ..Allowance::default() };
    put(&mut log, ItemKey::Raise { id: "r".to_owned() }, 0, ItemBody::Raise { by, who: "ann".to_owned() });
    is(&log, 9_000, "budget_raised", 1);
    let Next::Commit { event, consumed } = log.next(at(9_000)) else { unreachable!() };
    push_with(&mut log, event, Vec::new(), consumed);
    is(&log, 9_000, "messaged", 1);
}
