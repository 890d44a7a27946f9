//! Every event in every state: accepted, and what the run is then, or the typed rejection.

use super::sample::*;
use crate::*;
use std::fmt::Write;

fn events() -> Vec<(&'static str, Event)> {
    let message = UserMessage { id: "a".to_owned(), text: "faster".to_owned() };
    let note = || String::new();
    let edit = Decision::Edit { arguments: "{}".to_owned() };
    let raise = Allowance { amount: Amount { usd: Usd::from_nanos(9), tokens: 0 }, steps: 1, active_ms: 0 };
    let mut short = reply(&begun(), "", &["look"]);
    if let Event::ModelReplied(replied) = &mut short {
        replied.verdicts.clear();
    }
    let mut blind = reply(&begun(), "", &["quick"]);
    let mut foreign = reply(&begun(), "", &["look"]);
    if let (Event::ModelReplied(blind), Event::ModelReplied(foreign)) = (&mut blind, &mut foreign) {
        blind.observations.clear();
        foreign.reply.calls[0].name = "nobody".to_owned();
    }
    vec![
        ("started", Event::Started(Box::new(started()))),
        ("answer", reply(&begun(), "42", &[])),
        ("calls", reply(&begun(), "", &["look"])),
        ("no verdict", short),
        ("no inline", blind),
        ("no tool", foreign),
        ("m. failed", failed(ModelErrorKind::Unavailable, None)),
        ("m. refused", failed(ModelErrorKind::Auth, None)),
        ("result", observed(2, 0, ok("seen"))),
        ("unknown", observed(2, 0, Outcome::Unknown { reason: "lost".to_owned() })),
        ("stranger", observed(2, 9, ok("seen"))),
        ("approve", decided(2, 0, Decision::Approve)),
        ("edit", decided(2, 0, edit)),
        ("reject", decided(2, 0, Decision::Reject { reason: note() })),
        ("happened", decided(2, 0, Decision::Happened { note: note() })),
        ("not happ.", decided(2, 0, Decision::NotHappened { note: note() })),
        ("message", Event::Messaged(Messaged { messages: vec![message] })),
        ("cancel", cancelled()),
        ("exceeded", Event::BudgetExceeded(BudgetExceeded { bound: BudgetBound::Usd })),
        ("raise", Event::BudgetRaised(BudgetRaised { by: raise, who: "ann".to_owned() })),
        ("failed", Event::Failed(Failed { code: "c".to_owned(), message: "m".to_owned() })),
        ("fork", forked(None, Vec::new())),
        ("fork, say", forked(Some("And now?"), Vec::new())),
    ]
}

/// A letter per outcome: the status after it, or why it was refused.
fn letter(handled: Result<Head, Rejection>) -> &'static str {
    match handled {
        Ok(head) => match head.status {
            Status::Running => "R",
            Status::Waiting => "W",
            Status::Paused => "P",
            Status::Done => "D",
            Status::Failed { .. } => "F",
            Status::Cancelled { .. } => "C",
            Status::BudgetExceeded { .. } => "B",
        },
        Err(Rejection::OutOfPlace { .. }) => "-",
        Err(Rejection::NotPending { .. }) => "n",
        Err(Rejection::Inconsistent { .. }) => "i",
        Err(Rejection::NothingDue { .. }) => "0",
    }
}

/// Columns are states, in the order of the lines above them; capital letters are the status that follows, `-` is out of
/// place, `n` not pending, `i` inconsistent, `0` nothing to go on from.
const TABLE: &str = "
model
model, later
handed out
approval
approval, other
person
timer
sub-run
unknown
done, other
paused
done
failed
cancelled
cancelled, calls
budget
withdrawn
started    - - - - - - - - - - - - - - - - -
answer     D D - - - - - - - - - - - - - - -
calls      R R - - - - - - - - - - - - - - -
no verdict i i - - - - - - - - - - - - - - -
no inline  i i - - - - - - - - - - - - - - -
no tool    i i - - - - - - - - - - - - - - -
m. failed  R R - - - - - - - - - - - - - - -
m. refused F F - - - - - - - - - - - - - - -
result     - - R n n R R R n n - - - - - - -
unknown    - - W n n W W W n n - - - - - - -
stranger   - - n n n n n n n n - - - - - - -
approve    - - n R R n n n n n - - - - - - -
edit       - - n R R n n n n n - - - - - - -
reject     - - n R R R n n n n - - - - - - -
happened   - - n n n n n n R n - - - - - - -
not happ.  - - n n n n n n R n - - - - - - -
message    R R - - - - - - - - - - - - - - -
cancel     C C C C C C C C C C C - - - - - -
exceeded   P P - - - - - - - - - - - - - - -
raise      - - - - - - - - - - R - - - - - -
failed     F F F F F F F F F F F - - - - - -
fork       R R R W R W W R W R R 0 0 0 0 0 0
fork, say  R R R W R W W R W R R R R R 0 R R
";

#[test]
fn each_event_fits_the_states_it_should_and_no_other() {
    let states = states();
    let mut table = String::from("\n");
    for (name, _) in &states {
        let _ = writeln!(table, "{name}");
    }
    for (name, event) in events() {
        let cells: Vec<&str> = states
            .iter()
            .map(|(_, log)| {
                letter(log.run.handle(&Input { event: event.clone(), books: Vec::new(), at: at(9_000), began: None }))
            })
            .collect();
        let _ = writeln!(table, "{name:<10} {}", cells.join(" "));
    }
    assert_eq!(table, TABLE);
}

#[test]
fn a_rejection_names_the_event_and_the_state() {
    for (name, log) in states() {
        let event = Event::Started(Box::new(started()));
        let rejection = log.run.handle(&Input { event, books: Vec::new(), at: at(0), began: None }).unwrap_err();
        let expected =
            Rejection::OutOfPlace { event: "started", number: log.run.number, status: log.run.head.status.code() };
        assert_eq!(rejection, expected, "{name}");
    }
    let log = called(&["look"]);
    let event = observed(2, 3, ok("seen"));
    let rejection = log.run.handle(&Input { event, books: Vec::new(), at: at(0), began: None }).unwrap_err();
    assert_eq!(rejection, Rejection::NotPending { call: CallId { record: 2, index: 3 } });
}

/// What was accepted once is late or doubled the second time: refused, and the run stands as it stood.
#[test]
fn doubled_events_are_refused() {
    let unknown = || observed(2, 0, Outcome::Unknown { reason: "lost".to_owned() });
    let mut resolved = called(&["pay", "look"]);
    push(&mut resolved, unknown());
    let doubled = [
        (called(&["look", "pay"]), observed(2, 0, ok("seen"))),
        (called(&["pay", "look"]), unknown()),
        (called(&["gate", "look"]), decided(2, 0, Decision::Approve)),
        (called(&["gate", "look"]), decided(2, 0, Decision::Reject { reason: String::new() })),
        (resolved, decided(2, 0, Decision::Happened { note: String::new() })),
        (begun(), reply(&begun(), "42", &[])),
        (begun(), cancelled()),
        (begun(), Event::BudgetExceeded(BudgetExceeded { bound: BudgetBound::Usd })),
    ];
    for (mut log, event) in doubled {
        push(&mut log, event.clone());
        let refused = log.run.handle(&Input { event: event.clone(), books: Vec::new(), at: at(9_000), began: None });
        assert!(refused.is_err(), "{event:?}");
    }
}

/// Two results of one call in the same event: the second one is not pending any more.
#[test]
fn one_event_cannot_end_a_call_twice() {
    let log = called(&["look", "pay"]);
    let twice = vec![observation(2, 0, ok("a")), observation(2, 0, ok("b"))];
    let event = Event::Observed(Observed { observations: twice });
    let rejection = log.run.handle(&Input { event, books: Vec::new(), at: at(0), began: None }).unwrap_err();
    assert_eq!(rejection, Rejection::NotPending { call: CallId { record: 2, index: 0 } });
}

/// A fork takes in what the origin learned of pending calls, and starts its books anew.
#[test]
fn a_fork_carries_outcomes_and_no_costs() {
    let mut log = called(&["pay", "look", "gate", "delegate"]);
    let paid = Observation {
        spent: Amount { usd: Usd::from_nanos(5), tokens: 1 },
        ..observation(2, 0, Outcome::Unknown { reason: "lost".to_owned() })
    };
    let carried = vec![paid, observation(2, 1, ok("seen"))];
    let head =
        log.run.handle(&Input { event: forked(None, carried), books: Vec::new(), at: at(9_000), began: None }).unwrap();
    assert_eq!((head.totals, head.parent, head.depth), (Totals::default(), None, 0));
    let states: Vec<&CallState> = head.due.calls().iter().map(|call| &call.state).collect();
    assert!(matches!(states[..], [CallState::Unknown, CallState::Done, CallState::Approval, CallState::SubRun { .. }]));
    let CallState::SubRun { run, .. } = states[3] else { unreachable!() };
    assert_ne!(*run, log.run.sub_run_id(CallId { record: 2, index: 3 }), "a fork's sub-run is another one");
    push(&mut log, observed(2, 1, ok("seen")));
}

#[test]
fn times_never_go_back_and_no_time_is_made_up() {
    let mut log = begun();
    let events = [failed(ModelErrorKind::Unavailable, None), failed(ModelErrorKind::Unavailable, None), cancelled()];
    for (event, moment) in events.into_iter().zip([at(5_000), at(0), at(1)]) {
        let input = Input { event, books: Vec::new(), at: moment, began: Some(at(0)) };
        let sealed = log.make(input, Vec::new(), making()).unwrap();
        log.push(sealed);
    }
    let times: Vec<u64> = log.records.iter().map(|sealed| sealed.record.at.since(at(0))).collect();
    assert_eq!(times, [0, 5_000, 5_000, 5_000]);
    assert_eq!(log.run.head.totals.active_ms, 5_000);
}

/// Each failure doubles the wait, up to the limit; a provider that asks for more gets it; then the run fails.
#[test]
fn failures_in_a_row_wait_longer_each_time() {
    let mut log = begun();
    let limits = log.run.config.limits;
    for failure in 1..limits.model_attempts {
        push(&mut log, failed(ModelErrorKind::Unavailable, None));
        let Due::Model { not_before: Some(not_before), .. } = log.run.head.due else { panic!("{:?}", log.run.head.due) };
        let (wait, most) = (not_before.since(log.run.at), (limits.backoff_ms << (failure - 1)).min(limits.backoff_ms_max));
        assert!(wait >= most / 2 && wait <= most, "failure {failure}: {wait} ms of {most}");
    }
    push(&mut log, failed(ModelErrorKind::Garbled, None));
    assert!(matches!(&log.run.head.status, Status::Failed { code, .. } if code == "model_garbled"));
    let mut log = begun();
    push(&mut log, failed(ModelErrorKind::RateLimited, Some(3_600_000)));
    let wait = log.run.head.due.deadline().map(|time| time.since(log.run.at)).unwrap();
    assert!((3_600_000..=3_600_500).contains(&wait), "{wait}");
    let event = reply(&log, "", &["quick"]);
    push(&mut log, event);
    assert_eq!(log.run.head.faults.model, 0, "a success begins the count anew");
}
