//! Making a workspace equal to a manifest again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, fchmod, readlinkat, renameat, symlinkat, unlinkat};
use sha2::{Digest, Sha256};

use super::ChunkStore;
use super::manifest::{CHUNK_BYTES, Manifest, Node, hex, unhex};
use super::take::{is_executable, open_readable, within};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::session::{Session, give, paths, walk};

impl Session {
    /// Makes the workspace equal to the manifest: removes what is not in it, writes what differs, follows no link. When it
    /// fails half-way, it can be called again.
    ///
    /// # Errors
    /// [`Error::WorkspaceTooLarge`] when the manifest is beyond `limits`, [`Error::Chunk`] when the store lacks a piece or
    /// gives a damaged one, [`Error::Store`], [`Error::Io`].
    pub fn restore(&self, store: &dyn ChunkStore, manifest: &Manifest, limits: &Limits) -> Result<()> {
        within("bytes in the manifest", manifest.total_bytes(), limits.workspace_bytes)?;
        within("files in the manifest", manifest.entries.len() as u64, limits.workspace_files)?;
        self.remove_others(manifest)?;
        for (path, node) in &manifest.entries {
            match node {
                Node::Folder => self.folder_as(path)?,
                Node::Link { target } => self.link_as(path, target)?,
                Node::File { size, executable, chunks } => {
                    if !self.has_file(path, *size, chunks)? {
                        self.write_file(store, path, chunks, *size)?;
                    }
                    self.mode_as(path, *executable)?;
                }
            }
        }
        Ok(())
    }

    /// Removes everything that is not of the same kind at the same path.
    fn remove_others(&self, manifest: &Manifest) -> Result<()> {
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
            walk::remove_all(found.dir, found.name).map_err(|e| Error::io("removing", &found.shown, e))
        });
        match removed {
            // No manifest is that deep, so what is must go; its folder was removed before anything in it was looked at.
            Err(Error::WorkspaceTooLarge { .. }) => Ok(()),
            other => other,
        }
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
        let c_name = std::ffi::CString::new(name).expect("a checked path holds no NUL");
        walk::remove_all(dir.as_fd(), &c_name).map_err(|e| Error::io("removing", path, e))?;
        symlinkat(target, &dir, name).map_err(|e| Error::io("making a link", path, e))?;
        let owner = self.owner();
        if owner.needs_chown() {
            let (uid, gid) = crate::session::ids(owner);
            rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| Error::io("changing the owner", path, e))?;
        }
        Ok(())
    }

    /// Whether the file there has this content already.
    fn has_file(&self, path: &str, size: u64, chunks: &[String]) -> Result<bool> {
        let (fd, stat) = match open_readable(self, path) {
            Ok(opened) => opened,
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(e) => return Err(e),
        };
        if stat.st_size.unsigned_abs() != size {
            return Ok(false);
        }
        let mut file = File::from(fd);
        for hash in chunks {
            let mut piece = Vec::new();
            (&mut file).take(CHUNK_BYTES).read_to_end(&mut piece).map_err(|e| Error::io("reading a file", path, e))?;
            if hex(&Sha256::digest(&piece).into()) != *hash {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write_file(&self, store: &dyn ChunkStore, path: &str, chunks: &[String], size: u64) -> Result<()> {
        let (folder, name) = paths::split(path);
        let dir = self.make_folders(folder)?;
        let (mut file, temporary) = self.temporary_in(&dir, path)?;
        let written = fill(&mut file, store, path, chunks, size).and_then(|()| {
            renameat(&dir, temporary.as_str(), &dir, name).map_err(|e| paths::refused(path, "renaming a file", e))
        });
        if written.is_err() {
            // The first error is the one to tell.
            let _ = unlinkat(&dir, temporary.as_str(), AtFlags::empty());
        }
        written
    }

    fn mode_as(&self, path: &str, executable: bool) -> Result<()> {
        let (fd, stat) = open_readable(self, path)?;
        let mode = if executable { 0o755 } else { 0o644 };
        if stat.st_mode & 0o7777 != mode || is_executable(&stat) != executable {
            fchmod(&fd, Mode::from_raw_mode(mode)).map_err(|e| Error::io("changing the mode", path, e))?;
        }
        give(&fd, self.owner()).map_err(|e| Error::io("changing the owner", path, e))
    }
}

fn fill(file: &mut File, store: &dyn ChunkStore, path: &str, chunks: &[String], size: u64) -> Result<()> {
    let mut left = size;
    for text in chunks {
        let damaged = |problem| Error::Chunk { hash: text.clone(), path: path.into(), problem };
        let hash = unhex(text);
        let piece = store.get(&hash).map_err(|source| Error::Store { action: "read a chunk", source })?;
        let piece = piece.ok_or_else(|| damaged("missing"))?;
        let wanted = left.min(CHUNK_BYTES);
        if piece.len() as u64 != wanted || Sha256::digest(&piece)[..] != hash {
            return Err(damaged("damaged"));
        }
        left -= wanted;
        file.write_all(&piece).map_err(|e| Error::io("writing a file", path, e))?;
    }
    Ok(())
}
