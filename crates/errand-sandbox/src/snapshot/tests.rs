//! Round trips, what is read again, and hostile workspaces.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::Manifest;
use crate::Sessions;

/// Keeps chunks in memory; can be told to lose them, or to be away.
#[derive(Default)]
pub(in crate::snapshot) struct Memory {
    pub(in crate::snapshot) chunks: Mutex<HashMap<[u8; 32], Vec<u8>>>,
    pub(in crate::snapshot) puts: AtomicUsize,
    pub(in crate::snapshot) away: AtomicBool,
}

impl ChunkStore for Memory {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        if self.away.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the store is away"));
        }
        let hash = Sha256::digest(bytes).into();
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.chunks.lock().unwrap().insert(hash, bytes.to_vec());
        Ok(hash)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        if self.away.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the store is away"));
        }
        Ok(self.chunks.lock().unwrap().get(hash).cloned())
    }
}

pub(in crate::snapshot) struct World {
    pub(in crate::snapshot) _root: tempfile::TempDir,
    pub(in crate::snapshot) sessions: Sessions,
    pub(in crate::snapshot) store: Memory,
    pub(in crate::snapshot) limits: Limits,
}

/// The clocks as they are when some time has gone by.
pub(in crate::snapshot) fn after(clock: Clock, time: Duration) -> Clock {
    Clock { wall: clock.wall + time, steady: clock.steady + time }
}

pub(in crate::snapshot) fn world() -> World {
    world_in(tempfile::tempdir().unwrap())
}

pub(in crate::snapshot) fn world_in(root: tempfile::TempDir) -> World {
    let sessions = Sessions::at(root.path().join("sessions")).unwrap();
    World { _root: root, sessions, store: Memory::default(), limits: Limits::default() }
}

impl World {
    pub(in crate::snapshot) fn take(&self, session: &Session, previous: Option<&Snapshot>) -> Snapshot {
        session.snapshot(&self.store, previous, &self.limits).unwrap()
    }
}

#[test]
fn a_workspace_comes_back_as_it_was_and_has_the_same_hash() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let large: Vec<u8> = (0..9_000_000u32).map(|n| (n / 1000) as u8).collect();
    session.put_file("dir/large.bin", &large).unwrap();
    session.put_file("empty", b"").unwrap();
    session.put_file("run.sh", b"#!/bin/sh\n").unwrap();
    session.mkdirs("empty dir").unwrap();
    let inside = session.workspace_path();
    std::fs::set_permissions(inside.join("run.sh"), PermissionsExt::from_mode(0o6711)).unwrap();
    symlink("/etc/shadow", inside.join("link")).unwrap();
    let before = world.take(&session, None);
    assert_eq!(world.take(&session, Some(&before)).manifest.hash(), before.manifest.hash());

    session.put_file("dir/large.bin", b"changed").unwrap();
    session.remove("empty dir").unwrap();
    session.put_file("extra/deep/file", b"x").unwrap();
    session.remove("run.sh").unwrap();
    session.mkdirs("run.sh/was/a/file").unwrap();
    let changed = world.take(&session, Some(&before));
    let paths: Vec<String> = before.manifest.diff(&changed.manifest).into_iter().map(|change| change.path).collect();
    let wanted = [
        "dir/large.bin",
        "empty dir",
        "extra",
        "extra/deep",
        "extra/deep/file",
        "run.sh",
        "run.sh/was",
        "run.sh/was/a",
        "run.sh/was/a/file",
    ];
    assert_eq!(paths, wanted);

    session.restore(&world.store, &before.manifest, &world.limits).unwrap();
    assert_eq!(world.take(&session, None).manifest, before.manifest);
    assert_eq!(session.read_file("dir/large.bin", 0, 1 << 30).unwrap().bytes, large);
    assert_eq!(inside.join("run.sh").metadata().unwrap().permissions().mode() & 0o7777, 0o755);

    let other = world.sessions.create("b").unwrap();
    let carried = Manifest::from_bytes(&before.manifest.to_bytes()).unwrap();
    other.restore(&world.store, &carried, &world.limits).unwrap();
    assert_eq!(world.take(&other, None).manifest.hash(), before.manifest.hash());
}

#[test]
fn only_changed_files_are_read_and_only_new_pieces_kept() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("one", b"1").unwrap();
    session.put_file("two", b"2").unwrap();
    let clock = Clock::now();
    let later = after(clock, Duration::from_secs(60));
    let take = |now, previous| session.snapshot_at(now, &world.store, previous, &world.limits).unwrap();
    let first = take(later, None);
    session.put_file("two", b"22").unwrap();
    session.put_file("three", b"1").unwrap();
    let second = take(later, Some(&first));
    assert_eq!((first.files_read, second.files_read), (2, 2));
    assert_eq!(world.store.puts.load(Ordering::SeqCst), 3);
    assert_eq!(take(later, Some(&second)).files_read, 0);
    // Just written, as seen by a clock that has not moved on: a later change could go unseen, so all are read again.
    let early = take(clock, None);
    let again = take(clock, Some(&early));
    assert_eq!(again.files_read, 3);
    assert_eq!(again.manifest, second.manifest);
}

#[test]
fn devices_and_links_are_neither_read_nor_followed() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    symlink("/etc", inside.join("etc")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    let fifo = std::ffi::CString::new(inside.join("fifo").to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &*fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    std::fs::write(inside.join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    let snapshot = world.take(&session, None);
    let paths: Vec<&str> = snapshot.manifest.entries().map(|(path, _)| path).collect();
    assert_eq!(paths, ["etc", "loop"]);
    let mut skipped = snapshot.skipped.clone();
    skipped.sort();
    assert_eq!(skipped, ["bad\u{fffd}", "fifo"]);
    session.restore(&world.store, &Manifest::default(), &world.limits).unwrap();
    assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 0);
}

#[test]
fn a_restore_over_planted_links_stays_in_the_workspace() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("dir/file", b"content").unwrap();
    let snapshot = world.take(&session, None);
    let outside = world._root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "precious").unwrap();
    session.remove("dir").unwrap();
    symlink(&outside, session.workspace_path().join("dir")).unwrap();
    session.restore(&world.store, &snapshot.manifest, &world.limits).unwrap();
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"precious");
    assert_eq!(session.read_file("dir/file", 0, 100).unwrap().bytes, b"content");
}

#[test]
fn a_missing_or_damaged_piece_is_told_and_changes_no_file() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("file", b"first").unwrap();
    let snapshot = world.take(&session, None);
    session.put_file("file", b"second").unwrap();
    for bytes in [None, Some(b"fIrst".to_vec())] {
        let mut chunks = world.store.chunks.lock().unwrap();
        chunks.clear();
        if let Some(bytes) = bytes {
            chunks.insert(Sha256::digest(b"first").into(), bytes);
        }
        drop(chunks);
        let error = session.restore(&world.store, &snapshot.manifest, &world.limits).unwrap_err();
        assert_eq!(error.code(), "sandbox_chunk");
        assert_eq!(session.list("", true, 10).unwrap().len(), 1);
        assert_eq!(session.read_file("file", 0, 100).unwrap().bytes, b"second");
    }
}

#[test]
fn too_many_files_or_bytes_are_refused() {
    let mut world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("a", &[0; 100]).unwrap();
    session.put_file("b", &[0; 100]).unwrap();
    let snapshot = world.take(&session, None);
    world.limits.workspace_bytes = 150;
    let code = |result: Result<Snapshot>| result.unwrap_err().code();
    assert_eq!(code(session.snapshot(&world.store, None, &world.limits)), "sandbox_workspace_too_large");
    let refused = session.restore(&world.store, &snapshot.manifest, &world.limits).unwrap_err();
    assert_eq!(refused.code(), "sandbox_workspace_too_large");
    world.limits = Limits { workspace_files: 1, ..Limits::default() };
    assert_eq!(code(session.snapshot(&world.store, None, &world.limits)), "sandbox_workspace_too_large");
}

#[test]
fn what_the_box_has_locked_is_kept_all_the_same() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("locked/file", b"content").unwrap();
    let inside = session.workspace_path();
    std::fs::set_permissions(inside.join("locked/file"), PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::set_permissions(inside.join("locked"), PermissionsExt::from_mode(0o000)).unwrap();
    let snapshot = world.take(&session, None);
    assert!(matches!(snapshot.manifest.entries.get("locked/file"), Some(Node::File { size: 7, .. })));
}
