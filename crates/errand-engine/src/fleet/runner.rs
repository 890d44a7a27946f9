use super::{Alive, Fleet, Held, Kept, RUNNERS, SCHEMA, SESSIONS, name, read, written};
use crate::ports::{Inbox, PortError};
use errand_core::{CallId, Nonce, RunId, Snapshot, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often a claim is tried while others claim the same.
const ATTEMPTS: usize = 4;

/// One runner's part in the fleet.
pub struct Runner {
    fleet: Fleet,
    id: String,
    by: Nonce,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What its last heartbeat wrote.
    alive: Option<(Timestamp, Vec<u8>)>,
    sessions: HashMap<RunId, Session>,
}

/// A session that it claimed.
#[derive(Clone)]
struct Session {
    /// As it stands in the heads.
    bytes: Vec<u8>,
    held: Held,
    /// Nobody can have taken it since.
    is_sure: bool,
}

/// Who holds a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This runner, from now on or since before.
    Mine {
        /// From now on.
        is_new: bool,
    },
    /// Another runner, which is alive.
    Of(String),
}

impl Runner {
    /// Takes part as `id`, which no runner before had: makes its queue and tells that it is alive.
    ///
    /// # Errors
    /// Those of the queue and of heads; [`PortError::Broken`] if another runner is alive under that id.
    pub async fn start(fleet: Fleet, id: &str) -> Result<(Arc<Self>, Arc<dyn Inbox>), PortError> {
        let runner = Self { by: fleet.world.nonce(), fleet, id: id.to_owned(), state: Mutex::default() };
        let inbox = runner.fleet.queues.make(id).await?;
        if !runner.beat().await? {
            let message = format!("another runner is alive as {id}: give each an id of its own");
            return Err(PortError::Broken { code: "runner_taken", message });
        }
        Ok((Arc::new(runner), inbox))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How often [`Runner::beat`] is to be called, in milliseconds.
    pub fn beat_ms(&self) -> u64 {
        self.fleet.settings.alive_ms / 3
    }

    /// Tells that it is alive. False if it was held for dead meanwhile: it has no session any longer, and what it still has of
    /// them must go; it is alive again from now on.
    ///
    /// # Errors
    /// Those of heads. Until one succeeds it may be held for dead.
    pub async fn beat(&self) -> Result<bool, PortError> {
        let before = self.lock().alive.clone();
        let now = self.fleet.world.now();
        let until = now.plus(self.fleet.settings.alive_ms);
        let bytes = written(&Alive { schema: SCHEMA, by: self.by, until });
        let name = name(RUNNERS, &self.id);
        let expected = before.as_ref().map(|(_, bytes)| &**bytes);
        let mut is_told = self.fleet.heads.replace(&name, expected, &bytes).await?;
        let mut was_buried = false;
        if !is_told {
            let found = self.fleet.heads.read(&name).await?;
            match found.as_deref().map(|bytes| read::<Alive>(bytes).is_some_and(|alive| alive.by == self.by)) {
                // The answer to a heartbeat before was lost.
                Some(true) => {}
                Some(false) => return Ok(false),
                None => was_buried = before.is_some(),
            }
            if was_buried {
                self.fleet.queues.make(&self.id).await?;
            }
            is_told = self.fleet.heads.replace(&name, found.as_deref(), &bytes).await?;
        }
        let mut state = self.lock();
        // Others may have held it for dead in between, and taken sessions.
        if before.is_none_or(|(until, _)| until <= now) {
            state.sessions.values_mut().for_each(|session| session.is_sure = false);
        }
        if is_told {
            state.alive = Some((until, bytes));
        }
        if was_buried {
            state.sessions.clear();
        }
        Ok(is_told && !was_buried)
    }

    /// Claims the session of a run. One that is held here already costs nothing.
    ///
    /// # Errors
    /// Those of heads.
    pub async fn claim(&self, run: RunId) -> Result<Claim, PortError> {
        if self.is_surely_mine(run) {
            return Ok(Claim::Mine { is_new: false });
        }
        let name = name(SESSIONS, &run.to_string());
        for _ in 0..ATTEMPTS {
            let found = self.fleet.heads.read(&name).await?;
            let held = found.as_deref().and_then(read::<Held>);
            match &held {
                Some(held) if held.runner == self.id => {
                    self.hold(run, found.unwrap_or_default(), held.clone());
                    return Ok(Claim::Mine { is_new: false });
                }
                Some(held) if self.fleet.is_runner_alive(&held.runner).await? => return Ok(Claim::Of(held.runner.clone())),
                _ => {}
            }
            let kept = held.and_then(|held| held.kept);
            let mine = Held { schema: SCHEMA, runner: self.id.clone(), since: self.fleet.world.now(), kept };
            let bytes = written(&mine);
            if self.fleet.heads.replace(&name, found.as_deref(), &bytes).await? {
                self.hold(run, bytes, mine);
                return Ok(Claim::Mine { is_new: true });
            }
        }
        Err(PortError::Retry { message: format!("the session of {run} is claimed by many at the same time") })
    }

    /// Where a call begins that its run would begin at `given`; see [`Kept`].
    pub(super) fn start_of(&self, run: RunId, call: CallId, given: Option<Snapshot>) -> Option<Snapshot> {
        let kept = self.lock().sessions.get(&run).and_then(|session| session.held.kept.clone());
        kept.map_or(given, |kept| kept.start(call, given))
    }

    /// Makes `kept` the files of a session. False if another runner has the session: what is here does not count.
    ///
    /// # Errors
    /// Those of heads: nobody knows whether it counts.
    pub async fn advance(&self, run: RunId, kept: Kept) -> Result<bool, PortError> {
        let session = self.lock().sessions.get(&run).cloned();
        let Some(Session { bytes, held, .. }) = session else { return Ok(false) };
        let next = Held { kept: Some(kept), ..held };
        let (name, next_bytes) = (name(SESSIONS, &run.to_string()), written(&next));
        let is_told = self.fleet.heads.replace(&name, Some(&bytes), &next_bytes).await;
        // The answer may be lost, and the write done.
        let is_told = match is_told {
            Ok(true) => true,
            _ => self.fleet.heads.read(&name).await?.as_deref() == Some(&*next_bytes),
        };
        if is_told {
            self.hold(run, next_bytes, next);
        }
        Ok(is_told)
    }

    /// Lets go of the sessions of runs that `is_here` does not know any longer.
    ///
    /// # Errors
    /// Those of heads; what is left is for the next time.
    pub async fn keep_only(&self, is_here: impl Fn(RunId) -> bool) -> Result<(), PortError> {
        let gone: Vec<RunId> = self.lock().sessions.keys().copied().filter(|run| !is_here(*run)).collect();
        for run in gone {
            self.release(run).await?;
        }
        Ok(())
    }

    /// Lets go of the session of a run, if it holds it: the next call goes to any runner.
    ///
    /// # Errors
    /// Those of heads.
    pub async fn release(&self, run: RunId) -> Result<(), PortError> {
        let held = self.lock().sessions.get(&run).map(|session| session.bytes.clone());
        let Some(held) = held else { return Ok(()) };
        // False if another has it by now.
        self.fleet.heads.remove(&name(SESSIONS, &run.to_string()), &held).await?;
        self.lock().sessions.remove(&run);
        Ok(())
    }

    /// Leaves the fleet: nobody sends it anything from now on, its sessions are free, what waits in its queue goes to all.
    /// Nothing of it may be under way any longer.
    ///
    /// # Errors
    /// The first of those met. Others hold it for dead soon, and do the rest.
    pub async fn leave(&self) -> Result<(), PortError> {
        let alive = self.lock().alive.take();
        if let Some((_, bytes)) = alive {
            self.fleet.heads.remove(&name(RUNNERS, &self.id), &bytes).await?;
        }
        self.keep_only(|_| false).await?;
        self.fleet.queues.dissolve(&self.id, &*self.fleet.shared).await
    }

    fn hold(&self, run: RunId, bytes: Vec<u8>, held: Held) {
        self.lock().sessions.insert(run, Session { bytes, held, is_sure: true });
    }

    /// True if nobody can hold this runner for dead yet, however wrong a clock is within the margin, and could not since it
    /// claimed the session.
    fn is_surely_mine(&self, run: RunId) -> bool {
        let now = self.fleet.world.now();
        let state = self.lock();
        let is_alive = state.alive.as_ref().is_some_and(|(until, _)| now < *until);
        is_alive && state.sessions.get(&run).is_some_and(|session| session.is_sure)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
