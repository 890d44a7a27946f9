//! Making a workspace equal to a manifest again.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, Stat, fchmod, fstat, readlinkat, renameat, symlinkat, unlinkat};
use sha2::{Digest, Sha256};

use super::files::fetch;
use super::manifest::{Chunk, Manifest, Node};
use super::stamp::{Clock, Stamp, may_be_written};
use super::take::{in_parallel, open_readable, within};
use super::{ChunkStore, Snapshot};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::session::{Session, give, paths, walk};

/// Threads that read chunks and write files.
const WRITERS: usize = 4;
/// Lies beside the workspace while it is neither what it was nor what it should be.
const HALF_RESTORED: &str = "restoring";

impl Session {
    /// Makes the workspace equal to the manifest: removes what is not in it, writes what differs, follows no link. When it
    /// fails half-way, or the process dies, it can be called again; until it succeeds no snapshot is taken.
    ///
    /// Gives what a snapshot now would, so that the next one reads little.
    ///
    /// # Errors
    /// [`Error::WorkspaceTooLarge`] when the manifest is beyond `limits`, [`Error::Chunk`] when the store lacks a chunk or
    /// gives a damaged one, [`Error::Store`], [`Error::Io`].
    pub fn restore(&self, store: &dyn ChunkStore, manifest: &Manifest, limits: &Limits) -> Result<Snapshot> {
        self.restore_until(store, manifest, limits, &AtomicBool::new(false))
    }

    /// As [`Session::restore`]; ends early with [`Error::RestoreUnfinished`] once `stop` is set.
    pub(super) fn restore_until(
        &self,
        store: &dyn ChunkStore,
        manifest: &Manifest,
        limits: &Limits,
        stop: &AtomicBool,
    ) -> Result<Snapshot> {
        within("bytes in the manifest", manifest.total_bytes(), limits.workspace_bytes)?;
        within("files in the manifest", manifest.entries.len() as u64, limits.workspace_files)?;
        let marker = self.half_restored();
        File::create(&marker).map_err(|e| Error::io("noting that a restore began", &marker, e))?;
        self.remove_others(manifest)?;
        let mut files = Vec::new();
        for (path, node) in &manifest.entries {
            match node {
                Node::Folder => self.folder_as(path)?,
                Node::Link { target } => self.link_as(path, target)?,
                Node::File { size, executable, chunks } => {
                    files.push(Wanted { path, size: *size, executable: *executable, chunks });
                }
            }
        }
        let stamps = Mutex::new(Vec::with_capacity(files.len()));
        in_parallel(WRITERS, &files, |wanted| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::RestoreUnfinished { id: self.id().into() });
            }
            let stamp = Stamp::of(&self.file_as(store, wanted)?);
            stamps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((wanted.path.to_owned(), stamp));
            Ok(())
        })?;
        std::fs::remove_file(&marker).map_err(|e| Error::io("noting that a restore is over", &marker, e))?;
        let clock = Clock::now();
        let stamps = stamps.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stamps = stamps.into_iter().filter(|(_, stamp)| stamp.is_settled(&clock)).collect();
        Ok(Snapshot { manifest: manifest.clone(), stamps, clock: Some(clock), ..Snapshot::default() })
    }

    pub(crate) fn is_half_restored(&self) -> bool {
        // In doubt it is: a snapshot of half a workspace would lose the other half.
        self.half_restored().try_exists().unwrap_or(true)
    }

    fn half_restored(&self) -> PathBuf {
        self.folder().join(HALF_RESTORED)
    }

    /// Removes everything that is not of the same kind at the same path.
    fn remove_others(&self, manifest: &Manifest) -> Result<()> {
        loop {
            let mut some = false;
            let removed = walk::walk(self.dir(), "", &mut |found| {
                let wanted = found.path.and_then(|path| manifest.entries.get(path));
                let kept = matches!(
                    (wanted, paths::file_kind(&found.stat)),
                    (Some(Node::Folder), "a folder")
                        | (Some(Node::File { .. }), "a file")
                        | (Some(Node::Link { .. }), "a symbolic link")
                );
                if kept {
                    return Ok(());
                }
                some = true;
                walk::remove_all(found.dir, found.name).map_err(|e| Error::io("removing", &found.shown, e))
            });
            match removed {
                // What is deeper than a walk goes is gone by now, for no manifest is that deep; the rest is left to see.
                Err(Error::WorkspaceTooLarge { .. }) if some => {}
                // A folder with more names than are looked at.
                Err(Error::WorkspaceTooLarge { .. }) => return self.remove_everything(),
                other => return other,
            }
        }
    }

    fn remove_everything(&self) -> Result<()> {
        let failed = |e| Error::io("emptying a workspace", self.workspace_path(), e);
        for name in walk::names(self.dir()).map_err(failed)? {
            walk::remove_all(self.dir(), &name).map_err(failed)?;
        }
        Ok(())
    }

    fn folder_as(&self, path: &str) -> Result<()> {
        let folder = self.make_folders(path)?;
        fchmod(&folder, Mode::from_raw_mode(0o755)).map_err(|e| Error::io("changing the mode", path, e))
    }

    fn link_as(&self, path: &str, target: &str) -> Result<()> {
        let (folder, name) = paths::split(path);
        let dir = self.make_folders(folder)?;
        let same = readlinkat(&dir, name, Vec::new()).is_ok_and(|text| text.to_bytes() == target.as_bytes());
        if same {
            return Ok(());
        }
        walk::remove_all(dir.as_fd(), &c_name(name)).map_err(|e| Error::io("removing", path, e))?;
        symlinkat(target, &dir, name).map_err(|e| Error::io("making a link", path, e))?;
        let owner = self.owner();
        if owner.needs_chown() {
            let (uid, gid) = crate::session::ids(owner);
            rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| Error::io("changing the owner", path, e))?;
        }
        Ok(())
    }

    fn file_as(&self, store: &dyn ChunkStore, wanted: &Wanted<'_>) -> Result<Stat> {
        let (folder, name) = paths::split(wanted.path);
        let dir = self.make_folders(folder)?;
        match self.has_file(&dir, name, wanted)? {
            Some(file) => {
                fchmod(&file, wanted.mode()).map_err(|e| Error::io("changing the mode", wanted.path, e))?;
                give(&file, self.owner()).map_err(|e| Error::io("changing the owner", wanted.path, e))?;
                fstat(&file).map_err(|e| Error::io("examining a file", wanted.path, e))
            }
            None => self.write_file(store, &dir, name, wanted),
        }
    }

    /// The file there, if it has this content already. One with several names does not count, for what is done to one of them
    /// is done to all; nor does one that somebody may be writing to.
    fn has_file(&self, dir: &OwnedFd, name: &str, wanted: &Wanted<'_>) -> Result<Option<File>> {
        let (fd, stat) = match open_readable(dir.as_fd(), &c_name(name), wanted.path) {
            Ok(opened) => opened,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        if stat.st_size.unsigned_abs() != wanted.size || stat.st_nlink > 1 || may_be_written(&fd) {
            return Ok(None);
        }
        let file = File::from(fd);
        let mut bytes = Vec::new();
        for chunk in wanted.chunks {
            bytes.clear();
            let read = (&file).take(u64::from(chunk.bytes)).read_to_end(&mut bytes);
            read.map_err(|e| Error::io("reading a file", wanted.path, e))?;
            if Sha256::digest(&bytes)[..] != chunk.hash {
                return Ok(None);
            }
        }
        Ok(Some(file))
    }

    fn write_file(&self, store: &dyn ChunkStore, dir: &OwnedFd, name: &str, wanted: &Wanted<'_>) -> Result<Stat> {
        let (mut file, temporary) = self.temporary_in(dir, wanted.path)?;
        let written = fill(&mut file, store, wanted).and_then(|()| {
            if wanted.executable {
                fchmod(&file, wanted.mode()).map_err(|e| Error::io("changing the mode", wanted.path, e))?;
            }
            renameat(dir, temporary.as_str(), dir, name).map_err(|e| paths::refused(wanted.path, "renaming a file", e))?;
            fstat(&file).map_err(|e| Error::io("examining a file", wanted.path, e))
        });
        if written.is_err() {
            // The first error is the one to tell.
            let _ = unlinkat(dir, temporary.as_str(), AtFlags::empty());
        }
        written
    }
}

/// A file of the manifest.
struct Wanted<'a> {
    path: &'a str,
    size: u64,
    executable: bool,
    chunks: &'a [Chunk],
}

impl Wanted<'_> {
    fn mode(&self) -> Mode {
        Mode::from_raw_mode(if self.executable { 0o755 } else { 0o644 })
    }
}

fn c_name(name: &str) -> CString {
    CString::new(name).expect("a checked path holds no NUL")
}

fn fill(file: &mut File, store: &dyn ChunkStore, wanted: &Wanted<'_>) -> Result<()> {
    let io = |e| Error::io("writing a file", wanted.path, e);
    for chunk in wanted.chunks {
        let bytes = fetch(store, chunk, wanted.path)?;
        // What was a hole is a hole again: the disk must not hold what the workspace never did.
        match bytes.iter().all(|byte| *byte == 0) {
            true => drop(file.seek(SeekFrom::Current(i64::from(chunk.bytes))).map_err(io)?),
            false => file.write_all(&bytes).map_err(io)?,
        }
    }
    file.set_len(wanted.size).map_err(io)
}
