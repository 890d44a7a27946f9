//! People of the simulated world: they decide, answer, interrupt, fork and stop.

use crate::check::resolution;
use crate::world::Sim;
use errand_core::{Allowance, Amount, CallId, CallState, Decision, Due, ItemKey, RunId, Status, Usd};
use errand_engine::{Driver, ForkOptions};

/// Something a person does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Decide(RunId, CallId, Decision),
    Answer(RunId, CallId),
    Message(RunId, String),
    Raise(RunId, String),
    Cancel(RunId),
    Fork(RunId, u64, RunId),
}

impl Act {
    pub(crate) fn run(&self) -> RunId {
        match self {
            Act::Decide(run, ..) | Act::Answer(run, _) | Act::Message(run, _) | Act::Raise(run, _) => *run,
            Act::Cancel(run) | Act::Fork(run, ..) => *run,
        }
    }

    /// Does it. What is refused was too late, which is normal.
    pub(crate) async fn perform(self, sim: Sim, driver: Driver) {
        match self {
            Act::Decide(run, call, decision) => drop(driver.decide(run, call, decision, "somebody").await),
            Act::Answer(run, call) => drop(driver.answer(run, call, "an answer").await),
            Act::Message(run, id) => {
                if driver.message(run, &id, "one more thing").await.is_ok_and(|taken| taken == run) {
                    sim.lock().truth.accepted.push((run, id));
                }
            }
            Act::Raise(run, id) => {
                let amount = Amount { usd: Usd::from_nanos(50_000_000), tokens: 100_000 };
                let by = Allowance { amount, steps: 4, active_ms: 1_000_000 };
                drop(driver.raise(run, &id, by, "somebody").await);
            }
            Act::Cancel(run) => {
                if driver.cancel(run, "enough", "somebody").await.is_ok() {
                    sim.trace(|| format!("cancel of {run} answered"));
                    sim.lock().truth.cancel_answered(run);
                }
            }
            Act::Fork(run, at, fork) => drop(driver.fork(run, at, fork, ForkOptions::default()).await),
        }
    }
}

impl Sim {
    /// Something that somebody may want to do now, whether or not it makes sense.
    pub(crate) fn whim(&self) -> Option<Act> {
        if let Some(act) = self.wanted(300) {
            return Some(act);
        }
        let mut state = self.lock();
        let runs: Vec<(RunId, u64)> = state.runs.iter().map(|(run, stored)| (*run, stored.records.len() as u64)).collect();
        let (run, records) = *runs.get(state.rng.below(runs.len() as u64) as usize)?;
        let cancel = state.faults.cancel;
        if state.rng.chance(cancel) {
            return Some(Act::Cancel(run));
        }
        let id = format!("m{}", state.rng.below(1_000_000));
        match state.rng.below(4) {
            0 if runs.len() < 14 => {
                let entropy = u128::from(state.rng.next());
                Some(Act::Fork(run, state.rng.between(1, records), RunId::new(state.now, entropy)))
            }
            1 => Some(Act::Raise(run, id)),
            _ if runs.len() < 14 => Some(Act::Message(run, id)),
            _ => None,
        }
    }

    /// Something that a run waits for; each is looked at with a chance of `per_mille`.
    pub(crate) fn wanted(&self, per_mille: u64) -> Option<Act> {
        let mut state = self.lock();
        let mut wanted = Vec::new();
        for (run, stored) in &state.runs {
            let Some(last) = stored.records.last().map(|sealed| &sealed.record) else { continue };
            if last.head.status == Status::Paused {
                // Enough is enough.
                match last.head.raised.steps {
                    40.. => wanted.push(Act::Cancel(*run)),
                    _ => wanted.push(Act::Raise(*run, format!("r{}", last.number))),
                }
            }
            let Due::Calls { calls } = &last.head.due else { continue };
            for call in calls {
                // Nobody says the same thing twice.
                let said = match call.state {
                    CallState::Unknown => ItemKey::Resolution { call: call.id },
                    CallState::Approval => ItemKey::Approval { call: call.id },
                    _ => ItemKey::Result { call: call.id },
                };
                if stored.items.contains_key(&said) {
                    continue;
                }
                let born = stored.records[call.id.record as usize - 1].record.run;
                match call.state {
                    CallState::Approval => wanted.push(Act::Decide(*run, call.id, Decision::Approve)),
                    CallState::Person { .. } => wanted.push(Act::Answer(*run, call.id)),
                    CallState::Unknown => {
                        wanted.push(Act::Decide(*run, call.id, resolution(&state, &format!("{born}/{}", call.id))));
                    }
                    _ => {}
                }
            }
        }
        if wanted.is_empty() || !state.rng.chance(per_mille) {
            return None;
        }
        let mut act = wanted.swap_remove(state.rng.below(wanted.len() as u64) as usize);
        if let Act::Decide(_, _, decision @ Decision::Approve) = &mut act {
            match state.rng.below(6) {
                0 => *decision = Decision::Reject { reason: "no".to_owned() },
                1 => *decision = Decision::Edit { arguments: "7".to_owned() },
                _ => {}
            }
        }
        Some(act)
    }
}
