//! What can go wrong at this crate's boundary, each with a stable code.

use std::path::PathBuf;

/// How strongly a box is isolated, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// An interpreter with limits in a process of its own: small scripts, on any system.
    T0,
    /// Own Linux namespaces on the shared kernel.
    T1,
    /// An OCI runtime, which may bring a kernel of its own.
    T2,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tier::T0 => "t0",
            Tier::T1 => "t1",
            Tier::T2 => "t2",
        })
    }
}

/// Every failure of this crate. `code` is stable, the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot give the isolation of the tier; no weaker box is made instead.
    #[error("sandbox tier {tier} is not available on this host: {}; run `errand doctor` for the whole list", reasons.join("; "))]
    TierUnavailable {
        /// The tier asked for.
        tier: Tier,
        /// One line for each failed check.
        reasons: Vec<String>,
    },
    /// A quota was demanded as hard and the host has it only soft or not at all.
    #[error(
        "the {quota} quota is only {strength} on this host, the policy demands it hard: give the runner cgroups or choose another host"
    )]
    QuotaTooWeak {
        /// Which quota.
        quota: &'static str,
        /// What the host has.
        strength: &'static str,
    },
    /// A path from outside is absolute, climbs, is too long or not text.
    #[error("path {path:?} is refused: {reason}; give a path relative to the workspace")]
    PathRefused {
        /// The path as it came.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// What lies at a path is no plain file or folder, or is reached over a link.
    #[error(
        "{path:?} is refused: it is or goes over {kind}; only plain files and folders are read and written from outside"
    )]
    NotPlain {
        /// Path in the workspace.
        path: String,
        /// What was found.
        kind: &'static str,
    },
    /// Nothing lies at that path.
    #[error("{path:?} does not exist in the workspace: list the folder to see what does")]
    NotFound {
        /// Path in the workspace.
        path: String,
    },
    /// Something lies where nothing was to be replaced.
    #[error("{path:?} exists already: choose another path, or say that it is to be replaced")]
    Exists {
        /// Path in the workspace.
        path: String,
    },
    /// A session id that is no id.
    #[error("session id {id:?} is refused: use 1 to 64 letters, digits, `_` or `-`, beginning with a letter or digit")]
    SessionId {
        /// The id as it came.
        id: String,
    },
    /// The session to create is there already.
    #[error("session {id} exists already: open it or choose another id")]
    SessionExists {
        /// The session.
        id: String,
    },
    /// The session to open is not there.
    #[error("session {id} does not exist: create it first")]
    SessionMissing {
        /// The session.
        id: String,
    },
    /// Another process (or another handle of this one) holds the session.
    #[error("session {id} is in use by another handle: close that one first")]
    SessionBusy {
        /// The session.
        id: String,
    },
    /// A limit in the request is out of range.
    #[error("limit {limit} is {value}, allowed are {min} to {max}")]
    LimitOutOfRange {
        /// Field name in [`crate::Limits`].
        limit: &'static str,
        /// What was asked for.
        value: u64,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
    /// The request to run something is malformed.
    #[error("the call is refused: {reason}")]
    ExecRefused {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The program could not be started inside the box.
    #[error("{program:?} cannot be started in the box ({errno}): check that it exists there and is executable")]
    ProgramNotStarted {
        /// `argv[0]`.
        program: String,
        /// The system's word for it.
        errno: String,
    },
    /// The box could not be set up, although the probe passed.
    #[error("setting up the box failed at {stage} ({errno}); run `errand doctor`")]
    Setup {
        /// Which step.
        stage: &'static str,
        /// The system's word for it.
        errno: String,
    },
    /// An interpreter ended before it was ready for a cell.
    #[error("the {language} kernel ended before its first cell ({exit}): {said}; run `errand doctor`")]
    KernelLost {
        /// What it speaks.
        language: &'static str,
        /// How it ended.
        exit: String,
        /// The end of its standard error.
        said: String,
    },
    /// The kernel of a cell is lost, with everything its cells defined.
    #[error("the {language} kernel is gone, and what its cells defined with it; files of the workspace stay: start another")]
    KernelGone {
        /// What it speaks.
        language: &'static str,
    },
    /// The session was given a way out and the tier's boxes can have none.
    #[error("boxes of tier {tier} can have no way out here: {reason}")]
    EgressUnavailable {
        /// The tier.
        tier: Tier,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// The OCI runtime ended before the box began.
    #[error("the OCI runtime did not start the box ({said}); run `errand doctor`")]
    RuntimeFailed {
        /// What it wrote, at most its last 500 characters.
        said: String,
    },
    /// The workspace holds more than a snapshot or a quota allows.
    #[error("the workspace is over its limit: {what} is {value}, allowed are {max}; remove files and try again")]
    WorkspaceTooLarge {
        /// Which bound.
        what: &'static str,
        /// What was found (at least).
        value: u64,
        /// The bound.
        max: u64,
    },
    /// Bytes that claim to be a manifest and are none this crate would write.
    #[error("the workspace manifest is refused: {reason}; take another snapshot")]
    ManifestRefused {
        /// What is wrong.
        reason: String,
    },
    /// A chunk named by a manifest is not in the store, or not what its hash says.
    #[error("chunk {hash} of {path:?} is {problem}: restore from another snapshot")]
    Chunk {
        /// Lower-case hex SHA-256.
        hash: String,
        /// File in the workspace.
        path: String,
        /// Missing or damaged.
        problem: &'static str,
    },
    /// A restore was cut short, so the workspace is neither what it was nor what it should be.
    #[error("the workspace of session {id} is half restored, a restore of it was cut short: restore it again first")]
    RestoreUnfinished {
        /// The session.
        id: String,
    },
    /// Another runner has taken the session over.
    #[error(
        "session {session} belongs to another runner now (fence {theirs}, this one had {ours}): nothing it holds is kept as the session's any longer; take the session over again if it should be this runner's"
    )]
    Fenced {
        /// The session.
        session: String,
        /// Under which fence this one wrote.
        ours: u64,
        /// Under which it is now; 0 if the head is gone.
        theirs: u64,
    },
    /// Bytes that claim to be the head of a session and are none this crate would write.
    #[error("the head of session {session} in the store cannot be read: restore that object from an earlier version of it")]
    HeadRefused {
        /// The session.
        session: String,
    },
    /// The caller's chunk store failed.
    #[error("the chunk store failed to {action}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Its error.
        source: std::io::Error,
    },
    /// A worker of tier T0 said something that no worker of ours says, or left without a word.
    #[error(
        "a worker of tier t0 is broken: {reason}; it was ended, try again, and check that the worker program is this version's"
    )]
    ScriptWorker {
        /// What it did.
        reason: &'static str,
    },
    /// The live interpreter is gone.
    #[error("the interpreter of this session is gone, and its variables with it: start another and run the cells again")]
    ScriptLost,
    /// A workspace of fixed size cannot be made or opened here.
    #[error(
        "no workspace of fixed size here: {reason}; make the session without one, or run as root with loop devices and mkfs.ext4"
    )]
    NoVolume {
        /// Why not.
        reason: String,
    },
    /// No image has that name.
    #[error("there is no image {name:?}: {known} can be built here, others by `image build NAME --lock FILE`")]
    ImageUnknown {
        /// The name as it came.
        name: String,
        /// Names there are.
        known: String,
    },
    /// The image must be built first.
    #[error("image {name} is not there: {reason}; build it with `image build {name}`")]
    ImageMissing {
        /// Its name.
        name: String,
        /// Why it is not.
        reason: String,
    },
    /// A lock file that holds anything but pinned packages with hashes.
    #[error(
        "the lock file is refused: {reason}; `pip-compile --generate-hashes` and `uv pip compile --generate-hashes` make one"
    )]
    ImageLock {
        /// What is wrong, and where.
        reason: String,
    },
    /// The host lacks what makes images.
    #[error("no image can be made here: {reason}; install python3 and python3-pip")]
    ImageTools {
        /// What is missing.
        reason: String,
    },
    /// The package index was not reached.
    #[error("the packages of the image could not be fetched ({said}); check the network, or give pip another index")]
    ImageNetwork {
        /// pip's last words.
        said: String,
    },
    /// A wheel is not what the lock file says.
    #[error("a package of the image is not what its lock file says ({said}); do not use it, ask the index's owner")]
    ImageHash {
        /// pip's last words.
        said: String,
    },
    /// A package has no wheel for this Python and machine.
    #[error("a package of the image has no wheel for the Python of this host ({said}); use a lock file made for it")]
    ImageNoWheel {
        /// pip's last words.
        said: String,
    },
    /// The disk is full.
    #[error("there is no room for the image ({said}); free some space and build it again, nothing of it is left")]
    ImageNoRoom {
        /// The system's or pip's word for it.
        said: String,
    },
    /// The image could not be made for another reason.
    #[error("the image was not made: {reason}; nothing of it is left, build it again")]
    ImageFailed {
        /// Why.
        reason: String,
    },
    /// A box has the image, or somebody builds it.
    #[error("image {name} is in use: close the sessions that have it, or wait for its build")]
    ImageInUse {
        /// Its name.
        name: String,
    },
    /// The system refused an operation on the host's side.
    #[error("{action} failed on {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// The stable code of this error, for clients and for `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::TierUnavailable { .. } => "sandbox_tier_unavailable",
            Error::QuotaTooWeak { .. } => "sandbox_quota_too_weak",
            Error::PathRefused { .. } => "sandbox_path_refused",
            Error::NotPlain { .. } => "sandbox_not_plain",
            Error::NotFound { .. } => "sandbox_not_found",
            Error::Exists { .. } => "sandbox_exists",
            Error::SessionId { .. } => "sandbox_session_id",
            Error::SessionExists { .. } => "sandbox_session_exists",
            Error::SessionMissing { .. } => "sandbox_session_missing",
            Error::SessionBusy { .. } => "sandbox_session_busy",
            Error::LimitOutOfRange { .. } => "sandbox_limit_out_of_range",
            Error::ExecRefused { .. } => "sandbox_exec_refused",
            Error::ProgramNotStarted { .. } => "sandbox_program_not_started",
            Error::Setup { .. } => "sandbox_setup",
            Error::KernelLost { .. } => "sandbox_kernel_lost",
            Error::KernelGone { .. } => "sandbox_kernel_gone",
            Error::EgressUnavailable { .. } => "sandbox_egress_unavailable",
            Error::RuntimeFailed { .. } => "sandbox_runtime_failed",
            Error::WorkspaceTooLarge { .. } => "sandbox_workspace_too_large",
            Error::ManifestRefused { .. } => "sandbox_manifest_refused",
            Error::Chunk { .. } => "sandbox_chunk",
            Error::RestoreUnfinished { .. } => "sandbox_restore_unfinished",
            Error::Fenced { .. } => "sandbox_fenced",
            Error::HeadRefused { .. } => "sandbox_head_refused",
            Error::Store { .. } => "sandbox_store",
            Error::ScriptWorker { .. } => "sandbox_script_worker",
            Error::ScriptLost => "sandbox_script_lost",
            Error::NoVolume { .. } => "sandbox_no_volume",
            Error::ImageUnknown { .. } => "sandbox_image_unknown",
            Error::ImageMissing { .. } => "sandbox_image_missing",
            Error::ImageLock { .. } => "sandbox_image_lock",
            Error::ImageTools { .. } => "sandbox_image_tools",
            Error::ImageNetwork { .. } => "sandbox_image_network",
            Error::ImageHash { .. } => "sandbox_image_hash",
            Error::ImageNoWheel { .. } => "sandbox_image_no_wheel",
            Error::ImageNoRoom { .. } => "sandbox_image_no_room",
            Error::ImageFailed { .. } => "sandbox_image_failed",
            Error::ImageInUse { .. } => "sandbox_image_in_use",
            Error::Io { .. } => "sandbox_io",
        }
    }

    /// An [`Error::Io`] from anything that turns into a standard IO error.
    #[cfg(target_os = "linux")]
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Error {
        Error::Io { action, path: path.into(), source: source.into() }
    }
}

/// Short for a result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
