//! What the routes work with.

use crate::Failure;
use crate::catalog::Catalog;
use crate::feed::Feed;
use errand_core::{RunId, RunLog, Timestamp};
use errand_engine::Driver;
use errand_engine::ports::{Blobs, Store, World};
use errand_keys::{Gate, Principal};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The ports behind the routes, and their bounds.
pub struct Parts {
    /// Carries runs forward.
    pub driver: Driver,
    /// Where runs are kept: for lists.
    pub store: Arc<dyn Store>,
    /// Where images are kept.
    pub blobs: Arc<dyn Blobs>,
    /// Time and entropy.
    pub world: Arc<dyn World>,
    /// What names stand for.
    pub catalog: Arc<dyn Catalog>,
    /// What happens just now.
    pub feed: Feed,
    /// Who is let in.
    pub gate: Gate,
    /// Whether runs are being carried on here.
    pub health: Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest body, in bytes. Longer: `body_too_large`.
    pub body_bytes: u64,
    /// Longest time for a whole body. Longer: `body_too_slow`.
    pub body: Duration,
    /// Longest pause within a body. Longer: `body_too_slow`.
    pub body_idle: Duration,
    /// Longest time until a request's head is there. Longer: the connection is closed.
    pub head: Duration,
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// How long a plain request waits for its run before it is answered as the run stands.
    pub wait: Duration,
    /// How often a stream on which nothing happens shows that it is alive.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            body: Duration::from_secs(60),
            body_idle: Duration::from_secs(15),
            head: Duration::from_secs(10),
            connections: 512,
            // Clients give up after ten minutes unless they are told otherwise (openai-python 3.52.0).
            wait: Duration::from_secs(570),
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// What every route is given. Clones share everything.
#[derive(Clone)]
pub struct Api {
    parts: Arc<Parts>,
    stopping: watch::Receiver<bool>,
    /// Requests with a key that says they are the same take turns, so that two at a time cannot miss each other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// Tells the routes to come to an end.
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Streams end, waiting requests are answered, no connection is accepted any longer.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Api {
    /// The routes' state, and what ends it.
    pub fn new(parts: Parts) -> (Self, Stop) {
        let (sender, stopping) = watch::channel(false);
        (Self { parts: Arc::new(parts), stopping, turn: Arc::default() }, Stop(sender))
    }

    /// Ends when the server is asked to stop.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // Without anybody who could ask, it goes on for ever.
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.now()
    }

    pub(crate) fn new_run(&self) -> RunId {
        RunId::new(self.world.now(), self.world.entropy())
    }

    /// A run of whoever asks. One of another tenant is as if it were not there.
    pub(crate) async fn load(&self, who: &Principal, run: RunId) -> Result<RunLog, errand_engine::Error> {
        let log = self.driver.load(run).await?;
        if log.run.config.tenant == who.tenant { Ok(log) } else { Err(errand_engine::Error::UnknownRun { run }) }
    }

    /// The same for whoever asked a while ago, and whose key may have been revoked since.
    pub(crate) async fn reload(&self, who: &Principal, run: RunId) -> Result<RunLog, Failure> {
        self.gate.readmit(who, self.now()).await?;
        Ok(self.load(who, run).await?)
    }
}

/// What a caller is told whose request is cut short because the server stops.
pub(crate) fn stopping(what: &str) -> Failure {
    Failure::new(503, "server_stopping", format!("the server is stopping; {what} goes on when it is started again"))
}
