//! Folders: a workspace as a hostile box leaves it is read, taken as a snapshot and restored, and nothing beside it is touched.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::fuzz;
use crate::{ChunkStore, EntryKind, Limits, Sessions};

/// What lies outside and must neither be read nor changed.
const BAIT: &[u8] = b"what the host keeps for itself";

/// What a box can do to its workspace.
#[derive(Debug, Clone)]
enum Act {
    Folder(Place),
    File(Place, Vec<u8>),
    Link(Place, Target),
    Fifo(Place),
    HardLink(Place, Place),
    Sparse(Place),
    Mode(Place, u32),
    Rename(Place, Place),
    Remove(Place),
}

#[derive(Debug, Clone)]
struct Place(Vec<u8>);

#[derive(Debug, Clone)]
enum Target {
    Bait,
    Outside,
    Root,
    Itself,
    Up,
    Inside(Place),
}

fn place() -> impl Strategy<Value = Place> {
    let part = prop::sample::select(vec![&b"a"[..], b"b", b"c d", b"\xff\xfe", b".errand", b"-rf", b"x\ny"]);
    proptest::collection::vec(part, 1..4).prop_map(|parts| Place(parts.join(&b'/')))
}

fn act() -> impl Strategy<Value = Act> {
    let target = prop_oneof![
        Just(Target::Bait),
        Just(Target::Outside),
        Just(Target::Root),
        Just(Target::Itself),
        Just(Target::Up),
        place().prop_map(Target::Inside)
    ];
    prop_oneof![
        4 => place().prop_map(Act::Folder),
        4 => (place(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(place, bytes)| Act::File(place, bytes)),
        4 => (place(), target).prop_map(|(place, target)| Act::Link(place, target)),
        1 => place().prop_map(Act::Fifo),
        1 => (place(), place()).prop_map(|(from, to)| Act::HardLink(from, to)),
        1 => place().prop_map(Act::Sparse),
        2 => (place(), prop::sample::select(vec![0, 0o300, 0o400, 0o644, 0o755, 0o4755])).prop_map(|(place, mode)| Act::Mode(place, mode)),
        1 => (place(), place()).prop_map(|(from, to)| Act::Rename(from, to)),
        1 => place().prop_map(Act::Remove),
    ]
}

/// Does it, where that is possible. A box cannot leave its workspace over a link, so neither does this.
fn carry_out(act: &Act, workspace: &Path, outside: &Path) -> std::io::Result<()> {
    let at = |place: &Place| -> std::io::Result<PathBuf> {
        let path = workspace.join(std::ffi::OsStr::from_bytes(&place.0));
        let parent = path.parent().unwrap_or(workspace).canonicalize()?;
        if parent.starts_with(workspace) { Ok(path) } else { Err(std::io::ErrorKind::PermissionDenied.into()) }
    };
    match act {
        Act::Folder(place) => std::fs::create_dir(at(place)?),
        Act::File(place, bytes) => {
            let path = at(place)?;
            let is_plain = std::fs::symlink_metadata(&path).map_or(true, |meta| meta.is_file());
            if is_plain { std::fs::write(path, bytes) } else { Ok(()) }
        }
        Act::Link(place, target) => {
            let path = at(place)?;
            match target {
                Target::Bait => symlink(outside.join("bait"), path),
                Target::Outside => symlink(outside, path),
                Target::Root => symlink("/", path),
                Target::Itself => symlink(&path, &path),
                Target::Up => symlink("../../../../../outside", path),
                Target::Inside(other) => symlink(std::ffi::OsStr::from_bytes(&other.0), path),
            }
        }
        Act::Fifo(place) => {
            let mode = rustix::fs::Mode::RUSR;
            Ok(rustix::fs::mknodat(rustix::fs::CWD, at(place)?, rustix::fs::FileType::Fifo, mode, 0)?)
        }
        Act::HardLink(from, to) => std::fs::hard_link(at(from)?, at(to)?),
        Act::Sparse(place) => {
            let flags = rustix::fs::OFlags::WRONLY
                | rustix::fs::OFlags::CREATE
                | rustix::fs::OFlags::NOFOLLOW
                | rustix::fs::OFlags::NONBLOCK;
            let fd = rustix::fs::open(at(place)?, flags, rustix::fs::Mode::RUSR)?;
            Ok(rustix::fs::ftruncate(fd, 1 << 40)?)
        }
        Act::Mode(place, mode) => {
            let path = at(place)?;
            if std::fs::symlink_metadata(&path)?.is_symlink() {
                return Ok(());
            }
            std::fs::set_permissions(path, PermissionsExt::from_mode(*mode))
        }
        Act::Rename(from, to) => std::fs::rename(at(from)?, at(to)?),
        Act::Remove(place) => std::fs::remove_file(at(place)?),
    }
}

#[derive(Default)]
struct Memory(Mutex<HashMap<[u8; 32], Vec<u8>>>);

impl ChunkStore for Memory {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        let hash = Sha256::digest(bytes).into();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, bytes.to_vec());
        Ok(hash)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned())
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

#[test]
fn fuzz_snapshots_of_hostile_workspaces() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("bait"), BAIT).unwrap();
    let sessions = Sessions::at(root.path().join("sessions")).unwrap();
    let limits = Limits { workspace_bytes: 1 << 20, ..Limits::default() };
    let acts = proptest::collection::vec(act(), 0..25);
    // What a box did before lies there when it goes on, and when something is restored over it.
    fuzz("hostile workspaces", 256, (acts, proptest::collection::vec(act(), 0..10)), |(acts, more)| {
        // One that failed before is there still.
        let id = format!("hostile-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let session = sessions.create(&id).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let folder = session.workspace_path();
        for act in &acts {
            // Many of them are not possible.
            let _ = carry_out(act, &folder, &outside);
        }
        let store = Memory::default();
        let taken = session.snapshot(&store, None, &limits);
        if let Ok(taken) = &taken {
            prop_assert!(
                !store.0.lock().unwrap_or_else(PoisonError::into_inner).values().any(|bytes| bytes == BAIT),
                "it read what lies outside"
            );
            for act in &more {
                let _ = carry_out(act, &folder, &outside);
            }
            session.restore(&store, &taken.manifest, &limits).map_err(|e| TestCaseError::fail(format!("{e}: {e:?}")))?;
            let again = session.snapshot(&store, None, &limits).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&again.manifest, &taken.manifest, "it is not what was taken");
        } else if let Err(error) = &taken {
            prop_assert_eq!(error.code(), "sandbox_workspace_too_large", "{:?}", error);
        }
        let listed = session.list("", true, 1000).map_err(|e| TestCaseError::fail(e.to_string()))?;
        // A name that is no text is shown as another, which is not there.
        for entry in listed.iter().filter(|entry| !entry.path.contains('\u{fffd}')) {
            // Over a link nothing is read and nothing written, wherever it leads.
            for path in [entry.path.clone(), format!("{}/bait", entry.path), format!("{}/../outside/bait", entry.path)] {
                let read = session.read_file(&path, 0, 100).map_or(Vec::new(), |range| range.bytes);
                prop_assert!(read != BAIT, "{path:?} was read: {entry:?}");
            }
            let planted = session.put_file(&format!("{}/planted", entry.path), b"x");
            prop_assert!(planted.is_err() || entry.kind == EntryKind::Folder, "{entry:?} was written through");
        }
        let found = session.search("keeps for itself", "", 10).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(found.is_empty(), "{found:?}");
        sessions.destroy(session).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let kept = std::fs::read(outside.join("bait")).unwrap_or_default();
        let beside = std::fs::read_dir(&outside).map_or(0, Iterator::count);
        prop_assert!(kept == BAIT && beside == 1, "it changed what lies outside");
        Ok(())
    });
}
