//! Tier T0: Python code in an interpreter of our own choice, in a worker process, on any system and without any right.
//!
//! Reading order: [`ScriptEngine`] (starts where its probe passes, runs scripts), [`ScriptSession`] (variables that live
//! between cells), [`worker()`] and [`CountingAllocator`] (what a binary needs to be the worker), `frame` (what the two say to
//! each other), `interpreter` (the language, and what code may ask of its host: the time), `harden` (walls that the system
//! gives, where it does), `call` and `watch` (one call, and the clock that ends it).
//!
//! The language is Monty, a Python of its own that has no means to reach a file, a socket or a process: see ADR 0006 for what
//! of Python it is. A fault of the interpreter, its memory and its endless loops are the worker's, which is ended and
//! replaced; a script's worker is used once.

#[expect(unsafe_code, reason = "an allocator is; it passes on to the system's")]
mod allocator;
mod call;
mod frame;
mod harden;
mod interpreter;
#[cfg(target_os = "linux")]
mod isolation;
mod pipe;
mod probe;
mod session;
mod watch;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use allocator::CountingAllocator;
use call::Worker;
pub use frame::CODE_BYTES_MAX;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use harden::rehearse;
pub use session::{Cell, ScriptSession};
pub use worker::worker;

use crate::error::{Error, Result, Tier};
use crate::exec::{CancelToken, ExecOutcome, Exit, OnOutput, Output};
use crate::limits::Limits;
use crate::report::Report;

/// How a worker is started: a program that calls [`worker()`].
#[derive(Debug, Clone)]
pub struct ScriptConfig {
    /// The program, usually the one that runs ([`std::env::current_exe`]).
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Refuse to start unless memory, processes and processor time are bounded hard.
    pub require_hard_quotas: bool,
}

impl ScriptConfig {
    /// A worker that is this program with these arguments.
    pub fn new<S: Into<OsString>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = S>) -> ScriptConfig {
        let args = args.into_iter().map(Into::into).collect();
        ScriptConfig { program: program.into(), args, require_hard_quotas: false }
    }
}

/// Runs Python code in workers. It exists only where the probe passed. One worker more than are at work is kept ready.
#[derive(Debug)]
pub struct ScriptEngine {
    pool: Arc<Pool>,
    report: Report,
}

/// Workers that have not been used.
#[derive(Debug)]
struct Pool {
    config: ScriptConfig,
    ready: Mutex<Option<Worker>>,
}

impl ScriptEngine {
    /// Probes the worker and gives an engine if every check passes.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`] with all reasons; [`Error::QuotaTooWeak`] when hard quotas are demanded and one is not.
    pub fn start(config: ScriptConfig) -> Result<ScriptEngine> {
        let report = ScriptEngine::probe(&config);
        if !report.available {
            return Err(Error::TierUnavailable { tier: Tier::T0, reasons: report.reasons });
        }
        let weakest = report.quotas.weakest_bound();
        if let Some((quota, strength)) = weakest.filter(|_| config.require_hard_quotas) {
            return Err(Error::QuotaTooWeak { quota, strength: strength.name() });
        }
        let pool = Arc::new(Pool { config, ready: Mutex::new(None) });
        pool.fill();
        Ok(ScriptEngine { pool, report })
    }

    /// Attacks workers from inside and tells everything that was found, also where no engine would start.
    pub fn probe(config: &ScriptConfig) -> Report {
        probe::probe(config)
    }

    /// What the probe found when this engine started.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Runs a script in a fresh worker. Of the limits those for wall time, grace, memory and kept output hold; there are no
    /// files, so what is printed beyond `output_bytes` is counted and lost.
    ///
    /// Calls block: from asynchronous code, make them on a thread for that.
    ///
    /// # Errors
    /// [`Error::ExecRefused`] for code that is no text or longer than [`CODE_BYTES_MAX`], [`Error::LimitOutOfRange`],
    /// [`Error::Io`] when no worker starts, [`Error::ScriptWorker`] when one speaks no sense.
    pub fn run_script(
        &self,
        code: &[u8],
        limits: &Limits,
        mut on_output: Option<OnOutput>,
        cancel: Option<&CancelToken>,
    ) -> Result<ExecOutcome> {
        let code = text(code)?;
        validate(limits)?;
        if cancel.is_some_and(CancelToken::is_cancelled) {
            return Ok(cancelled());
        }
        let mut worker = self.pool.take()?;
        let mut called = worker.call(code, limits, &mut on_output, cancel);
        if worker.died_in_waiting(&called) {
            worker = Worker::start(&self.pool.config)?;
            called = worker.call(code, limits, &mut on_output, cancel);
        }
        // Not on the caller's time.
        self.pool.fill_later(Some(worker));
        Ok(called?.outcome)
    }

    /// A live interpreter: its variables stay from cell to cell. All cells have the same limits; `limits.wall` is each
    /// cell's, memory is all cells' together.
    ///
    /// # Errors
    /// As [`ScriptEngine::run_script`].
    pub fn session(&self, limits: &Limits) -> Result<ScriptSession> {
        validate(limits)?;
        let mut worker = self.pool.take()?;
        // Nothing is run yet, but from here on the worker has said that it is there and has its limits.
        let called = worker.call("", limits, &mut None, None);
        if worker.died_in_waiting(&called) {
            worker = Worker::start(&self.pool.config)?;
            worker.call("", limits, &mut None, None)?;
        }
        self.pool.fill_later(None);
        Ok(ScriptSession::over(worker, limits.clone()))
    }
}

impl Pool {
    /// The worker that is ready, or one that is made now.
    fn take(&self) -> Result<Worker> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The system may have ended it while nobody looked.
        ready.filter(Worker::is_up).map_or_else(|| Worker::start(&self.config), Ok)
    }

    fn fill(&self) {
        let is_empty = self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        // A worker that cannot be made now is made, or missed with an error, by the call that needs it.
        if let Some(worker) = is_empty.then(|| Worker::start(&self.config).ok()).flatten() {
            // Two may have been made at once: then one goes, after the lock was given back.
            let _other = self.ready.lock().unwrap_or_else(PoisonError::into_inner).replace(worker);
        }
    }

    /// Ends a used worker and makes a new one, on a thread of its own.
    fn fill_later(self: &Arc<Pool>, used: Option<Worker>) {
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name("t0-pool".to_owned()).spawn(move || {
            drop(used);
            pool.fill();
        });
        // Without a thread the next call makes its worker itself.
        drop(thread);
    }
}

/// Code as the interpreter takes it.
fn text(code: &[u8]) -> Result<&str> {
    if code.len() > CODE_BYTES_MAX {
        let reason = format!("the code has {} bytes, tier t0 takes up to {CODE_BYTES_MAX}; use a box (tier t1)", code.len());
        return Err(Error::ExecRefused { reason });
    }
    std::str::from_utf8(code).map_err(|error| {
        let reason = format!("the code is no UTF-8 from byte {} on; send Python as UTF-8 text", error.valid_up_to());
        Error::ExecRefused { reason }
    })
}

/// The bounds of every tier, and that of a single thread: it cannot have less than a processor, or more.
fn validate(limits: &Limits) -> Result<()> {
    limits.validate()?;
    if limits.cpu_milli < 1000 {
        return Err(Error::LimitOutOfRange {
            limit: "cpu_milli (of tier t0)",
            value: limits.cpu_milli,
            min: 1000,
            max: 4000,
        });
    }
    Ok(())
}

/// What comes of a call that was cancelled before it began.
fn cancelled() -> ExecOutcome {
    ExecOutcome {
        exit: Exit::Cancelled,
        stdout: Output::default(),
        stderr: Output::default(),
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
        memory_peak_bytes: None,
        oom_kills: 0,
        workspace_bytes: 0,
        workspace_files: 0,
        had_way_out: false,
    }
}
