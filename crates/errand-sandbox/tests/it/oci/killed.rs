//! A runner that is killed leaves nothing of a container.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use errand_sandbox::{Exec, OciEngine, Sessions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{config, worlds};

const ROOT: &str = "ERRAND_SANDBOX_TEST_OCI_ROOT";
const RUNTIME: &str = "ERRAND_SANDBOX_TEST_OCI_RUNTIME";
const UP: &str = "the box is up";

/// Not a test by itself: the runner that the test below kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test below talks to the copy of itself that it starts")]
fn runner_to_be_killed() {
    let (Some(root), Some(runtime)) = (std::env::var_os(ROOT), std::env::var_os(RUNTIME)) else { return };
    let engine = OciEngine::start(&config(runtime.to_str().unwrap())).unwrap();
    let session = Sessions::at(root).unwrap().create("doomed").unwrap();
    let mut exec = Exec::shell("(setsid nohup sleep 1000 >/dev/null 2>&1 &); echo up; exec sleep 1000");
    exec.on_output = Some(Box::new(|_, _| println!("\n{UP}")));
    let outcome = engine.run(&session, exec).unwrap();
    panic!("the box ended by itself: {outcome:?}");
}

#[test]
fn a_killed_runner_leaves_no_process_no_mount_and_no_file() {
    for world in worlds() {
        let mut runner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "oci::killed::runner_to_be_killed", "--nocapture"])
            .env(ROOT, world.root.path().join("killed"))
            .env(RUNTIME, world.name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(runner.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == UP), "{}: the box did not start", world.name);
        let below = descendants(runner.id());
        // The guard, the runtime, the box's first process and what it runs; gVisor has no process for each of the last.
        assert!(below.len() >= 3, "{}: {below:?}", world.name);
        let watched: Vec<_> = below.iter().filter_map(|pid| pidfd_open(*pid, PidfdFlags::empty()).ok()).collect();
        assert_eq!(watched.len(), below.len(), "{}", world.name);
        runner.kill().unwrap();
        runner.wait().unwrap();
        for (process, pid) in watched.iter().zip(below) {
            let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
            let gone = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(gone, 1, "{}: process {pid:?} is still there", world.name);
        }
        assert_eq!(std::fs::read_dir("/run/errand-oci").unwrap().count(), 0, "{} leaves something behind", world.name);
    }
}

fn descendants(top: u32) -> Vec<Pid> {
    let children = |pid: i32| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>())
            .collect::<Vec<_>>()
    };
    let mut all = children(top as i32);
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children(*pid));
        next += 1;
    }
    all.into_iter().filter_map(Pid::from_raw).collect()
}
