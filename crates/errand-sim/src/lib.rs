//! The seeded world: the real driver and the real core with simulated adapters, people and faults, on a virtual clock.
//!
//! Reading order: [`simulate`] (one seed, from faults to rest), `faults.rs` (what can go wrong), `world.rs` (time, state,
//! crashes), `executor.rs` (who runs next), `store.rs`, `queue.rs`, `models.rs`, `tools.rs` (the adapters), `twin.rs` (a real store beside the simulated one), `people.rs` (who acts from outside),
//! `check.rs` (what truly happened, and the invariants). For tests only; no binary of the product links it.

mod check;
mod executor;
mod faults;
mod models;
mod people;
mod queue;
mod rng;
mod store;
mod tools;
mod twin;
mod world;

use crate::executor::Executor;
use crate::world::Sim;
use errand_core::Hash;
use errand_engine::Bug;
use errand_engine::ports::Store;
use std::ops::AddAssign;
use std::sync::Arc;
pub use twin::{Asked, Twin};

/// What a seed went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Runs, sub-runs, forks and followers among them.
    pub runs: u64,
    /// Records committed.
    pub commits: u64,
    /// Messages sent.
    pub messages: u64,
    /// Model calls begun.
    pub model_calls: u64,
    /// Tool calls begun.
    pub tool_calls: u64,
    /// Digest of everything stored.
    pub digest: Hash,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.runs += other.runs;
        self.commits += other.commits;
        self.messages += other.messages;
        self.model_calls += other.model_calls;
        self.tool_calls += other.tool_calls;
        self.digest = other.digest;
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {what}")]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub what: String,
    /// What happened before, if it was traced.
    pub trace: Vec<String>,
}

/// Lives through one seed: first with faults, then without, until every run has ended. With `bug`, one rule of the
/// protocol is missing. With `traced`, tells what happened.
pub fn simulate(seed: u64, bug: Option<Bug>, traced: bool) -> Result<(Stats, Vec<String>), Violation> {
    live(seed, bug, Sim::new(seed, traced))
}

/// Lives through one seed with a real store beside the simulated one, in a world of many processes: each answer of the two
/// must be the same. The seed is another world than that of [`simulate`] where that one has a single process.
pub fn simulate_beside(seed: u64, twin: Twin) -> Result<Stats, Violation> {
    let sim = Sim::new(seed, false);
    {
        let state = &mut *sim.lock();
        state.twin = Some(twin);
        for faults in [&mut state.faults, &mut state.drawn] {
            (faults.exclusive, faults.process_crash) = (false, 0);
        }
    }
    live(seed, None, sim).map(|(stats, _)| stats)
}

fn live(seed: u64, bug: Option<Bug>, sim: Sim) -> Result<(Stats, Vec<String>), Violation> {
    let held = Executor::new(sim.clone(), bug).live().and_then(|()| check::at_rest(&sim));
    let digest = check::digest(&sim);
    let mut state = sim.lock();
    let trace = state.trace.take().unwrap_or_default();
    held.map_err(|what| Violation { seed, what, trace: trace.clone() })?;
    let stats = Stats {
        runs: state.runs.len() as u64,
        commits: state.truth.commits,
        messages: state.truth.sent,
        model_calls: state.truth.model_calls,
        tool_calls: state.truth.tool_calls,
        digest,
    };
    Ok((stats, trace))
}

/// The store of a world without faults, for the suite that all stores must pass.
pub fn store() -> Arc<dyn Store> {
    let sim = Sim::new(0, false);
    sim.lock().faults = faults::Faults::default();
    Arc::new(sim)
}
