//! How an engine is made, and what it finds.

use std::path::PathBuf;

/// How an engine is to be made.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// Folders of the host to show read-only at the same place, beside the system's.
    pub read_only: Vec<PathBuf>,
    /// Where to look for interpreters the system lacks: the value of `PATH`.
    pub search_path: Option<std::ffi::OsString>,
    /// Refuse to start unless memory, processes and processor time are bounded hard.
    pub require_hard_quotas: bool,
}

/// A program that runs a language.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Interpreter {
    /// What calls name: `python3`, `node`, `bash` or `sh`.
    pub name: String,
    /// Where it lies, on the host and in the box.
    pub path: PathBuf,
    /// A folder that must be shown in the box for it, when it is no part of the system.
    pub prefix: Option<PathBuf>,
}
