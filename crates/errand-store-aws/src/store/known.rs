//! What this process has seen of runs, so that a write need not ask: how many records a run has at least. It only grows, so
//! what was true stays true, whatever others do.

use errand_core::RunId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most runs that are remembered; about half a megabyte. Beyond it all are forgotten, and asked for again.
const RUNS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Known {
    runs: Mutex<HashMap<RunId, u64>>,
}

impl Known {
    /// A run was seen to have `number` records.
    pub(crate) fn saw(&self, run: RunId, number: u64) {
        let mut runs = self.lock();
        if runs.len() >= RUNS_MAX && !runs.contains_key(&run) {
            runs.clear();
        }
        let known = runs.entry(run).or_default();
        *known = number.max(*known);
    }

    /// How many records a run is known to have; 0 if nothing is known of it.
    pub(crate) fn records(&self, run: RunId) -> u64 {
        self.lock().get(&run).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, u64>> {
        // No code that holds the lock can panic half way through a change.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
