//! One call into a box: what to run, how it ended, and the handle that stops it.

use std::sync::Arc;
use std::time::Duration;

use crate::door::WayOut;
use crate::limits::Limits;

/// Where the code given to [`Exec::python`] and its like lies in the box; read-only.
pub const CELL_DIR: &str = "/run/errand";
/// The workspace as the box sees it.
pub const WORKSPACE_DIR: &str = "/workspace";

/// An output stream of the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which system calls a box may make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// What programs need, and no namespaces.
    #[default]
    Code,
    /// Also what a browser needs for a sandbox of its own inside: user, process and network namespaces, `chroot` and
    /// `capset`. Tier T1.
    Browser,
}

/// Called with output as it comes, on the thread that called `run`; gets the kept bytes only, so it is bounded.
pub type OnOutput = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// What to run in a box.
///
/// Make one with [`Exec::new`], [`Exec::python`], [`Exec::node`] or [`Exec::shell`], then set the fields that differ.
pub struct Exec {
    /// Program and arguments. A program without a slash is looked up among the engine's interpreters, then in `PATH`.
    pub argv: Vec<String>,
    /// Bytes for standard input; none is an empty input.
    pub stdin: Option<Vec<u8>>,
    /// Variables beside `PATH`, `HOME`, `LANG`, `TMPDIR` and the like; these win over the defaults.
    pub env: Vec<(String, String)>,
    /// Working folder, relative to the workspace (`""` is the workspace itself).
    pub cwd: String,
    /// What the call may use.
    pub limits: Limits,
    /// Read-only files placed in [`CELL_DIR`]: name without a slash, bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// Which system calls it may make.
    pub profile: Profile,
    /// The box has no way out, whatever its session was granted.
    pub is_sealed: bool,
    /// A way out of this box alone, in place of its session's.
    pub way_out: Option<Arc<dyn WayOut>>,
    /// Live output.
    pub on_output: Option<OnOutput>,
    /// Stops the call from another thread.
    pub cancel: Option<CancelToken>,
}

impl Exec {
    /// A call of any program.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Exec {
        Exec {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: None,
            env: Vec::new(),
            cwd: String::new(),
            limits: Limits::default(),
            files: Vec::new(),
            profile: Profile::Code,
            is_sealed: false,
            way_out: None,
            on_output: None,
            cancel: None,
        }
    }

    /// Python code, run as a file so that tracebacks show lines; `/workspace` is importable.
    pub fn python(code: impl Into<Vec<u8>>) -> Exec {
        let mut exec = Exec::new(["python3", "-u", "-s", "/run/errand/cell.py"]);
        exec.files.push(("cell.py".into(), code.into()));
        exec.env.push(("PYTHONPATH".into(), WORKSPACE_DIR.into()));
        exec
    }

    /// JavaScript, run as an ES module that lies in the workspace: what it imports, and what it requires, is found from
    /// there. It reaches Node as its standard input, for a module elsewhere would look for its imports elsewhere.
    pub fn node(code: impl Into<Vec<u8>>) -> Exec {
        let limits = Limits::default();
        // V8 would take as much as the host has; so it says itself that its heap is full, before the box is killed.
        let heap = format!("--max-old-space-size={}", (limits.memory_bytes / 4 * 3) >> 20);
        let prelude = format!("{CELL_DIR}/prelude.cjs");
        let mut exec = Exec::new(["node", &heap, "--require", &prelude, "--input-type=module", "-"]);
        exec.stdin = Some(code.into());
        let require = format!("globalThis.require = require('node:module').createRequire('{WORKSPACE_DIR}/cell.mjs');");
        exec.files.push(("prelude.cjs".into(), require.into()));
        exec
    }

    /// A shell script. It goes on after a failing command unless it says `set -e` itself.
    pub fn shell(script: impl Into<Vec<u8>>) -> Exec {
        let mut exec = Exec::new(["bash", "/run/errand/cell.sh"]);
        exec.files.push(("cell.sh".into(), script.into()));
        exec
    }
}

/// How the main process of a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// It died of this signal.
    Signal(i32),
    /// The wall time was used up; the box was killed.
    TimedOut,
    /// The memory quota was used up and the main process did not survive it.
    OutOfMemory,
    /// The workspace went over its bytes or files; the box was killed.
    OverQuota,
    /// A [`CancelToken`] asked for it; the box was killed.
    Cancelled,
}

/// One output stream of a finished call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The first bytes, at most `Limits::output_bytes`.
    pub kept: Vec<u8>,
    /// How many bytes came in all.
    pub total_bytes: u64,
    /// If more came than was kept: the file in the workspace that holds the stream from its beginning.
    pub file: Option<String>,
    /// How many bytes neither the outcome nor the file has.
    pub lost_bytes: u64,
}

impl Output {
    /// The kept bytes as text, with U+FFFD for what is no UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// Wall time.
    pub wall: Duration,
    /// Processor time of all processes that were waited for.
    pub cpu: Duration,
    /// Greatest memory use of the box, where the host's cgroups tell it.
    pub memory_peak_bytes: Option<u64>,
    /// How often the kernel killed a process of the box for memory.
    pub oom_kills: u64,
    /// Bytes in the workspace after the call.
    pub workspace_bytes: u64,
    /// Files and folders in the workspace after the call.
    pub workspace_files: u64,
    /// Whether the box had a way out: the call may have changed something outside, and counts as effectful.
    pub had_way_out: bool,
}

impl ExecOutcome {
    /// Whether it returned 0.
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}

pub use cancel::CancelToken;

#[cfg(target_os = "linux")]
mod cancel {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::Arc;

    use rustix::event::{EventfdFlags, eventfd};

    /// Stops every call it was given to, at once and for good. Clones are the same token.
    #[derive(Debug, Clone)]
    pub struct CancelToken {
        fd: Arc<OwnedFd>,
    }

    impl CancelToken {
        /// A token that has not been cancelled.
        ///
        /// # Errors
        /// When the process has no descriptor left.
        pub fn new() -> std::io::Result<CancelToken> {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(CancelToken { fd: Arc::new(fd) })
        }

        /// Kills the boxes of all calls with this token; later calls end before they begin.
        pub fn cancel(&self) {
            // The counter can only be full if it is set already, so a refused write changes nothing.
            let _ = rustix::io::write(&*self.fd, &1u64.to_ne_bytes());
        }

        /// Whether `cancel` was called.
        pub fn is_cancelled(&self) -> bool {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut fds = [PollFd::new(&*self.fd, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
        }

        /// Readable once cancelled; never drained.
        pub(crate) fn fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod cancel {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Stops every call it was given to, at once and for good. Clones are the same token.
    #[derive(Debug, Clone)]
    pub struct CancelToken {
        cancelled: Arc<AtomicBool>,
    }

    impl CancelToken {
        /// A token that has not been cancelled.
        ///
        /// # Errors
        /// Never on this system.
        pub fn new() -> std::io::Result<CancelToken> {
            Ok(CancelToken { cancelled: Arc::new(AtomicBool::new(false)) })
        }

        /// Marks the token.
        pub fn cancel(&self) {
            self.cancelled.store(true, Ordering::SeqCst);
        }

        /// Whether `cancel` was called.
        pub fn is_cancelled(&self) -> bool {
            self.cancelled.load(Ordering::SeqCst)
        }
    }
}
