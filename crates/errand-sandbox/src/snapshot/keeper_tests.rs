//! Tests: stores that are away, answers that are lost, and two runners that both believe they own a session.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::head::HeadStore;
use super::take::tests::{World, world};
use super::{ChunkStore, FilesOf, Keeper, Kept, Manifest};
use crate::{Limits, Session, Sessions};

#[derive(Default)]
struct Heads {
    heads: Mutex<HashMap<String, Vec<u8>>>,
    away: AtomicBool,
    /// Does what it is asked, and says that it failed.
    loses_answers: AtomicBool,
}

impl HeadStore for Heads {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(std::io::Error::other("no heads today")),
            false => Ok(self.heads.lock().unwrap().get(name).cloned()),
        }
    }

    fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> std::io::Result<bool> {
        if self.away.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("no heads today"));
        }
        let mut heads = self.heads.lock().unwrap();
        if heads.get(name).map(Vec::as_slice) != expected {
            return Ok(false);
        }
        heads.insert(name.into(), bytes.to_vec());
        match self.loses_answers.load(Ordering::SeqCst) {
            true => Err(std::io::Error::other("the answer was lost")),
            false => Ok(true),
        }
    }
}

struct Runner<'a> {
    world: &'a World,
    heads: &'a Heads,
    session: Session,
    keeper: Keeper,
}

impl<'a> Runner<'a> {
    fn at(world: &'a World, heads: &'a Heads, sessions: &Sessions) -> Runner<'a> {
        let session = sessions.open_or_create("s").unwrap();
        let keeper = Keeper::take_over(&session, heads).unwrap();
        Runner { world, heads, session, keeper }
    }

    fn keep(&mut self) -> crate::Result<Kept> {
        self.keeper.keep(&self.session, &self.world.store, self.heads, &Limits::default())
    }

    fn flush(&mut self) -> crate::Result<Kept> {
        self.keeper.flush(&self.session, &self.world.store, self.heads)
    }

    fn restore(&mut self) -> crate::Result<()> {
        self.keeper.restore(&self.session, &self.world.store, &Limits::default())
    }

    fn reads(&self, path: &str) -> Vec<u8> {
        self.session.read_file(path, 0, 100).unwrap().bytes
    }
}

fn elsewhere(world: &World) -> Sessions {
    Sessions::at(world._root.path().join("another runner")).unwrap()
}

fn turn(kept: crate::Result<Kept>) -> u64 {
    match kept.unwrap() {
        Kept::Stored { turn, .. } => turn,
        other => panic!("not stored: {other:?}"),
    }
}

#[test]
fn a_session_goes_on_elsewhere_and_the_runner_before_is_fenced_off() {
    let (world, heads) = (world(), Heads::default());
    let mut first = Runner::at(&world, &heads, &world.sessions);
    first.session.put_file("file", b"1").unwrap();
    assert_eq!(turn(first.keep()), 1);
    assert_eq!(first.keep().unwrap(), Kept::Unchanged);
    let there = elsewhere(&world);
    let mut second = Runner::at(&world, &heads, &there);
    second.restore().unwrap();
    assert_eq!(second.reads("file"), b"1");

    // Both believe that they own it.
    first.session.put_file("file", b"of the one before").unwrap();
    second.session.put_file("file", b"2").unwrap();
    let head = || heads.heads.lock().unwrap()["s"].clone();
    let before = head();
    let error = first.keep().unwrap_err();
    assert_eq!(error.code(), "sandbox_fenced");
    assert!(error.to_string().contains("fence 2, this one had 1"), "{error}");
    assert_eq!(head(), before, "the one before wrote all the same");
    assert_eq!(turn(second.keep()), 2);
    assert_eq!(first.keep().unwrap_err().code(), "sandbox_fenced", "once is for ever");
    assert_eq!(first.flush().unwrap_err().code(), "sandbox_fenced");
    assert_eq!(first.reads("file"), b"of the one before", "its files were taken from it");

    drop(second);
    let mut again = Runner::at(&world, &heads, &there);
    again.restore().unwrap();
    assert_eq!(again.reads("file"), b"2");
}

#[test]
fn of_many_that_take_over_at_once_one_can_keep() {
    let (world, heads) = (world(), Heads::default());
    let roots: Vec<Sessions> =
        (0..8).map(|number| Sessions::at(world._root.path().join(format!("runner-{number}"))).unwrap()).collect();
    let start = std::sync::Barrier::new(roots.len());
    let stored: usize = std::thread::scope(|scope| {
        let (start, world, heads) = (&start, &world, &heads);
        let runners: Vec<_> = roots
            .iter()
            .enumerate()
            .map(|(number, sessions)| {
                scope.spawn(move || {
                    start.wait();
                    let mut runner = Runner::at(world, heads, sessions);
                    start.wait();
                    runner.session.put_file("mine", number.to_string().as_bytes()).unwrap();
                    match runner.keep() {
                        Ok(kept) => usize::from(turn(Ok(kept)) == 1),
                        Err(error) => {
                            assert_eq!(error.code(), "sandbox_fenced");
                            0
                        }
                    }
                })
            })
            .collect();
        runners.into_iter().map(|runner| runner.join().unwrap()).sum()
    });
    assert_eq!(stored, 1);
}

#[test]
fn what_the_store_does_not_take_is_held_and_given_later() {
    let (world, heads) = (world(), Heads::default());
    let mut runner = Runner::at(&world, &heads, &world.sessions);
    runner.session.put_file("before", b"1").unwrap();
    runner.keep().unwrap();
    world.store.away.store(true, Ordering::SeqCst);
    for number in 0..20 {
        runner.session.put_file("file", format!("version {number}").as_bytes()).unwrap();
        match runner.keep().unwrap() {
            Kept::Held { chunks, problem } => assert_eq!((chunks, &*problem), (2, "the store is away"), "{number}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(runner.flush().unwrap(), Kept::Held { .. }));
    // The process dies; the machine and its disk stay.
    drop(runner);
    let mut runner = Runner::at(&world, &heads, &world.sessions);
    runner.session.remove("file").unwrap();
    // All that it takes is on this machine.
    runner.restore().unwrap();
    world.store.away.store(false, Ordering::SeqCst);
    assert_eq!((runner.reads("file"), runner.reads("before")), (b"version 19".to_vec(), b"1".to_vec()));
    assert_eq!(turn(runner.flush()), 2);
    assert_eq!(runner.flush().unwrap(), Kept::Unchanged);
    assert_eq!(std::fs::read_dir(runner.session.folder().join("spool")).unwrap().count(), 0);
    let there = elsewhere(&world);
    let mut other = Runner::at(&world, &heads, &there);
    other.restore().unwrap();
    assert_eq!(other.reads("file"), b"version 19");
    assert_eq!(other.keeper.stranded(), None);
}

#[test]
fn heads_that_are_away_or_lose_answers_lose_no_snapshot() {
    let (world, heads) = (world(), Heads::default());
    let mut runner = Runner::at(&world, &heads, &world.sessions);
    runner.session.put_file("file", b"1").unwrap();
    heads.away.store(true, Ordering::SeqCst);
    assert!(matches!(runner.keep().unwrap(), Kept::Held { chunks: 0, .. }));
    heads.away.store(false, Ordering::SeqCst);
    heads.loses_answers.store(true, Ordering::SeqCst);
    assert!(matches!(runner.keep().unwrap(), Kept::Held { .. }), "it was written, and nobody knows");
    runner.session.put_file("file", b"2").unwrap();
    heads.loses_answers.store(false, Ordering::SeqCst);
    assert_eq!(turn(runner.keep()), 2, "its own write was taken for another's");
    // As does one whose answer is lost and that is asked about the same again.
    runner.session.put_file("file", b"3").unwrap();
    heads.loses_answers.store(true, Ordering::SeqCst);
    assert!(matches!(runner.keep().unwrap(), Kept::Held { .. }));
    heads.loses_answers.store(false, Ordering::SeqCst);
    assert_eq!(turn(runner.flush()), 3);
    // Written, and the process dies before it hears of it.
    runner.session.put_file("file", b"4").unwrap();
    heads.loses_answers.store(true, Ordering::SeqCst);
    runner.keep().unwrap();
    heads.loses_answers.store(false, Ordering::SeqCst);
    drop(runner);
    let mut runner = Runner::at(&world, &heads, &world.sessions);
    assert_eq!(runner.keeper.stranded(), None);
    assert_eq!(runner.flush().unwrap(), Kept::Unchanged);
    runner.restore().unwrap();
    assert_eq!(runner.reads("file"), b"4");
}

#[test]
fn what_comes_too_late_is_put_aside_and_told() {
    let (world, heads) = (world(), Heads::default());
    let mut first = Runner::at(&world, &heads, &world.sessions);
    first.session.put_file("file", b"1").unwrap();
    first.keep().unwrap();
    first.session.put_file("file", b"late").unwrap();
    world.store.away.store(true, Ordering::SeqCst);
    assert!(matches!(first.keep().unwrap(), Kept::Held { .. }));
    drop(first);
    world.store.away.store(false, Ordering::SeqCst);
    let there = elsewhere(&world);
    let mut second = Runner::at(&world, &heads, &there);
    second.restore().unwrap();
    second.session.put_file("file", b"2").unwrap();
    second.keep().unwrap();
    let mut first = Runner::at(&world, &heads, &world.sessions);
    let aside = first.keeper.stranded().unwrap().to_owned();
    first.restore().unwrap();
    assert_eq!(first.reads("file"), b"2");
    let late = std::fs::read_dir(&aside).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let late: Vec<Vec<u8>> = late.collect();
    assert!(late.iter().any(|bytes| bytes == b"late"), "its chunks are gone");
    let manifest = late.iter().find_map(|bytes| Manifest::from_bytes(bytes).ok()).unwrap();
    struct Aside(Vec<Vec<u8>>);
    impl ChunkStore for Aside {
        fn put(&self, _: &[u8]) -> std::io::Result<[u8; 32]> {
            unreachable!()
        }
        fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
            let found = self
                .0
                .iter()
                .find(|bytes| sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(bytes))[..] == *hash);
            Ok(found.cloned())
        }
    }
    let aside = Aside(late);
    assert_eq!(FilesOf::new(&manifest, &aside).read_file("file", 0, 9).unwrap().bytes, b"late");
}

#[test]
fn snapshots_that_fail_while_the_store_is_away_leave_nothing_behind() {
    let (mut world, heads) = (world(), Heads::default());
    world.limits.workspace_bytes = 20 << 20;
    let mut runner = Runner::at(&world, &heads, &world.sessions);
    world.store.away.store(true, Ordering::SeqCst);
    runner.session.put_file("file", b"held").unwrap();
    assert!(matches!(runner.keep().unwrap(), Kept::Held { .. }));
    let spooled = || std::fs::read_dir(runner.session.folder().join("spool")).unwrap().count();
    let held = spooled();
    let noise: Vec<u8> = (0..12u64 << 20).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    runner.session.put_file("large-1", &noise).unwrap();
    runner.session.put_file("large-2", &noise).unwrap();
    let error = runner.keeper.keep(&runner.session, &world.store, &heads, &world.limits).unwrap_err();
    assert_eq!((error.code(), spooled()), ("sandbox_workspace_too_large", held));
    world.store.away.store(false, Ordering::SeqCst);
    assert_eq!(turn(runner.keeper.flush(&runner.session, &world.store, &heads)), 1);
}

#[test]
fn heads_that_are_none_are_refused() {
    let (world, heads) = (world(), Heads::default());
    let session = world.sessions.create("s").unwrap();
    let refused = |bytes: String| {
        heads.heads.lock().unwrap().insert("s".into(), bytes.into_bytes());
        Keeper::take_over(&session, &heads).unwrap_err().code()
    };
    let head = |schema: u32, id: &str, fence: u64, manifest: &str| {
        format!(r#"{{"schema":{schema},"session":"{id}","fence":{fence},"turn":0,"manifest":{manifest}}}"#)
    };
    for bytes in [
        String::new(),
        "{}".into(),
        head(2, "s", 1, "null"),
        head(1, "other", 1, "null"),
        head(1, "s", u64::MAX, "null"),
        head(1, "s", 1, "\"../../etc\""),
        head(1, "s", 1, "null").replace("turn", "extra"),
    ] {
        assert_eq!(refused(bytes), "sandbox_head_refused");
    }
    heads.heads.lock().unwrap().insert("s".into(), head(1, "s", 7, "null").into_bytes());
    Keeper::take_over(&session, &heads).unwrap();
}
