//! What a user may get wrong: each is refused with a code, a hint and a page, and loses nothing.

use super::{User, fed};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_command_line_that_is_none() {
    let user = User::new();
    for arguments in [&["fly"][..], &["run"], &["run", "t", "--speed", "9"], &["resolve", "x"], &["raise", "x"], &[]] {
        assert_eq!(user.errand(arguments).code, Some(2), "{arguments:?}");
    }
    assert_eq!(user.errand(&["--help"]).code, Some(0));
}

#[test]
fn models_that_cannot_be_used() {
    let user = User::new();
    user.refused(2, "model_unknown", &["run", "t", "--model", "nobody/knows"]);
    user.refused(2, "model_unknown", &["run", "t", "--model", "scripted/none"]);
    user.refused(2, "model_auth", &["run", "t", "--model", "openai/gpt-5-mini"]);
    user.refused(2, "settings_invalid", &["run", "t", "--model-base-url", "not a url"]);
    user.script("broken", "[[turn]]\nsai = \"typo\"\n");
    user.refused(2, "model_bad_request", &["run", "t", "--model", "scripted/broken"]);
}

#[test]
fn every_error_can_be_explained() {
    let user = User::new();
    let ended = user.errand(&["resume", "run_x"]);
    assert!(ended.stderr.contains("`errand explain run_id_invalid` tells more"), "{ended:#?}");
    assert!(user.expect(0, &["explain", "run_id_invalid"]).stdout.contains("What to do"));
    assert!(user.expect(0, &["explain"]).stdout.lines().count() > 150);
    assert_eq!(user.json(0, &["explain", "run_id_invalid"])[0]["code"], "run_id_invalid");
    user.refused(2, "error_code_unknown", &["explain", "run_id"]);
}

#[test]
fn a_demo_of_data_takes_csv_files_only() {
    let user = User::new();
    for (name, content) in [("notes.txt", "a,b\n1,2\n"), ("image.csv", "\0\u{1}\n"), ("empty.csv", "")] {
        std::fs::write(user.path(name), content).unwrap();
        user.refused(2, "arguments_invalid", &["demo", "data", name]);
    }
    user.refused(2, "file_missing", &["demo", "data", "none.csv"]);
}

#[test]
fn tasks_that_are_none() {
    let user = User::new();
    user.refused(2, "task_empty", &["run", "", "--model", "scripted/hello"]);
    user.refused(2, "task_empty", &["run", " \n ", "--model", "scripted/hello"]);
    let command = || user.command(&["run", "-", "--model", "scripted/hello"]);
    let huge = fed(command(), &vec![b'x'; 10 << 20]);
    assert_eq!(huge.code, Some(2));
    huge.is_refused_with("task_too_long");
    assert!(huge.stderr.contains("10485760 bytes"), "{huge:#?}");
    fed(command(), b"\xff\xfe").is_refused_with("task_not_text");
    fed(command(), b"").is_refused_with("task_empty");
    assert!(!user.data().exists(), "nothing was begun");
}

#[test]
fn files_that_cannot_be_given() {
    let user = User::new();
    let with = |path: &str| ["run", "t", "--model", "scripted/hello", "--file", path].map(str::to_owned);
    let refused = |code: &str, path: &str| {
        let arguments = with(path);
        user.refused(2, code, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    };
    refused("file_missing", "none.csv");
    refused("file_not_plain", "scripts");
    refused("file_name_unusable", ".");
    refused("file_not_plain", "/dev/zero");
    // 5 GB, and not a byte on the disk.
    std::fs::File::create(user.path("huge.bin")).unwrap().set_len(5 << 30).unwrap();
    refused("file_too_large", "huge.bin");
    std::fs::write(user.path("secret"), "x").unwrap();
    std::fs::set_permissions(user.path("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    // Root may read everything.
    if std::fs::read(user.path("secret")).is_err() {
        refused("file_unreadable", "secret");
    }
    assert!(user.json(0, &["runs"]).is_empty());
}

#[test]
fn runs_that_are_not_there() {
    let user = User::new();
    user.expect(0, &["run", "t", "--model", "scripted/hello"]);
    let none = "run_01HZZZZZZZZZZZZZZZZZZZZZZZ";
    for command in ["show", "events", "files", "resume", "approve", "cancel", "replay", "verify"] {
        user.refused(2, "run_not_found", &[command, none]);
    }
    user.refused(2, "run_not_found", &["export", none, "--output", "x"]);
    assert!(!user.path("x").exists());
    user.refused(2, "run_not_found", &["run", "t", "--thread", none]);
    user.refused(2, "run_id_invalid", &["show", "run_42"]);
    user.refused(2, "run_id_invalid", &["cancel", "../../etc/passwd"]);
}

#[test]
fn amounts_that_are_none() {
    let user = User::new();
    let run = ["run", "t", "--model", "scripted/hello"];
    for (flag, value, code) in [
        ("--budget", "-1", "budget_invalid"),
        ("--budget", "NaN", "budget_invalid"),
        ("--budget-tokens", "lots", "number_invalid"),
        ("--max-steps", "4294967296", "number_invalid"),
        ("--max-time", "a while", "duration_invalid"),
        ("--approve", "browser", "unknown_tool"),
        ("--tools", "browser", "unknown_tool"),
        ("--tools", "echo,echo", "tool_named_twice"),
    ] {
        user.refused(2, code, &[&run[..], &[flag, value]].concat());
    }
    user.script("priceless", "[[turn]]\nsay = \"x\"\n");
    // A free budget for a free model is kept: nothing is spent.
    user.expect(0, &[&run[..], &["--budget", "0"]].concat());
}

#[test]
fn settings_that_cannot_be_read() {
    let user = User::new();
    std::fs::write(user.path("errand.toml"), "modle = \"x\"\n").unwrap();
    let ended = user.refused(2, "config_invalid", &["runs", "--config", "errand.toml"]);
    assert!(ended.stderr.contains("modle"), "{ended:#?}");
    // A settings file that merely lies in the current folder can be anybody's.
    user.expect(0, &["run", "t", "--model", "scripted/hello"]);
    user.refused(2, "config_invalid", &["runs", "--config", "none.toml"]);
    std::fs::write(user.path("errand.toml"), "model = \"scripted/hello\"\nmax_steps = 3\n").unwrap();
    let ended = user.expect(0, &["run", "t", "--config", "errand.toml"]);
    assert!(ended.stdout.contains("Hello!"), "{ended:#?}");
    // What is no plain file may have no end, or nobody who writes it.
    user.refused(2, "config_invalid", &["runs", "--config", "/dev/zero"]);
    user.refused(2, "bundle_not_found", &["verify", "/dev/zero"]);
    std::os::unix::fs::symlink("/dev/zero", user.path("scripts/endless.toml")).unwrap();
    user.refused(2, "model_bad_request", &["run", "t", "--model", "scripted/endless"]);
    user.expect(0, &["run", "t", "--model", "scripted/hello"]);
}
