//! How an engine and a pool are made, and what they tell, on every system.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::kernel::Language;
use crate::limits::Limits;

/// How an engine is to be made.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// Folders of the host to show read-only at the same place, beside the system's.
    pub read_only: Vec<PathBuf>,
    /// Where to look for interpreters the system lacks: the value of `PATH`.
    pub search_path: Option<std::ffi::OsString>,
    /// Python modules that the zygotes of pools import ahead, where the host has them: what cells begin with is there at once.
    pub preload: Vec<String>,
    /// Refuse to start unless memory, processes and processor time are bounded hard.
    pub require_hard_quotas: bool,
}

/// What a new session is to have beside an empty workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// The name of an image that its boxes show.
    pub image: Option<String>,
    /// A hard bound on the workspace.
    pub volume: Option<VolumeSize>,
}

/// The size of a workspace that is a file system of its own: reserved on the host's disk, and never more. Only root can have
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VolumeSize {
    /// Bytes in all, with a few in a hundred that the file system takes itself. 4 MiB to 10 GiB.
    pub bytes: u64,
    /// Files and folders, to 500,000.
    pub files: u64,
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

/// How an engine of OCI containers (tier T2) is to be made.
#[derive(Debug, Clone, Default)]
pub struct OciConfig {
    /// What its boxes see, as in tier T1.
    pub boxes: EngineConfig,
    /// The runtime: an absolute path, never a name to look up.
    pub runtime: PathBuf,
    /// Which command line it understands; none tells by its file name.
    pub kind: Option<RuntimeKind>,
    /// Options of the runtime before its command, each in one piece, for example `--platform=kvm`.
    pub flags: Vec<String>,
    /// A program that calls [`crate::run_inside_box`] with what follows these arguments: the first process of each box.
    pub inside: Inside,
    /// Offer the tier although its boxes run on the host's kernel, as those of `crun` and `runc` do.
    pub allow_shared_kernel: bool,
}

/// The program that becomes the first process of a box.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Absolute path on the host; what it links to must be part of the system.
    pub program: PathBuf,
    /// Arguments that lead it to [`crate::run_inside_box`].
    pub arguments: Vec<String>,
}

/// The families of command lines among OCI runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// `crun`, and `krun`, which is the same program with a microVM.
    Crun,
    /// `runc`.
    Runc,
    /// gVisor.
    Runsc,
    /// Any other that knows `--root`, `run` and `--bundle`, for example `youki` or `kata-runtime` 1.x.
    Other,
}

impl RuntimeKind {
    /// The family that a file name belongs to.
    pub fn of(runtime: &std::path::Path) -> RuntimeKind {
        match runtime.file_name().and_then(|name| name.to_str()) {
            Some("crun" | "krun") => RuntimeKind::Crun,
            Some("runc") => RuntimeKind::Runc,
            Some("runsc") => RuntimeKind::Runsc,
            _ => RuntimeKind::Other,
        }
    }
}

/// What a pool keeps ready.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Kernels of these languages.
    pub languages: Vec<Language>,
    /// At least and at most so many of each.
    pub parked: std::ops::RangeInclusive<usize>,
    /// What their boxes may use. A claim that asks for other limits gets a box made for it.
    pub limits: Limits,
}

/// How a pool stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Kernels that wait.
    pub parked: usize,
    /// Claims so far.
    pub claims: u64,
    /// Claims among them that found nothing ready.
    pub misses: u64,
    /// Kernels that a zygote forked.
    pub forked: u64,
    /// Why there is no zygote, or why its last child was not to be used.
    pub no_zygote: Option<String>,
    /// Kernels that could not be made ahead.
    pub failures: u64,
    /// Why the last of them could not.
    pub last_failure: Option<String>,
}

/// A session, without being opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Somebody has it open: nobody else can.
    pub in_use: bool,
    /// The name of its image.
    pub image: Option<String>,
    /// The size of its workspace, if that is a volume.
    pub volume: Option<VolumeSize>,
    /// It was granted a way out.
    pub has_grant: bool,
    /// When it was made, where the file system knows.
    pub made: Option<SystemTime>,
    /// When it was opened last.
    pub used: SystemTime,
}
