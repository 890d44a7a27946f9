//! What the first process of a box is to do there: written by the runner, read in the box.

use std::ffi::CString;

use crate::engine::probe::inside::{Baits, Kernel};

/// Where the file with the [`Job`] lies in the box.
pub(crate) const JOB_PATH: &str = "/run/box/job";
/// Where the program lies in the box.
pub(crate) const INIT_PATH: &str = "/run/box/init";
/// The file that takes how it ended; its content is at most [`END_BYTES`].
pub(crate) const END_PATH: &str = "/run/box/end";
/// Four messages.
pub(crate) const END_BYTES: usize = 32;

/// What to start, and how.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Job {
    /// Where the program may lie, in the order to try.
    pub(crate) candidates: Vec<String>,
    pub(crate) argv: Vec<String>,
    /// Each `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// Absolute path in the box.
    pub(crate) cwd: String,
    /// To try to break out in place of all that.
    pub(crate) probe: Option<Lure>,
}

/// [`Baits`] on their way into a box.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Lure {
    file: CString,
    neighbour: CString,
    port: u16,
    socket: Vec<u8>,
    pid: i32,
    hog_bytes: u64,
    kernel: Option<Kernel>,
}

impl From<Baits> for Lure {
    fn from(baits: Baits) -> Lure {
        let Baits { file, neighbour, port, socket, pid, hog_bytes, kernel, browser: _ } = baits;
        Lure { file, neighbour, port, socket, pid, hog_bytes, kernel }
    }
}

impl From<Lure> for Baits {
    fn from(lure: Lure) -> Baits {
        let Lure { file, neighbour, port, socket, pid, hog_bytes, kernel } = lure;
        Baits { file, neighbour, port, socket, pid, hog_bytes, kernel, browser: false }
    }
}
