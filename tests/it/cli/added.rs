//! Tools of the user's own, from the command line.

#![expect(clippy::print_stdout, reason = "says why a test is skipped")]

use super::{User, one_call};
use serde_json::{Value, json};

/// A user with one MCP server of their own; false where there is no Python to run it.
fn user() -> Option<User> {
    let found = std::process::Command::new("/usr/bin/env")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .args(["python3", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: there is no python3 here");
        return None;
    }
    let user = User::new();
    std::fs::create_dir(user.path("tools")).unwrap();
    write(&user, "s", &server(&user, json!([])));
    Some(user)
}

fn server(user: &User, more: Value) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/errand-tools/tests/servers/peer.py");
    let mut args = vec![json!("-u"), json!(script)];
    args.extend(more.as_array().unwrap().iter().cloned());
    let env = json!({ "STATE": user.path("state"), "TOKEN": { "secret": "TOKEN" } });
    json!({ "kind": "mcp", "name": "s", "server": { "command": "python3", "args": args, "env": env } })
}

fn write(user: &User, name: &str, manifest: &Value) {
    std::fs::write(user.path("tools").join(format!("{name}.json")), manifest.to_string()).unwrap();
}

fn trace(user: &User) -> String {
    std::fs::read_to_string(user.path("state")).unwrap_or_default()
}

#[test]
fn a_server_is_used_only_with_its_folder_and_ends_with_the_command() {
    let Some(user) = user() else { return };
    user.script("says", &one_call("s_say", "{ text = \"hello out there\" }"));
    let run = ["run", "t", "--model", "scripted/says", "--tool-dir", "tools"];
    user.refused(2, "tool_secret_missing", &run);
    std::fs::write(user.path("token"), "hush-hush-hush\n").unwrap();
    let settings = format!("[secrets]\nTOKEN = \"{}\"\n", user.path("token").display());
    std::fs::write(user.path("errand.toml"), settings).unwrap();
    let with = |more: &[&'static str]| [more, &["--config", "errand.toml"]].concat();
    user.expect(3, &with(&run));
    assert!(!trace(&user).contains("call"), "it was called before a person was asked: {}", trace(&user));
    let newest = user.newest();
    let starts = trace(&user).matches("start").count();
    user.expect(0, &["runs"]);
    user.refused(2, "tools_elsewhere", &["approve", &newest]);
    user.refused(2, "tools_elsewhere", &["resume", &newest]);
    assert_eq!((user.status(&newest).as_str(), trace(&user).matches("start").count()), ("waiting", starts));
    let done = user.expect(0, &["approve", &newest, "--tool-dir", "tools", "--config", "errand.toml"]);
    assert!(done.stdout.contains("hello out there"), "{done:#?}");
    assert!(trace(&user).contains("call say"), "{}", trace(&user));
    for line in trace(&user).lines().filter_map(|line| line.strip_prefix("start ")) {
        assert!(!std::path::Path::new("/proc").join(line).exists(), "{line} was left running");
    }
    user.expect(0, &["verify", &newest]);
    user.expect(0, &["replay", &newest]);
}

#[test]
fn a_server_that_cannot_be_reached_refuses_the_run_by_name() {
    let Some(user) = user() else { return };
    user.script("hello", "[[turn]]\nsay = \"hello\"\n");
    let mut manifest = server(&user, json!(["exits"]));
    manifest["server"]["env"].as_object_mut().unwrap().remove("TOKEN");
    write(&user, "s", &manifest);
    let run = ["run", "t", "--model", "scripted/hello", "--tool-dir", "tools"];
    let refused = user.refused(1, "mcp_unreachable", &run);
    assert!(refused.stderr.contains("\"s\"") && refused.stderr.contains("not today"), "{refused:#?}");
    assert!(user.json(0, &["runs"]).is_empty());
    user.expect(0, &[&run[..], &["--tools", "python"]].concat());
    manifest["optional"] = true.into();
    write(&user, "s", &manifest);
    let went_on = user.expect(0, &run);
    assert!(went_on.stderr.contains("going on without an MCP server"), "{went_on:#?}");
}

#[test]
fn tools_are_listed_shown_and_checked() {
    let Some(user) = user() else { return };
    let mut manifest = server(&user, json!([]));
    manifest["server"]["env"].as_object_mut().unwrap().remove("TOKEN");
    manifest["tools"] = json!({ "say": { "class": "pure" } });
    write(&user, "s", &manifest);
    let listed = user.json(0, &["tools", "--tool-dir", "tools"]);
    let say = listed.iter().find(|tool| tool["name"] == "s_say").unwrap();
    assert_eq!((&say["kind"], &say["class"], &say["approval"]), (&json!("mcp"), &json!("pure"), &json!("effectful")));
    assert!(say["file"].as_str().unwrap().ends_with("s.json"), "{say}");
    let shown = user.expect(0, &["tools", "s_say", "--tool-dir", "tools"]);
    assert!(shown.stdout.contains("Says what it is given.") && shown.stdout.contains("additionalProperties"), "{shown:#?}");
    user.refused(2, "unknown_tool", &["tools", "s_sing", "--tool-dir", "tools"]);
    let sound = user.expect(0, &["tools", "check", "tools"]);
    assert!(sound.stdout.contains("1 manifest, no problems"), "{sound:#?}");
    write(&user, "bad", &json!({ "kind": "http", "name": "bad", "colour": 1, "request": {} }));
    let broken = user.refused(2, "tool_manifest_broken", &["tools", "check", "tools"]);
    for problem in [
        "bad.json: colour is not known here",
        "bad.json: \"description\" is missing",
        "bad.json: request: \"url\" is missing",
    ] {
        assert!(broken.stderr.contains(problem), "{problem}: {broken:#?}");
    }
    let problems = user.json(2, &["tools", "check", "tools"]);
    assert!(problems.len() == 3 && problems.iter().all(|problem| problem["type"] == "problem"), "{problems:?}");
    user.refused(2, "tool_manifest_broken", &["run", "t", "--tool-dir", "tools"]);
    user.expect(0, &["runs"]);
}
