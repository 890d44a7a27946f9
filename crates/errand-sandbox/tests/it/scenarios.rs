//! What an attacker or an unlucky agent tries beyond single calls: sessions side by side, load, and a box without one of its defences.
//! Each attempt is also made where it must work, so that it is the wall that refuses it and not the attempt that is wrong.

use std::time::{Duration, Instant};

use errand_sandbox::{CancelToken, EngineConfig, Exec, Exit, Limits, Sessions, Wall, rehearse_without};

use crate::world;

/// What a session leaves lying about while its box runs: a file, shared memory of three kinds, a socket without a file, a port, an
/// argument; then it says that all is there and waits.
const SECRETS: &str = "
import ctypes, os, socket, sys, time
open('/workspace/canary', 'w').write('canary')
open('/tmp/canary', 'w').write('canary')
open('/dev/shm/canary', 'w').write('canary')
libc = ctypes.CDLL(None)
segment = libc.shmget(0xC0FFEE, 4096, 0o1666)
hidden = socket.socket(socket.AF_UNIX)
hidden.bind('\\0errand-canary')
hidden.listen()
port = socket.create_server(('127.0.0.1', 45123))
";

/// How much of that can be reached: each line is what was found.
const REACH: &str = "
import ctypes, os, socket
def attempt(what, found):
    try:
        if found(): print(what)
    except OSError: pass
def connect(family, address):
    socket.socket(family).connect(address)
    return True
attempt('file', lambda: os.path.exists('/tmp/canary'))
attempt('memory', lambda: os.path.exists('/dev/shm/canary'))
attempt('segment', lambda: ctypes.CDLL(None).shmget(0xC0FFEE, 0, 0) != -1)
attempt('socket', lambda: connect(socket.AF_UNIX, '\\0errand-canary'))
attempt('port', lambda: connect(socket.AF_INET, ('127.0.0.1', 45123)))
attempt('process', lambda: any(b'canary-argument' in open(f'/proc/{pid}/cmdline', 'rb').read() for pid in os.listdir('/proc') if pid.isdigit()))
attempt('workspace', lambda: os.path.exists('/workspace/canary'))
";

#[test]
fn sessions_side_by_side_reach_nothing_of_each_other() {
    let Some(world) = world() else { return };
    if !world.has_python() {
        return;
    }
    let other = Sessions::at(world.root.path().join("others")).unwrap().create("other").unwrap();
    // Where it lies about in the same box all of it is reached.
    let mut control = Exec::python(format!("{SECRETS}\n{REACH}"));
    control.argv.push("canary-argument".into());
    let all = "file\nmemory\nsegment\nsocket\nport\nprocess\nworkspace\n";
    assert_eq!(world.run(control).stdout.text(), all);
    let (ready, waiting) = std::sync::mpsc::channel();
    let stop = CancelToken::new().unwrap();
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut exec = Exec::python(format!("{SECRETS}\nprint('ready', flush=True)\ntime.sleep(1000)"));
            exec.argv.push("canary-argument".into());
            exec.cancel = Some(stop.clone());
            exec.limits.wall = Duration::from_secs(60);
            exec.on_output = Some(Box::new(move |_, _| ready.send(()).unwrap_or_default()));
            world.run(exec)
        });
        waiting.recv_timeout(Duration::from_secs(60)).unwrap();
        // As another session, and as another call of the same, which shares the workspace and no more.
        let outcomes = [&other, &world.session].map(|session| world.engine.run(session, Exec::python(REACH)).unwrap());
        stop.cancel();
        outcomes.map(|outcome| outcome.stdout.text())
    });
    assert_eq!(found, ["", "workspace\n"]);
}

#[test]
fn neighbours_are_served_while_boxes_do_their_worst() {
    let Some(world) = world() else { return };
    let sessions = Sessions::at(world.root.path().join("worst")).unwrap();
    let worst = [
        "bomb() { bomb | bomb & }; bomb; while :; do :; done",
        "exec tail /dev/zero",
        "n=0; while :; do head -c 4000000 /dev/zero >f$n || n=0; n=$((n+1)); done",
        "trap '' TERM; (kill -STOP $BASHPID) & for n in 1 2 3 4 5 6 7; do (while :; do :; done) & done; while :; do :; done",
    ];
    let limits = Limits {
        wall: Duration::from_secs(4),
        grace: Duration::from_millis(200),
        memory_bytes: 128 << 20,
        workspace_bytes: 32 << 20,
        processes: 40,
        cpu_milli: 500,
        ..Limits::default()
    };
    let (ends, slowest, served) = std::thread::scope(|scope| {
        let boxes = worst.map(|script| {
            let (sessions, limits, engine) = (&sessions, limits.clone(), world.engine);
            scope.spawn(move || {
                let id = format!("s{}", script.len());
                let mut exec = Exec::shell(script);
                exec.limits = limits;
                engine.run(&sessions.create(&id).unwrap(), exec).unwrap().exit
            })
        });
        // The neighbour goes on until all of them are over.
        let (mut slowest, mut served) = (Duration::ZERO, 0);
        while !boxes.iter().all(|one| one.is_finished()) {
            let begun = Instant::now();
            let outcome = world.shell("echo served");
            assert_eq!((outcome.exit, outcome.stdout.text().as_str()), (Exit::Code(0), "served\n"));
            (slowest, served) = (slowest.max(begun.elapsed()), served + 1);
        }
        (boxes.map(|one| one.join().unwrap()), slowest, served)
    });
    // None ended by itself; which of its quotas each used up first depends on the host.
    for (script, exit) in worst.iter().zip(&ends) {
        assert!(!matches!(exit, Exit::Code(0)), "{script}: {exit:?}");
    }
    assert_eq!(ends[3], Exit::TimedOut, "a child that is stopped and one that ignores the polite end go as well");
    // Generous, for machines that are busy with more than this.
    assert!(served >= 3 && slowest < Duration::from_secs(10), "{served} calls, the slowest took {slowest:?}");
}

#[test]
fn a_box_without_one_of_its_defences_is_told_and_never_offered() {
    let Some(world) = world() else { return };
    let whole = world.engine.report();
    for (missing, ids) in
        [(Wall::SystemCalls, &["I04", "N-user"][..]), (Wall::Limits, &["R02", "R04"]), (Wall::KernelSettings, &["K14"])]
    {
        let report = rehearse_without(&EngineConfig::default(), missing);
        assert!(!report.available && !report.reasons.is_empty(), "without {missing:?}: {report}");
        for id in ids {
            let passes = |report: &errand_sandbox::Report| report.checks.iter().any(|check| check.id == *id && check.pass);
            assert!(passes(whole) && !passes(&report), "{id} without {missing:?}: {report}");
        }
    }
}
