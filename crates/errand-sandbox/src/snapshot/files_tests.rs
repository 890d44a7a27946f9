//! Tests: a snapshot reads like the workspace it is of, before, while and after it is restored.

use std::os::unix::fs::symlink;
use std::sync::{Arc, Condvar, Mutex};

use super::take::tests::{Memory, world};
use super::{ChunkStore, FilesOf, Node, Restoring};
use crate::{Entry, EntryPage, Session};

fn fill(session: &Session) {
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    session.put_file("large.bin", &large).unwrap();
    for number in 0..25 {
        session.put_file(&format!("many/{number:02}"), format!("{number}").as_bytes()).unwrap();
    }
    session.put_file("many.txt", b"sorts between the folder and what is in it").unwrap();
    session.put_file("many/deeper/file", b"x").unwrap();
    session.mkdirs("empty").unwrap();
    symlink("/etc/passwd", session.workspace_path().join("link")).unwrap();
    symlink("many", session.workspace_path().join("to-folder")).unwrap();
}

/// All pages, and that each but the last is full.
fn pages(most: usize, page: impl Fn(Option<&str>) -> EntryPage) -> Vec<Entry> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let next = page(after.as_deref());
        assert!(next.entries.len() == most || next.next.is_none(), "{} of {most}", next.entries.len());
        all.extend(next.entries);
        match next.next {
            Some(path) => after = Some(path),
            None => return all,
        }
    }
}

fn timeless(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.iter_mut().for_each(|entry| entry.modified_ms = None);
    entries
}

#[test]
fn a_snapshot_reads_like_the_workspace() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    fill(&session);
    let snapshot = world.take(&session, None);
    let files = FilesOf::new(&snapshot.manifest, &world.store);
    for (folder, recursive) in
        [("", true), ("", false), ("many", true), ("many", false), ("empty", true), ("/workspace", false)]
    {
        let all = session.list(folder, recursive, 1000).unwrap();
        assert!(folder == "empty" || !all.is_empty());
        for most in [1, 2, 7, 1000] {
            let live = pages(most, |after| session.list_page(folder, recursive, after, most).unwrap());
            let kept = pages(most, |after| files.list_page(folder, recursive, after, most).unwrap());
            assert_eq!(live, all, "{folder} by {most}");
            assert_eq!(kept, timeless(all.clone()), "{folder} by {most}");
        }
    }
    for path in ["large.bin", "many", "link", "many/07", "gone", "many/gone", "empty", "gone/too"] {
        let live = session.stat(path).unwrap();
        assert_eq!(
            timeless(live.into_iter().collect()),
            files.stat(path).unwrap().into_iter().collect::<Vec<_>>(),
            "{path}"
        );
    }
    let max = u64::MAX;
    for (offset, length) in
        [(0, max), (1, 1), (0, 0), (262_144, 1_000_000), (2_999_999, 5), (3_000_000, 5), (max, max), (0, 1 << 20)]
    {
        let live = session.read_file("large.bin", offset, length).unwrap();
        assert!(live == files.read_file("large.bin", offset, length).unwrap(), "{offset} {length}");
        let mut copied = Vec::new();
        assert_eq!(session.copy_out("large.bin", offset, length, &mut copied).unwrap(), copied.len() as u64);
        assert!(copied == live.bytes, "{offset} {length}");
    }
    for path in ["link", "many", "gone", "to-folder/07", "large.bin/x", "../x", "/etc/passwd", ""] {
        let (live, kept) = (session.read_file(path, 0, 9).unwrap_err(), files.read_file(path, 0, 9).unwrap_err());
        assert_eq!(live.code(), kept.code(), "{path}");
    }
    for path in ["link", "large.bin", "gone", "to-folder", "../x"] {
        let (live, kept) =
            (session.list_page(path, true, None, 9).unwrap_err(), files.list_page(path, true, None, 9).unwrap_err());
        assert_eq!(live.code(), kept.code(), "{path}");
    }
}

#[test]
fn one_damaged_chunk_spoils_its_file_only() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    fill(&session);
    let snapshot = world.take(&session, None);
    let Some(Node::File { chunks, .. }) = snapshot.manifest.get("large.bin") else { panic!("no file") };
    assert!(chunks.len() > 2, "{} chunks", chunks.len());
    world.store.chunks.lock().unwrap().get_mut(&chunks[1].hash).unwrap()[7] ^= 1;
    let files = FilesOf::new(&snapshot.manifest, &world.store);
    let error = files.read_file("large.bin", 0, u64::MAX).unwrap_err();
    assert_eq!(error.code(), "sandbox_chunk");
    let hash: String = chunks[1].hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(error.to_string().contains("large.bin") && error.to_string().contains(&hash), "{error}");
    files.read_file("large.bin", 0, u64::from(chunks[0].bytes)).unwrap();
    files.read_file("many/07", 0, 9).unwrap();
}

/// Lets chunks out only when the gate is open, but for one.
struct Gated {
    store: Memory,
    free: [u8; 32],
    open: Mutex<bool>,
    opened: Condvar,
}

impl ChunkStore for Gated {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        self.store.put(bytes)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        if *hash != self.free {
            drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        }
        self.store.get(hash)
    }
}

#[test]
fn files_are_read_before_the_workspace_is_whole() {
    let world = world();
    let session = world.sessions.create("a").unwrap();
    fill(&session);
    let snapshot = world.take(&session, None);
    let Some(Node::File { chunks, .. }) = snapshot.manifest.get("many/07") else { panic!("no file") };
    let free = chunks[0].hash;
    let gated = Arc::new(Gated { store: world.store, free, open: Mutex::new(false), opened: Condvar::new() });
    let begin = |id| {
        let session = world.sessions.open_or_create(id).unwrap();
        Restoring::begin(session, gated.clone(), snapshot.manifest.clone(), world.limits.clone()).unwrap()
    };
    let restoring = begin("b");
    assert_eq!(restoring.files().read_file("many/07", 0, 9).unwrap().bytes, b"7");
    assert_eq!(restoring.files().list_page("", true, None, 1000).unwrap().entries.len(), 33);
    assert!(!restoring.is_done());
    let open = |is| {
        *gated.open.lock().unwrap() = is;
        gated.opened.notify_all();
    };
    open(true);
    let (session, restored) = restoring.finish().unwrap();
    let taken = session.snapshot(&gated.store, Some(&restored), &world.limits).unwrap();
    assert_eq!(taken.manifest.hash(), snapshot.manifest.hash());

    open(false);
    let dropped = begin("c");
    // Whoever waits at the gate gets through; nobody comes after him.
    std::thread::scope(|scope| {
        scope.spawn(|| drop(dropped));
        open(true);
    });
    let half = world.sessions.open("c").unwrap();
    match half.snapshot(&gated.store, None, &world.limits) {
        Ok(taken) => assert_eq!(taken.manifest, snapshot.manifest, "it was done before it was told to stop"),
        Err(error) => assert_eq!(error.code(), "sandbox_restore_unfinished"),
    }
    half.restore(&*gated, &snapshot.manifest, &world.limits).unwrap();
    let mut all = Vec::new();
    half.copy_out("large.bin", 0, u64::MAX, &mut all).unwrap();
    assert_eq!(all.len(), 3_000_000);
}
