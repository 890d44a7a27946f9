//! Python kernels that zygotes fork: as tight as others, nobody's, and independent of who made them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use errand_sandbox::{
    Cell, CellEnd, Engine, EngineConfig, Exit, Language, Limits, Pool, PoolConfig, Sessions, probe_zygotes,
};

use crate::{World, world};

const PATIENCE: Duration = Duration::from_secs(60);

/// Tests count the zygotes below this process, so one at a time has any.
static ALONE: Mutex<()> = Mutex::new(());

struct Zygotes {
    pool: Pool,
    root: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// None, after saying why, where this host has no boxes or no Python; a host with both has zygotes.
fn zygotes(parked: usize) -> Option<Zygotes> {
    let world = world()?;
    if !world.has_python() {
        return None;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let World { engine, root, .. } = world;
    let sessions = Arc::new(Sessions::at(root.path().join("pool")).unwrap());
    let config = PoolConfig { languages: vec![Language::Python], parked: parked..=parked, limits: Limits::default() };
    let pool = Pool::start(Arc::clone(engine), sessions, config).unwrap();
    assert!(pool.is_filled_within(PATIENCE), "{:?}", pool.stats());
    assert_eq!(pool.stats().forked, parked as u64, "{:?}", pool.stats());
    Some(Zygotes { pool, root, _alone })
}

impl Zygotes {
    fn claim(&self, id: &str) -> errand_sandbox::Kernel {
        self.pool.claim(id, Language::Python, &Limits::default()).unwrap().kernel
    }

    fn value(&self, id: &str, code: &str) -> String {
        let outcome = self.claim(id).run(Cell::new(code)).unwrap();
        outcome.value.clone().unwrap_or_else(|| panic!("{outcome:?} {}", outcome.stderr.text()))
    }
}

/// The processes of zygotes below this one: a nest is a child, a zygote its child that shows what it runs.
fn pids(what: &str) -> Vec<i32> {
    let is_zygote = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("zygote.py")
    };
    let nests = children(std::process::id() as i32).into_iter().filter(|pid| children(*pid).iter().any(is_zygote));
    match what {
        "nest" => nests.collect(),
        _ => nests.flat_map(children).filter(is_zygote).collect(),
    }
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

#[test]
fn the_child_of_a_zygote_passes_the_probe_whole() {
    let Some(world) = world() else { return };
    if !world.has_python() {
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_errand-box"));
    if program.starts_with("/tmp") {
        println!("skipped: the program of the probe was built below /tmp, where a box has its own files");
        return;
    }
    let shown: PathBuf = program.parent().unwrap().into();
    let config = EngineConfig { read_only: vec![shown], ..EngineConfig::default() };
    let engine = Arc::new(Engine::start(&config).unwrap());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = probe_zygotes(&engine, program, &world.root.path().join("probe")).unwrap();
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.pass).collect();
    assert!(report.available && failed.is_empty(), "{:?} {failed:#?}", report.reasons);
    assert_eq!(report.checks.len(), engine.report().checks.len());
}

#[test]
fn a_child_has_nothing_of_its_zygote_but_an_interpreter() {
    let Some(zygotes) = zygotes(1) else { return };
    let code = "import os, sys, threading\n\
        def is_open(fd):\n    try: os.fstat(fd); return True\n    except OSError: return False\n\
        def links():\n    for fd in range(3, 4096):\n        if is_open(fd): yield os.readlink(f'/proc/self/fd/{fd}').split(':')[0]\n\
        [sorted(os.environ), list(links()), os.getpid(), os.getppid(), threading.active_count(), os.getcwd(), sys.argv,\n\
         os.listdir('/run/errand'), open('/proc/1/comm').read() != '', sys.modules['__main__'].__dict__.keys() & {'runner', 'script', 'controls'}]";
    assert_eq!(
        zygotes.value("bare", code),
        "[['HOME', 'LANG', 'MPLBACKEND', 'PATH', 'PYTHONDONTWRITEBYTECODE', 'PYTHONPATH', 'TMPDIR', 'USER', \
         'XDG_CACHE_HOME', 'XDG_CONFIG_HOME'], ['socket'], 2, 0, 1, '/workspace', [''], [], True, set()]"
    );
}

#[test]
fn what_two_children_draw_by_chance_differs_and_the_seed_of_hashes_is_their_zygotes() {
    let code = "import os, random, secrets, tempfile, uuid\n\
        [random.random(), str(uuid.uuid4()), secrets.token_hex(), os.urandom(8), random.SystemRandom().random(), \
         tempfile.mktemp()], hash('errand')";
    let draw = |zygotes: &Zygotes| {
        ["one", "two"].map(|id| {
            let drawn = zygotes.value(id, code);
            let (drawn, hash) = drawn.rsplit_once("], ").unwrap();
            (drawn.split(", ").map(str::to_owned).collect::<Vec<_>>(), hash.to_owned())
        })
    };
    let Some(first) = zygotes(2) else { return };
    let [one, two] = draw(&first);
    drop(first);
    assert!(one.0.len() == 6 && one.0.iter().zip(&two.0).all(|(one, other)| one != other), "{one:?} {two:?}");
    assert_eq!(one.1, two.1, "siblings share what their interpreter drew when it started");
    let [other, _] = draw(&zygotes(2).unwrap());
    assert_ne!(one.1, other.1, "another zygote has another seed");
}

#[test]
fn how_a_child_ended_is_told() {
    let Some(zygotes) = zygotes(1) else { return };
    for (id, code, exit) in [
        ("code", "import os; os._exit(3)", Exit::Code(3)),
        ("signal", "import os; os.kill(os.getpid(), 9)", Exit::Signal(9)),
        ("abort", "import os; os.abort()", Exit::Signal(6)),
    ] {
        assert!(zygotes.pool.is_filled_within(PATIENCE));
        let mut kernel = zygotes.claim(id);
        assert_eq!(kernel.run(Cell::new(code)).unwrap().end, CellEnd::Lost { exit }, "{code}");
    }
    assert_eq!(zygotes.pool.stats().misses, 0);
}

#[test]
fn a_zygote_or_nest_that_is_killed_takes_no_child_with_it_and_is_replaced() {
    let Some(zygotes) = zygotes(2) else { return };
    for victim in ["zygote", "nest"] {
        let mut kernel = zygotes.claim(&format!("lives-{victim}"));
        kernel.run(Cell::new("x = 41")).unwrap();
        let killed = pids(victim);
        assert_eq!(killed.len(), 1, "{victim}");
        for pid in killed {
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
                .unwrap();
        }
        assert_eq!(kernel.run(Cell::new("x + 1")).unwrap().value.as_deref(), Some("42"), "{victim}");
        // Nobody hears how it ended, but that it did.
        let lost = kernel.run(Cell::new("import os; os._exit(3)")).unwrap().end;
        assert!(matches!(lost, CellEnd::Lost { .. }), "{victim}: {lost:?}");
        drop(kernel);
        let forked = zygotes.pool.stats().forked;
        // One of those that are parked already, and one that is made after.
        for number in 0..3 {
            assert!(zygotes.pool.is_filled_within(PATIENCE));
            let mut next = zygotes.claim(&format!("next-{victim}-{number}"));
            assert_eq!(next.run(Cell::new("6 * 7")).unwrap().value.as_deref(), Some("42"), "{victim} {number}");
        }
        assert!(zygotes.pool.is_filled_within(PATIENCE));
        assert!(zygotes.pool.stats().forked > forked, "{victim}: {:?}", zygotes.pool.stats());
    }
    assert_eq!(zygotes.pool.stats().misses, 0);
}

#[test]
fn a_child_reaches_neither_its_siblings_nor_its_zygote() {
    let Some(zygotes) = zygotes(2) else { return };
    let mut sibling = zygotes.claim("sibling");
    sibling.run(Cell::new("secret = 'canary-' + str(6 * 7)")).unwrap();
    let outside: Vec<i32> = ["zygote", "nest"].into_iter().flat_map(pids).chain([std::process::id() as i32]).collect();
    assert_eq!(outside.len(), 3);
    let attack = format!(
        "import ctypes, os\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         held = []\n\
         def attempt(what, *arguments):\n    \
             try:\n        what(*arguments); held.append((what.__name__, arguments))\n    \
             except OSError: pass\n\
         for pid in {outside:?} + [os.getppid() or 99999, 1]:\n    \
             for number in (0, 9, 15) if pid != 1 else ():\n        attempt(os.kill, pid, number)\n    \
             for file in ('mem', 'environ', 'maps', 'fd', 'root/etc', 'ns/user'):\n        \
                 attempt(lambda path: (os.listdir(path) if path.endswith(('fd', 'etc')) else open(path, 'rb').read(1)) or None, f'/proc/{{pid}}/{{file}}')\n    \
             if libc.ptrace(16, pid, 0, 0) >= 0: held.append(('ptrace', pid))\n    \
             if libc.syscall(310, pid, 0, 0, 0, 0, 0) >= 0: held.append(('process_vm_readv', pid))\n\
         held"
    );
    let mut attacker = zygotes.claim("attacker");
    let outcome = attacker.run(Cell::new(attack)).unwrap();
    assert_eq!(outcome.value.as_deref(), Some("[]"), "{}", outcome.stderr.text());
    // All it can see: itself and its init. A signal to everything stays in the box.
    let killed = attacker
        .run(Cell::new("import os\ntry: os.kill(-1, 9)\nexcept ProcessLookupError: pass\nos.kill(os.getpid(), 9)"))
        .unwrap();
    assert!(matches!(killed.end, CellEnd::Lost { .. }));
    assert_eq!(sibling.run(Cell::new("secret")).unwrap().value.as_deref(), Some("'canary-42'"));
    assert_eq!(["zygote", "nest"].map(|what| pids(what).len()), [1, 1]);
}

#[test]
fn a_fork_bomb_stays_in_its_box() {
    let Some(zygotes) = zygotes(2) else { return };
    let mut bomber = zygotes.claim("bomber");
    let code = "import os, time\nmade = 0\ntry:\n    while made < 5000:\n        if os.fork() == 0:\n            time.sleep(600)\n        made += 1\nexcept OSError as e:\n    print(type(e).__name__)\nmade < 200";
    let outcome = bomber.run(Cell::new(code)).unwrap();
    assert_eq!(outcome.value.as_deref(), Some("True"), "{outcome:?}");
    let mut other = zygotes.claim("other");
    assert_eq!(other.run(Cell::new("1 + 1")).unwrap().value.as_deref(), Some("2"));
    drop(bomber);
    assert_eq!(["zygote", "nest"].map(|what| pids(what).len()), [1, 1]);
    drop(zygotes.pool);
    drop(other);
    drop(zygotes.root);
}
