//! What people do from outside: approvals, answers, cancels, messages, budgets; as the owner and from a second process.

use super::{User, one_call};

fn asks(user: &User) -> String {
    user.script("asks", &one_call("shell", "{ script = \"echo made\" }"));
    let ended = user.expect(3, &["run", "t", "--model", "scripted/asks", "--approve", "shell"]);
    assert!(ended.stderr.contains("waits for your approval"), "{ended:#?}");
    assert!(ended.stderr.contains("echo made"), "{ended:#?}");
    user.newest()
}

#[test]
fn an_approved_call_is_made_and_the_run_goes_on() {
    let user = User::new();
    let run = asks(&user);
    assert_eq!(user.status(&run), "waiting");
    let ended = user.expect(0, &["approve", &run]);
    assert!(ended.stdout.contains("made"), "{ended:#?}");
    user.refused(1, "run_ended", &["approve", &run]);
}

#[test]
fn approving_twice_is_refused() {
    let user = User::new();
    let run = asks(&user);
    user.expect(0, &["approve", &run, "--no-wait"]);
    user.refused(1, "not_waiting", &["approve", &run, "--no-wait", "--call", "2.0"]);
    user.refused(1, "not_waiting", &["approve", &run, "--no-wait", "--call", "2.7"]);
    user.refused(2, "call_id_invalid", &["approve", &run, "--call", "two"]);
    user.expect(0, &["resume", &run]);
}

#[test]
fn edited_arguments_are_checked_and_used() {
    let user = User::new();
    let run = asks(&user);
    user.refused(2, "arguments_invalid", &["approve", &run, "--arguments", "{\"script\": 7}"]);
    let ended = user.expect(0, &["approve", &run, "--arguments", "{\"script\": \"echo other\"}"]);
    assert!(ended.stdout.contains("other") && !ended.stdout.contains("made"), "{ended:#?}");
}

#[test]
fn a_rejected_call_is_not_made_and_the_model_is_told_why() {
    let user = User::new();
    let run = asks(&user);
    let ended = user.expect(0, &["reject", &run, "--reason", "too early"]);
    assert!(ended.stdout.contains("too early"), "{ended:#?}");
    assert!(user.event_types(&run).iter().any(|kind| kind == "decided"));
}

#[test]
fn a_second_process_answers_while_the_first_one_waits_for_the_clock() {
    let user = User::new();
    let question = "[[turn]]\nsay = \"A question and a wait.\"\n[[turn.call]]\ntool = \"ask_user\"\n\
                    arguments = { question = \"Which colour?\", options = [\"red\", \"blue\"] }\n\n\
                    [[turn]]\nsay = \"You said {{ calls.ask_user.text }}\"\n";
    user.script("question", question);
    user.script("waits", &one_call("wait", "{ seconds = 600 }"));
    let mut owner = user.start(&["run", "t", "--model", "scripted/waits"]);
    owner.wait_for("waits until");
    // The owner is alive: a run cannot be started beside it, and reading works.
    user.refused(1, "data_held", &["run", "t", "--model", "scripted/hello"]);
    let run = user.newest();
    assert_eq!(user.status(&run), "waiting");
    let cancelled = user.expect(0, &["cancel", &run, "--reason", "enough"]);
    assert!(cancelled.stdout.contains("cancelled"), "{cancelled:#?}");
    let ended = owner.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("cancelled: enough"), "{ended:#?}");

    let ended = user.expect(3, &["run", "t", "--model", "scripted/question"]);
    assert!(ended.stderr.contains("Which colour?") && ended.stderr.contains("2. blue"), "{ended:#?}");
    let asked = user.newest();
    let mut owner = user.start(&["run", "t", "--model", "scripted/waits"]);
    owner.wait_for("waits until");
    user.refused(2, "task_empty", &["answer", &asked, " "]);
    user.expect(0, &["answer", &asked, "blue"]);
    let followed = user.expect(0, &["events", &asked, "--follow"]);
    assert!(followed.stdout.contains("You said blue"), "{followed:#?}");
    user.refused(1, "run_ended", &["answer", &asked, "red"]);
    owner.signal("TERM");
    let ended = owner.end();
    assert_eq!(ended.code, Some(143), "{ended:#?}");
}

#[test]
fn a_message_after_the_end_goes_on_with_the_thread() {
    let user = User::new();
    user.expect(0, &["run", "first", "--model", "scripted/hello"]);
    let first = user.newest();
    let ended = user.expect(0, &["message", &first, "and second"]);
    assert!(ended.stdout.contains("Your task was: and second"), "{ended:#?}");
    assert_ne!(user.newest(), first);
}

#[test]
fn a_budget_ends_or_pauses_a_run_and_can_be_raised() {
    let user = User::new();
    let dear = "[price]\ninput = 100.0\noutput = 100.0\n[[turn]]\nsay = \"worth it\"\n";
    user.script("dear", dear);
    let ended = user.json(4, &["run", "t", "--model", "scripted/dear", "--budget", "0.01"]);
    assert_eq!(ended.last().unwrap()["status"], "budget_exceeded");
    let ended = user.json(4, &["run", "t", "--model", "scripted/dear", "--budget", "0"]);
    assert_eq!(ended.last().unwrap()["usd"], 0.0);
    user.expect(4, &["run", "t", "--model", "scripted/dear", "--budget", "0.01", "--pause-at-budget"]);
    let run = user.newest();
    assert_eq!(user.status(&run), "paused");
    let ended = user.expect(0, &["raise", &run, "--usd", "5"]);
    assert!(ended.stdout.contains("worth it"), "{ended:#?}");
    user.refused(1, "not_paused", &["raise", &run, "--usd", "5"]);
    user.expect(4, &["run", "t", "--model", "scripted/hello", "--max-steps", "0"]);
    user.expect(4, &["run", "t", "--model", "scripted/hello", "--budget-tokens", "10"]);
}

#[test]
fn an_unknown_outcome_is_settled_by_a_person_only() {
    let user = User::new();
    let run = asks(&user);
    user.refused(1, "not_waiting", &["resolve", &run, "--happened"]);
    user.refused(1, "not_waiting", &["answer", &run, "yes"]);
}
