//! Variables that live between cells, and what ends them.

use std::time::{Duration, Instant};

use errand_sandbox::t0::{Cell, ScriptConfig, ScriptEngine, ScriptSession};
use errand_sandbox::{CancelToken, Exit, Limits};

use super::{ENGINE, config, limits};

fn session() -> ScriptSession {
    ENGINE.session(&limits()).unwrap()
}

fn cell(session: &mut ScriptSession, code: &str) -> Cell {
    session.run(code.as_bytes(), None, None).unwrap()
}

#[test]
fn variables_live_from_cell_to_cell_and_values_are_told() {
    let mut session = session();
    assert_eq!(cell(&mut session, "x = [1, 2]\ndef double(n):\n    return n * 2").value, None);
    let second = cell(&mut session, "print('now', end='')\nx.append(double(21))\nx");
    assert_eq!((second.value.as_deref(), second.outcome.stdout.text().as_str()), (Some("[1, 2, 42]"), "now"));
    assert_eq!(cell(&mut session, "'it\\'s'").value.as_deref(), Some("\"it's\""));
    assert_eq!(cell(&mut session, "None").value, None);
    let long = cell(&mut session, "list(range(100000))").value.unwrap();
    assert!(long.starts_with("[0, 1, 2") && long.ends_with("...") && long.len() < 20_000, "{}", long.len());
    let failed = cell(&mut session, "y = 5\nraise ValueError('no')");
    assert!(failed.is_alive && failed.outcome.exit == Exit::Code(1), "{failed:?}");
    assert!(failed.outcome.stderr.text().starts_with("Traceback (most recent call last):\n"), "{failed:?}");
    assert!(failed.outcome.stderr.text().ends_with("ValueError: no\n"), "{failed:?}");
    assert_eq!(cell(&mut session, "y + len(x)").value.as_deref(), Some("8"), "what it did until then is kept");
    assert!(!cell(&mut session, "def broken(:").outcome.success());
    assert_eq!(cell(&mut session, "y").value.as_deref(), Some("5"));
}

#[test]
fn sessions_see_nothing_of_each_other() {
    let (mut one, mut other) = (session(), session());
    cell(&mut one, "secret = 'canary'");
    let outcome = cell(&mut other, "print(secret)").outcome;
    assert!(outcome.stderr.text().contains("NameError: name 'secret' is not defined"), "{outcome:?}");
    assert_ne!(one.worker_id(), other.worker_id());
}

#[test]
fn a_time_out_that_the_interpreter_sees_keeps_the_variables() {
    let limits = Limits { wall: Duration::from_millis(200), grace: Duration::from_secs(5), ..limits() };
    let mut session = ENGINE.session(&limits).unwrap();
    cell(&mut session, "x = 1");
    let ended = cell(&mut session, "while True:\n    x += 1");
    assert!(ended.is_alive && ended.outcome.exit == Exit::TimedOut, "{ended:?}");
    assert_eq!(cell(&mut session, "x > 1").value.as_deref(), Some("True"), "each cell has the whole time");
}

#[test]
fn a_killed_worker_costs_the_variables_and_nothing_else() {
    let mut session = session();
    cell(&mut session, "x = 1");
    let id = session.worker_id().unwrap();
    let on_output = Box::new(move |_, _: &[u8]| kill(id));
    let ended = session.run(b"print('before')\nwhile True:\n    pass", Some(on_output), None).unwrap();
    assert_eq!((ended.outcome.exit, ended.is_alive), (Exit::Signal(9), false), "{ended:?}");
    assert_eq!(ended.outcome.stdout.text(), "before\n");
    assert!(!session.is_alive() && session.worker_id().is_none());
    assert_eq!(session.run(b"x", None, None).unwrap_err().code(), "sandbox_script_lost");
    assert_eq!(super::run("print('next')").stdout.text(), "next\n");
}

#[test]
fn a_worker_killed_between_cells_is_told_and_one_killed_in_waiting_is_replaced() {
    let mut session = session();
    cell(&mut session, "x = 1");
    kill(session.worker_id().unwrap());
    let ended = session.run(b"x", None, None).unwrap();
    assert_eq!((ended.outcome.exit, ended.is_alive), (Exit::Signal(9), false));

    let engine = ScriptEngine::start(ScriptConfig { args: vec!["one-that-waits".into()], ..config() }).unwrap();
    kill(process_with("one-that-waits"));
    let outcome = engine.run_script(b"print('whole')", &limits(), None, None).unwrap();
    assert_eq!(outcome.stdout.text(), "whole\n");
}

#[test]
fn a_cancelled_cell_costs_the_variables() {
    let mut session = session();
    let token = CancelToken::new().unwrap();
    let canceller = token.clone();
    let on_output = Box::new(move |_, _: &[u8]| canceller.cancel());
    let ended = session.run(b"print(1)\nwhile True:\n    pass", Some(on_output), Some(&token)).unwrap();
    assert_eq!((ended.outcome.exit, ended.is_alive), (Exit::Cancelled, false));
}

#[test]
fn a_session_that_is_dropped_leaves_no_process() {
    let mut session = session();
    cell(&mut session, "x = 1");
    let id = session.worker_id().unwrap();
    assert!(exists(id));
    drop(session);
    assert!(!exists(id));
}

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(id.try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}

fn exists(id: u32) -> bool {
    let id = rustix::process::Pid::from_raw(id.try_into().unwrap()).unwrap();
    rustix::process::test_kill_process(id).is_ok()
}

/// The one process that was started with this argument. It may have to be waited for: its arguments are there a moment
/// after it is.
fn process_with(argument: &str) -> u32 {
    let has = |id: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split('\0').any(|one| one == argument)
    };
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let names = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        if let Some(id) = names.filter_map(|name| name.to_str()?.parse().ok()).find(has) {
            return id;
        }
        std::thread::yield_now();
    }
    panic!("no process was started with {argument}");
}
