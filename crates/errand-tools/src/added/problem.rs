//! What is wrong with a manifest: which file, where in it, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// One problem of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the folder.
    pub file: PathBuf,
    /// Where in it: names and numbers with dots between; empty for the file as a whole.
    pub at: String,
    /// What is wrong, and what to do.
    pub problem: String,
    /// What kind of problem it is.
    pub kind: ProblemKind,
}

/// Kinds of problems, each with an error code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The manifest cannot be used as it is.
    Broken,
    /// A secret stands in it.
    SecretInClear,
}

impl ProblemKind {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            ProblemKind::Broken => "tool_manifest_broken",
            ProblemKind::SecretInClear => "tool_secret_in_clear",
        }
    }
}

impl Problem {
    pub(crate) fn new(file: &Path, at: &str, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: at.to_owned(), problem: problem.into(), kind: ProblemKind::Broken }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        f.write_str(&self.problem)
    }
}

/// A problem before its file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    at: String,
    problem: String,
    kind: ProblemKind,
}

impl Found {
    pub(crate) fn broken(at: &str, problem: impl Into<String>) -> Self {
        Self { at: at.to_owned(), problem: problem.into(), kind: ProblemKind::Broken }
    }

    pub(crate) fn of(self, file: &Path) -> Problem {
        Problem { file: file.to_owned(), at: self.at, problem: self.problem, kind: self.kind }
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Found>);

impl Problems {
    pub(crate) fn add(&mut self, at: &str, problem: impl Into<String>) {
        self.0.push(Found::broken(at, problem));
    }

    /// A secret that stands in the file. It is not shown.
    pub(crate) fn in_clear(&mut self, at: &str, problem: impl Into<String>) {
        let found = Found { kind: ProblemKind::SecretInClear, ..Found::broken(at, problem) };
        self.0.push(found);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_list(self) -> Vec<Found> {
        self.0
    }
}
