//! `errand sandbox`, as a person uses it.

#![expect(clippy::print_stdout, reason = "says why a test is skipped")]

use super::{Ended, User, fed};
use serde_json::Value;

fn given(user: &User, input: &str, arguments: &[&str]) -> Ended {
    fed(user.command(arguments), input.as_bytes())
}

/// A user with the session `s`; none, after saying so, where this host has no boxes.
fn user() -> Option<User> {
    let user = User::new();
    let ended = user.errand(&["--json", "doctor"]);
    if ended.json().first().is_none_or(|doctor| doctor["sandbox"]["available"] != true) {
        println!("skipped: this host makes no boxes");
        return None;
    }
    assert_eq!(user.expect(0, &["sandbox", "create", "s"]).stdout, "s\n");
    Some(user)
}

#[test]
fn sessions_are_made_listed_and_removed() {
    let user = User::new();
    assert_eq!(user.expect(0, &["sandbox", "list"]).stdout, "");
    let made = user.expect(0, &["sandbox", "create"]).stdout;
    assert!(made.starts_with("sbx-"), "{made}");
    user.expect(0, &["sandbox", "create", "mine"]);
    let listed = user.json(0, &["sandbox", "list"]);
    assert_eq!(listed.iter().map(|session| session["id"].as_str().unwrap()).collect::<Vec<_>>(), ["mine", made.trim()]);
    assert_eq!((&listed[0]["in_use"], &listed[0]["tier"]), (&Value::Bool(false), &"t1".into()));
    assert!(listed[0]["idle_ms"].as_u64().unwrap() < 600_000 && listed[0]["grant"] == false, "{}", listed[0]);
    let shown = user.expect(0, &["sandbox", "list"]).stdout;
    assert!(shown.lines().next().unwrap().starts_with("mine ") && shown.contains("free"), "{shown}");
    // Nothing weaker than what is asked for.
    for (tier, code) in [("t2", "sandbox_tier_unavailable"), ("t9", "config_invalid")] {
        let ended = user.errand(&["sandbox", "exec", "mine", "--min-tier", tier, "--", "true"]);
        assert_ne!(ended.code, Some(0));
        ended.is_refused_with(code);
    }
    user.refused(2, "sandbox_session_exists", &["sandbox", "create", "mine"]);
    user.expect(0, &["sandbox", "kill", "mine"]);
    user.refused(2, "sandbox_session_missing", &["sandbox", "kill", "mine"]);
    // The data folder is one of runs all the same.
    user.script("hello", "[[turn]]\nsay = \"hi\"");
    user.expect(0, &["run", "x", "--model", "scripted/hello"]);
    for id in ["../up", "", "a b", &"x".repeat(65)] {
        user.refused(2, "sandbox_session_id", &["sandbox", "create", id]);
    }
}

#[test]
fn images_are_asked_for_by_names_that_are_known() {
    let user = User::new();
    assert_eq!(user.expect(0, &["sandbox", "image", "list"]).stdout, "");
    user.refused(2, "sandbox_image_unknown", &["sandbox", "create", "s", "--image", "nobody-knows"]);
    user.refused(2, "sandbox_image_unknown", &["sandbox", "image", "build", "../x"]);
    user.refused(2, "sandbox_image_unknown", &["sandbox", "image", "rm", "data"]);
    user.refused(2, "file_missing", &["sandbox", "image", "build", "x", "--lock", "none"]);
    std::fs::write(user.path("loose.txt"), "numpy>=2\n").unwrap();
    user.refused(2, "sandbox_image_lock", &["sandbox", "image", "build", "x", "--lock", "loose.txt"]);
    assert_eq!(user.expect(0, &["sandbox", "list"]).stdout, "", "no session was made");
}

#[test]
fn files_go_in_and_out_and_never_over_links() {
    let user = User::new();
    user.expect(0, &["sandbox", "create", "s"]);
    std::fs::write(user.path("a b.txt"), "hello").unwrap();
    user.expect(0, &["sandbox", "files", "s", "--put", "a b.txt"]);
    user.expect(0, &["sandbox", "files", "s", "deep/copy.txt", "--put", "a b.txt"]);
    assert_eq!(user.expect(0, &["sandbox", "files", "s", "deep/copy.txt"]).stdout, "hello");
    let listed = user.json(0, &["sandbox", "files", "s"]);
    let paths: Vec<&str> = listed.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["a b.txt", "deep", "deep/copy.txt"]);
    user.refused(2, "file_missing", &["sandbox", "files", "s", "--put", "none"]);
    user.refused(2, "file_not_plain", &["sandbox", "files", "s", "x", "--put", "/dev/zero"]);
    user.refused(2, "sandbox_not_found", &["sandbox", "files", "s", "none"]);
    user.refused(2, "sandbox_path_refused", &["sandbox", "files", "s", "../../errand.db"]);
}

#[test]
fn a_program_runs_in_a_box_and_its_status_is_the_commands() {
    let Some(user) = user() else { return };
    let ended =
        user.expect(7, &["sandbox", "exec", "s", "--", "sh", "-c", "echo out; echo err >&2; echo kept > file; exit 7"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(user.expect(0, &["sandbox", "files", "s", "file"]).stdout, "kept\n");
    assert_eq!(given(&user, "to be read", &["sandbox", "exec", "s", "--", "cat"]).stdout, "to be read");
    user.expect(137, &["sandbox", "exec", "s", "--", "sh", "-c", "kill -9 $$"]);
    let ended = user.expect(1, &["sandbox", "exec", "s", "--timeout", "1s", "--", "sleep", "600"]);
    assert!(ended.stderr.contains("--timeout"), "{}", ended.stderr);
    let told = user.expect(0, &["--json", "sandbox", "exec", "s", "--", "id", "-u"]).json().remove(0);
    assert_eq!((told["exit"]["code"].as_i64(), told["stdout"]["text"].as_str()), (Some(0), Some("1000\n")));
    user.refused(1, "sandbox_program_not_started", &["sandbox", "exec", "s", "--", "no-such-program"]);
    user.refused(2, "sandbox_session_missing", &["sandbox", "exec", "none", "--", "true"]);
    user.refused(2, "sandbox_limit_out_of_range", &["sandbox", "exec", "s", "--memory", "1", "--", "true"]);
    user.refused(2, "duration_invalid", &["sandbox", "exec", "s", "--timeout", "soon", "--", "true"]);
}

#[test]
fn cells_from_a_pipe_are_run_and_told() {
    let Some(user) = user() else { return };
    let ended = given(&user, "print('hi')\n6 * 7\n", &["sandbox", "shell", "s"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hi\n42\n"), "{}", ended.stderr);
    let ended = given(&user, "1 / 0", &["sandbox", "shell", "s"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("ZeroDivisionError"), "{}", ended.stderr);
    let ended = given(&user, "import sys; sys.exit('why')", &["sandbox", "shell", "s"]);
    assert!(ended.stderr.contains("SystemExit: why"), "{}", ended.stderr);
    let ended = given(&user, "const x = 41;\nawait Promise.resolve(x + 1)", &["sandbox", "shell", "s", "-l", "node"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "42\n"), "{}", ended.stderr);
    let ended = given(&user, "while True: pass", &["--json", "sandbox", "shell", "s", "--timeout", "1s"]);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, told["end"].as_str()), (Some(1), Some("interrupted")));
}

/// A host on loopback that says hello to everybody; gives its port.
fn hello() -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    port
}

#[test]
fn a_session_that_was_granted_a_host_reaches_it_and_no_other() {
    let Some(user) = user() else { return };
    let port = hello();
    let host = format!("127.0.0.1:{port}");
    let ask = |port: u16| {
        let host = format!("127.0.0.1:{port}");
        let request = format!("GET http://{host}/ HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n");
        format!("exec 3<>/dev/tcp/127.0.0.1/3128; printf '{request}' >&3; cat <&3")
    };
    let made = user.json(0, &["sandbox", "create", "open", "--allow-host", &host, "--egress-mib", "1"]).remove(0);
    assert_eq!(made["grant"]["egress"]["hosts"][0]["host"], "127.0.0.1", "{made}");
    // A grant to a session is not the word of whoever runs this: the address is one of this machine.
    let exec = |script: &str| user.expect(0, &["sandbox", "exec", "open", "--", "bash", "-c", script]);
    let ended = exec(&ask(port));
    assert!(ended.stdout.starts_with("HTTP/1.1 403 egress_denied"), "{ended:?}");
    assert!(ended.stderr.contains("way out: ") && ended.stderr.contains("allow_addresses"), "{ended:?}");
    let allowed = ["--allow-address", &host, "--json", "sandbox", "exec", "open", "--", "bash", "-c", &ask(port)];
    let told = user.expect(0, &allowed).json().remove(0);
    assert!(told["stdout"]["text"].as_str().unwrap().ends_with("hello"), "{told}");
    assert!(told["egress"]["allowed"] == 1 && told["egress"]["bytes_down"].as_u64().unwrap() > 5, "{told}");
    let other = ["--allow-address", &host, "--json", "sandbox", "exec", "open", "--", "bash", "-c", &ask(port ^ 1)];
    let told = user.expect(0, &other).json().remove(0);
    assert_eq!(told["egress"]["last_refusals"][0]["code"], "egress_denied", "{told}");
    // What was used is off the budget, also for commands to come; and without a grant there is no door.
    let record = std::fs::read_to_string(user.data().join("sandboxes/open/session.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert!(record["grant"]["egress"]["bytes_max"].as_u64().unwrap() < 1 << 20, "{record}");
    user.expect(1, &["sandbox", "exec", "s", "--", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3128"]);
    for wrong in [["--allow-host", "*.com"], ["--allow-host", "http://a.example"], ["--allow-plain", "a:0"]] {
        user.refused(2, "egress_grant_invalid", &["sandbox", "create", "no", wrong[0], wrong[1]]);
    }
    user.refused(2, "egress_grant_invalid", &["sandbox", "create", "no", "--allow-host", &host, "--secret", "KEY"]);
    user.expect(0, &["sandbox", "create", "keyed", "--allow-host", &host, "--secret", "KEY=127.0.0.1"]);
    user.refused(2, "tool_secret_missing", &["sandbox", "exec", "keyed", "--", "true"]);
}

/// Tier T0: its workers are the binary itself, and no session is needed.
#[test]
fn a_script_runs_without_a_box() {
    let user = User::new();
    let write = |name: &str, code: &str| std::fs::write(user.path(name), code).unwrap();
    let ended = given(&user, "import json\nprint(json.dumps({'n': 6 * 7}))", &["sandbox", "script", "-"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "{\"n\": 42}\n"), "{ended:#?}");
    write("bad.py", "x = 1\nopen('/etc/passwd')");
    let ended = user.expect(1, &["sandbox", "script", "bad.py"]);
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("PermissionError: tier t0 has no files"), "{ended:#?}");
    write("loop.py", "while True:\n    pass");
    let told = user.json(1, &["sandbox", "script", "loop.py", "--timeout", "300ms"]).remove(0);
    assert_eq!(told["exit"], "timed_out", "{told}");
    write("bomb.py", "x = 'ab'\nwhile True:\n    x += x");
    let told = user.json(1, &["sandbox", "script", "bomb.py", "--memory", "32"]).remove(0);
    assert_eq!(told["exit"], "out_of_memory", "{told}");
    std::fs::write(user.path("long.py"), vec![b'#'; 2 << 20]).unwrap();
    user.refused(2, "sandbox_exec_refused", &["sandbox", "script", "long.py"]);
    user.refused(2, "task_not_text", &["sandbox", "script", "none.py"]);
    let doctor = user.errand(&["--json", "doctor"]).json().remove(0);
    assert_eq!(doctor["scripts"]["available"], true, "{}", doctor["scripts"]);
}
