//! Workers that are none of ours: each speaks in a way that no worker may, and is ended for it.

#![cfg(unix)]

use super::*;

/// A worker that reads its first request away and says this, in the escapes of `printf`; then `tail` goes on.
fn says(bytes: &str, tail: &str) -> String {
    format!("head -c 21 >/dev/null; printf '{bytes}'; {tail}")
}

fn config(script: &str) -> ScriptConfig {
    ScriptConfig::new("/bin/sh", ["-c", script])
}

fn called(script: &str, code: &str) -> Result<Called> {
    let wall = Duration::from_millis(200);
    let limits = Limits { wall, grace: wall, output_bytes: 8, ..Limits::default() };
    let started = Instant::now();
    let called = Worker::start(&config(script)).unwrap().call(code, &limits, &mut None, None);
    assert!(started.elapsed() < Duration::from_secs(5), "{script}");
    called
}

fn report(script: &str) -> String {
    match called(script, "print(1)") {
        Ok(called) => {
            assert!(!called.is_alive, "{script}");
            format!("{:?} {:?}", called.outcome.exit, called.outcome.stdout.text())
        }
        Err(error) => format!("{}: {error}", error.code()),
    }
}

const READY: &str = r"\100\010\000\000\000\001\000\000\000\000\000\000\000";
const ENDED: &str = r"\104\035\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000";

#[test]
fn what_no_worker_says_ends_it() {
    let ready = |more: &str| format!("{READY}{more}");
    let cases = [
        ("garbage garbage".to_owned(), "a frame of no known kind"),
        (r"\101\377\377\377\377".to_owned(), "a frame too long"),
        (r"\101\001\000\000\000x".to_owned(), "it answered before it started"),
        (ENDED.to_owned(), "it answered before it started"),
        (r"\100\010\000\000\000\002\000\000\000\000\000\000\000".to_owned(), "it is of another version"),
        (ready(READY), "it started twice"),
        (ready(r"\101\011\000\000\000123456789"), "it sent more output than was allowed"),
        (ready(r"\101\005\000\000\00012345\101\005\000\000\00012345"), "it sent more output than was allowed"),
        (ready(r"\103\001\000\000\0001\103\001\000\000\0001"), "it sent two values"),
        (ready(r"\103\001\000\000\000\377"), "text that is no UTF-8"),
        (ready(&format!("{ENDED}more")), "it spoke without being asked"),
        (ready(r"\104\001\000\000\000\011"), "an end of no known kind"),
    ];
    for (bytes, wanted) in cases {
        let found = report(&says(&bytes, "sleep 100"));
        assert!(found.starts_with("sandbox_script_worker: ") && found.contains(wanted), "{bytes}: {found}");
    }
}

#[test]
fn a_worker_that_leaves_is_told_from_one_that_stays_silent() {
    assert!(report(&says("", "exit 0")).contains("it left without a word"));
    assert!(report(&says(READY, "exit 3")).contains("it left without a word"));
    assert!(report(&says(READY, "kill -SEGV $$")).starts_with("Signal(11)"));
    assert!(report(&says(READY, "exit 65")).starts_with("OutOfMemory"));
    assert!(report(&says(r"\101\377", "exit 0")).contains("it left without a word"), "a part of a frame is nothing");
    // The pipe is closed but the process stays: it is ended.
    assert!(report(&says("", "exec >&-; sleep 100")).starts_with("Signal(9)"));
    // One leaves a child behind that holds the pipes, in a group of its own.
    for silent in
        ["sleep 100", "exec sleep 100", "setsid sleep 20 & sleep 100", "trap '' TERM INT; while :; do sleep 1; done"]
    {
        assert_eq!(report(&says(READY, silent)), format!("{:?} \"\"", Exit::TimedOut), "{silent}");
    }
}

#[test]
fn floods_are_not_taken_in() {
    assert!(report("exec cat /dev/zero").contains("a frame of no known kind"));
    // Empty output for ever: frames that are allowed, until the time is up.
    let frames = format!("{READY}{}", r"\101\000\000\000\000".repeat(200));
    let empty = says(&frames, r"while :; do printf '\101\000\000\000\000\101\000\000\000\000'; done");
    assert!(report(&empty).starts_with("TimedOut"));
}

#[test]
fn a_worker_that_never_reads_is_ended_in_time() {
    // More than a pipe holds.
    let code = "#".repeat(900_000);
    assert_eq!(called("exec sleep 100", &code).unwrap().outcome.exit, Exit::TimedOut);
}

#[test]
fn none_of_them_is_offered_as_a_tier() {
    for script in [says("", "exit 0"), says(READY, "exit 3"), says(&format!("{READY}{ENDED}"), "exec sleep 100")] {
        let report = super::super::probe::probe(&config(&script));
        assert!(!report.available && report.checks.len() == 1 && report.reasons.len() == 1, "{report}");
    }
    let missing = Worker::start(&ScriptConfig::new("/nonexistent/worker", [""; 0])).unwrap_err();
    assert_eq!(missing.code(), "sandbox_io");
}
