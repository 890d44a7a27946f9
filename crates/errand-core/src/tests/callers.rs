//! Runs that a caller takes part in: calls that it makes, conversations that it gives, answers that it bounds.

use super::sample::*;
use crate::*;

/// A new run with a tool that the caller carries out.
fn begun_for_caller(change: impl FnOnce(&mut Started)) -> RunLog {
    let mut started = started();
    let mut tool = started.config.tools[0].clone();
    tool.definition.name = "theirs".to_owned();
    tool.executor = Executor::Caller;
    started.config.tools.push(tool);
    change(&mut started);
    RunLog::begin(run_id(1), started, at(0), making())
}

fn after(mut log: RunLog, text: &str, tools: &[&str]) -> RunLog {
    let event = reply(&log, text, tools);
    push(&mut log, event);
    log
}

fn is_done_with(log: &RunLog, left: &[u32]) {
    assert_eq!(log.run.head.status, Status::Done);
    let abandoned: Vec<u32> = log.run.head.due.calls().iter().map(|call| call.id.index).collect();
    assert_eq!(abandoned, left);
    assert!(log.run.head.due.calls().iter().all(|call| call.state == CallState::Caller));
    assert_eq!(log.run.head.effects(), []);
}

#[test]
fn a_run_ends_with_the_calls_of_its_caller() {
    is_done_with(&after(begun_for_caller(|_| ()), "", &["theirs", "theirs"]), &[0, 1]);
    is_done_with(&after(begun_for_caller(|_| ()), "", &["quick", "theirs"]), &[1]);
}

#[test]
fn calls_of_the_run_are_over_first() {
    let mut log = after(begun_for_caller(|_| ()), "", &["theirs", "look", "ask"]);
    assert_eq!(log.run.head.status, Status::Running);
    push(&mut log, observed(2, 1, ok("seen")));
    assert_eq!(log.run.head.status, Status::Waiting);
    push(&mut log, observed(2, 2, ok("yes")));
    is_done_with(&log, &[0]);
}

#[test]
fn no_one_else_answers_a_call_of_the_caller() {
    let mut log = after(begun_for_caller(|_| ()), "", &["theirs", "ask"]);
    let input = |event| Input { event, books: Vec::new(), at: at(9), began: None };
    for event in [observed(2, 0, ok("mine")), decided(2, 0, Decision::Approve)] {
        assert!(log.run.handle(&input(event)).is_err());
    }
    push(&mut log, observed(2, 1, ok("yes")));
    is_done_with(&log, &[0]);
}

#[test]
fn the_next_run_begins_with_what_came_of_the_call_or_is_told_that_nothing_did() {
    let before = after(begun_for_caller(|_| ()), "I ask.", &["theirs"]).conversation();
    assert_eq!(unanswered(&before), [("call_2_0".to_owned(), "theirs".to_owned())]);
    let result =
        Message::Tool { call_id: "call_2_0".to_owned(), name: "theirs".to_owned(), text: "42".to_owned(), is_error: false };
    let next = begun_for_caller(|started| started.given = vec![result.clone()]);
    let messages = next.request(&before).unwrap().messages;
    assert_eq!(messages[1..], [before.clone(), vec![result]].concat());
    assert!(unanswered(&messages).is_empty());

    let messages = begun().request(&before).unwrap().messages;
    let Message::Tool { call_id, is_error: true, .. } = &messages[messages.len() - 2] else { panic!("{messages:?}") };
    assert_eq!(call_id, "call_2_0");
    assert_eq!(messages.last(), Some(&Message::user("Do the errand.")));
    assert_eq!(answered(messages.clone()), messages);
}

#[test]
fn a_conversation_that_was_given_takes_the_place_of_the_task_and_is_counted() {
    let said = vec![
        Message::user("What is it?"),
        Message::Assistant { text: "A tree. ".repeat(5_000), calls: Vec::new(), opaque: None },
        Message::user("And this?"),
    ];
    let log = begun_for_caller(|started| started.given.clone_from(&said));
    assert_eq!(log.conversation(), said);
    assert_eq!(log.request(&[]).unwrap().messages[1..], said);
    let bytes: u64 = said.iter().map(Message::bytes).sum();
    assert!(log.run.head.context.all_bytes > bytes);
}

#[test]
fn an_answer_has_no_more_tokens_than_were_asked_for() {
    let bounded = |tokens| begun_for_caller(|started| started.config.limits.answer_tokens = tokens);
    let due = |log: &RunLog| match log.run.head.due {
        Due::Model { max_output_tokens, .. } => Some(max_output_tokens),
        _ => None,
    };
    assert_eq!(due(&bounded(0)), Some(1_000));
    // Each reply of the sample has ten.
    let log = after(bounded(25), "", &["quick"]);
    assert_eq!(due(&log), Some(15));
    let log = after(after(log, "", &["quick"]), "", &["quick"]);
    assert_eq!(log.run.head.status, Status::BudgetExceeded { bound: BudgetBound::OutputTokens });
    // A reply that the bound cuts off is the last, and not a fault to be mended.
    let mut log = bounded(10);
    let Event::ModelReplied(mut replied) = reply(&log, "So it is th", &[]) else { panic!("no reply") };
    replied.reply.finish = Finish::Length;
    push(&mut log, Event::ModelReplied(replied.clone()));
    assert_eq!(log.run.head.status, Status::BudgetExceeded { bound: BudgetBound::OutputTokens });
    let mut free = bounded(0);
    push(&mut free, Event::ModelReplied(replied));
    assert_eq!(free.run.head.status, Status::Running);
}
