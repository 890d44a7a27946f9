//! Runners as a fleet: who is alive, who holds the session of a run, and how a call finds its way there.
//!
//! Reading order: [`Fleet`] (what everybody sees of it; as a [`Queue`] it sends calls where they belong), [`Runner`] (one
//! runner's part), [`RunnerTools`] (tools that take calls of sessions which are this runner's alone).
//!
//! All of it stands in two kinds of [`Heads`]: `runner.ID` says until when a runner is certainly alive, `session.RUN` says
//! which runner holds a run's session. One heartbeat keeps all sessions of a runner. Nothing is *right* because of it: calls are
//! fenced and records conditional, whoever carries them out. It makes calls of one run meet the kernels of those before; and of
//! two runners that both believe they hold a session, one is told that it does not before its files count.

mod runner;
#[cfg(test)]
mod tests;

mod tools;

pub use runner::{Claim, Runner};
pub use tools::RunnerTools;

use crate::error::Error;
use crate::ports::{Heads, Message, PortError, Queue, RunnerQueues, Scale, World, is_head_part};
use async_trait::async_trait;
use errand_core::{CallId, Nonce, RunId, Snapshot, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const RUNNERS: &str = "runner";
const SESSIONS: &str = "session";
/// Objects listed at a time.
const PAGE: usize = 100;

/// How long runners live without a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSettings {
    /// A heartbeat is good for so long, in milliseconds. Runners send one in a third of it.
    pub alive_ms: u64,
    /// How wrong two clocks may be against each other, in milliseconds: so much later others hold a runner for dead.
    pub margin_ms: u64,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self { alive_ms: 30_000, margin_ms: 10_000 }
    }
}

/// What everybody sees of the runners. Clones share everything.
#[derive(Clone)]
pub struct Fleet {
    heads: Arc<dyn Heads>,
    queues: Arc<dyn RunnerQueues>,
    shared: Arc<dyn Queue>,
    scale: Option<Arc<dyn Scale>>,
    world: Arc<dyn World>,
    settings: FleetSettings,
}

/// `runner.ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Alive {
    schema: u32,
    /// Which process it is: an id may be taken again by mistake.
    by: Nonce,
    /// It is alive until then.
    until: Timestamp,
}

/// `session.RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    schema: u32,
    /// Who holds it, while it is alive.
    runner: String,
    since: Timestamp,
    /// Its files, also before the call that left them so has a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

/// The files of a session as the last call left them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// That call.
    pub by: CallId,
    /// How it found them.
    pub before: Option<Snapshot>,
    /// How it left them.
    pub after: Snapshot,
}

impl Kept {
    /// Where a call of the session begins that the run would begin at `given`: where the last one ended. That one itself, when
    /// it is carried out again because its runner died before it had a result, begins where it began.
    fn start(&self, call: CallId, given: Option<Snapshot>) -> Option<Snapshot> {
        match given < Some(self.after) {
            true if self.by == call => self.before,
            true => Some(self.after),
            false => given,
        }
    }
}

const SCHEMA: u32 = 1;

/// A session and who holds it, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose session.
    pub run: RunId,
    /// Who holds it.
    pub runner: String,
    /// Since when.
    pub since: Timestamp,
}

impl Fleet {
    /// Over the places where runners and sessions are kept, their queues, and the queue that all of them share.
    pub fn new(
        heads: Arc<dyn Heads>,
        queues: Arc<dyn RunnerQueues>,
        shared: Arc<dyn Queue>,
        world: Arc<dyn World>,
        settings: FleetSettings,
    ) -> Self {
        Self { heads, queues, shared, scale: None, world, settings }
    }

    /// With somebody who brings a runner up where none is alive.
    pub fn with_scale(self, scale: Arc<dyn Scale>) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// Runners that are alive, by name.
    ///
    /// # Errors
    /// Those of reading heads.
    pub async fn runners(&self) -> Result<Vec<String>, PortError> {
        Ok(self.all_runners().await?.into_iter().filter(|(_, alive)| self.is_alive(alive)).map(|(id, _)| id).collect())
    }

    /// Sessions that somebody holds, or held until it died.
    ///
    /// # Errors
    /// Those of reading heads.
    pub async fn leases(&self) -> Result<Vec<Lease>, PortError> {
        let held = self.all::<Held>(SESSIONS).await?.into_iter();
        Ok(held
            .filter_map(|(run, _, held)| Some(Lease { run: run.parse().ok()?, runner: held.runner, since: held.since }))
            .collect())
    }

    /// Looks after what dead runners left: their sessions are free and `revive` looks after each run, so that calls they had
    /// in hand are sent again; their queues go. Returns how many there were.
    ///
    /// # Errors
    /// The first of those met; what is left is for the next time.
    pub async fn bury<R: Future<Output = Result<(), Error>>>(&self, revive: impl Fn(RunId) -> R) -> Result<usize, Error> {
        let (alive, dead): (Vec<_>, Vec<_>) =
            self.all::<Alive>(RUNNERS).await?.into_iter().partition(|(_, _, alive)| self.is_alive(alive));
        for (run, bytes, held) in self.all::<Held>(SESSIONS).await? {
            if alive.iter().any(|(id, ..)| *id == held.runner) {
                continue;
            }
            let is_free = self.heads.remove(&name(SESSIONS, &run), &bytes).await?;
            if is_free && let Ok(run) = run.parse() {
                revive(run).await?;
            }
        }
        for (id, bytes, _) in &dead {
            tracing::warn!(runner = %id, "a runner is dead; its queue is taken away");
            self.queues.dissolve(id, &*self.shared).await?;
            // Last: whoever dies before this leaves it to the next.
            self.heads.remove(&name(RUNNERS, id), bytes).await?;
        }
        Ok(dead.len())
    }

    /// The runner that holds a run's session, if it is alive.
    async fn holder(&self, run: RunId) -> Result<Option<String>, PortError> {
        let Some(bytes) = self.heads.read(&name(SESSIONS, &run.to_string())).await? else { return Ok(None) };
        let Some(held) = read::<Held>(&bytes) else { return Ok(None) };
        Ok(self.is_runner_alive(&held.runner).await?.then_some(held.runner))
    }

    async fn is_runner_alive(&self, id: &str) -> Result<bool, PortError> {
        if !is_head_part(id) {
            return Ok(false);
        }
        let bytes = self.heads.read(&name(RUNNERS, id)).await?;
        Ok(bytes.and_then(|bytes| read::<Alive>(&bytes)).is_some_and(|alive| self.is_alive(&alive)))
    }

    fn is_alive(&self, alive: &Alive) -> bool {
        self.world.now() <= alive.until.plus(self.settings.margin_ms)
    }

    async fn all_runners(&self) -> Result<Vec<(String, Alive)>, PortError> {
        Ok(self.all::<Alive>(RUNNERS).await?.into_iter().map(|(id, _, alive)| (id, alive)).collect())
    }

    /// All objects of a kind: what follows the kind in their names, their bytes, what these say. Others are left out.
    async fn all<T: Schema>(&self, kind: &str) -> Result<Vec<(String, Vec<u8>, T)>, PortError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.heads.list(kind, after.as_deref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(name, _)| name.clone());
            all.extend(page.into_iter().filter_map(|(name, bytes)| {
                let rest = name.split_once('.')?.1.to_owned();
                let said = read::<T>(&bytes)?;
                Some((rest, bytes, said))
            }));
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Brings a runner up if none is alive.
    async fn wake(&self) -> Result<(), PortError> {
        match &self.scale {
            Some(scale) if self.runners().await?.is_empty() => scale.raise().await,
            _ => Ok(()),
        }
    }
}

/// Sends calls for runners to the one that holds the session, if it is alive, else to the queue that all share.
#[async_trait]
impl Queue for Fleet {
    async fn send(&self, message: Message) -> Result<(), PortError> {
        let Message::Call { run, sandbox: true, .. } = message else { return self.shared.send(message).await };
        if let Some(runner) = self.holder(run).await?
            && self.queues.send(&runner, &message).await?
        {
            return Ok(());
        }
        self.shared.send(message).await?;
        // After it was sent: the call is not lost if nobody can be brought up now, and sweep sends it again.
        self.wake().await
    }
}

/// What objects of the fleet have in common: versions that are not ours are left alone.
trait Schema: for<'de> Deserialize<'de> + Serialize {
    fn schema(&self) -> u32;
}

impl Schema for Alive {
    fn schema(&self) -> u32 {
        self.schema
    }
}

impl Schema for Held {
    fn schema(&self) -> u32 {
        self.schema
    }
}

fn read<T: Schema>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok().filter(|said: &T| said.schema() == SCHEMA)
}

fn written<T: Schema>(said: &T) -> Vec<u8> {
    serde_json::to_vec(said).expect("numbers and names always have a JSON form")
}

fn name(kind: &str, rest: &str) -> String {
    format!("{kind}.{rest}")
}
