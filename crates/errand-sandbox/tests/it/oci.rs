//! Real containers of the OCI runtimes of this machine; one that is missing is skipped, and said so.

mod killed;
mod refused;

use std::path::Path;
use std::time::Duration;

use errand_sandbox::{
    CancelToken, Exec, ExecOutcome, Exit, Inside, Limits, OciConfig, OciEngine, Session, Sessions, Strength,
};

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

/// The engines of the runtimes that this machine has.
pub(crate) fn engines() -> Vec<OciEngine> {
    worlds().into_iter().map(|world| world.engine).collect()
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

#[test]
fn calls_run_side_by_side() {
    for world in worlds() {
        std::thread::scope(|scope| {
            let call = |number| {
                scope.spawn({
                    let world = &world;
                    move || world.prints(&format!("echo {number} | tee {number}"))
                })
            };
            let calls: Vec<_> = (0..6).map(call).collect();
            for (number, call) in calls.into_iter().enumerate() {
                assert_eq!(call.join().unwrap(), format!("{number}\n"), "{}", world.name);
            }
        });
        assert_eq!(world.prints("echo *"), "0 1 2 3 4 5\n", "{}", world.name);
    }
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
