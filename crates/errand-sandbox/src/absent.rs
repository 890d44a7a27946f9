//! Other systems than Linux: tier T1 is absent, and says so. No engine starts and no session opens, so the methods of these
//! types, which have no values, are never reached.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{EngineConfig, Interpreter, OciConfig};
use crate::entry::{Entry, FileRange, Hit};
use crate::error::{Error, Result, Tier};
use crate::exec::{Exec, ExecOutcome};
use crate::kernel::{Cell, CellOutcome, Language};
use crate::limits::Limits;
use crate::report::Report;
use crate::snapshot::{ChunkStore, Manifest, Snapshot};

const REASON: &str = "boxes of namespaces need Linux; use a remote runner or tier t0";

fn absent() -> Error {
    Error::TierUnavailable { tier: Tier::T1, reasons: vec![REASON.into()] }
}

/// Makes boxes, on Linux.
#[derive(Debug)]
pub enum Engine {}

/// An interpreter that runs one cell after the other, on Linux.
#[derive(Debug)]
pub enum Kernel {}

impl Kernel {
    /// Runs a cell.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn run(&mut self, _: Cell) -> Result<CellOutcome> {
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

    /// Runs something in a box.
    ///
    /// # Errors
    /// See the Linux version.
    pub fn run(&self, _: &Session, _: Exec) -> Result<ExecOutcome> {
        match *self {}
    }
}

/// Fails: there are no boxes here.
pub fn run_inside_box() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
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

impl Sessions {
    /// Never opens here.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`], always.
    pub fn at(_: impl Into<PathBuf>) -> Result<Sessions> {
        Err(absent())
    }

    never! {
        /// Makes a session.
        create(&str) -> Result<Session>;
        /// Opens a session.
        open(&str) -> Result<Session>;
        /// Opens or makes a session.
        open_or_create(&str) -> Result<Session>;
        /// Removes a session.
        destroy(Session) -> Result<()>;
        /// The ids of all sessions.
        list() -> Result<Vec<String>>;
    }
}

impl Session {
    /// The session's id.
    pub fn id(&self) -> &str {
        match *self {}
    }

    /// Where the workspace lies on the host.
    pub fn workspace_path(&self) -> PathBuf {
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
        restore(&dyn ChunkStore, &Manifest, &Limits) -> Result<()>;
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
        assert_eq!(Sessions::at("x").unwrap_err().code(), "sandbox_tier_unavailable");
    }
}
