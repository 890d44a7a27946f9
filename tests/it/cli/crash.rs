//! Ends that nobody planned: `kill -9`, Ctrl-C, a closed terminal; and going on after them.

use super::{User, one_call};
use std::time::{Duration, Instant};

fn slow(user: &User) {
    user.script("slow", &one_call("shell", "{ script = \"sleep 1; echo slept\" }"));
}

#[test]
fn a_killed_run_is_finished_by_the_next_command() {
    let user = User::new();
    slow(&user);
    let mut running = user.start(&["run", "t", "--model", "scripted/slow"]);
    running.wait_for("→ shell");
    running.signal("KILL");
    assert_eq!(running.end().code, None);
    let run = user.newest();
    assert_eq!(user.status(&run), "running");
    let ended = user.expect(0, &["resume"]);
    assert!(ended.stdout.contains("slept"), "{ended:#?}");
    assert_eq!(user.status(&run), "done");
    user.expect(0, &["verify", &run]);
    user.expect(0, &["replay", &run]);
}

#[test]
fn another_run_carries_a_killed_one_forward() {
    let user = User::new();
    slow(&user);
    let mut running = user.start(&["run", "t", "--model", "scripted/slow"]);
    running.wait_for("→ shell");
    running.signal("KILL");
    running.end();
    let killed = user.newest();
    let ended = user.expect(0, &["run", "t", "--model", "scripted/slow"]);
    assert!(ended.stderr.contains(&format!("unfinished runs go on meanwhile: {killed}")), "{ended:#?}");
    user.expect(0, &["resume"]);
    assert_eq!(user.status(&killed), "done");
}

#[test]
fn ctrl_c_hands_over_within_five_seconds() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let user = User::new();
        user.script("slow", &one_call("shell", "{ script = \"sleep 20; echo slept\" }"));
        let mut running = user.start(&["run", "t", "--model", "scripted/slow"]);
        running.wait_for("→ shell");
        let begun = Instant::now();
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(code), "{signal}: {ended:#?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{signal}: {:?}", begun.elapsed());
        let run = user.newest();
        assert!(ended.stderr.contains(&format!("to go on: errand resume {run}")), "{signal}: {ended:#?}");
        // The folder was let go of in good order: nothing of the run is lost, and it can be stopped.
        user.expect(0, &["cancel", &run]);
        assert_eq!(user.status(&run), "cancelled");
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let user = User::new();
    user.script("slow", &one_call("shell", "{ script = \"sleep 20; echo slept\" }"));
    let mut running = user.start(&["run", "t", "--model", "scripted/slow"]);
    running.wait_for("→ shell");
    running.signal("INT");
    running.wait_for("stopping");
    let begun = Instant::now();
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    user.expect(0, &["cancel", &user.newest()]);
}

#[test]
fn a_wait_outlives_the_process() {
    let user = User::new();
    user.script("waits", &one_call("wait", "{ seconds = 2 }"));
    let mut running = user.start(&["run", "t", "--model", "scripted/waits"]);
    running.wait_for("waits until");
    running.signal("KILL");
    running.end();
    let ended = user.expect(0, &["resume"]);
    assert!(ended.stdout.contains("the time has come"), "{ended:#?}");
}
