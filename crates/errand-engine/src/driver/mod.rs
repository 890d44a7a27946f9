//! The one driver: load, decide, claim, perform, commit, dispatch. See ADR 0005 for each rule's reason.

mod call;
mod claim;
mod dispatch;
mod in_flight;
mod outside;
mod perform;
mod step;
mod sweep;

pub use outside::{Cancellation, ForkOptions};

use crate::bugs::Bugs;
use crate::error::Error;
use crate::ports::{Delivery, Loaded, Message, Models, Queue, Store, Tools, Watch, World};
use errand_core::{ModelChoice, RunId, RunLog, Timestamp};
use in_flight::InFlight;
use std::sync::Arc;

/// Times and bounds of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Hard time-out of one message in a worker, in milliseconds. Work that may not fit is not begun.
    pub step_ms: u64,
    /// Time beyond its time-out after which a worker is certainly dead, in milliseconds.
    pub margin_ms: u64,
    /// How far ahead an entry in the due index is set, in milliseconds. Longer than a message is hidden.
    pub lease_ms: u64,
    /// How far ahead the entry of a new run is set, in milliseconds: the time for its first message to be sent and
    /// handled. Where that many is more than half of `lease_ms`, the first worker leaves the entry as it is.
    pub begin_ms: u64,
    /// How long a message that came too early is put off, in milliseconds.
    pub early_ms: u64,
    /// Records one message may lead to before the next one is sent.
    pub records_per_message: u32,
    /// Deliveries of a message before it counts as dead.
    pub receives: u32,
    /// How often a call under way looks whether another process has stopped its run, in milliseconds; 0: never, where all
    /// that stops runs happens in this process.
    pub look_ms: u64,
}

impl Settings {
    /// Of a worker among others, under a time-out of its own.
    pub const DEFAULT: Self = Self {
        step_ms: 300_000,
        margin_ms: 10_000,
        lease_ms: 900_000,
        begin_ms: 0,
        early_ms: 1_000,
        records_per_message: 1,
        receives: 5,
        look_ms: 10_000,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What becomes of a message after it was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is done with.
    Acknowledge,
    /// It goes back and comes again then.
    GiveBack(Timestamp),
}

/// Carries runs forward. Clones share everything.
#[derive(Clone)]
pub struct Driver {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) models: Arc<dyn Models>,
    pub(crate) tools: Arc<dyn Tools>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) settings: Settings,
    pub(crate) bugs: Bugs,
    in_flight: Arc<InFlight>,
}

/// The adapters a driver works with.
pub struct Adapters {
    /// Where runs are kept.
    pub store: Arc<dyn Store>,
    /// What carries messages.
    pub queue: Arc<dyn Queue>,
    /// What thinks.
    pub models: Arc<dyn Models>,
    /// What acts.
    pub tools: Arc<dyn Tools>,
    /// Time and entropy.
    pub world: Arc<dyn World>,
    /// Who looks on.
    pub watch: Arc<dyn Watch>,
}

impl Driver {
    /// A driver over `adapters`.
    pub fn new(adapters: Adapters, settings: Settings) -> Self {
        let Adapters { store, queue, models, tools, world, watch } = adapters;
        Self { store, queue, models, tools, world, watch, settings, bugs: Bugs::default(), in_flight: Arc::default() }
    }

    /// The same driver with a bug planted.
    #[cfg(feature = "bugs")]
    pub fn with_bugs(self, bugs: Bugs) -> Self {
        Self { bugs, ..self }
    }

    /// Handles one message. An error means that it must be delivered again.
    pub async fn handle(&self, delivery: &Delivery) -> Result<Disposition, Error> {
        let now = self.world.now();
        if let Some(time) = delivery.message.not_before().filter(|time| *time > now) {
            if !self.bugs.has(crate::bugs::Bug::TimerAcknowledgedEarly) {
                self.queue.send(delivery.message.at(time)).await?;
            }
            return Ok(Disposition::Acknowledge);
        }
        match delivery.message {
            Message::Step { run, record, .. } => self.step(delivery, run, record).await,
            Message::Call { run, call, .. } => self.call(delivery, run, call).await,
        }
    }

    /// Begins nothing new in this process: messages go back, what is under way may end.
    pub fn wind_down(&self) {
        self.in_flight.wind_down();
    }

    /// Stops what is under way here so that another process can take it over: model calls are booked as spent but
    /// unconfirmed, calls to tools are left without a result. Nothing new begins.
    pub fn hand_back(&self) {
        self.in_flight.wind_down();
        self.in_flight.stop_all();
    }

    /// The run with all its records and items.
    pub async fn load(&self, run: RunId) -> Result<RunLog, Error> {
        Ok(self.loaded(run).await?.log)
    }

    /// True if this process has the model that a run was begun with: by the same name, at the same endpoint. What was
    /// said to one is never sent to another because a name or a setting changed in between.
    pub fn serves(&self, model: &ModelChoice) -> bool {
        match (&model.endpoint, self.models.facts(&model.name)) {
            (None, _) => true,
            (Some(endpoint), Ok(facts)) => facts.endpoint.as_ref() == Some(endpoint),
            (Some(_), Err(_)) => false,
        }
    }

    /// True if this process has the tools that a run was begun with.
    pub fn has_tools(&self, tools: &[errand_core::ToolSpec]) -> bool {
        // What a caller carries out is the caller's to have.
        let own = |tool: &&errand_core::ToolSpec| tool.executor != errand_core::Executor::Caller;
        self.tools.serves(&tools.iter().filter(own).cloned().collect::<Vec<_>>())
    }

    async fn loaded(&self, run: RunId) -> Result<Loaded, Error> {
        self.store.load(run).await?.ok_or(Error::UnknownRun { run })
    }

    /// The conversation of the thread before a run, oldest first, as far as no summary covers it.
    pub async fn history(&self, log: &RunLog) -> Result<Vec<errand_core::Message>, Error> {
        let mut parts = Vec::new();
        let mut before = log.started().history.clone();
        while let Some(history) = before {
            let earlier = self.load(history.run).await?.prefix(history.run, history.number)?;
            // A summary covers what came before it.
            before = earlier.started().history.clone().filter(|_| earlier.compacted().is_none());
            parts.push(earlier.conversation());
        }
        Ok(parts.into_iter().rev().flatten().collect())
    }

    async fn send_step(&self, run: RunId, record: u64, not_before: Option<Timestamp>) -> Result<(), Error> {
        Ok(self.queue.send(Message::Step { run, record, not_before }).await?)
    }
}
