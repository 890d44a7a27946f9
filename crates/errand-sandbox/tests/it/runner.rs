//! A runner that is killed leaves no process behind.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use errand_sandbox::{Engine, EngineConfig, Exec, Sessions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::world;

const ROOT: &str = "ERRAND_SANDBOX_TEST_ROOT";

/// Not a test by itself: the runner that the test below kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test below talks to the copy of itself that it starts")]
fn runner_to_be_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let engine = Engine::start(&EngineConfig::default()).unwrap();
    let session = Sessions::at(root).unwrap().open("doomed").unwrap();
    // Both the main process and a daemon hold the FIFO open.
    let script = "(setsid nohup sleep 1000 > fifo 2>&1 &); echo ready > fifo; exec sleep 1000 > fifo";
    let outcome = engine.run(&session, Exec::shell(script)).unwrap();
    panic!("the box ended by itself: {outcome:?}");
}

#[test]
fn a_killed_runner_leaves_no_process() {
    let Some(world) = world() else { return };
    let root = world.root.path().join("killed");
    let session = Sessions::at(&root).unwrap().create("doomed").unwrap();
    let fifo = session.workspace_path().join("fifo");
    make_fifo(&fifo);
    drop(session);
    let mut reader =
        OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(&fifo).unwrap();
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runner::runner_to_be_killed", "--nocapture"])
        .env(ROOT, &root)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    assert_eq!(next(&mut reader), "ready\n", "the box did not start");
    runner.kill().unwrap();
    runner.wait().unwrap();
    // The end of the FIFO comes when nobody has it open any more: not the main process, not its daemon.
    assert_eq!(next(&mut reader), "", "a process of the box is still there");
    let again = Sessions::at(&root).unwrap().open("doomed");
    assert!(again.is_ok(), "the session is free again: {again:?}");
}

fn make_fifo(path: &Path) {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &*name, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
}

/// What comes next through the FIFO: text, or nothing at its end.
fn next(reader: &mut std::fs::File) -> String {
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    let patience = Timespec { tv_sec: Duration::from_secs(30).as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut fds, Some(&patience)).unwrap();
    assert_eq!(ready, 1, "nothing happened for 30 s");
    let mut buffer = [0; 64];
    let count = reader.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}
