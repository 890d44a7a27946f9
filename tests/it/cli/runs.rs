//! Runs that go well, and how they are shown.

use super::{User, fed, one_call};
use serde_json::json;

#[test]
fn a_run_answers_with_its_cost_and_its_id() {
    let user = User::new();
    let ended = user.expect(0, &["run", "say hello", "--model", "scripted/hello"]);
    assert!(ended.stdout.contains("Your task was: say hello"));
    assert!(ended.stderr.contains("scripted model: this is a script, not an AI"));
    assert!(ended.stderr.contains("run_") && ended.stderr.contains("$0.00"), "{}", ended.stderr);
    assert_eq!(user.status(&user.newest()), "done");
}

#[test]
fn without_a_model_the_script_is_taken_and_says_so() {
    let user = User::new();
    std::fs::write(user.path("notes.txt"), "one\ntwo\n").unwrap();
    let ended = user.expect(0, &["run", "what is in there?", "--file", "notes.txt"]);
    assert!(ended.stderr.contains("no key in the environment"), "{}", ended.stderr);
    assert!(ended.stdout.contains("notes.txt") && ended.stdout.contains("2 lines"), "{}", ended.stdout);
}

#[test]
fn the_task_can_come_from_standard_input() {
    let user = User::new();
    let ended = fed(user.command(&["run", "-", "--model", "scripted/hello"]), "from a pipe".as_bytes());
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("Your task was: from a pipe"));
}

#[test]
fn events_are_numbered_the_same_live_and_later() {
    let user = User::new();
    user.script("echo2", &one_call("echo", "{ text = \"hi\" }"));
    let live = user.json(0, &["run", "t", "--model", "scripted/echo2", "--tools", "echo"]);
    let result = live.last().unwrap();
    assert_eq!((result["type"].as_str(), result["status"].as_str()), (Some("result"), Some("done")));
    assert_eq!(result["answer"], json!("It said: hi"));
    let events = &live[..live.len() - 1];
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let run = result["run"].as_str().unwrap();
    assert_eq!(user.json(0, &["events", run]), events);
    assert_eq!(user.json(0, &["events", run, "--after", "3"]), &events[3..]);
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = ["run_started", "text", "tool_call", "tool_result", "usage", "text", "usage", "run_done"];
    assert_eq!(types, expected);
}

#[test]
fn a_thread_remembers_and_keeps_its_files() {
    let user = User::new();
    user.script("write", &one_call("files", "{ action = \"write\", path = \"made.txt\", text = \"first\" }"));
    user.script("read", &one_call("files", "{ action = \"read\", path = \"made.txt\" }"));
    user.expect(0, &["run", "write it", "--model", "scripted/write"]);
    let first = user.newest();
    std::fs::write(user.path("more.txt"), "second").unwrap();
    let ended = user.expect(0, &["run", "read it", "--model", "scripted/read", "--thread", &first, "--file", "more.txt"]);
    assert!(ended.stdout.contains("first"), "{ended:#?}");
    let second = user.newest();
    let files = user.expect(0, &["files", &second]).stdout;
    assert!(files.contains("made.txt") && files.contains("more.txt"), "{files}");
    let replayed = user.expect(0, &["replay", &second]).stdout;
    assert!(replayed.contains("2 model requests compared"), "{replayed}");
}

#[test]
fn files_can_be_fetched_and_nothing_is_written_over() {
    let user = User::new();
    user.script("write", &one_call("files", "{ action = \"write\", path = \"a/made.txt\", text = \"made\\n\" }"));
    user.expect(0, &["run", "t", "--model", "scripted/write"]);
    let run = user.newest();
    user.expect(0, &["files", &run, "a/made.txt", "--output", "out.txt"]);
    assert_eq!(std::fs::read_to_string(user.path("out.txt")).unwrap(), "made\n");
    assert_eq!(user.expect(0, &["files", &run, "a/made.txt", "--output", "-"]).stdout, "made\n");
    user.refused(2, "output_exists", &["files", &run, "a/made.txt", "--output", "out.txt"]);
    user.refused(2, "no_such_file", &["files", &run, "a/none.txt", "--output", "x.txt"]);
    assert!(!user.path("x.txt").exists());
}

#[test]
fn a_chat_goes_on_in_one_thread() {
    let user = User::new();
    let ended = fed(user.command(&["chat", "--model", "scripted/hello"]), b"one\n\n/cost\ntwo\n/quit\n");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("Your task was: one") && ended.stdout.contains("Your task was: two"));
    assert!(ended.stderr.contains("2 turns"), "{}", ended.stderr);
    let runs = user.json(0, &["runs"]);
    assert_eq!(runs.len(), 2);
    let started = &user.json(0, &["events", runs[0]["run"].as_str().unwrap()])[0];
    assert_eq!(started["after"], runs[1]["run"]);
}

#[test]
fn runs_are_listed_in_pages() {
    let user = User::new();
    for task in ["one", "two", "three"] {
        user.expect(0, &["run", task, "--model", "scripted/hello"]);
    }
    let first = user.json(0, &["runs", "--limit", "2"]);
    assert_eq!(first.iter().map(|run| run["task"].as_str().unwrap()).collect::<Vec<_>>(), ["three", "two"]);
    let rest = user.json(0, &["runs", "--before", first[1]["run"].as_str().unwrap()]);
    assert_eq!(rest.len(), 1);
    assert!(user.json(0, &["runs", "--status", "failed"]).is_empty());
}

#[test]
fn nothing_a_model_says_reaches_a_terminal_raw() {
    let user = User::new();
    user.script("evil", "[[turn]]\nsay = \"\\u001b]0;owned\\u0007 \\u001b[2J\"\n");
    let ended = user.expect(0, &["run", "t", "--model", "scripted/evil"]);
    assert!(!ended.stdout.contains(['\u{1b}', '\u{7}']) && !ended.stderr.contains(['\u{1b}', '\u{7}']), "{ended:#?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let user = User::new();
    user.expect(0, &["run", "t", "--model", "scripted/hello"]);
    let mut running = user.start(&["events", &user.newest(), "--json"]);
    drop(running.child.stdout.take());
    let code = running.child.wait().unwrap().code();
    assert_eq!(code, Some(0));
}

#[test]
fn the_tools_are_listed_with_what_they_take() {
    let user = User::new();
    let tools = user.json(0, &["tools"]);
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(
        ["python", "shell", "files", "calculate", "echo", "chart", "ask_user", "wait"]
            .iter()
            .all(|name| names.contains(name))
    );
    assert!(tools.iter().all(|tool| tool["parameters"]["additionalProperties"] == false), "{tools:?}");
}
