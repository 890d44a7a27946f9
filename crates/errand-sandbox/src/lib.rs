//! The first half of the runner: boxes of Linux namespaces (tier T1) or of an OCI runtime (tier T2), the sessions they work
//! in, and snapshots of their files.
//!
//! Reading order:
//! - [`Isolation`], [`Tiers`]: what every tier offers, and the choice among them, which never goes below what is asked for.
//! - [`Engine`] (with [`EngineConfig`]): starts only where the probe passes ([`Report`]), runs calls.
//! - [`OciEngine`] (with [`OciConfig`], [`run_inside_box`]): the same boxes by a configured OCI runtime, tier T2.
//! - [`Exec`], [`Limits`], [`ExecOutcome`], [`Exit`], [`CancelToken`]: one call and what came of it.
//! - [`Kernel`], [`Cell`], [`CellOutcome`]: an interpreter that stays, and what its cells leave.
//! - [`Pool`]: kernels made ahead, over sessions that belong to nobody yet.
//! - [`Sessions`], [`Session`]: a folder per session; files go in and out without ever following what a box planted.
//! - [`Images`], [`Image`]: named layers of Python packages, read-only in the boxes of sessions that ask for one.
//! - [`Snapshot`], [`Manifest`], [`ChunkStore`]: what a workspace holds, content-addressed, and back again.
//! - [`t0`] (feature `t0`): Python in an interpreter with limits, in a worker process, on any system.
//! - [`WayOut`]: the one way out of the boxes of a session, for those that were given one.
//! - [`Error`] and [`Tier`].
//!
//! Every call gets a fresh box; only the workspace lives on between calls. Everything blocks: from asynchronous code, call
//! it on a thread for that (`spawn_blocking`). There is no network in a box but
//! for its loopback and the door of a session that was given one, no fallback to anything weaker, no
//! dependency on another crate of Errand, and no code for other systems than Linux, where the tier is reported absent.
//! Unit tests stand beside the code, those that need real boxes in `tests/it`.

// Also built for tests on Linux, so that it stays in step.
#[cfg(any(test, not(target_os = "linux")))]
#[cfg_attr(target_os = "linux", expect(dead_code, unreachable_pub, reason = "the other systems' side of the interface"))]
mod absent;
mod config;
mod door;
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "namespaces, mounts and the code between clone and exec are system calls")]
mod engine;
mod entry;
mod error;
mod exec;
#[cfg(all(test, target_os = "linux"))]
mod fuzz;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "images are made for the boxes of Linux"))]
mod image;
mod isolation;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "boxes of namespaces need Linux"))]
mod kernel;
mod limits;
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the guard and the box's first process are system calls")]
mod oci;
mod path;
#[cfg(target_os = "linux")]
mod pool;
mod repairs;
mod report;
#[cfg(target_os = "linux")]
mod session;
mod snapshot;
#[cfg(feature = "t0")]
pub mod t0;

#[cfg(not(target_os = "linux"))]
pub use absent::{Claimed, Engine, Image, Images, Kernel, OciEngine, Pool, Session, Sessions, run_inside_box, try_volume};
pub use config::{
    EngineConfig, Inside, Interpreter, Listed, OciConfig, PoolConfig, PoolStats, RuntimeKind, SessionOptions, VolumeSize,
};
pub use door::{DOOR, OpenDoor, WayOut};
#[cfg(target_os = "linux")]
pub use engine::volume::try_volume;
#[cfg(target_os = "linux")]
pub use engine::{
    Engine, Kernel, Resident, Wall, probe_here, probe_zygotes, refuse_user_namespaces_on_this_thread, rehearse_without,
};
pub use entry::{Entry, EntryKind, EntryPage, FileRange, Hit, PAGE_ENTRIES_MAX};
pub use error::{Error, Result, Tier};
pub use exec::{CELL_DIR, CancelToken, Exec, ExecOutcome, Exit, OnOutput, Output, Profile, Stream, WORKSPACE_DIR};
pub use image::{IMAGE_DIR, ImageLock, ImageProgress, ImageRecord, ImagesConfig};
#[cfg(target_os = "linux")]
pub use image::{Image, Images};
pub use isolation::{Isolation, Tiers};
pub use kernel::{Cell, CellEnd, CellOutcome, Language, wire as kernel_wire};
pub use limits::Limits;
#[cfg(target_os = "linux")]
pub use oci::{Defence, OciEngine, run_inside_box};
#[cfg(target_os = "linux")]
pub use pool::{Claimed, Pool};
pub use repairs::repairs;
pub use report::{Check, Quotas, Report, Strength};
#[cfg(target_os = "linux")]
pub use session::{Session, Sessions};
pub use snapshot::{CHUNK_BYTES_MAX, Change, ChangeKind, Chunk, ChunkStore, FilesOf, Manifest, Node, Snapshot};
#[cfg(target_os = "linux")]
pub use snapshot::{HeadStore, Keeper, Kept, Restoring};
