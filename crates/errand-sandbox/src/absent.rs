//! Other systems than Linux: tier T1 is absent, and says so. No engine starts and no session opens, so the methods of these
//! types, which have no values, are never reached.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{EngineConfig, Interpreter, Listed, OciConfig, PoolConfig, PoolStats, SessionOptions};
use crate::entry::{Entry, EntryPage, FileRange, Hit};
use crate::error::{Error, Result, Tier};
use crate::exec::{CancelToken, Exec, ExecOutcome};
use crate::image::{ImageLock, ImageProgress, ImageRecord, ImagesConfig};
use crate::kernel::{Cell, CellOutcome, Language};
use crate::limits::Limits;
use crate::report::{Report, Strength};
use crate::snapshot::{ChunkStore, Manifest, Snapshot};

const REASON: &str = "boxes of namespaces need Linux; use a remote runner or tier t0";

fn absent() -> Error {
    Error::TierUnavailable { tier: Tier::T1, reasons: vec![REASON.into()] }
}

macro_rules! never {
    ($($(#[$doc:meta])* $name:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// See the Linux version.
            pub fn $name(&self $(, _: $argument)*) -> $result {
                match *self {}
            }
        )*
    };
}

/// Makes boxes, on Linux.
#[derive(Debug)]
pub enum Engine {}

/// An interpreter that runs one cell after the other, on Linux.
#[derive(Debug)]
pub enum Kernel {}

impl Kernel {
    /// What it speaks.
    pub fn language(&self) -> Language {
        match *self {}
    }

    /// The session whose workspace it has.
    pub fn session(&self) -> &Arc<Session> {
        match *self {}
    }

    /// True while it waits for a cell and its box stands.
    pub fn is_waiting(&self) -> bool {
        match *self {}
    }

    /// True until it is lost.
    pub fn is_alive(&self) -> bool {
        match *self {}
    }

    /// Runs a cell.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn run(&mut self, _: Cell) -> Result<CellOutcome> {
        match *self {}
    }
}

/// A kernel over a new session.
#[derive(Debug)]
pub struct Claimed {
    /// It, with its session.
    pub kernel: Kernel,
    /// False where it had to be made first.
    pub was_ready: bool,
}

/// Kernels made ahead, on Linux.
#[derive(Debug)]
pub enum Pool {}

impl Pool {
    /// Never starts here.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`], always.
    pub fn start(_: Arc<Engine>, _: Arc<Sessions>, _: PoolConfig) -> Result<Pool> {
        Err(absent())
    }

    /// How it stands.
    pub fn stats(&self) -> PoolStats {
        match *self {}
    }

    /// A kernel over a new session.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn claim(&self, _: &str, _: Language, _: &Limits) -> Result<Claimed> {
        match *self {}
    }
}

/// Makes boxes by an OCI runtime, on Linux.
#[derive(Debug)]
pub enum OciEngine {}

impl OciEngine {
    /// Never starts here.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`], always.
    pub fn start(_: &OciConfig) -> Result<OciEngine> {
        Err(Error::TierUnavailable { tier: Tier::T2, reasons: vec![REASON.into()] })
    }

    /// The same engine with an image.
    #[must_use]
    pub fn dressed(&self, _: Image) -> OciEngine {
        match *self {}
    }

    /// A report that the tier is absent.
    pub fn probe(_: &OciConfig) -> Report {
        Report::unavailable(Tier::T2, vec![REASON.into()], Vec::new(), 0)
    }

    /// What the probe found.
    pub fn report(&self) -> &Report {
        match *self {}
    }

    /// The interpreters its boxes can use.
    pub fn interpreters(&self) -> &[Interpreter] {
        match *self {}
    }

    /// Starts a kernel in a box with a way out of its own.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn kernel_with_way_out(
        self: &Arc<Self>,
        _: &Arc<Session>,
        _: Language,
        _: &Limits,
        _: Arc<dyn crate::door::WayOut>,
    ) -> Result<Kernel> {
        match **self {}
    }

    /// Runs something in a box.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn run(&self, _: &Session, _: Exec) -> Result<ExecOutcome> {
        match *self {}
    }
}

/// An image, on Linux.
#[derive(Debug, Clone)]
pub enum Image {}

/// The folder that holds all images of a runner, on Linux.
#[derive(Debug)]
pub enum Images {}

impl Images {
    /// Never opens here.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`], always.
    pub fn at(_: impl Into<PathBuf>, _: ImagesConfig) -> Result<Images> {
        Err(absent())
    }

    /// Never here.
    pub fn can_build(_: &str, _: Option<&std::ffi::OsStr>) -> bool {
        false
    }

    never! {
        /// An image that is there.
        named(&str) -> Result<Image>;
        /// An image, built first where that is needed.
        ensure(&str, Option<&CancelToken>, &mut dyn FnMut(ImageProgress)) -> Result<Image>;
        /// Makes an image.
        build(&ImageLock, Option<&CancelToken>, &mut dyn FnMut(ImageProgress)) -> Result<Image>;
        /// Whether an image is there or can probably be made.
        can_have(&str, &[&str]) -> bool;
        /// Whether an image was made from these packages.
        holds(&str, &[&str]) -> bool;
        /// All images.
        list() -> Result<Vec<ImageRecord>>;
        /// Removes an image.
        remove(&str) -> Result<()>;
        /// What an image is made from.
        lock_of(&str) -> Result<ImageLock>;
    }
}

impl Image {
    /// Its name.
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// SHA-256 over all that it holds.
    pub fn digest(&self) -> &str {
        match *self {}
    }

    /// Its folder on the host.
    pub fn path(&self) -> &Path {
        match *self {}
    }
}

#[cfg(not(target_os = "linux"))]
impl crate::Isolation for Engine {
    fn report(&self) -> &Report {
        match *self {}
    }

    fn run(&self, _: &Session, _: Exec) -> Result<ExecOutcome> {
        match *self {}
    }
}

#[cfg(not(target_os = "linux"))]
impl crate::Isolation for OciEngine {
    fn report(&self) -> &Report {
        match *self {}
    }

    fn run(&self, _: &Session, _: Exec) -> Result<ExecOutcome> {
        match *self {}
    }
}

/// Fails: there are no boxes here.
pub fn run_inside_box() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

/// There are none here.
///
/// # Errors
/// [`Error::TierUnavailable`], always.
pub fn try_volume() -> Result<()> {
    Err(absent())
}

/// A leased workspace, on Linux.
#[derive(Debug)]
pub enum Session {}

/// The folder that holds all sessions of a runner, on Linux.
#[derive(Debug)]
pub enum Sessions {}

impl Engine {
    /// Never starts here.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`], always.
    pub fn start(_: &EngineConfig) -> Result<Engine> {
        Err(absent())
    }

    /// The same engine with an image.
    #[must_use]
    pub fn dressed(&self, _: Image, _: Vec<String>) -> Engine {
        match *self {}
    }

    /// The image that it shows.
    pub fn image(&self) -> Option<&Image> {
        match *self {}
    }

    /// A report that the tier is absent.
    pub fn probe(_: &EngineConfig) -> Report {
        Report::unavailable(Tier::T1, vec![REASON.into()], Vec::new(), 0)
    }

    /// What the probe found.
    pub fn report(&self) -> &Report {
        match *self {}
    }

    /// The interpreters its boxes can use.
    pub fn interpreters(&self) -> &[Interpreter] {
        match *self {}
    }

    /// Starts a kernel in a box.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn kernel(self: &Arc<Self>, _: &Arc<Session>, _: Language, _: &Limits) -> Result<Kernel> {
        match **self {}
    }

    /// Runs something in a box.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn run(&self, _: &Session, _: Exec) -> Result<ExecOutcome> {
        match *self {}
    }
}

impl Sessions {
    /// Never opens here.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`], always.
    pub fn at(_: impl Into<PathBuf>) -> Result<Sessions> {
        Err(absent())
    }

    /// Where sessions find their images.
    #[must_use]
    pub fn with_images(self, _: Arc<Images>) -> Sessions {
        self
    }

    never! {
        /// Makes a session.
        create(&str) -> Result<Session>;
        /// Makes a session with an image or a hard bound.
        create_with(&str, &SessionOptions) -> Result<Session>;
        /// Opens a session.
        open(&str) -> Result<Session>;
        /// Opens or makes a session.
        open_or_create(&str) -> Result<Session>;
        /// Removes a session.
        destroy(Session) -> Result<()>;
        /// The ids of all sessions.
        list() -> Result<Vec<String>>;
        /// All sessions, with what their records say.
        listed() -> Result<Vec<Listed>>;
    }
}

impl Session {
    /// Never called.
    pub fn set_way_out(&mut self, _: std::sync::Arc<dyn crate::door::WayOut>) {
        match *self {}
    }

    /// Never called.
    pub fn has_way_out(&self) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn grant(&self) -> Option<serde_json::Value> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn keep_grant(&self, _: serde_json::Value) -> Result<()> {
        match *self {}
    }

    /// The session's id.
    pub fn id(&self) -> &str {
        match *self {}
    }

    /// Where the workspace lies on the host.
    pub fn workspace_path(&self) -> PathBuf {
        match *self {}
    }

    /// What its boxes show beside the host's system.
    pub fn image(&self) -> Option<&Image> {
        match *self {}
    }

    /// The name of the image that it lacks.
    pub fn lacks_image(&self) -> Option<&str> {
        match *self {}
    }

    /// Shows its boxes this image.
    pub fn take_image(&mut self, image: Image) {
        match image {}
    }

    /// How its workspace is bounded.
    pub fn workspace_quota(&self) -> Strength {
        match *self {}
    }

    /// User and group id the box has on the host.
    pub fn host_ids(&self) -> (u32, u32) {
        match *self {}
    }

    never! {
        /// Writes a whole file.
        put_file(&str, &[u8]) -> Result<()>;
        /// Writes a whole file from a reader.
        put_reader(&str, &mut dyn Read, u64) -> Result<u64>;
        /// Reads a part of a file.
        read_file(&str, u64, u64) -> Result<FileRange>;
        /// What lies in a folder.
        list(&str, bool, usize) -> Result<Vec<Entry>>;
        /// What lies in a folder, in pages.
        list_page(&str, bool, Option<&str>, usize) -> Result<EntryPage>;
        /// Copies a part of a file.
        copy_out(&str, u64, u64, &mut dyn Write) -> Result<u64>;
        /// Moves a file or folder.
        rename(&str, &str, bool) -> Result<()>;
        /// What lies at a path.
        stat(&str) -> Result<Option<Entry>>;
        /// Makes folders.
        mkdirs(&str) -> Result<()>;
        /// Removes a file or folder.
        remove(&str) -> Result<()>;
        /// Lines that contain a text.
        search(&str, &str, usize) -> Result<Vec<Hit>>;
        /// Takes a snapshot.
        snapshot(&dyn ChunkStore, Option<&Snapshot>, &Limits) -> Result<Snapshot>;
        /// Makes the workspace equal to a manifest.
        restore(&dyn ChunkStore, &Manifest, &Limits) -> Result<Snapshot>;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tier_is_absent_with_a_reason() {
        let config = EngineConfig::default();
        assert_eq!(Engine::start(&config).unwrap_err().code(), "sandbox_tier_unavailable");
        let report = Engine::probe(&config);
        assert!(!report.available && report.reasons[0].contains("Linux"), "{report}");
        assert_eq!(OciEngine::start(&OciConfig::default()).unwrap_err().code(), "sandbox_tier_unavailable");
        assert_eq!(OciEngine::probe(&OciConfig::default()).tier, Tier::T2);
        assert_eq!(run_inside_box(), std::process::ExitCode::FAILURE);
        assert_eq!(Images::at("x", ImagesConfig::default()).unwrap_err().code(), "sandbox_tier_unavailable");
        assert_eq!(Sessions::at("x").unwrap_err().code(), "sandbox_tier_unavailable");
    }
}
