//! Taking a snapshot: what changed is read, the rest is known.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Stat, fstat, readlinkat};
use sha2::{Digest, Sha256};

use super::manifest::hex;
use super::{CHUNK_BYTES, ChunkStore, Node, Snapshot, Stamp};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::session::{Session, paths, walk};

/// A file changed this shortly before a snapshot could change again without a new time stamp: it is read again next time.
const CLOCK_GRAIN: Duration = Duration::from_millis(100);

impl Session {
    /// Takes a snapshot: new pieces go to the store, and only files that changed since `previous` are read.
    ///
    /// No box should be running in the session meanwhile; a file that changes while it is read is kept as it was read.
    ///
    /// # Errors
    /// [`Error::WorkspaceTooLarge`] beyond the bytes or files of `limits` or deeper than 100 folders, [`Error::Store`], [`Error::Io`].
    pub fn snapshot(&self, store: &dyn ChunkStore, previous: Option<&Snapshot>, limits: &Limits) -> Result<Snapshot> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.snapshot_at(now, store, previous, limits)
    }

    fn snapshot_at(
        &self,
        now: Duration,
        store: &dyn ChunkStore,
        previous: Option<&Snapshot>,
        limits: &Limits,
    ) -> Result<Snapshot> {
        let mut taking = Taking {
            session: self,
            store,
            previous,
            limits,
            settled: now.saturating_sub(CLOCK_GRAIN),
            bytes: 0,
            snapshot: Snapshot::default(),
        };
        walk::walk(self.dir(), "", &mut |found| taking.visit(&found))?;
        Ok(taking.snapshot)
    }
}

struct Taking<'a> {
    session: &'a Session,
    store: &'a dyn ChunkStore,
    previous: Option<&'a Snapshot>,
    limits: &'a Limits,
    /// Changes before this moment have a time stamp of their own.
    settled: Duration,
    bytes: u64,
    snapshot: Snapshot,
}

impl Taking<'_> {
    fn visit(&mut self, found: &walk::Found<'_>) -> Result<()> {
        let node = match (found.path, paths::file_kind(&found.stat)) {
            (Some(_), "a folder") => Some(Node::Folder),
            (Some(_), "a symbolic link") => link(found),
            (Some(path), "a file") => self.file(path, &found.stat)?,
            _ => None,
        };
        let (Some(path), Some(node)) = (found.path, node) else {
            self.snapshot.skipped.push(found.shown.clone());
            return Ok(());
        };
        self.snapshot.manifest.entries.insert(path.into(), node);
        within("files in the workspace", self.snapshot.manifest.entries.len() as u64, self.limits.workspace_files)
    }

    fn file(&mut self, path: &str, stat: &Stat) -> Result<Option<Node>> {
        let stamp = Stamp::of(stat);
        if let Some(node) = self.unchanged(path, stamp, stat) {
            self.count(stat.st_size.unsigned_abs())?;
            self.snapshot.stamps.insert(path.into(), stamp);
            return Ok(Some(node));
        }
        let (fd, stat) = match open_readable(self.session, path) {
            Ok(opened) => opened,
            // Replaced or removed since the folder was read.
            Err(Error::NotFound { .. } | Error::NotPlain { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut file = File::from(fd);
        let (size, chunks) = self.keep(&mut file, path)?;
        self.snapshot.files_read += 1;
        let after = fstat(&file).map_err(|e| Error::io("examining a file", path, e))?;
        if Stamp::of(&after) == Stamp::of(&stat) && self.is_settled(&after) {
            self.snapshot.stamps.insert(path.into(), Stamp::of(&after));
        }
        Ok(Some(Node::File { size, executable: is_executable(&stat), chunks }))
    }

    /// The node of the previous snapshot, if the file is the same still.
    fn unchanged(&self, path: &str, stamp: Stamp, stat: &Stat) -> Option<Node> {
        let previous = self.previous?;
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

    fn is_settled(&self, stat: &Stat) -> bool {
        let stamp = Stamp::of(stat);
        let changed = Duration::new(stamp.changed.0.unsigned_abs(), u32::try_from(stamp.changed.1).unwrap_or(0));
        changed < self.settled
    }

    /// Reads a file to its end and keeps its pieces.
    fn keep(&mut self, file: &mut File, path: &str) -> Result<(u64, Vec<String>)> {
        let mut size = 0;
        let mut chunks = Vec::new();
        loop {
            let mut piece = Vec::new();
            file.take(CHUNK_BYTES).read_to_end(&mut piece).map_err(|e| Error::io("reading a file", path, e))?;
            if piece.is_empty() {
                return Ok((size, chunks));
            }
            size += piece.len() as u64;
            self.count(piece.len() as u64)?;
            chunks.push(hex(&keep_piece(self.store, &piece)?));
        }
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        within("bytes in the workspace", self.bytes, self.limits.workspace_bytes)
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Stamp {
        Stamp {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
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

/// Opens a plain file for reading; as an ordinary user also one that the box's code has locked, by unlocking it.
pub(super) fn open_readable(session: &Session, path: &str) -> Result<(OwnedFd, Stat)> {
    match paths::open_file(session.dir(), path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            let handle = paths::open_beneath(session.dir(), path, OFlags::PATH, Mode::empty())
                .map_err(|e| paths::refused(path, "opening a file", e))?;
            walk::unlock(handle.as_fd(), Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("unlocking a file", path, e))?;
            paths::open_file(session.dir(), path)
        }
        other => other,
    }
}

fn keep_piece(store: &dyn ChunkStore, piece: &[u8]) -> Result<[u8; 32]> {
    let hash: [u8; 32] = Sha256::digest(piece).into();
    if !store.has(&hash).map_err(|source| Error::Store { action: "look for a chunk", source })? {
        let kept = store.put(piece).map_err(|source| Error::Store { action: "keep a chunk", source })?;
        if kept != hash {
            let source = std::io::Error::other("it answered with another hash than SHA-256 of the bytes");
            return Err(Error::Store { action: "keep a chunk", source });
        }
    }
    Ok(hash)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
