//! The engine of a case: the real driver over the real store, one message at a time, stopped and started at will.

use super::format::Case;
use super::stage::{BUSY, Clock, PARKED, Passed, STANDING, Stage};
use errand_core::{RunId, RunLog};
use errand_engine::ports::{Delivery, Inbox, Message, PortError, Queue, RunFilter, Store, World};
use errand_engine::{Adapters, Disposition, Driver, Error, Settings};
use errand_store_local::{DataFolder, LocalInbox, LocalQueue, Mode, QueueLimits};
use futures::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Most messages handled at one time of the clock: more means that they go round in circles.
const MESSAGES_MAX: u32 = 2_000;

/// How the engine is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// A record per message, as on AWS.
    Plain,
    /// The same, stopped and started again after every message that changed something.
    Restless,
    /// As many records per message as there are, as on a laptop.
    Laptop,
}

impl Manner {
    fn settings(self) -> Settings {
        let records_per_message = if self == Manner::Laptop { 1_000 } else { 1 };
        // Workers stand where the clock of these worlds left them until their call is over.
        Settings { records_per_message, look_ms: 0, ..Settings::default() }
    }
}

/// The engine with its data folder and the world outside.
pub(super) struct Engine {
    pub(super) stage: Stage,
    home: TempDir,
    process: Option<Process>,
    flights: Vec<Flight>,
    manner: Manner,
    pub(super) restarts: u32,
    changes: usize,
}

/// What dies with a process.
struct Process {
    driver: Driver,
    folder: DataFolder,
    queue: LocalQueue,
}

/// A message in the hands of a worker.
struct Flight {
    inbox: Arc<LocalInbox>,
    delivery: Delivery,
    standing: Arc<AtomicU8>,
    task: JoinHandle<Result<Disposition, Error>>,
}

impl Flight {
    fn is_busy(&self) -> bool {
        !self.task.is_finished() && self.standing.load(Ordering::Relaxed) == BUSY
    }
}

/// The real queue, with a note of when its messages are due.
struct Noted {
    queue: LocalQueue,
    clock: Arc<Clock>,
}

#[async_trait::async_trait]
impl Queue for Noted {
    async fn send(&self, message: Message) -> Result<(), PortError> {
        self.clock.may_hold().await;
        message.not_before().inspect(|at| self.clock.note(*at));
        self.queue.send(message).await
    }
}

impl Process {
    fn start(stage: &Stage, home: &TempDir, manner: Manner) -> Self {
        let world = Arc::clone(&stage.clock) as Arc<dyn World>;
        let mode = Mode::Own { command: "a case".to_owned() };
        let folder = DataFolder::open(home.path(), mode, Arc::clone(&world)).unwrap();
        let queue = LocalQueue::new(Arc::clone(&world), QueueLimits::default());
        let adapters = Adapters {
            store: Arc::clone(folder.store()) as Arc<dyn Store>,
            queue: Arc::new(Noted { queue: queue.clone(), clock: Arc::clone(&stage.clock) }),
            models: Arc::clone(&stage.models) as _,
            tools: Arc::clone(&stage.tools) as _,
            world,
            watch: Arc::new(()),
        };
        Self { driver: Driver::new(adapters, manner.settings()), folder, queue }
    }
}

impl Engine {
    pub(super) fn start(case: &Case, manner: Manner) -> Self {
        let home = tempfile::tempdir().unwrap();
        let stage = Stage::of(case);
        let process = Some(Process::start(&stage, &home, manner));
        Self { stage, home, process, flights: Vec::new(), manner, restarts: 0, changes: 0 }
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("a process that ends is followed by another")
    }

    /// What is asked from outside is asked of this.
    pub(super) fn driver(&self) -> Driver {
        self.process().driver.clone()
    }

    /// Handles messages until none is due at this time.
    pub(super) async fn work(&mut self) {
        for _ in 0..MESSAGES_MAX {
            if !self.step().await {
                return;
            }
        }
        panic!("messages go on and on at the same time");
    }

    /// Handles one message. False if none is due.
    pub(super) async fn step(&mut self) -> bool {
        let queue = &self.process().queue;
        for inbox in [Arc::clone(queue.steps()), Arc::clone(queue.calls())] {
            let Some(delivery) = inbox.receive().now_or_never() else { continue };
            self.take(inbox, delivery.expect("nobody closes the queue"));
            self.settle().await;
            return true;
        }
        false
    }

    fn take(&mut self, inbox: Arc<LocalInbox>, delivery: Delivery) {
        let clock = Arc::clone(&self.stage.clock);
        clock.note(delivery.hidden_until);
        let (driver, at_hand) = (self.driver(), delivery.clone());
        let standing = Arc::new(AtomicU8::new(BUSY));
        let handle = async move {
            let dead = at_hand.receives > Settings::default().receives;
            let handled = if dead { driver.dead_letter(&at_hand).await } else { driver.handle(&at_hand).await };
            clock.quiet.notify_one();
            handled
        };
        let task = tokio::spawn(STANDING.scope(Arc::clone(&standing), handle));
        self.flights.push(Flight { inbox, delivery, standing, task });
    }

    /// Lets time pass, and handles what becomes due on the way.
    pub(super) async fn wait(&mut self, millis: u64) {
        let end = self.stage.clock.steady() + millis;
        self.work().await;
        while self.stage.clock.advance(end) != Passed::End {
            self.settle().await;
            self.work().await;
        }
        self.work().await;
    }

    /// Waits until every worker is done with its message or waits for a model or a tool. To be called also after an act
    /// from outside, which may have stopped some.
    pub(super) async fn settle(&mut self) {
        for flight in &self.flights {
            let last = self.process().folder.store().last(flight.delivery.message.run()).await.unwrap();
            if last.is_some_and(|last| last.head.status.is_ended()) {
                let _ = flight.standing.compare_exchange(PARKED, BUSY, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        while self.flights.iter().any(Flight::is_busy) {
            self.stage.clock.quiet.notified().await;
        }
        let (ended, waiting) = std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.task.is_finished());
        self.flights = waiting;
        for flight in ended {
            self.end(flight).await;
        }
        if self.manner == Manner::Restless && self.flights.is_empty() && self.changed().await {
            self.restart().await;
        }
    }

    /// What a worker does with a message it has handled.
    async fn end(&mut self, flight: Flight) {
        let Flight { inbox, delivery, task, .. } = flight;
        match task.await.unwrap() {
            Ok(Disposition::Acknowledge) => inbox.ack(&delivery).await,
            Ok(Disposition::GiveBack(at)) => {
                self.stage.clock.note(at);
                inbox.give_back(&delivery, at).await;
            }
            Err(error) => panic!("{:?}: {error}", delivery.message),
        }
    }

    async fn changed(&mut self) -> bool {
        let now: usize = self.logs().await.iter().map(|log| log.records.len() + log.items.len()).sum();
        std::mem::replace(&mut self.changes, now) != now
    }

    /// All runs there are, with their records and items.
    pub(super) async fn logs(&self) -> Vec<RunLog> {
        let page = self.process().folder.store().list(&RunFilter { limit: 1_000, ..RunFilter::default() }).await.unwrap();
        let mut logs = Vec::new();
        for summary in page.runs {
            logs.push(self.load(summary.run).await);
        }
        logs
    }

    /// A run with its records and items.
    pub(super) async fn load(&self, run: RunId) -> RunLog {
        self.process().driver.load(run).await.unwrap()
    }

    /// Stops in good order and starts again.
    pub(super) async fn restart(&mut self) {
        self.process().driver.hand_back();
        for flight in std::mem::take(&mut self.flights) {
            flight.task.await.unwrap().unwrap();
        }
        self.process().folder.close().await.unwrap();
        self.start_again().await;
    }

    /// Dies at once, with all that is under way, and starts again.
    pub(super) async fn crash(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            flight.task.abort();
            let _ = flight.task.await;
        }
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        self.restarts += 1;
        // The folder is locked until the old process is gone.
        self.process = None;
        let process = Process::start(&self.stage, &self.home, self.manner);
        for run in process.folder.store().unfinished().await.unwrap() {
            process.driver.revive(run).await.unwrap();
        }
        self.process = Some(process);
    }

    /// Looks after runs that are overdue.
    pub(super) async fn sweep(&mut self) {
        self.driver().sweep(100).await.unwrap();
        self.work().await;
    }
}
