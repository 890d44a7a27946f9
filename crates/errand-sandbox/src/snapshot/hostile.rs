//! Tests: trees made to mislead whoever keeps them, and files that change under the reader.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::stamp::Clock;
use super::take::tests::{Memory, World, after, world, world_in};
use super::{ChunkStore, Manifest, Node, Snapshot};
use crate::error::{Error, Result};
use crate::{Limits, Session};

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.manifest.entries().map(|(path, _)| path).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Takes a snapshot as if a minute had gone by, so that what was just written counts as settled.
fn later(world: &World, session: &Session, minutes: u64, previous: Option<&Snapshot>) -> Snapshot {
    let clock = after(Clock::now(), Duration::from_secs(60 * minutes));
    session.snapshot_at(clock, &world.store, previous, &world.limits).unwrap()
}

fn content(world: &World, session: &Session, snapshot: &Snapshot, path: &str) -> Vec<u8> {
    session.restore(&world.store, &snapshot.manifest, &world.limits).unwrap();
    session.read_file(path, 0, 1 << 30).unwrap().bytes
}

#[test]
fn what_is_no_file_is_left_out_and_told_up_to_a_bound() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    let node = |name: &str, kind| mknodat(CWD, inside.join(name), kind, Mode::RWXU, 0x0103);
    for number in 0..1_200 {
        node(&format!("fifo-{number}"), FileType::Fifo).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).unwrap();
    let devices = [node("null", FileType::CharacterDevice), node("disk", FileType::BlockDevice)];
    assert!(devices.iter().all(|made| made.is_ok() == is_root()), "{devices:?}");
    std::fs::write(inside.join("file"), "kept").unwrap();
    let snapshot = world.take(&session, None);
    assert_eq!(paths(&snapshot), ["file"]);
    assert_eq!(snapshot.skipped.len(), 1000);
    assert_eq!(snapshot.skipped_count, if is_root() { 1203 } else { 1201 });
    session.restore(&world.store, &snapshot.manifest, &world.limits).unwrap();
    assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 1);
}

#[test]
fn names_that_are_odd_are_kept_and_come_back() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    let long = "ü".repeat(127) + "x";
    let odd =
        ["new\nline", "tab\t\u{1b}[31mred", "quote\"\\", "-rf *", " ", "con:aux", "e\u{301}", "é", "\u{202e}gpj.exe", &long];
    for name in odd {
        std::fs::create_dir(inside.join(name)).unwrap();
        std::fs::write(inside.join(name).join(name), name).unwrap();
    }
    let before = world.take(&session, None);
    let carried = Manifest::from_bytes(&before.manifest.to_bytes()).unwrap();
    let other = world.sessions.create("b").unwrap();
    other.restore(&world.store, &carried, &world.limits).unwrap();
    for name in odd {
        assert_eq!(std::fs::read(other.workspace_path().join(name).join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(world.take(&other, None).manifest.hash(), before.manifest.hash());
}

#[test]
fn files_with_several_names_and_special_modes_come_back_as_plain_files_of_their_own() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    session.put_file("one", b"shared").unwrap();
    std::fs::hard_link(inside.join("one"), inside.join("two")).unwrap();
    session.put_file("setuid", b"#!/bin/sh\n").unwrap();
    std::fs::set_permissions(inside.join("setuid"), PermissionsExt::from_mode(0o7755)).unwrap();
    let attribute = rustix::fs::setxattr(inside.join("setuid"), "user.note", b"x", rustix::fs::XattrFlags::CREATE);
    let mut before = world.take(&session, None);
    assert_eq!(before.manifest.get("one"), before.manifest.get("two"));
    // As a workspace in which the two had nothing to do with each other.
    let Some(Node::File { executable, .. }) = before.manifest.entries.get_mut("two") else { panic!("no file") };
    *executable = true;
    session.restore(&world.store, &before.manifest, &world.limits).unwrap();
    let [one, two, setuid] = ["one", "two", "setuid"].map(|name| inside.join(name).metadata().unwrap());
    assert_ne!(one.ino(), two.ino(), "what is done to one would be done to the other");
    assert_eq!([&one, &two, &setuid].map(|file| file.mode() & 0o7777), [0o644, 0o755, 0o755]);
    let other = world.sessions.create("b").unwrap();
    other.restore(&world.store, &before.manifest, &world.limits).unwrap();
    let mut value = [0; 16];
    let there = rustix::fs::getxattr(other.workspace_path().join("setuid"), "user.note", &mut value[..]).is_ok();
    assert!(attribute.is_err() || !there, "attributes are not kept");
}

#[test]
fn a_file_that_claims_a_terabyte_is_refused_unread_and_holes_stay_holes() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    let file = File::create(inside.join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = session.snapshot(&world.store, None, &world.limits).unwrap_err();
    assert_eq!(error.code(), "sandbox_workspace_too_large");
    assert_eq!(world.store.puts.load(Ordering::SeqCst), 0, "read before it was refused");
    file.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 20 << 20).unwrap();
    let before = world.take(&session, None);
    assert!(world.store.chunks.lock().unwrap().values().map(Vec::len).sum::<usize>() <= 3 << 20);
    let other = world.sessions.create("b").unwrap();
    other.restore(&world.store, &before.manifest, &world.limits).unwrap();
    let restored = other.workspace_path().join("sparse").metadata().unwrap();
    assert_eq!(restored.len(), 40 << 20);
    assert!(restored.blocks() * 512 <= 2 << 20, "{} blocks", restored.blocks());
    assert_eq!(world.take(&other, None).manifest.hash(), before.manifest.hash());
}

#[test]
fn a_hundred_thousand_files_are_bounded() {
    // In memory, so that the test waits for no disk.
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut world = world_in(root);
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    for number in 0..100_000 {
        File::create(inside.join(number.to_string())).unwrap();
    }
    let code = |result: Result<Snapshot>| result.unwrap_err().code();
    assert_eq!(code(session.snapshot(&world.store, None, &world.limits)), "sandbox_workspace_too_large");
    world.limits = Limits { workspace_files: 200_000, ..Limits::default() };
    let before = world.take(&session, None);
    assert_eq!(before.manifest.entries().count(), 100_000);
    assert_eq!(world.store.puts.load(Ordering::SeqCst), 0, "nothing has no chunks");
    let carried = Manifest::from_bytes(&before.manifest.to_bytes()).unwrap();
    assert_eq!(carried, before.manifest);
}

#[test]
fn folders_too_deep_are_refused_and_cleared_away() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let mut deep = session.workspace_path();
    for _ in 0..99 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    let deepest = world.take(&session, None);
    std::fs::create_dir_all(deep.join("d/d")).unwrap();
    let error = session.snapshot(&world.store, None, &world.limits).unwrap_err();
    assert_eq!(error.code(), "sandbox_workspace_too_large");
    session.restore(&world.store, &deepest.manifest, &world.limits).unwrap();
    assert_eq!(world.take(&session, None).manifest, deepest.manifest);
}

#[test]
fn a_write_of_the_same_size_within_a_tick_is_seen() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let path = session.workspace_path().join("file");
    let mut before = None;
    for number in 0..300u32 {
        std::fs::write(&path, format!("{number:04}")).unwrap();
        // What a tool that preserves times does.
        File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let taken = session.snapshot(&world.store, before.as_ref(), &world.limits).unwrap();
        assert_eq!(content(&world, &session, &taken, "file"), format!("{number:04}").as_bytes());
        before = Some(taken);
    }
}

#[test]
fn stamps_of_another_time_are_not_believed() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("file", b"1").unwrap();
    let first = later(&world, &session, 1, None);
    assert_eq!(later(&world, &session, 2, Some(&first)).files_read, 0);
    for set in [Duration::from_secs(3600), Duration::from_secs(1)] {
        let now = after(Clock::now(), Duration::from_secs(120));
        let back = Clock { wall: now.wall - set, ..now };
        let forth = Clock { wall: now.wall + set, ..now };
        let take = |clock, previous| session.snapshot_at(clock, &world.store, previous, &world.limits).unwrap();
        for clock in [back, forth] {
            let again = take(clock, Some(&first));
            assert_eq!((again.files_read, &again.manifest), (1, &first.manifest), "{set:?}");
        }
    }
    // Whose clock is far behind cannot tell what has settled.
    let behind = Clock { wall: Duration::from_secs(1), steady: Clock::now().steady };
    let taken = session.snapshot_at(behind, &world.store, None, &world.limits).unwrap();
    assert_eq!(session.snapshot_at(behind, &world.store, Some(&taken), &world.limits).unwrap().files_read, 1);
}

/// A file mapped for reading and writing, and closed.
struct Mapping {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: whoever has it is the only one who writes through it.
#[expect(unsafe_code, reason = "the tests are about mappings")]
unsafe impl Send for Mapping {}

impl Mapping {
    fn of(file: File, bytes: usize) -> Mapping {
        // SAFETY: a fresh mapping of an open file.
        #[expect(unsafe_code, reason = "the tests are about mappings")]
        let at = unsafe {
            let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), bytes, read_write, shared, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        Mapping { at: at.cast(), bytes }
    }

    /// Reads the first byte.
    fn get(&self) -> u8 {
        // SAFETY: within the mapping.
        #[expect(unsafe_code, reason = "the tests are about mappings")]
        unsafe {
            self.at.read_volatile()
        }
    }

    /// Writes the first byte.
    fn put(&self, byte: u8) {
        // SAFETY: within the mapping.
        #[expect(unsafe_code, reason = "the tests are about mappings")]
        unsafe {
            self.at.write_volatile(byte);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody else unmaps it.
        #[expect(unsafe_code, reason = "the tests are about mappings")]
        let unmapped = unsafe { libc::munmap(self.at.cast(), self.bytes) };
        assert_eq!(unmapped, 0);
    }
}

#[test]
fn who_lets_go_of_a_mapping_while_the_file_is_read_is_not_trusted() {
    /// Writes through the mapping for the last time when it is given the first chunk.
    struct Slow<'a>(&'a Memory, Mutex<Option<Mapping>>);
    impl ChunkStore for Slow<'_> {
        fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
            if let Some(map) = self.1.lock().unwrap().take() {
                map.put(3);
            }
            self.0.put(bytes)
        }
        fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
            self.0.get(hash)
        }
    }
    let world = world();
    let session = world.sessions.create("a").unwrap();
    // More than is read before the first chunks are given away, and no two of them alike.
    let bytes = 20 << 20;
    let content_before: Vec<u8> = (0..bytes as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    session.put_file("mapped", &content_before).unwrap();
    let file = File::options().read(true).write(true).open(session.workspace_path().join("mapped")).unwrap();
    let map = Mapping::of(file, bytes);
    map.put(2);
    let clock = after(Clock::now(), Duration::from_secs(60));
    let slow = Slow(&world.store, Mutex::new(Some(map)));
    let before = session.snapshot_at(clock, &slow, None, &world.limits).unwrap();
    assert!(slow.1.lock().unwrap().is_none(), "nothing was written while the file was read");
    let taken = later(&world, &session, 2, Some(&before));
    assert_eq!(content(&world, &session, &taken, "mapped")[0], 3);
}

#[test]
fn in_memory_stamps_are_not_believed() {
    let Ok(root) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: this host has no /dev/shm");
        return;
    };
    let world = world_in(root);
    let session = world.sessions.create("a").unwrap();
    session.put_file("mapped", &[1; 8192]).unwrap();
    let before = later(&world, &session, 1, None);
    let map =
        Mapping::of(File::options().read(true).write(true).open(session.workspace_path().join("mapped")).unwrap(), 8192);
    assert_eq!(map.get(), 1);
    map.put(2);
    drop(map);
    let taken = later(&world, &session, 2, Some(&before));
    assert_eq!(content(&world, &session, &taken, "mapped")[0], 2);
}

#[test]
fn a_restore_leaves_no_file_to_who_has_it_open_for_writing() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("file", b"1").unwrap();
    let mut writer = File::options().write(true).open(session.workspace_path().join("file")).unwrap();
    let before = later(&world, &session, 1, None);
    session.restore(&world.store, &before.manifest, &world.limits).unwrap();
    writer.write_all(b"2").unwrap();
    assert_eq!(session.read_file("file", 0, 9).unwrap().bytes, b"1");
}

#[test]
fn what_is_written_through_a_mapping_or_an_open_file_is_seen() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("mapped", &[1; 8192]).unwrap();
    session.put_file("open", b"1").unwrap();
    let open = |name| File::options().read(true).write(true).open(session.workspace_path().join(name)).unwrap();
    let writer = open("open");
    let map = Mapping::of(open("mapped"), 8192);
    let mut before = later(&world, &session, 1, None);
    for number in 2..30u8 {
        map.put(number);
        let taken = later(&world, &session, u64::from(number), Some(&before));
        assert_ne!(taken.manifest, before.manifest, "write {number} went unseen");
        before = taken;
    }
    drop(writer);
    let settled = later(&world, &session, 40, Some(&before));
    assert_eq!(later(&world, &session, 41, Some(&settled)).files_read, 1, "the mapped one only");
    drop(map);
}

/// Does something over and over until the test is done with it.
fn meanwhile(work: impl Fn() + Sync + Send, test: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                work();
            }
        });
        let _stop = Stop(&over);
        test();
    });
}

#[test]
fn a_file_that_grows_for_ever_is_read_up_to_where_it_was() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("log", b"").unwrap();
    let path = session.workspace_path().join("log");
    let grow = || {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        if file.metadata().unwrap().len() < 100 << 20 {
            file.write_all(&[7; 65_536]).unwrap();
        }
    };
    meanwhile(grow, || {
        let mut before = None;
        for _ in 0..20 {
            let taken = world.take(&session, before.as_ref());
            let Some(Node::File { size, chunks, .. }) = taken.manifest.get("log") else { panic!("no file") };
            assert_eq!(chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum::<u64>(), *size);
            Manifest::from_bytes(&taken.manifest.to_bytes()).unwrap();
            before = Some(taken);
        }
    });
}

#[test]
fn files_that_shrink_vanish_and_change_kind_give_a_manifest_that_can_be_restored() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    let churn = || {
        let file = inside.join("churn");
        let _ = std::fs::write(&file, vec![1; 3 << 20]);
        let _ = File::options().write(true).open(&file).and_then(|file| file.set_len(10));
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::create_dir(&file);
        let _ = std::fs::write(file.join("inner"), "x");
        let _ = std::fs::remove_dir_all(&file);
        let _ = symlink("/etc/passwd", &file);
        let _ = std::fs::remove_file(&file);
    };
    let other = world.sessions.create("b").unwrap();
    meanwhile(churn, || {
        for _ in 0..100 {
            let taken = world.take(&session, None);
            let read = Manifest::from_bytes(&taken.manifest.to_bytes());
            other.restore(&world.store, &read.unwrap(), &world.limits).unwrap();
        }
    });
}

#[test]
fn folders_swapped_for_links_lead_nobody_out() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    let inside = session.workspace_path();
    let outside = world._root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "s3cret of the host").unwrap();
    session.put_file("dir/file", b"of the box").unwrap();
    session.put_file("aside/file", b"of the box").unwrap();
    let clean = world.take(&session, None);
    let link = inside.join("link");
    symlink(&outside, &link).unwrap();
    let swap = |from: &Path| {
        let _ = rustix::fs::renameat_with(CWD, from, CWD, inside.join("dir"), rustix::fs::RenameFlags::EXCHANGE);
    };
    let seen = || {
        let chunks = world.store.chunks.lock().unwrap();
        chunks.values().any(|chunk| chunk.windows(6).any(|bytes| bytes == b"s3cret"))
    };
    meanwhile(
        || swap(&link),
        || {
            for _ in 0..400 {
                match session.snapshot(&world.store, None, &world.limits) {
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error, Error::NotFound { .. } | Error::NotPlain { .. }), "{error:?}"),
                }
            }
            for _ in 0..100 {
                // Fails or not, as the swaps fall; what is outside stays.
                let _ = session.restore(&world.store, &clean.manifest, &world.limits);
                let _ = symlink(&outside, &link);
            }
        },
    );
    assert!(!seen(), "what lies outside was read");
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"s3cret of the host");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    session.restore(&world.store, &clean.manifest, &world.limits).unwrap();
    assert_eq!(world.take(&session, None).manifest, clean.manifest);
}

#[test]
fn half_a_restore_is_never_kept_and_can_be_done_again() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    for number in 0..40 {
        session.put_file(&format!("{number:02}"), format!("content {number}").as_bytes()).unwrap();
    }
    let before = world.take(&session, None);
    let chunks = world.store.chunks.lock().unwrap().clone();
    let Some(Node::File { chunks: last, .. }) = before.manifest.get("39") else { panic!("no file") };
    world.store.chunks.lock().unwrap().remove(&last[0].hash);
    session.restore(&world.store, &Manifest::default(), &world.limits).unwrap();
    let error = session.restore(&world.store, &before.manifest, &world.limits).unwrap_err();
    assert!(error.to_string().contains("\"39\"") && error.code() == "sandbox_chunk", "{error}");
    assert_eq!(session.snapshot(&world.store, None, &world.limits).unwrap_err().code(), "sandbox_restore_unfinished");
    drop(session);
    let session = world.sessions.open("a").unwrap();
    assert_eq!(session.snapshot(&world.store, None, &world.limits).unwrap_err().code(), "sandbox_restore_unfinished");
    *world.store.chunks.lock().unwrap() = chunks;
    let restored = session.restore(&world.store, &before.manifest, &world.limits).unwrap();
    assert_eq!(world.take(&session, Some(&restored)).manifest, before.manifest);
}

#[test]
fn what_was_restored_a_while_ago_is_not_read_again() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    session.put_file("file", b"content").unwrap();
    let before = world.take(&session, None);
    std::fs::remove_file(session.workspace_path().join("file")).unwrap();
    let restored = session.restore(&world.store, &before.manifest, &world.limits).unwrap();
    assert!(restored.stamps.is_empty(), "just written: could be written again within the tick");
    let known = later(&world, &session, 1, Some(&restored));
    assert_eq!((known.files_read, later(&world, &session, 2, Some(&known)).files_read), (1, 0));
    assert_eq!(world.store.puts.load(Ordering::SeqCst), 1, "what the store has is not given again");
}
