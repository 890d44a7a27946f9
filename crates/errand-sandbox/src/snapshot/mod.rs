//! Snapshots of a workspace: content-addressed, taken and restored from outside, link-free.
//!
//! Files are cut where their content says so (`cut`), so an insertion moves few chunks. What changed since the snapshot before
//! is told by stamps (`stamp`), and only that is read. A [`Manifest`] lists what there is; chunks lie in a [`ChunkStore`].
//! [`Keeper`] makes a snapshot the last of its session, under a fence (`head`), and holds it back while the store is away (`spool`).
//! [`FilesOf`] reads straight from a snapshot; [`Restoring`] fills a workspace meanwhile.

#[cfg(target_os = "linux")]
mod cut;
mod files;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod files_tests;
#[cfg(target_os = "linux")]
mod head;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod keeper_tests;
mod manifest;
#[cfg(target_os = "linux")]
mod restore;
#[cfg(target_os = "linux")]
mod restoring;
#[cfg(target_os = "linux")]
mod spool;
#[cfg(target_os = "linux")]
mod stamp;
#[cfg(target_os = "linux")]
mod take;

#[cfg(target_os = "linux")]
use std::collections::HashMap;

pub use files::FilesOf;
pub use manifest::{CHUNK_BYTES_MAX, Change, ChangeKind, Chunk, Manifest, Node};

#[cfg(target_os = "linux")]
pub use head::HeadStore;
#[cfg(target_os = "linux")]
pub use keeper::{Keeper, Kept};
#[cfg(target_os = "linux")]
pub use restoring::Restoring;

/// Names of what was left out that a snapshot tells; the others are counted.
#[cfg(target_os = "linux")]
const SKIPPED_TOLD_MAX: usize = 1000;

/// Where chunks of files are kept by their SHA-256; given by the caller. Asked by several threads at once.
pub trait ChunkStore: Sync {
    /// Keeps the bytes and gives their SHA-256. Keeping what is there already changes nothing.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]>;

    /// The bytes with this hash, if they are kept. The caller checks them.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>>;
}

/// A manifest, and what speeds up the next one.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the workspace held.
    pub manifest: Manifest,
    /// What no snapshot keeps: devices, sockets, FIFOs, names that are not UTF-8. The first 1000.
    pub skipped: Vec<String>,
    /// How many there were of those.
    pub skipped_count: u64,
    /// How many files were read for it; the others were known to be unchanged.
    pub files_read: u64,
    /// Bytes of the chunks given to the store; it may have had some already.
    pub bytes_given: u64,
    #[cfg(target_os = "linux")]
    pub(crate) stamps: HashMap<String, stamp::Stamp>,
    #[cfg(target_os = "linux")]
    pub(crate) clock: Option<stamp::Clock>,
}
