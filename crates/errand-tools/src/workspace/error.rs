//! What can go wrong with a run's files and boxes.

use crate::ways::WayError;
use errand_sandbox as sandbox;
use std::path::PathBuf;

/// Why files could not be taken in, kept, handed out, or worked on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No box can be made on this host. Code is not run without one.
    #[error(
        "code cannot be run on this host, because a sealed box cannot be made: {reasons}; `errand doctor` says how to change that"
    )]
    BoxUnavailable {
        /// The checks that failed.
        reasons: String,
    },
    /// The host lacks the program that a tool runs.
    #[error("this host has no `{name}` that a box could use: install {install}, then ask `errand doctor`")]
    InterpreterMissing {
        /// The program.
        name: String,
        /// What to install.
        install: &'static str,
    },
    /// The sandbox refused or failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// An image that a call needs cannot be had.
    #[error("the image `{name}` cannot be had: {problem}")]
    Image {
        /// Which.
        name: String,
        /// The stable code of what went wrong.
        code: &'static str,
        /// What went wrong, and what to do.
        problem: String,
    },
    /// An image that a call needs was not ready in time.
    #[error(
        "the image `{name}` is being made and was not ready in the time of this call ({step}); it goes on: make the call again in a minute"
    )]
    ImageBuilding {
        /// Which.
        name: String,
        /// How far it was.
        step: String,
    },
    /// The call was stopped from outside.
    #[error("the call was stopped before it was over")]
    Stopped,
    /// The turn of the call came too late.
    #[error(
        "the time of the call was used up before its turn came: other calls of this reply used the workspace; make the call again, alone"
    )]
    NoTimeLeft,
    /// A blob is not there, or cannot be read or kept.
    #[error("the blob {hash} of a workspace cannot be had: {problem}")]
    Blob {
        /// Its digest.
        hash: String,
        /// What failed.
        problem: String,
    },
    /// A file named by the user is not there.
    #[error("{path:?} does not exist: check the path")]
    FileMissing {
        /// As given.
        path: PathBuf,
    },
    /// A file named by the user cannot be read.
    #[error("{path:?} cannot be read: {problem}")]
    FileUnreadable {
        /// As given.
        path: PathBuf,
        /// The system's word for it.
        problem: String,
    },
    /// It is a folder, a device, a pipe.
    #[error("{path:?} is {kind}, only plain files can be given to a run")]
    FileNotPlain {
        /// As given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// One file, or all together, are too large.
    #[error("{path:?} makes {bytes} bytes, at most {max} can be given to a run: give a part of it")]
    FileTooLarge {
        /// The file with which it became too much.
        path: PathBuf,
        /// How many bytes there are up to there.
        bytes: u64,
        /// How many there may be.
        max: u64,
    },
    /// Too many files at once.
    #[error("{count} files are too many, at most {max} can be given to a run: pack them into an archive")]
    TooManyFiles {
        /// How many were given.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The file's name is no text that a workspace can hold.
    #[error("the name of {path:?} cannot be used in a workspace: {problem}; rename the file")]
    FileName {
        /// As given.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
    /// The workspace has no such file.
    #[error("the run has no file {path:?}; list its files to see which there are")]
    NoSuchFile {
        /// Path in the workspace.
        path: String,
    },
    /// A file of the host cannot be written.
    #[error("{path:?} cannot be written: {problem}")]
    Unwritable {
        /// On the host.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The way out of a call cannot be opened.
    #[error(transparent)]
    Way(#[from] Box<WayError>),
    /// The run was granted a way out, and this process gives none.
    #[error("the run was granted a way out, and these settings give none: set [sandbox.egress] as it was")]
    NoWays,
    /// A background thread ended without an answer.
    #[error("the worker thread of the call failed: {problem}; please report this")]
    Thread {
        /// What it said last.
        problem: String,
    },
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::BoxUnavailable { .. } => "sandbox_unavailable",
            Error::InterpreterMissing { .. } => "interpreter_missing",
            Error::Sandbox(sandbox::Error::WorkspaceTooLarge { .. }) => "over_quota",
            Error::Sandbox(error) => error.code(),
            Error::Image { code, .. } => code,
            Error::ImageBuilding { .. } => "sandbox_image_building",
            Error::Stopped => "stopped",
            Error::NoTimeLeft => "timed_out",
            Error::Blob { .. } => "blob_unavailable",
            Error::FileMissing { .. } => "file_missing",
            Error::FileUnreadable { .. } => "file_unreadable",
            Error::FileNotPlain { .. } => "file_not_plain",
            Error::FileTooLarge { .. } => "file_too_large",
            Error::TooManyFiles { .. } => "too_many_files",
            Error::FileName { .. } => "file_name_unusable",
            Error::NoSuchFile { .. } => "no_such_file",
            Error::Unwritable { .. } => "file_not_written",
            Error::Way(error) => error.code(),
            Error::NoWays => "egress_not_allowed",
            Error::Thread { .. } => "worker_failed",
        }
    }

    /// The message with those below it, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut below = std::error::Error::source(self);
        while let Some(error) = below {
            text = format!("{text}: {error}");
            below = error.source();
        }
        text
    }
}
