//! Real containers of the OCI runtimes of this machine; one that is missing is skipped, and said so.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use errand_sandbox::{
    CancelToken, Error, Exec, ExecOutcome, Exit, Inside, Limits, OciConfig, OciEngine, Session, Sessions, Strength,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const MIB: u64 = 1 << 20;
/// Where Debian puts them.
const RUNTIMES: [&str; 3] = ["/usr/bin/crun", "/usr/sbin/runc", "/usr/bin/runsc"];

fn config(runtime: &str) -> OciConfig {
    OciConfig {
        runtime: runtime.into(),
        inside: Inside { program: env!("CARGO_BIN_EXE_errand-box").into(), arguments: Vec::new() },
        allow_shared_kernel: true,
        ..OciConfig::default()
    }
}

/// An engine and a session of its own.
struct World {
    name: &'static str,
    engine: OciEngine,
    session: Session,
    root: tempfile::TempDir,
}

/// One for each runtime that this machine has. A box that can be made and is not tight is a fault of this crate.
fn worlds() -> Vec<World> {
    let present = RUNTIMES.into_iter().filter(|runtime| {
        let there = Path::new(runtime).exists();
        if !there {
            println!("skipped: this machine has no {runtime}");
        }
        there
    });
    present.filter_map(world).collect()
}

fn world(runtime: &'static str) -> Option<World> {
    let engine = match OciEngine::start(&config(runtime)) {
        Ok(engine) => engine,
        Err(error) => {
            let report = OciEngine::probe(&config(runtime));
            assert!(report.checks.is_empty(), "the box of {runtime} is not tight: {report}");
            println!("skipped: {runtime}: {error}");
            return None;
        }
    };
    let root = tempfile::tempdir().unwrap();
    let session = Sessions::at(root.path().join("sessions")).unwrap().create("test").unwrap();
    Some(World { name: runtime, engine, session, root })
}

impl World {
    fn run(&self, exec: Exec) -> ExecOutcome {
        self.engine.run(&self.session, exec).unwrap_or_else(|e| panic!("{}: {e:?}", self.name))
    }

    fn shell(&self, script: &str, change: impl FnOnce(&mut Limits)) -> ExecOutcome {
        let mut exec = Exec::shell(script);
        change(&mut exec.limits);
        self.run(exec)
    }

    fn prints(&self, script: &str) -> String {
        let outcome = self.shell(script, |_| ());
        assert!(outcome.success(), "{}: {outcome:?}", self.name);
        outcome.stdout.text()
    }

    fn is_gvisor(&self) -> bool {
        self.name.ends_with("runsc")
    }
}

#[test]
fn the_probe_passes_whole_and_tells_whose_kernel_it_is() {
    for world in worlds() {
        let report = world.engine.report();
        assert!(report.available && report.passed() == report.checks.len() && report.checks.len() > 160, "{report}");
        let mut strict = config(world.name);
        strict.allow_shared_kernel = false;
        let strict = OciEngine::start(&strict);
        if world.is_gvisor() {
            assert!(strict.is_ok(), "{strict:?}");
            assert_eq!(report.quotas.processes, Strength::Soft, "{report}");
        } else {
            let error = strict.unwrap_err().to_string();
            assert!(error.contains("O01") && error.contains("kernel"), "{error}");
        }
        println!("{} passed {} checks in {} ms", world.name, report.passed(), report.elapsed_ms);
    }
}

#[test]
fn code_files_input_variables_and_folder_arrive_and_files_stay() {
    for world in worlds() {
        world.session.mkdirs("sub").unwrap();
        let mut exec = Exec::shell("pwd; echo \"$GREETING\"; wc -c; echo kept > file; id -u; id -un; cat /etc/hostname");
        exec.stdin = Some(vec![7; 1_000_000]);
        exec.env.push(("GREETING".into(), "good day".into()));
        exec.cwd = "sub".into();
        let outcome = world.run(exec);
        let expected = "/workspace/sub\ngood day\n1000000\n1000\nerrand\nerrand\n";
        assert_eq!(outcome.stdout.text(), expected, "{}: {outcome:?}", world.name);
        assert_eq!(world.session.read_file("sub/file", 0, 10).unwrap().bytes, b"kept\n");
        assert_eq!(world.prints("cat sub/file; echo canary > /tmp/canary"), "kept\n");
        assert_eq!(world.prints("cat /tmp/canary 2>/dev/null || echo gone; env | grep -c ^HOME=/workspace"), "gone\n1\n");
        let python = world.run(Exec::python("import sys\nprint(6 * 7)\nsys.exit(3)\n"));
        assert_eq!((python.exit, python.stdout.text().as_str()), (Exit::Code(3), "42\n"), "{}: {python:?}", world.name);
    }
}

#[test]
fn the_way_it_ended_is_told_as_in_tier_t1() {
    for world in worlds() {
        let exit = |script: &str| world.shell(script, |_| ()).exit;
        assert_eq!(exit("exit 7"), Exit::Code(7), "{}", world.name);
        assert_eq!(exit("exit 137"), Exit::Code(137), "{}", world.name);
        assert_eq!(exit("kill -SEGV $$"), Exit::Signal(11), "{}", world.name);
        assert_eq!(exit("kill -KILL $$"), Exit::Signal(9), "{}", world.name);
        let code = |exec: Exec| world.engine.run(&world.session, exec).unwrap_err().code();
        assert_eq!(code(Exec::new(["no-such-program"])), "sandbox_program_not_started", "{}", world.name);
        assert_eq!(code(Exec::new(["/etc/passwd"])), "sandbox_program_not_started", "{}", world.name);
        let mut missing = Exec::shell("true");
        missing.cwd = "missing".into();
        assert_eq!(code(missing), "sandbox_exec_refused", "{}", world.name);
        let mut climbing = Exec::shell("true");
        climbing.cwd = "../..".into();
        assert_eq!(code(climbing), "sandbox_path_refused", "{}", world.name);
        assert_eq!(exit("echo 12345678123456781234567812345678 > /run/box/end; exit 5"), Exit::Code(5), "{}", world.name);
    }
}

#[test]
fn time_runs_out_politely_or_not_and_cancelling_kills_at_once() {
    for world in worlds() {
        // Long enough for the box to begin.
        let wall = Duration::from_millis(if world.is_gvisor() { 1500 } else { 500 });
        let short = |limits: &mut Limits| (limits.wall, limits.grace) = (wall, Duration::from_millis(100));
        for script in ["while :; do :; done", "trap '' TERM; while :; do :; done", "kill -STOP $$"] {
            let outcome = world.shell(script, short);
            assert_eq!(outcome.exit, Exit::TimedOut, "{}: {script}", world.name);
            assert!(outcome.wall < Duration::from_secs(10), "{}: {script}: {:?}", world.name, outcome.wall);
        }
        let long = |limits: &mut Limits| (limits.wall, limits.grace) = (wall, Duration::from_secs(10));
        let polite = world.shell("trap 'echo saved > state; exit' TERM; while :; do :; done", long);
        assert_eq!(polite.exit, Exit::TimedOut, "{}", world.name);
        assert!(polite.wall < Duration::from_secs(9), "{}: SIGTERM did not arrive: {:?}", world.name, polite.wall);
        assert_eq!(world.session.read_file("state", 0, 10).unwrap().bytes, b"saved\n", "{}", world.name);

        let token = CancelToken::new().unwrap();
        let mut exec = Exec::shell("echo first; sleep 1000; echo never");
        exec.cancel = Some(token.clone());
        exec.on_output = Some(Box::new(move |_, _| token.cancel()));
        let outcome = world.run(exec);
        assert_eq!((outcome.exit, outcome.stdout.text().as_str()), (Exit::Cancelled, "first\n"), "{}", world.name);
    }
}

#[test]
fn what_a_call_uses_up_is_bounded() {
    for world in worlds() {
        let flood = world.shell("yes 123456789012345 | head -c 8388608; echo small >&2", |limits| {
            limits.output_file_bytes = MIB;
        });
        assert_eq!(flood.exit, Exit::Code(0), "{}: {:?}", world.name, flood.exit);
        let out = &flood.stdout;
        assert_eq!((out.kept.len(), out.total_bytes, out.lost_bytes), (256 << 10, 8 * MIB, 7 * MIB), "{}", world.name);
        assert_eq!(flood.stderr.text(), "small\n", "{}", world.name);
        world.prints("rm -r .errand");

        let hog = "blocks = []\nfor n in range(2048): blocks.append(b'x' * (1 << 20))\nprint('had it all')\n";
        let mut exec = Exec::python(hog);
        exec.limits.memory_bytes = 64 * MIB;
        let outcome = world.run(exec);
        if world.engine.report().quotas.memory == Strength::Hard {
            assert_eq!(outcome.exit, Exit::OutOfMemory, "{}: {outcome:?}", world.name);
        } else {
            assert!(!outcome.success(), "{}: {outcome:?}", world.name);
        }

        let few = |limits: &mut Limits| (limits.processes, limits.wall) = (20, Duration::from_secs(3));
        let bomb = world.shell("bomb() { bomb | bomb & }; bomb; sleep 0.3; echo over", few);
        println!("{}: a fork bomb ended with {:?}", world.name, bomb.exit);
        assert_eq!(world.prints("echo fine"), "fine\n", "{}", world.name);

        let many = "n=0; while :; do head -c 2000000 /dev/zero > f$n; n=$((n+1)); done";
        let full = world.shell(many, |limits| limits.workspace_bytes = 20 * MIB);
        assert_eq!(full.exit, Exit::OverQuota, "{}", world.name);
    }
}

#[test]
fn the_host_is_out_of_reach_and_left_as_it_was() {
    use std::os::unix::fs::MetadataExt;
    let null = || std::fs::metadata("/dev/null").map(|meta| (meta.uid(), meta.gid(), meta.mode())).unwrap();
    for world in worlds() {
        let before = (null(), mounts(), groups());
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let bait = world.root.path().join("bait");
        std::fs::write(&bait, "host secret").unwrap();
        let script = format!(
            "cat {} /etc/shadow /root/.bashrc; (echo > /dev/tcp/127.0.0.1/{port}) && echo reached; chmod 600 /dev/null; true",
            bait.display()
        );
        assert_eq!(world.prints(&script), "", "{}", world.name);
        assert!(!world.shell("echo > /usr/bin/new", |_| ()).success(), "{}", world.name);
        assert_eq!((null(), mounts(), groups()), before, "{} leaves something behind", world.name);
        assert_eq!(std::fs::read_dir("/run/errand-oci").unwrap().count(), 0, "{} leaves something behind", world.name);
    }
}

const ROOT: &str = "ERRAND_SANDBOX_TEST_OCI_ROOT";
const RUNTIME: &str = "ERRAND_SANDBOX_TEST_OCI_RUNTIME";
const UP: &str = "the box is up";

/// Not a test by itself: the runner that the test below kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test below talks to the copy of itself that it starts")]
fn oci_runner_to_be_killed() {
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
            .args(["--exact", "oci::oci_runner_to_be_killed", "--nocapture"])
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

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains("errand")).count()
}

/// Groups that the runtimes would have made had they been let.
fn groups() -> usize {
    let tops = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"];
    let names = tops.iter().flat_map(std::fs::read_dir).flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(&format!("errand-{}-", std::process::id()))).count()
}

#[test]
fn a_runtime_that_is_none_or_fails_is_never_offered() {
    let reason = |change: fn(&mut OciConfig)| {
        let mut config = config("/usr/bin/crun");
        change(&mut config);
        let report = OciEngine::probe(&config);
        assert!(!report.available && report.quotas.list().iter().all(|(_, strength)| *strength == Strength::Absent));
        let Error::TierUnavailable { reasons, .. } = OciEngine::start(&config).unwrap_err() else { panic!("another error") };
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons.concat()
    };
    let relative = reason(|config| config.runtime = "crun".into());
    if relative.contains("as root") {
        println!("skipped: {relative}");
        return;
    }
    assert!(relative.contains("absolute path"), "{relative}");
    assert!(reason(|config| config.runtime = "/no/such/runtime".into()).contains("cannot be examined"));
    assert!(reason(|config| config.runtime = "/etc/passwd".into()).contains("no executable"));
    assert!(reason(|config| config.inside.program = "/no/such/program".into()).contains("first process"));
    assert!(reason(|config| config.flags = vec!["a\0b".into()]).contains("NUL"));
    assert!(reason(|config| config.runtime = "/bin/true".into()).contains("did not start the box"));
    assert!(reason(|config| config.inside.program = "/bin/true".into()).contains("did not start the box"));
    assert!(reason(|config| config.flags = vec!["run".into()]).contains("no option"));
    assert!(reason(|config| config.flags = vec!["--no-such-option=1".into()]).contains("did not start the box"));
    let script = tempfile::tempdir().unwrap();
    let path = script.path().join("runtime");
    std::fs::write(&path, "#!/bin/sh\necho 'told\twhy' >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let told = OciEngine::probe(&config(path.to_str().unwrap())).reasons.concat();
    assert!(told.contains("did not start the box (told why)"), "{told}");
}
