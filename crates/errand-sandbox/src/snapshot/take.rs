//! Taking a snapshot: what changed is read, the rest is known.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Stat, fstat, readlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::cut::Cutter;
use super::stamp::{Clock, Stamp, may_be_written, stamps_tell_all};
use super::{Chunk, ChunkStore, Node, SKIPPED_TOLD_MAX, Snapshot};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::session::{Session, paths, walk};

/// Chunks wait in memory until there are this many bytes of them, and then go to the store together.
const BATCH_BYTES: usize = 8 << 20;
const GIVERS: usize = 4;

impl Session {
    /// Takes a snapshot: new chunks go to the store, and only files that changed since `previous` are read. `previous` must
    /// be of this session and its chunks in this store.
    ///
    /// No box should be running in the session meanwhile; a file that changes while it is read is kept as it was read, up
    /// to the size it had, and is read again next time.
    ///
    /// # Errors
    /// [`Error::WorkspaceTooLarge`] beyond the bytes or files of `limits` or deeper than 100 folders, [`Error::Store`],
    /// [`Error::RestoreUnfinished`] where a restore was cut short, [`Error::Io`].
    pub fn snapshot(&self, store: &dyn ChunkStore, previous: Option<&Snapshot>, limits: &Limits) -> Result<Snapshot> {
        self.snapshot_at(Clock::now(), store, previous, limits)
    }

    pub(super) fn snapshot_at(
        &self,
        clock: Clock,
        store: &dyn ChunkStore,
        previous: Option<&Snapshot>,
        limits: &Limits,
    ) -> Result<Snapshot> {
        if self.is_half_restored() {
            return Err(Error::RestoreUnfinished { id: self.id().into() });
        }
        let mut taking = Taking {
            previous,
            stamps_hold: previous.and_then(|previous| previous.clock).is_some_and(|earlier| clock.follows(&earlier))
                && stamps_tell_all(self.dir()),
            limits,
            clock,
            found: 0,
            bytes: 0,
            giving: Giving { store, known: None, previous, batch: Vec::new(), batch_bytes: 0, given: 0 },
            snapshot: Snapshot { clock: Some(clock), ..Snapshot::default() },
        };
        walk::walk(self.dir(), "", &mut |found| taking.visit(&found))?;
        taking.giving.give()?;
        taking.snapshot.bytes_given = taking.giving.given;
        Ok(taking.snapshot)
    }
}

struct Taking<'a> {
    previous: Option<&'a Snapshot>,
    /// Whether the stamps of the previous snapshot mean anything to the clock of today.
    stamps_hold: bool,
    limits: &'a Limits,
    clock: Clock,
    found: u64,
    bytes: u64,
    giving: Giving<'a>,
    snapshot: Snapshot,
}

impl Taking<'_> {
    fn visit(&mut self, found: &walk::Found<'_>) -> Result<()> {
        // Whatever it is: a million FIFOs are to be walked no more than a million files.
        self.found += 1;
        within("files in the workspace", self.found, self.limits.workspace_files)?;
        let node = match (found.path, paths::file_kind(&found.stat)) {
            (Some(_), "a folder") => Some(Node::Folder),
            (Some(_), "a symbolic link") => link(found),
            (Some(path), "a file") => self.file(path, found)?,
            _ => None,
        };
        match (found.path, node) {
            (Some(path), Some(node)) => {
                self.snapshot.manifest.entries.insert(path.into(), node);
            }
            _ => {
                self.snapshot.skipped_count += 1;
                if self.snapshot.skipped.len() < SKIPPED_TOLD_MAX {
                    self.snapshot.skipped.push(found.shown.clone());
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, found: &walk::Found<'_>) -> Result<Option<Node>> {
        let stamp = Stamp::of(&found.stat);
        if let Some(node) = self.unchanged(path, stamp, &found.stat) {
            self.count(found.stat.st_size)?;
            self.snapshot.stamps.insert(path.into(), stamp);
            return Ok(Some(node));
        }
        let (fd, stat) = match open_readable(found.dir, found.name, path) {
            Ok(opened) => opened,
            // Replaced or removed since the folder was read.
            Err(Error::NotFound { .. } | Error::NotPlain { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        // Before it is read: a sparse file can claim any size.
        self.count(stat.st_size)?;
        let file = File::from(fd);
        // Asked before it is read: who writes through a mapping made earlier leaves no trace, and may let go of it meanwhile.
        let is_quiet = !may_be_written(&file);
        let (size, chunks) = self.read(&file, path, stat.st_size.unsigned_abs())?;
        self.snapshot.files_read += 1;
        let after = fstat(&file).map_err(|e| Error::io("examining a file", path, e))?;
        let stamp = Stamp::of(&after);
        if stamp == Stamp::of(&stat) && stamp.is_settled(&self.clock) && is_quiet {
            self.snapshot.stamps.insert(path.into(), stamp);
        }
        Ok(Some(Node::File { size, executable: is_executable(&stat), chunks }))
    }

    /// The node of the previous snapshot, if the file is the same still.
    fn unchanged(&self, path: &str, stamp: Stamp, stat: &Stat) -> Option<Node> {
        let previous = self.previous.filter(|_| self.stamps_hold)?;
        let known = previous.stamps.get(path) == Some(&stamp);
        let node = previous.manifest.entries.get(path).filter(|_| known)?;
        match node {
            Node::File { size, executable, .. }
                if *size == stat.st_size.unsigned_abs() && *executable == is_executable(stat) =>
            {
                Some(node.clone())
            }
            _ => None,
        }
    }

    /// Reads a file up to the size it had, for it may grow faster than it is read, and gives its chunks away.
    fn read(&mut self, file: &File, path: &str, most: u64) -> Result<(u64, Vec<Chunk>)> {
        let mut cutter = Cutter::new(file.take(most));
        let (mut size, mut chunks) = (0, Vec::new());
        while let Some(bytes) = cutter.next().map_err(|e| Error::io("reading a file", path, e))? {
            size += bytes.len() as u64;
            chunks.push(self.giving.take(bytes)?);
        }
        Ok((size, chunks))
    }

    fn count(&mut self, bytes: i64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.unsigned_abs());
        within("bytes in the workspace", self.bytes, self.limits.workspace_bytes)
    }
}

/// Chunks on their way to the store.
struct Giving<'a> {
    store: &'a dyn ChunkStore,
    previous: Option<&'a Snapshot>,
    /// What the store has: looked up only if something changed at all.
    known: Option<HashSet<[u8; 32]>>,
    batch: Vec<([u8; 32], Vec<u8>)>,
    batch_bytes: usize,
    given: u64,
}

impl Giving<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<Chunk> {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        let previous = self.previous;
        let known = self.known.get_or_insert_with(|| previous.map(chunks_of).unwrap_or_default());
        if known.insert(hash) {
            self.batch.push((hash, bytes.to_vec()));
            self.batch_bytes += bytes.len();
            if self.batch_bytes >= BATCH_BYTES {
                self.give()?;
            }
        }
        Ok(Chunk { hash, bytes: u32::try_from(bytes.len()).expect("a chunk is at most 1 MiB") })
    }

    /// Gives what waits to the store, several at a time, for a store waits for disks and networks.
    fn give(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.given += std::mem::take(&mut self.batch_bytes) as u64;
        in_parallel(GIVERS, &batch, |(hash, bytes)| keep(self.store, hash, bytes))
    }
}

fn chunks_of(snapshot: &Snapshot) -> HashSet<[u8; 32]> {
    snapshot.manifest.chunks().map(|chunk| chunk.hash).collect()
}

fn keep(store: &dyn ChunkStore, hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
    let kept = store.put(bytes).map_err(|source| Error::Store { action: "keep a chunk", source })?;
    if kept != *hash {
        let source = std::io::Error::other("it answered with another hash than SHA-256 of the bytes");
        return Err(Error::Store { action: "keep a chunk", source });
    }
    Ok(())
}

/// Does `work` for each item on up to `threads` threads. The first error ends it and is given.
pub(super) fn in_parallel<T: Sync>(threads: usize, items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    if items.len() < 2 {
        return items.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let one_after_the_other = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                // The others stop at their next turn.
                next.store(items.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(one_after_the_other)).collect();
        let own = one_after_the_other();
        others.into_iter().fold(own, |result, other| {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(other)
        })
    })
}

pub(super) fn within(what: &'static str, value: u64, max: u64) -> Result<()> {
    if value > max { Err(Error::WorkspaceTooLarge { what, value, max }) } else { Ok(()) }
}

fn link(found: &walk::Found<'_>) -> Option<Node> {
    let target = readlinkat(found.dir, found.name, Vec::new()).ok()?;
    let target = target.into_string().ok().filter(|target| !target.is_empty() && target.len() <= 4000)?;
    Some(Node::Link { target })
}

pub(super) fn is_executable(stat: &Stat) -> bool {
    stat.st_mode & 0o100 != 0
}

/// Opens a plain file in `dir` for reading; as an ordinary user also one that the box's code has locked, by unlocking it.
pub(super) fn open_readable(dir: BorrowedFd<'_>, name: &std::ffi::CStr, path: &str) -> Result<(OwnedFd, Stat)> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(name.to_bytes());
    match paths::open_file_in(dir, name, path) {
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            let handle = paths::open_beneath(dir, name, OFlags::PATH, Mode::empty())
                .map_err(|e| paths::refused(path, "opening a file", e))?;
            walk::unlock(handle.as_fd(), Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("unlocking a file", path, e))?;
            paths::open_file_in(dir, name, path)
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;
