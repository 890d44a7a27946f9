//! A live interpreter, whose variables stay from cell to cell.

use super::call::{Called, Worker};
use super::{cancelled, text};
use crate::error::{Error, Result};
use crate::exec::{CancelToken, ExecOutcome, OnOutput};
use crate::limits::Limits;

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// How it ended and what it printed.
    pub outcome: ExecOutcome,
    /// What its last expression came to, as Python would show it (`repr`), unless that is `None`. At most some 16 KiB.
    pub value: Option<String>,
    /// Whether the variables are still there. They are lost when the interpreter had to be ended: at a cancel, at a time-out
    /// it did not come back from, when it crashed, and when memory ran out all at once.
    pub is_alive: bool,
}

/// A worker with variables in it. Dropping it ends the worker.
#[derive(Debug)]
pub struct ScriptSession {
    worker: Option<Worker>,
    limits: Limits,
}

impl ScriptSession {
    pub(crate) fn over(worker: Worker, limits: Limits) -> ScriptSession {
        ScriptSession { worker: Some(worker), limits }
    }

    /// Whether there is still an interpreter: see [`Cell::is_alive`].
    pub fn is_alive(&self) -> bool {
        self.worker.is_some()
    }

    /// Process id of the worker, while there is one.
    pub fn worker_id(&self) -> Option<u32> {
        self.worker.as_ref().map(Worker::id)
    }

    /// Runs a cell over the variables of those before it. A cell that raises keeps what it did until then.
    ///
    /// # Errors
    /// [`Error::ScriptLost`] when the interpreter is gone; otherwise as [`super::ScriptEngine::run_script`].
    pub fn run(&mut self, code: &[u8], mut on_output: Option<OnOutput>, cancel: Option<&CancelToken>) -> Result<Cell> {
        let code = text(code)?;
        let Some(worker) = &mut self.worker else { return Err(Error::ScriptLost) };
        if cancel.is_some_and(CancelToken::is_cancelled) {
            return Ok(Cell { outcome: cancelled(), value: None, is_alive: true });
        }
        let called = worker.call(code, &self.limits, &mut on_output, cancel);
        if !called.as_ref().is_ok_and(|called| called.is_alive) {
            self.worker = None;
        }
        let Called { outcome, value, is_alive } = called?;
        Ok(Cell { outcome, value, is_alive })
    }
}
