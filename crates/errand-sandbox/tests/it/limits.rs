//! What a call may use up, and that the next call is none the worse.

use std::time::Duration;

use errand_sandbox::{Exec, Exit, Limits, Strength};

use crate::world;

const MIB: u64 = 1 << 20;

fn within(exec: Exec, change: impl FnOnce(&mut Limits)) -> Exec {
    let mut exec = exec;
    change(&mut exec.limits);
    exec
}

#[test]
fn an_endless_loop_and_one_that_ignores_the_polite_end_time_out() {
    let Some(world) = world() else { return };
    let short = |limits: &mut Limits| (limits.wall, limits.grace) = (Duration::from_millis(300), Duration::from_millis(100));
    for script in ["while :; do :; done", "trap '' TERM; while :; do :; done", "kill -STOP $$"] {
        let outcome = world.run(within(Exec::shell(script), short));
        assert_eq!(outcome.exit, Exit::TimedOut, "{script}");
        assert!(
            outcome.wall >= Duration::from_millis(300) && outcome.wall < Duration::from_secs(10),
            "{script}: {:?}",
            outcome.wall
        );
    }
    let polite = "trap 'echo saved > state; exit' TERM; while :; do :; done";
    let long_grace =
        |limits: &mut Limits| (limits.wall, limits.grace) = (Duration::from_millis(300), Duration::from_secs(10));
    assert_eq!(world.run(within(Exec::shell(polite), long_grace)).exit, Exit::TimedOut);
    assert_eq!(world.session.read_file("state", 0, 10).unwrap().bytes, b"saved\n");
}

#[test]
fn a_fork_bomb_stops_at_the_quota() {
    let Some(world) = world() else { return };
    let few = |limits: &mut Limits| (limits.processes, limits.wall) = (20, Duration::from_secs(2));
    let bomb = world.run(within(Exec::shell("bomb() { bomb | bomb & }; bomb; sleep 0.3; echo over"), few));
    println!("{:?} {}", bomb.exit, bomb.stderr.text().lines().next().unwrap_or(""));
    if world.has_python() {
        let count = "import os\nn = 0\ntry:\n  while True:\n    if os.fork() == 0:\n      import signal; signal.pause()\n    n += 1\n\
                     except OSError: print(n)\n";
        let outcome = world.run(within(Exec::python(count), few));
        assert_eq!(outcome.stdout.text(), "19\n", "{outcome:?}");
    }
    assert_eq!(world.prints("echo fine"), "fine\n");
}

#[test]
fn a_memory_hog_is_stopped() {
    let Some(world) = world() else { return };
    if !world.has_python() {
        return;
    }
    let hog = "blocks = []\nfor n in range(1024): blocks.append(b'x' * (1 << 20))\nprint('had it all')\n";
    let outcome = world.run(within(Exec::python(hog), |limits| limits.memory_bytes = 64 * MIB));
    if world.memory_is_hard() {
        assert_eq!(outcome.exit, Exit::OutOfMemory, "{outcome:?}");
        assert!(outcome.oom_kills > 0 && outcome.memory_peak_bytes.is_some_and(|peak| peak <= 65 * MIB), "{outcome:?}");
    } else {
        // Each process is refused more memory than the quota; all together are watched.
        assert!(matches!(outcome.exit, Exit::OutOfMemory | Exit::Code(1)), "{outcome:?}");
    }
    let shared = "import os\nfor n in range(40):\n  open(f'/tmp/{n}', 'wb').write(b'x' * (8 << 20))\nprint('had it all')\n";
    let outcome =
        world.run(within(Exec::python(shared), |limits| (limits.memory_bytes, limits.tmp_bytes) = (64 * MIB, 32 * MIB)));
    assert!(!outcome.success(), "{outcome:?}");
}

#[test]
fn a_flood_of_output_is_kept_in_part_and_filed_in_part() {
    let Some(world) = world() else { return };
    let outcome = world.run(within(Exec::shell("yes 123456789012345 | head -c 104857600; echo small >&2"), |limits| {
        limits.output_file_bytes = 4 * MIB;
    }));
    assert_eq!(outcome.exit, Exit::Code(0), "{:?}", outcome.exit);
    let out = &outcome.stdout;
    assert_eq!((out.kept.len(), out.total_bytes, out.lost_bytes), (256 << 10, 100 * MIB, 96 * MIB));
    assert_eq!(out.file.as_deref(), Some(".errand/outputs/0001.stdout.txt"));
    let file = world.session.read_file(".errand/outputs/0001.stdout.txt", 0, 8 * MIB).unwrap();
    assert_eq!((file.size, &file.bytes[..16]), (4 * MIB, &b"123456789012345\n"[..]));
    assert_eq!(file.bytes[..out.kept.len()], out.kept[..]);
    assert_eq!((outcome.stderr.text().as_str(), outcome.stderr.file.as_deref()), ("small\n", None));
}

#[test]
fn a_spoilt_place_for_outputs_costs_the_file_only() {
    let Some(world) = world() else { return };
    world.prints("mkdir .errand; ln -s /etc .errand/outputs");
    let outcome = world.shell("yes | head -c 300000");
    assert_eq!(outcome.exit, Exit::Code(0));
    let out = &outcome.stdout;
    assert_eq!((out.kept.len(), out.file.as_deref(), out.lost_bytes), (256 << 10, None, 300_000 - (256 << 10)));
}

#[test]
fn filling_the_disk_is_stopped() {
    let Some(world) = world() else { return };
    let bounds = |limits: &mut Limits| (limits.workspace_bytes, limits.wall) = (20 * MIB, Duration::from_secs(20));
    let many = "n=0; while :; do head -c 2000000 /dev/zero > f$n; n=$((n+1)); done";
    assert_eq!(world.run(within(Exec::shell(many), bounds)).exit, Exit::OverQuota);
    let error = world.engine.run(&world.session, within(Exec::shell("echo again"), bounds)).unwrap_err();
    assert_eq!(error.code(), "sandbox_workspace_too_large");
    world.prints("rm f*");
    let sparse = world.run(within(Exec::shell("truncate -s 1T sparse"), bounds));
    assert!(!sparse.success(), "{sparse:?}");
    world.prints("rm -f sparse");
    let names = "n=0; while :; do : > e$n; n=$((n+1)); done";
    let outcome = world.run(within(Exec::shell(names), |limits| limits.workspace_files = 200));
    assert_eq!(outcome.exit, Exit::OverQuota);
    world.prints("rm -f e*");
    let hidden = "mkdir dark; cd dark; chmod 300 .; n=0; while :; do : > e$n; n=$((n+1)); done";
    let outcome = world.run(within(Exec::shell(hidden), |limits| limits.workspace_files = 200));
    assert_eq!(outcome.exit, Exit::OverQuota);
    world.session.remove("dark").unwrap();
    let strange = "d=$(printf 'x\\377'); mkdir $d; cd $d; n=0; while :; do : > e$n; n=$((n+1)); done";
    let outcome = world.run(within(Exec::shell(strange), |limits| limits.workspace_files = 200));
    assert_eq!(outcome.exit, Exit::OverQuota);
    world.prints("rm -r x*");
    let nameless = "for n in 3 4 5 6; do eval \"exec $n> gone; rm gone; head -c 8000000 /dev/zero >&$n\"; done; sleep 1000";
    assert_eq!(world.run(within(Exec::shell(nameless), bounds)).exit, Exit::OverQuota);
    let deep = "while mkdir d && cd d; do :; done";
    assert_eq!(world.run(within(Exec::shell(deep), bounds)).exit, Exit::OverQuota);
    world.session.remove("d").unwrap();
    assert_eq!(world.prints("rm -f gone; echo fine"), "fine\n");
}

#[test]
fn spinning_threads_get_no_more_than_their_share() {
    let Some(world) = world() else { return };
    let spin = "for n in 1 2 3 4; do (while :; do :; done) & done; wait";
    let outcome = world.run(within(Exec::shell(spin), |limits| {
        (limits.wall, limits.grace, limits.cpu_milli) = (Duration::from_secs(1), Duration::ZERO, 500);
    }));
    assert_eq!(outcome.exit, Exit::TimedOut);
    if world.engine.report().quotas.cpu == Strength::Hard {
        assert!(outcome.cpu < Duration::from_millis(800), "{:?}", outcome.cpu);
    } else {
        println!("not measured: processor time is not bounded hard on this host");
    }
}

#[test]
fn what_a_call_leaves_running_dies_with_it() {
    let Some(world) = world() else { return };
    let outcome = world.shell("(setsid nohup sleep 98765 >/dev/null 2>&1 &) ; sleep 98766 & echo started");
    assert_eq!(outcome.stdout.text(), "started\n");
    let alive = |seconds: &str| {
        let commands =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
        commands.filter(|command| command.starts_with(format!("sleep\0{seconds}").as_bytes())).count()
    };
    assert_eq!((alive("98765"), alive("98766")), (0, 0));
}
