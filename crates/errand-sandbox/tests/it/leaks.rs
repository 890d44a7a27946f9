//! Two hundred boxes, made, used and destroyed: nothing of them is left, and this process is no larger than after the first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use errand_sandbox::{Cell, CellEnd, Engine, EngineConfig, Exec, Language, Limits, Pool, PoolConfig, Sessions};

use crate::world;

const ROOT: &str = "ERRAND_SANDBOX_LEAKS_ROOT";
const BOXES: usize = 200;
const CONCURRENCY: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// What there is of the things that boxes are made of, in this process and below it.
#[derive(Debug, PartialEq, Eq)]
struct Things {
    descendants: usize,
    descriptors: usize,
    threads: usize,
    mounts: usize,
    /// Namespaces in use by this process or one below it.
    namespaces: BTreeSet<String>,
    groups: usize,
    files: Vec<String>,
}

impl Things {
    fn now(root: &Path) -> Things {
        let all = descendants();
        let namespaces = all.iter().map(|pid| format!("/proc/{pid}")).chain(["/proc/self".to_owned()]);
        let namespaces = namespaces.flat_map(|process| {
            ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"]
                .map(|kind| std::fs::read_link(format!("{process}/ns/{kind}")))
        });
        Things {
            descendants: all.len(),
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            namespaces: namespaces.flatten().map(|link| link.display().to_string()).collect(),
            groups: groups(),
            files: names(root),
        }
    }
}

impl Things {
    fn is_within(&self, before: &Things) -> bool {
        let counts = |things: &Things| {
            [things.descendants, things.descriptors, things.threads, things.mounts, things.namespaces.len(), things.groups]
        };
        counts(self).iter().zip(counts(before)).all(|(now, then)| *now <= then) && self.files == before.files
    }
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.filter(|name| !name.starts_with(".errand-nameless-")).collect();
    names.sort();
    names
}

fn descendants() -> Vec<i32> {
    let mut all = vec![std::process::id() as i32];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let below: Vec<i32> =
            lists.flat_map(|list| list.split_whitespace().map(|one| one.parse().unwrap()).collect::<Vec<_>>()).collect();
        all.extend(below);
        next += 1;
    }
    all.split_off(1)
}

/// Control groups that this process made.
fn groups() -> usize {
    let prefix = format!("errand-box-{}-", std::process::id());
    let mut folders: Vec<PathBuf> = vec!["/sys/fs/cgroup".into()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            match entry.file_name().to_string_lossy().starts_with(&prefix) {
                true => found += 1,
                false => folders.push(entry.path()),
            }
        }
    }
    found
}

/// Resident bytes of this process that are no file's.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Not a test by itself: the test below runs it in a process of its own, where nobody else makes boxes.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test below talks to the copy of itself that it starts")]
fn runner_of_many_boxes() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = PathBuf::from(root);
    let engine = Arc::new(Engine::start(&EngineConfig::default()).unwrap());
    let sessions = Arc::new(Sessions::at(&root).unwrap());
    assert!(engine.is_ahead_within(PATIENCE));
    let has_python = engine.interpreters().iter().any(|one| one.name == "python3");
    let languages = if has_python { vec![Language::Python] } else { Vec::new() };
    let config = PoolConfig { languages, parked: 4..=4, limits: Limits::default() };
    let pool = Pool::start(Arc::clone(&engine), Arc::clone(&sessions), config).unwrap();
    // Threads, arenas and buffers that stay are there once as many were at work.
    many(&engine, &sessions, &pool, 2 * CONCURRENCY, "first");
    let before = settled(&engine, &pool, &root, None);
    let began_with = resident();
    many(&engine, &sessions, &pool, BOXES, "box");
    let after = settled(&engine, &pool, &root, Some(&before));
    // Parked and empty boxes are others, but no more of them.
    assert!(after.is_within(&before), "{after:#?} {before:#?}");
    let grown = resident().saturating_sub(began_with);
    assert!(grown < 4 << 20, "{grown} bytes more");
    drop(pool);
    drop(engine);
    let end = Instant::now() + PATIENCE;
    while !descendants().is_empty() || groups() > 0 {
        assert!(Instant::now() < end, "{:?} {}", descendants(), groups());
        std::thread::yield_now();
    }
    assert_eq!(names(&root), Vec::<String>::new());
}

/// Half of them calls, half of them cells of claimed kernels, each in a session of its own.
fn many(engine: &Engine, sessions: &Sessions, pool: &Pool, count: usize, name: &str) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let id = format!("{name}-{number}");
                    if number.is_multiple_of(2) {
                        let session = sessions.create(&id).unwrap();
                        // With a daemon left behind.
                        let outcome =
                            engine.run(&session, Exec::shell("sleep 1000 & echo $$ > file; mkdir -p a/b")).unwrap();
                        assert!(outcome.success(), "{outcome:?}");
                        sessions.destroy(session).unwrap();
                    } else {
                        let mut kernel = pool.claim(&id, Language::Python, &Limits::default()).unwrap().kernel;
                        assert_eq!(kernel.run(Cell::new("open('file', 'w').write('x')")).unwrap().end, CellEnd::Done);
                        let session = Arc::clone(kernel.session());
                        drop(kernel);
                        sessions.destroy(Arc::into_inner(session).unwrap()).unwrap();
                    }
                }
            });
        }
    });
}

/// What there is once nothing moves any more: as it was before, or else whatever it has come to when the patience is over.
fn settled(engine: &Engine, pool: &Pool, root: &Path, wanted: Option<&Things>) -> Things {
    let end = Instant::now() + PATIENCE;
    let mut last = Things::now(root);
    loop {
        let still = engine.is_ahead_within(PATIENCE) && pool.is_filled_within(PATIENCE);
        let now = Things::now(root);
        let same = still && wanted.map_or(now == last, |wanted| now.is_within(wanted));
        if same || Instant::now() > end {
            return now;
        }
        last = now;
        let _ = rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
    }
}

#[test]
fn two_hundred_boxes_leave_nothing() {
    let Some(world) = world() else { return };
    if !world.has_python() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leaks::runner_of_many_boxes", "--nocapture"])
        .env(ROOT, world.root.path().join("many"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
