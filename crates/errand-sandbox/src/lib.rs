//! The first half of the runner: boxes of Linux namespaces (tier T1), the sessions they work in, and snapshots of their files.
//!
//! Reading order:
//! - [`Engine`] (with [`EngineConfig`]): starts only where the probe passes ([`Report`]), runs calls.
//! - [`Exec`], [`Limits`], [`ExecOutcome`], [`Exit`], [`CancelToken`]: one call and what came of it.
//! - [`Sessions`], [`Session`]: a folder per session; files go in and out without ever following what a box planted.
//! - [`Snapshot`], [`Manifest`], [`ChunkStore`]: what a workspace holds, content-addressed, and back again.
//! - [`Error`] and [`Tier`].
//!
//! Every call gets a fresh box; only the workspace lives on between calls. Everything blocks: from asynchronous code, call
//! it on a thread for that (`spawn_blocking`). There is no network in a box, no fallback to anything weaker, no
//! dependency on another crate of Errand, and no code for other systems than Linux, where the tier is reported absent.
//! Unit tests stand beside the code, those that need real boxes in `tests/`.

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "namespaces, mounts and the code between clone and exec are system calls")]
mod engine;
mod error;
mod exec;
mod limits;
mod report;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod snapshot;

#[cfg(target_os = "linux")]
pub use engine::{Engine, EngineConfig, Interpreter, refuse_user_namespaces_on_this_thread};
pub use error::{Error, Result, Tier};
pub use exec::{CELL_DIR, CancelToken, Exec, ExecOutcome, Exit, OnOutput, Output, Stream, WORKSPACE_DIR};
pub use limits::Limits;
pub use report::{Check, Quotas, Report, Strength};
#[cfg(target_os = "linux")]
pub use session::{Entry, EntryKind, FileRange, Hit, Session, Sessions};
#[cfg(target_os = "linux")]
pub use snapshot::{CHUNK_BYTES, Change, ChangeKind, ChunkStore, Manifest, Node, Snapshot};
