//! A data folder on a laptop: runs in one SQLite file, blobs in a folder, a queue in memory.
//!
//! Reading order: [`DataFolder`] (who may open it, and as what), [`LocalStore`] (runs, see `store/`), [`LocalBlobs`], [`LocalHeads`], [`LocalAssistants`],
//! [`LocalQueue`], [`SystemWorld`], [`key_secret`], [`Error`] (every way in which it can fail, each with a code). Within `store/`:
//! `writer` (one thread, commits shared by whatever waits), `write` (what each write does), `claims` (those that need
//! not be stored, and why), `cache` (what the owner remembers), `read` (queries). `recover` tells what a new owner does
//! about the end of the one before.
//!
//! Absent on purpose: decisions about runs. Records are stored as the bytes they were sealed as and checked against the
//! ledger when they are read. Tests: `tests/` here, and the suite that all stores pass in `tests/it/conformance.rs`.

mod assistants;
mod blobs;
mod error;
mod fault;
mod folder;
mod heads;
mod packed;
mod queue;
mod recover;
mod schema;
mod secret;
mod store;
mod world;

#[cfg(test)]
mod tests;

pub use assistants::LocalAssistants;
pub use blobs::LocalBlobs;
pub use error::Error;
pub use fault::{FaultPlan, Moment};
pub use folder::{DataFolder, Mode};
pub use heads::LocalHeads;
pub use queue::{LocalInbox, LocalQueue, QueueLimits};
pub use secret::key_secret;
pub use store::{LocalStore, WriterStats};
pub use world::SystemWorld;
