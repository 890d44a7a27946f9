//! What people do from outside: approvals, answers, cancels, messages, budgets; as the owner and from a second process.

use super::{User, one_call};
use errand_core::{Approval, Class, Executor, RunId, ToolDefinition, ToolSpec};
use errand_engine::ports::World;
use errand_store_local::SystemWorld;

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
    let ended = user.expect(4, &["run", "t", "--model", "scripted/hello", "--max-steps", "0"]);
    assert!(ended.stderr.contains("a fork of this one, more with --max-steps"), "{ended:#?}");
    let run = user.newest();
    // A first record that makes no call due cannot be gone on from without a word.
    let fork = |bound: [&str; 2]| [&["fork", &run, "--at", "1", "--message", "go on"], &bound[..]].concat().join("\n");
    for (code, bound) in [(4, ["--budget-tokens", "100000"]), (0, ["--max-steps", "5"])] {
        user.expect(code, &fork(bound).split('\n').collect::<Vec<_>>());
    }
    user.expect(4, &["run", "t", "--model", "scripted/hello", "--budget-tokens", "10"]);
}

/// A run whose call to `shell` counts as effectful: no built-in tool does anything outside of its box.
fn effectful(user: &User) -> String {
    user.script("effectful", &one_call("shell", "{ script = \"sleep 2; echo took hold\" }"));
    let parameters = include_str!("../../../schemas/tools/shell.json");
    let parameters = serde_json::from_str::<serde_json::Value>(parameters).unwrap()["parameters"].to_string();
    let definition = ToolDefinition { name: "shell".to_owned(), description: "Runs a script.".to_owned(), parameters };
    let spec = ToolSpec {
        definition,
        class: Class::Effectful,
        executor: Executor::Worker,
        approval: Approval::Never,
        timeout_ms: 30_000,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    };
    let run = RunId::new(SystemWorld.now(), 7);
    super::folder::begin(user, run, SystemWorld.now(), "scripted/effectful", vec![spec]);
    run.to_string()
}

#[test]
fn a_call_that_may_have_taken_hold_is_never_repeated_and_a_person_says_what_came_of_it() {
    for (word, expected) in
        [("--happened", "a person confirmed that this call took hold"), ("--not-happened", "did not take hold")]
    {
        let user = User::new();
        let run = effectful(&user);
        let mut running = user.start(&["resume", &run]);
        running.wait_for("→ shell");
        running.wait_for("… shell");
        running.signal("KILL");
        running.end();
        let ended = user.expect(3, &["resume", &run]);
        assert!(ended.stderr.contains("nobody knows whether it took hold"), "{ended:#?}");
        let waits = user.json(0, &["show", &run])[0]["waits_for"][0].as_str().unwrap().to_owned();
        assert!(waits.contains("errand resolve"), "{waits}");
        user.refused(1, "not_waiting", &["approve", &run]);
        let ended = user.expect(0, &["resolve", &run, word, "--note", "I looked"]);
        assert!(ended.stdout.contains(expected) && ended.stdout.contains("I looked"), "{ended:#?}");
        let results = user.json(0, &["events", &run]);
        let ok = results.iter().filter(|event| event["type"] == "tool_result" && event["outcome"] == "ok").count();
        assert_eq!(ok, 0, "the call itself never came to an end, and was not made again");
        user.expect(0, &["replay", &run]);
    }
}

#[test]
fn a_run_that_waits_for_a_decision_takes_no_answer() {
    let user = User::new();
    let run = asks(&user);
    user.refused(1, "not_waiting", &["resolve", &run, "--happened"]);
    user.refused(1, "not_waiting", &["answer", &run, "yes"]);
}

#[test]
fn a_run_at_work_reads_a_message_at_its_next_turn() {
    let user = User::new();
    let script = "[[turn]]\nsay = \"I wait.\"\n[[turn.call]]\ntool = \"wait\"\narguments = { seconds = 2 }\n\n\
                  [[turn]]\nsay = \"I was told: {{ notice }}\"\n";
    user.script("listens", script);
    let mut owner = user.start(&["run", "t", "--model", "scripted/listens"]);
    owner.wait_for("waits until");
    let told = user.expect(0, &["message", &user.newest(), "hurry up"]);
    assert!(told.stdout.contains("reads it at its next turn"), "{told:#?}");
    let ended = owner.end();
    assert!(ended.stdout.contains("I was told: hurry up"), "{ended:#?}");
}
