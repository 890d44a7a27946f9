//! Images: named layers of Python packages that boxes show read-only beside the host's system.
//!
//! `lock` says which wheels an image is made of, `build` makes it (`pip` fetches, `seal` takes the digest), `progress` tells
//! how far
//! it is. Layout under the folder given by the caller, which must belong to this user alone:
//!
//! - `layers/DIGEST`: what a box sees at [`IMAGE_DIR`]. It has its digest as its name, so it never changes, and two images
//!   of the same
//!   content share it. Whoever uses it holds a shared lock on the folder.
//! - `names/NAME.json` and `names/NAME.lock`: which layer an image is, and what it was made from. It takes its name last and
//!   in one
//!   step: until then there is no image.
//! - `building/NAME` and `locks/NAME`: an image under way, held by an exclusive lock. What a killed build left goes at the
//!   next.

#[cfg(target_os = "linux")]
mod build;
mod lock;
#[cfg(target_os = "linux")]
mod pip;
mod progress;
#[cfg(target_os = "linux")]
mod seal;
#[cfg(target_os = "linux")]
mod store;

use std::path::PathBuf;

pub use lock::ImageLock;
pub use progress::ImageProgress;
#[cfg(target_os = "linux")]
pub use store::{Image, Images};

/// Where a box shows the packages of its image.
pub const IMAGE_DIR: &str = "/opt/image";

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 over all that it holds, in hex.
    pub digest: String,
    /// SHA-256 over its lock file and the Python it is for, in hex.
    pub key: String,
    /// The Python it is for, as `cpython-311-x86_64-linux-gnu`.
    pub python: String,
    /// Where that Python lies.
    pub python_path: PathBuf,
    /// Its packages, as `NAME==VERSION`.
    pub packages: Vec<String>,
    /// Files in it.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// How images are to be made.
#[derive(Debug, Clone, Default)]
pub struct ImagesConfig {
    /// Where to look for interpreters the system lacks, as in [`crate::EngineConfig`]: the value of `PATH`.
    pub search_path: Option<std::ffi::OsString>,
    /// Options for pip beside those that an image needs, for example `--index-url=…` or `--find-links=FOLDER`. They cannot
    /// lift the hashes.
    pub pip_arguments: Vec<String>,
}
