//! Kernels: interpreters that stay, so that a cell finds what the ones before it defined.
//!
//! [`wire`] is what runner and driver say to each other; the drivers (`driver.py`, `driver.cjs`, `driver.sh`) run inside
//! the box and are as untrusted as the cells beside them.

pub mod wire;

use std::time::Duration;

use crate::exec::{CancelToken, Exec, Exit, OnOutput, Output};
use crate::limits::Limits;

/// What a kernel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// The host's Python 3.
    Python,
    /// The host's Node.js.
    Node,
    /// Bash.
    Shell,
}

impl Language {
    /// Every language there are kernels for.
    pub const ALL: [Language; 3] = [Language::Python, Language::Node, Language::Shell];

    /// `python`, `node` or `shell`.
    pub fn name(self) -> &'static str {
        match self {
            Language::Python => "python",
            Language::Node => "node",
            Language::Shell => "shell",
        }
    }

    /// The driver of this language as a call into a box: it finds its end of a socket as its standard input.
    pub fn driver(self, limits: &Limits) -> Exec {
        let (argv, file, bytes): (Vec<String>, _, &str) = match self {
            Language::Python => {
                let argv = ["python3", "-u", "-s", "/run/errand/driver.py"];
                (argv.map(String::from).into(), "driver.py", include_str!("driver.py"))
            }
            Language::Node => {
                let heap = format!("--max-old-space-size={}", (limits.memory_bytes / 4 * 3) >> 20);
                // Node cannot move a descriptor: the socket is moved before it starts, and cells find an empty input.
                let moved = "exec 3<&0 0</dev/null; exec \"$@\"".to_owned();
                let argv = ["bash".to_owned(), "-c".to_owned(), moved, "node".to_owned(), "node".to_owned(), heap];
                let argv = argv.into_iter().chain(["/run/errand/driver.cjs".to_owned()]).collect();
                (argv, "driver.cjs", include_str!("driver.cjs"))
            }
            Language::Shell => {
                let argv = ["bash", "/run/errand/driver.sh"];
                (argv.map(String::from).into(), "driver.sh", include_str!("driver.sh"))
            }
        };
        let mut exec = Exec::new(argv);
        exec.files.push((file.to_owned(), bytes.into()));
        exec.limits = limits.clone();
        if self == Language::Python {
            // Without a screen; figures come back as files.
            exec.env.push(("MPLBACKEND".to_owned(), "agg".to_owned()));
        }
        exec
    }
}

/// One cell.
pub struct Cell {
    /// Its code.
    pub code: String,
    /// Wall time; the kernel's own limits bound all else. None is the limit of the kernel.
    pub wall: Option<Duration>,
    /// Bytes kept of each stream, in place of the kernel's own limit; the rest goes to a file.
    pub output_bytes: Option<u64>,
    /// Live output.
    pub on_output: Option<OnOutput>,
    /// Stops the cell, and the kernel with it, from another thread.
    pub cancel: Option<CancelToken>,
}

impl Cell {
    /// A cell that may take as long as the kernel's limits say.
    pub fn new(code: impl Into<String>) -> Cell {
        Cell { code: code.into(), wall: None, output_bytes: None, on_output: None, cancel: None }
    }
}

/// How a cell ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellEnd {
    /// It ran to its end.
    Done,
    /// It raised an error, or its last command failed; the kernel is well.
    Failed {
        /// The error in a line, or the status of the shell.
        error: String,
    },
    /// It used up its time and was interrupted; the kernel is well.
    Interrupted,
    /// The kernel is gone, and what its cells defined with it. Files of the workspace stay.
    Lost {
        /// How it ended.
        exit: Exit,
    },
}

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellOutcome {
    /// How it ended.
    pub end: CellEnd,
    /// The value of its last line, as the language shows it.
    pub value: Option<String>,
    /// Files in the workspace that it left as results: plots and tables.
    pub files: Vec<String>,
    /// Standard output since the cell before.
    pub stdout: Output,
    /// Standard error since the cell before.
    pub stderr: Output,
    /// Wall time.
    pub wall: Duration,
}
