//! Snapshots of a workspace: content-addressed, taken and restored from outside, link-free.

mod manifest;
#[cfg(target_os = "linux")]
mod restore;
#[cfg(target_os = "linux")]
mod take;

use std::collections::BTreeMap;

pub use manifest::{CHUNK_BYTES, Change, ChangeKind, Manifest, Node};

/// Where pieces of files are kept by their SHA-256; given by the caller.
pub trait ChunkStore {
    /// Keeps the bytes and gives their SHA-256. Keeping what is there already changes nothing.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]>;

    /// The bytes with this hash, if they are kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>>;

    /// Whether bytes with this hash are kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn has(&self, hash: &[u8; 32]) -> std::io::Result<bool>;
}

/// A manifest, and what speeds up the next one.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the workspace held.
    pub manifest: Manifest,
    /// What no snapshot keeps: devices, sockets, FIFOs, names that are not UTF-8.
    pub skipped: Vec<String>,
    /// How many files were read for it; the others were known to be unchanged.
    pub files_read: u64,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "snapshots are taken on Linux only"))]
    stamps: BTreeMap<String, Stamp>,
}

/// What changes when a file does. Not part of the manifest, so that equal content has an equal hash.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "snapshots are taken on Linux only"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}
