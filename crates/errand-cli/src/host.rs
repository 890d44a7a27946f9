//! The composition root: builds the adapters over one data folder, carries runs on, and lets go in good order.

use crate::config::Config;
use crate::control::Control;
use crate::error::Error;
use crate::health::Reporting;
use crate::live::{Live, Sender};
use crate::memory;
use crate::steps;
use crate::toolbox::Toolbox;
use errand_core::{Due, Next, RunId, Status};
use errand_engine::ports::{Blobs, Models, Queue, Store, Watch, World};
use errand_engine::{Adapters, Driver, Settings, worker};
use errand_models::Providers;
use errand_store_local::{DataFolder, LocalQueue, LocalStore, Mode, QueueLimits, SystemWorld, WriterStats};
use errand_tools::OnImage;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

/// Steps carried out at a time: they wait for models most of the time.
const STEPS: usize = 32;
/// Tool calls carried out at a time: they take processor time.
const CALLS: usize = 8;
/// How often overdue runs are looked after.
const SWEEP: Duration = Duration::from_secs(5);
/// Overdue runs looked after at a time.
const SWEEP_RUNS: u32 = 100;
/// How long work under way may go on once the process is asked to stop.
const FINISH: Duration = Duration::from_millis(2_700);
/// How long handing back may take then.
const HAND_BACK: Duration = Duration::from_secs(1);

/// Everything that carries runs on, over a data folder that this process owns.
pub(crate) struct Host {
    pub(crate) folder: DataFolder,
    pub(crate) driver: Driver,
    pub(crate) models: Arc<Providers>,
    pub(crate) tools: Arc<Toolbox>,
    pub(crate) live: UnboundedReceiver<Live>,
    closely: Arc<AtomicBool>,
    queue: LocalQueue,
    workers: JoinSet<()>,
    working: Vec<AbortHandle>,
    sweeper: Option<AbortHandle>,
    control: Option<Control>,
}

impl Host {
    /// Takes the data folder and builds the adapters. Nothing is carried on yet.
    pub(crate) fn open(config: &Config, command: &str) -> Result<Self, Error> {
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let models = providers(config)?;
        let folder = DataFolder::open(&config.data, Mode::Own { command: command.to_owned() }, Arc::clone(&world))?;
        let models = Arc::new(models.with_blobs(Arc::clone(folder.blobs()) as Arc<dyn Blobs>));
        let queue = LocalQueue::new(Arc::clone(&world), QueueLimits::default());
        let (sender, live) = unbounded_channel();
        let tools = Arc::new(Toolbox::new(config, folder.blobs(), on_image(&sender))?);
        let closely = Arc::new(AtomicBool::new(true));
        let adapters = Adapters {
            store: Arc::new(Reporting { store: Arc::clone(folder.store()) as _, sender: sender.clone() }) as Arc<dyn Store>,
            queue: Arc::new(queue.clone()) as Arc<dyn Queue>,
            models: Arc::clone(&models) as Arc<dyn Models>,
            tools: tools.tools(),
            world,
            watch: Arc::new(Sender::new(sender, Arc::clone(&closely))) as Arc<dyn Watch>,
        };
        let driver = Driver::new(adapters, settings());
        Ok(Self {
            folder,
            driver,
            models,
            tools,
            live,
            closely,
            queue,
            workers: JoinSet::new(),
            working: Vec::new(),
            sweeper: None,
            control: None,
        })
    }

    /// Begins to carry runs on: workers, the sweep, the control socket. Unfinished runs are taken up again.
    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        let (steps, calls) = (Arc::clone(self.queue.steps()) as _, Arc::clone(self.queue.calls()) as _);
        let steps = self.workers.spawn(steps::serve(self.driver.clone(), steps, STEPS)?);
        let calls = self.workers.spawn(worker::serve(self.driver.clone(), calls, CALLS));
        self.working = vec![steps, calls];
        match Control::serve(self.folder.path(), self.driver.clone()) {
            Ok(control) => self.control = Some(control),
            Err(error) => tracing::warn!(%error, "no control socket: other processes cannot decide on these runs"),
        }
        for run in self.unfinished().await? {
            // What is said in a run goes to the model and the endpoint it was begun with, and to no other.
            if let Ok(log) = self.driver.load(run).await
                && !self.driver.serves(log.run.model())
            {
                tracing::warn!(%run, model = log.run.model().name, "left alone: its model is not to be had with these settings");
                continue;
            }
            if let Ok(log) = self.driver.load(run).await
                && !self.driver.has_tools(&log.run.config.tools)
            {
                tracing::warn!(%run, "left alone: its tools are not to be had with these settings");
                continue;
            }
            // A run that is damaged, or that a newer version wrote, does not keep the others from going on.
            if let Err(error) = self.driver.revive(run).await {
                tracing::warn!(%run, code = error.code(), %error, "an unfinished run cannot be carried on");
            }
        }
        let store = Arc::clone(self.folder.store());
        self.sweeper = Some(tokio::spawn(sweep(self.driver.clone(), self.queue.clone(), store)).abort_handle());
        Ok(())
    }

    /// For whoever only wants to know when runs end or wait: the rest is not told any longer.
    pub(crate) fn look_from_afar(&self) {
        self.closely.store(false, Ordering::Relaxed);
    }

    /// Tells whether the workers that [`Host::start`] started are all at work.
    pub(crate) fn working(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let working = self.working.clone();
        move || !working.is_empty() && working.iter().all(|worker| !worker.is_finished())
    }

    /// Runs that have not ended.
    pub(crate) async fn unfinished(&self) -> Result<Vec<RunId>, Error> {
        Ok(self.folder.store().unfinished().await?)
    }

    /// Runs among them that can go on without a person: those that can here, and those that cannot with these settings.
    pub(crate) async fn able(&self) -> Result<(Vec<RunId>, Vec<RunId>), Error> {
        let (mut able, mut elsewhere) = (Vec::new(), Vec::new());
        for run in self.unfinished().await? {
            // One that cannot be read is left to whoever asks for it.
            let Ok(log) = self.driver.load(run).await else { continue };
            let head = &log.run.head;
            let waits_for_clock = matches!(head.due, Due::Calls { .. }) && head.due.deadline().is_some();
            // A person's word may lie beside the log, said when nobody carried the run on.
            let is_told = matches!(log.next(SystemWorld.now()), Next::Commit { .. });
            if head.status == Status::Running || waits_for_clock || is_told {
                let is_here = self.driver.serves(log.run.model()) && self.driver.has_tools(&log.run.config.tools);
                if is_here { able.push(run) } else { elsewhere.push(run) }
            }
        }
        Ok((able, elsewhere))
    }

    /// Why a run cannot go on here, if its tools are not those that it began with.
    pub(crate) fn lacks_tools(&self, log: &errand_core::RunLog) -> Result<(), Error> {
        let tools = &log.run.config.tools;
        if self.driver.has_tools(tools) {
            return Ok(());
        }
        let lacking = tools.iter().filter(|tool| !self.driver.has_tools(std::slice::from_ref(tool)));
        let names: Vec<&str> = lacking.map(|tool| tool.definition.name.as_str()).take(10).collect();
        let message = format!(
            "{} was begun with tools that these settings do not have, have changed since, or grant less: {}; give the \
             --tool-dir and the hosts of [sandbox.egress] that it was begun with, or begin a new run",
            log.run.id,
            names.join(", ")
        );
        Err(Error::new("tools_elsewhere", message))
    }

    /// Lets go: nothing new begins, what is under way gets a few seconds, the rest is handed back, the store is closed.
    /// Takes less than 5 s.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        if let Some(control) = self.control.take() {
            control.close().await;
        }
        if let Some(sweeper) = &self.sweeper {
            sweeper.abort();
        }
        self.driver.wind_down();
        self.queue.close();
        if tokio::time::timeout(FINISH, finished(&mut self.workers)).await.is_err() {
            self.driver.hand_back();
            let _ = tokio::time::timeout(HAND_BACK, finished(&mut self.workers)).await;
            self.workers.abort_all();
        }
        self.tools.close().await;
        // Before the store has its last word, for which a disk that a run has filled needs room.
        self.tools.clear();
        Ok(self.folder.close().await?)
    }
}

/// Tells whoever looks on how far an image is.
fn on_image(sender: &UnboundedSender<Live>) -> OnImage {
    let sender = sender.clone();
    OnImage::new(move |name, step| {
        // Nobody looks on any longer: it is made all the same.
        let _ = sender.send(Live::Image { name: name.to_owned(), step: step.to_string() });
    })
}

/// The models, with the scripts of the demos. Scripts of the user go before them.
pub(crate) fn providers(config: &Config) -> Result<Providers, Error> {
    const DEMOS: [(&str, &str); 3] = [
        ("web", include_str!("../../errand-models/scripts/web.toml")),
        ("data", include_str!("../../errand-models/scripts/data.toml")),
        ("code", include_str!("../../errand-models/scripts/code.toml")),
    ];
    let mut providers = Providers::new(&config.models)?;
    for (name, text) in DEMOS {
        let scripts = providers.scripts();
        if scripts.list().all(|(known, _)| known != name) {
            scripts.add(name, text).map_err(|error| Error::chain("script_broken", &error))?;
        }
    }
    Ok(providers)
}

/// A laptop has no other worker to share with and no time-out above it: one message may lead to a whole run. Whoever
/// begins a run carries it on, and whoever comes after a crash looks at every run: an entry need not be due at once.
fn settings() -> Settings {
    let settings = Settings::default();
    Settings { records_per_message: 1_000, begin_ms: settings.lease_ms, look_ms: 0, ..settings }
}

async fn sweep(driver: Driver, queue: LocalQueue, store: Arc<LocalStore>) {
    let writes = || store.stats().map_or(0, WriterStats::writes);
    let mut tidied = writes();
    loop {
        if queue.is_idle() && writes() != tidied {
            store.rest();
            memory::give_back();
            tidied = writes();
        }
        if let Err(error) = driver.sweep(SWEEP_RUNS).await {
            tracing::warn!(code = error.code(), %error, "the sweep failed");
        }
        for message in queue.take_dead() {
            tracing::warn!(run = %message.run(), "a message was delivered too often");
            if let Err(error) = driver.revive(message.run()).await {
                tracing::warn!(run = %message.run(), code = error.code(), %error, "its run cannot be carried on");
            }
        }
        tokio::time::sleep(SWEEP).await;
    }
}

async fn finished(workers: &mut JoinSet<()>) {
    while workers.join_next().await.is_some() {}
}
