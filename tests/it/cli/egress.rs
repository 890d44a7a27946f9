//! Runs whose code may reach hosts: from the settings to the record, and what a crash makes of a call.

use super::{User, one_call};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A server on this machine that counts what it is asked, and answers, or keeps the client waiting for ever.
struct Host {
    port: u16,
    asked: Arc<AtomicUsize>,
    told: Receiver<()>,
}

impl Host {
    fn new(answers: bool) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let (counted, (tell, told)) = (Arc::clone(&asked), channel());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = tell.send(());
                if answers {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
                }
                held.push(stream);
            }
        });
        Host { port, asked, told }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Code that asks for a page of `host` at this port: the proxy is spoken to directly, for names of this machine are
    /// among those that clients do not go through it for.
    fn ask(&self, host: &str) -> String {
        let port = self.port;
        format!(
            "import http.client\\nc = http.client.HTTPConnection('127.0.0.1', 3128, timeout=60)\\n\
             c.request('GET', 'http://{host}:{port}/')\\nr = c.getresponse()\\nprint(r.status, r.read().decode())"
        )
    }
}

/// A user whose settings let code reach the host, and a script that asks it.
fn user(host: &Host, asks: &str) -> User {
    let user = User::new();
    settings(&user, &format!("hosts = [\"localhost:{}\", \"other.example\"]\nmib = 1\n", host.port), host);
    user.script("asks", &one_call("python", &format!("{{ code = \"{}\" }}", host.ask(asks))));
    user
}

fn settings(user: &User, egress: &str, host: &Host) {
    let text = format!("allow_addresses = [\"localhost:{}\"]\n[sandbox.egress]\n{egress}", host.port);
    std::fs::write(user.path("errand.toml"), text).unwrap();
}

/// The arguments with the settings file.
fn with<'a>(user: &User, arguments: &[&'a str], config: &'a str) -> Vec<&'a str> {
    assert!(user.path(config).is_file());
    [arguments, &["--config", config]].concat()
}

const RUN: [&str; 4] = ["run", "t", "--model", "scripted/asks"];

fn result(user: &User, run: &str) -> Value {
    let events = user.json(0, &["events", run]);
    events.into_iter().find(|event| event["type"] == "tool_result").unwrap()
}

/// Whether any file below the folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.file_type().unwrap().is_dir() {
        true => holds(&entry.path(), bytes),
        false => std::fs::read(entry.path()).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes),
    })
}

#[test]
fn nothing_is_reached_unless_the_settings_and_the_run_say_so() {
    let host = Host::new(true);
    let user = user(&host, "localhost");
    let wish = format!("localhost:{}", host.port);
    // Without settings nothing can be asked for, and with them nothing is had that was not asked for.
    let refused = user.refused(2, "egress_not_allowed", &[&RUN[..], &["--allow-host", &wish]].concat());
    assert!(refused.stderr.contains("[sandbox.egress]"), "{refused:#?}");
    let more = [&RUN[..], &["--allow-host", "localhost:1"]].concat();
    let refused = user.refused(2, "egress_not_allowed", &with(&user, &more, "errand.toml"));
    assert!(refused.stderr.contains(&format!("allow {wish}, other.example and no more")), "{refused:#?}");
    user.refused(2, "egress_grant_invalid", &[&RUN[..], &["--allow-host", "http://x"]].concat());
    let no_code = [&RUN[..], &["--allow-host", "*", "--tools", "files"]].concat();
    user.refused(2, "egress_grant_invalid", &with(&user, &no_code, "errand.toml"));
    let ended = user.expect(0, &with(&user, &RUN, "errand.toml"));
    assert!(ended.stdout.contains("refused") && !ended.stdout.contains("network:"), "{ended:#?}");
    assert!(result(&user, &user.newest()).get("egress").is_none());
    assert_eq!(host.asked(), 0);
}

#[test]
fn a_run_reaches_what_it_was_granted_and_keeps_what_passed() {
    let host = Host::new(true);
    let user = user(&host, "localhost");
    let granted = [&RUN[..], &["--allow-host", "localhost"]].concat();
    let ended = user.expect(0, &with(&user, &granted, "errand.toml"));
    assert!(ended.stdout.contains("200 hello") && ended.stdout.contains("network: 1 let through"), "{ended:#?}");
    let run = user.newest();
    let egress = &result(&user, &run)["egress"];
    assert!(egress["allowed"] == 1 && egress["refused"] == 0 && egress["bytes_down"].as_u64() > Some(40), "{egress}");
    // The grant is part of what the run is pinned to, and narrower than the settings.
    user.expect(0, &["export", &run, "--output", "run.bundle"]);
    user.expect(0, &["verify", "run.bundle"]);
    user.expect(0, &["replay", &run]);
    // The same from an assistant, which cannot widen what is allowed.
    let assistant = |hosts: &str| {
        let text = format!("name = \"reacher\"\nmodel = \"scripted/asks\"\ntools = [\"python\"]\nallow_hosts = [{hosts}]\n");
        std::fs::write(user.path("reacher.toml"), text).unwrap();
        with(&user, &["run", "t", "--assistant", "reacher.toml"], "errand.toml")
    };
    let arguments = assistant("\"*\"");
    assert!(user.expect(0, &arguments).stdout.contains("200 hello"));
    let arguments = assistant("\"other.example\"");
    let refused = user.expect(0, &arguments);
    let line = format!("network: 1 refused: localhost:{} is not granted", host.port);
    assert!(refused.stdout.contains("403") && refused.stdout.contains(&line), "{refused:#?}");
    let arguments = assistant("\"third.example\"");
    user.refused(2, "egress_not_allowed", &arguments);
    let arguments = assistant("\"http://\"");
    user.refused(2, "assistant_invalid", &arguments);
    assert_eq!(host.asked(), 2);
}

#[test]
fn a_call_that_was_killed_with_its_process_is_not_made_again() {
    let host = Host::new(false);
    let user = user(&host, "localhost");
    let granted = [&RUN[..], &["--allow-host", "localhost"]].concat();
    let mut running = user.start(&with(&user, &granted, "errand.toml"));
    running.wait_for("→ python");
    // It has been asked, and the answer never comes.
    host.told.recv_timeout(Duration::from_secs(60)).unwrap();
    running.signal("KILL");
    assert_eq!(running.end().code, None);
    let run = user.newest();
    // Settings that allow less leave the run alone.
    let left = user.refused(2, "tools_elsewhere", &["resume", &run]);
    assert!(left.stderr.contains("python"), "{left:#?}");
    settings(&user, "hosts = [\"other.example\"]\n", &host);
    user.refused(2, "tools_elsewhere", &with(&user, &["resume", &run], "errand.toml"));
    assert_eq!(user.status(&run), "running");
    // Those that allow what it was granted, or more, carry it on: to a person.
    settings(&user, &format!("hosts = [\"*\", \"*:{}\"]\n", host.port), &host);
    let ended = user.expect(3, &with(&user, &["resume", &run], "errand.toml"));
    assert!(ended.stderr.contains("nobody knows whether it took hold"), "{ended:#?}");
    let resolve = ["resolve", &run, "--happened", "--note", "I looked"];
    let ended = user.expect(0, &with(&user, &resolve, "errand.toml"));
    assert!(ended.stdout.contains("a person confirmed that this call took hold"), "{ended:#?}");
    assert_eq!(host.asked(), 1, "the call was made once");
    user.expect(0, &["verify", &run]);
    user.expect(0, &["replay", &run]);
}

#[test]
fn a_secret_is_in_no_record_no_log_and_no_box() {
    const SECRET: &str = "sk-of-this-test-0123456789";
    let host = Host::new(true);
    let user = user(&host, "localhost");
    let egress = format!("hosts = [\"localhost:{}\"]\nsecrets = {{ API_KEY = [\"localhost\"] }}\n", host.port);
    settings(&user, &egress, &host);
    let code = "import os\\nopen('env.txt', 'w').write(repr(dict(os.environ)))\\nprint(os.environ['API_KEY'])";
    user.script("asks", &one_call("python", &format!("{{ code = \"{code}\" }}")));
    let granted = [&RUN[..], &["--allow-host", "*", "-v"]].concat();
    let granted = with(&user, &granted, "errand.toml");
    user.refused(2, "tool_secret_missing", &granted);
    let mut command = user.command(&granted);
    command.env("ERRAND_SECRET_API_KEY", SECRET);
    let ended = super::ended(command);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("errand-secret-") && !ended.stdout.contains(SECRET), "{ended:#?}");
    assert!(!ended.stderr.contains(SECRET), "{ended:#?}");
    assert!(!holds(&user.data(), SECRET.as_bytes()));
    assert!(holds(&user.data(), b"errand-secret-"), "the search finds what is there");
}
