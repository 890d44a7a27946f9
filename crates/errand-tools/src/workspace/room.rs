//! How many runs may have their workspaces on this machine, and who makes way.

use super::desk::State;
use super::{Error, Host, id, on_thread};
use errand_core::{RunId, TenantId};
use errand_engine::ports::Admission;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as TurnLock, OwnedMutexGuard};

/// How long a call waits before it asks for room again.
const AGAIN_MS: u64 = 1_000;

/// How many runs may have their workspaces on this machine at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All together.
    pub sessions: usize,
    /// Those of one tenant.
    pub sessions_per_tenant: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { sessions: 100, sessions_per_tenant: usize::MAX }
    }
}

/// What this machine holds of runs, by run.
#[derive(Default)]
pub(super) struct Runs(HashMap<RunId, Place>);

struct Place {
    /// Whose run it is, once somebody said so.
    tenant: Option<TenantId>,
    used: Instant,
    state: Arc<TurnLock<State>>,
}

impl Place {
    fn of(tenant: Option<TenantId>) -> Self {
        Self { tenant, used: Instant::now(), state: Arc::default() }
    }

    /// The turn in it, if nobody has it.
    fn turn(&self) -> Option<OwnedMutexGuard<State>> {
        Arc::clone(&self.state).try_lock_owned().ok()
    }
}

impl Runs {
    pub(super) fn state(&mut self, run: RunId) -> Arc<TurnLock<State>> {
        Arc::clone(&self.0.entry(run).or_insert_with(|| Place::of(None)).state)
    }

    pub(super) fn has(&self, run: RunId) -> bool {
        self.0.contains_key(&run)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn touch(&mut self, run: RunId) {
        if let Some(place) = self.0.get_mut(&run) {
            place.used = Instant::now();
        }
    }

    pub(super) fn remove(&mut self, run: RunId) {
        self.0.remove(&run);
    }

    pub(super) fn drain(&mut self) -> Vec<(RunId, Arc<TurnLock<State>>)> {
        self.0.drain().map(|(run, place)| (run, place.state)).collect()
    }

    fn all(&self) -> Vec<RunId> {
        self.0.keys().copied().collect()
    }

    /// How long a run has been at rest, with its turn; none while it is at work.
    fn at_rest(&self, run: RunId) -> Option<(Duration, OwnedMutexGuard<State>)> {
        let place = self.0.get(&run)?;
        Some((place.used.elapsed(), place.turn()?))
    }

    /// Takes a place for a run, if there is one; else says who can make way for it.
    fn take(&mut self, run: RunId, tenant: &TenantId, room: Room) -> Taken {
        if let Some(place) = self.0.get_mut(&run) {
            place.tenant.get_or_insert_with(|| tenant.clone());
            return Taken::Here;
        }
        let is_own = |place: &Place| place.tenant.as_ref() == Some(tenant);
        let crowded = self.0.values().filter(|place| is_own(place)).count() >= room.sessions_per_tenant;
        if !crowded && self.0.len() < room.sessions {
            self.0.insert(run, Place::of(Some(tenant.clone())));
            return Taken::Here;
        }
        let mut rest: Vec<(&RunId, &Place)> = self.0.iter().filter(|(_, place)| !crowded || is_own(place)).collect();
        rest.sort_unstable_by_key(|(_, place)| place.used);
        // Interpreters with what a run defined are not taken away from it before their time.
        let idle = |(run, place): (&RunId, &Place)| Some((*run, place.turn().filter(|state| !state.has_kernels())?));
        rest.into_iter().find_map(idle).map_or(Taken::Full, |(run, turn)| Taken::After(run, turn))
    }
}

enum Taken {
    Here,
    /// Once this run has been let go.
    After(RunId, OwnedMutexGuard<State>),
    Full,
}

impl Host {
    /// Sees that a run has a place: where there is none, one at rest makes way, which costs its files nothing.
    pub(super) async fn admit(self: &Arc<Self>, run: RunId, tenant: &TenantId) -> Result<Admission, Error> {
        loop {
            let taken = self.runs().take(run, tenant, self.boxes.settings.room);
            match taken {
                Taken::Here => return Ok(Admission::Here),
                Taken::Full => {
                    tracing::info!(%run, %tenant, "no room for another workspace on this machine; its call waits");
                    return Ok(Admission::Later { millis: AGAIN_MS });
                }
                Taken::After(idle, mut state) => {
                    let host = Arc::clone(self);
                    on_thread(move || host.let_go(idle, &mut state)).await??;
                }
            }
        }
    }

    /// Lets go of what this machine holds of a run, in its turn.
    pub(super) fn let_go(&self, run: RunId, state: &mut State) -> Result<(), Error> {
        let released = state.release(&id(run), &self.sessions);
        // Before the turn ends: whoever waited for it begins anew, with a state of its own.
        self.runs().remove(run);
        released
    }

    /// Ends kernels that nobody has used for so long, and lets go of runs that were at rest for so long.
    pub(super) fn end_idle(&self, idle: Duration) {
        let all = self.runs().all();
        for run in all {
            let at_rest = self.runs().at_rest(run);
            let Some((rested, mut state)) = at_rest else { continue };
            state.end_idle(idle);
            if rested >= idle
                && !state.has_kernels()
                && let Err(error) = self.let_go(run, &mut state)
            {
                tracing::warn!(%run, error = %error.chain(), "the workspace of a run at rest could not be removed");
            }
        }
    }

    /// Lets go of all runs that are not at work.
    pub(super) fn let_go_all(&self) {
        let all = self.runs().all();
        for run in all {
            let at_rest = self.runs().at_rest(run);
            if let Some((_, mut state)) = at_rest
                && let Err(error) = self.let_go(run, &mut state)
            {
                tracing::warn!(%run, error = %error.chain(), "the workspace of a run at rest could not be removed");
            }
        }
    }

    pub(super) fn runs(&self) -> std::sync::MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use errand_core::Timestamp;

    fn run(number: u128) -> RunId {
        RunId::new(Timestamp::ZERO, number)
    }

    /// `.` here, `x` full, a number: after that run.
    fn take(runs: &mut Runs, number: u128, tenant: &str, room: Room) -> String {
        match runs.take(run(number), &tenant.parse().unwrap(), room) {
            Taken::Here => ".".to_owned(),
            Taken::Full => "x".to_owned(),
            Taken::After(other, _) => (1..100).find(|of| run(*of) == other).unwrap().to_string(),
        }
    }

    #[test]
    fn who_comes_when_all_is_full_waits_for_the_longest_at_rest() {
        let room = Room { sessions: 3, sessions_per_tenant: 2 };
        let mut runs = Runs::default();
        for (number, tenant) in [(1, "a"), (2, "a"), (3, "b"), (1, "a")] {
            assert_eq!(take(&mut runs, number, tenant, room), ".");
        }
        assert_eq!(take(&mut runs, 4, "c", room), "1");
        runs.touch(run(1));
        assert_eq!(take(&mut runs, 4, "c", room), "2");
        assert_eq!(take(&mut runs, 4, "a", room), "2", "its own make way where it has too many");
        let busy = [1, 2].map(|number| runs.0[&run(number)].turn().unwrap());
        assert_eq!(take(&mut runs, 4, "c", room), "3");
        assert_eq!(take(&mut runs, 4, "a", room), "x", "another tenant's does not make way for its");
        drop(busy);
        runs.remove(run(3));
        assert_eq!(take(&mut runs, 4, "c", room), ".");
        assert_eq!((runs.has(run(4)), runs.has(run(3))), (true, false));
    }
}
