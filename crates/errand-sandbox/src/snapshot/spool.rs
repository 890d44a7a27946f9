//! Chunks that the store did not take, kept beside the session until it does.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::ChunkStore;
use super::manifest::{hex, unhex};

/// What was to become the last snapshot when the store was away.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Pending {
    pub(super) fence: u64,
    pub(super) turn: u64,
    pub(super) manifest: String,
}

/// A folder of chunks, and a note of what they are for.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    next: AtomicU64,
}

const NOTE: &str = "pending.json";

impl Spool {
    pub(super) fn at(folder: PathBuf) -> io::Result<Spool> {
        fs::create_dir_all(&folder)?;
        Ok(Spool { folder, next: AtomicU64::new(0) })
    }

    pub(super) fn keep(&self, hash: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        let name = hex(hash);
        if self.folder.join(&name).is_file() { Ok(()) } else { self.write(&name, bytes) }
    }

    pub(super) fn get(&self, hash: &[u8; 32]) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(hex(hash))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    pub(super) fn hashes(&self) -> io::Result<Vec<[u8; 32]>> {
        let mut hashes = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            hashes.extend(entry?.file_name().to_str().and_then(unhex));
        }
        Ok(hashes)
    }

    pub(super) fn note(&self, pending: &Pending) -> io::Result<()> {
        self.write(NOTE, &serde_json::to_vec(pending).map_err(io::Error::other)?)?;
        File::open(&self.folder)?.sync_all()
    }

    pub(super) fn pending(&self) -> io::Result<Option<Pending>> {
        match fs::read(self.folder.join(NOTE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => serde_json::from_slice(&other?).map(Some).map_err(io::Error::other),
        }
    }

    /// Removes chunks of snapshots before the one that waits: only that will ever be the last, and the store may be away for
    /// long.
    pub(super) fn keep_only(&self, wanted: &HashSet<[u8; 32]>) -> io::Result<()> {
        for hash in self.hashes()?.iter().filter(|hash| !wanted.contains(*hash)) {
            fs::remove_file(self.folder.join(hex(hash)))?;
        }
        Ok(())
    }

    /// Forgets everything, the note first: chunks without one are waste.
    pub(super) fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(NOTE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for entry in fs::read_dir(&self.folder)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Puts everything aside, where a person finds it, and begins anew.
    pub(super) fn put_aside(&self, pending: &Pending) -> io::Result<PathBuf> {
        let aside = self.folder.with_file_name(format!("stranded-{}-{}", pending.fence, pending.turn));
        fs::rename(&self.folder, &aside)?;
        fs::create_dir(&self.folder)?;
        Ok(aside)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.folder.join(format!("tmp-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, self.folder.join(name))
        });
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Gives to the store, and to the spool from the first failure on.
pub(super) struct Through<'a> {
    pub(super) store: &'a dyn ChunkStore,
    pub(super) spool: &'a Spool,
    /// What the store said first.
    pub(super) problem: Mutex<Option<String>>,
}

impl Through<'_> {
    pub(super) fn is_away(&self) -> bool {
        self.problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }
}

impl ChunkStore for Through<'_> {
    fn put(&self, bytes: &[u8]) -> io::Result<[u8; 32]> {
        if !self.is_away() {
            match self.store.put(bytes) {
                Ok(hash) => return Ok(hash),
                Err(error) => {
                    let mut problem = self.problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    problem.get_or_insert(error.to_string());
                }
            }
        }
        let hash = Sha256::digest(bytes).into();
        self.spool.keep(&hash, bytes)?;
        Ok(hash)
    }

    fn get(&self, hash: &[u8; 32]) -> io::Result<Option<Vec<u8>>> {
        match self.spool.get(hash)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.store.get(hash),
        }
    }
}
