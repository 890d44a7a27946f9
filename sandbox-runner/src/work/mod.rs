//! Calls of runs, from queues: what a host of boxes does for runs that are carried on elsewhere.
//!
//! It is one more worker of the engine's step protocol, which takes calls over workspaces and nothing else: it fences a call,
//! carries it out in a box, keeps the snapshot, writes the result beside the run's log and tells the run. A call that is
//! delivered again finds its result there. Nothing calls into a runner.

mod models;
pub(crate) mod queues;
mod telling;

use crate::problem;
use crate::runtime::Runtime;
use errand_egress::{Reach, Terms};
use errand_engine::fleet::{Fleet, FleetSettings, Runner, RunnerTools};
use errand_engine::ports::{Blobs, Heads, Inbox, PortError, Queue, RunnerQueues, Store, World};
use errand_engine::{Adapters, Driver, Settings, worker};
use errand_sandbox::{CancelToken, Images};
use errand_store_local::SystemWorld;
use errand_tools::{BoxSettings, Network, Registry, Room, Secret, ToolBox, Vault, Ways, WaysSettings, Workspaces};
use models::NoModels;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use telling::Counts;
pub(crate) use telling::serve as tell;
use tokio::task::{AbortHandle, JoinSet};

/// What is left of the notice for handing back and leaving.
const LEAVE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) queues: queues::Args,
    /// This runner's name, which no runner before it had [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The folder for the files of runs that are at work here; it belongs to this runner alone
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sandbox-runner/workspaces")]
    workspaces: PathBuf,
    /// Calls carried out at a time [default: two for each processor]
    #[arg(long, value_name = "N")]
    calls: Option<usize>,
    /// Most runs that have their workspaces here at a time
    #[arg(long, value_name = "N", default_value_t = Room::default().sessions)]
    sessions: usize,
    /// Most of them that are one tenant's [default: all]
    #[arg(long, value_name = "N")]
    sessions_per_tenant: Option<usize>,
    /// Interpreters of Python and of the shell that are kept ready
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm: usize,
    /// Seconds after which an interpreter that no call used is ended, and a run at rest let go
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    idle: u64,
    /// The image that the code of runs sees, made first if it is not there [default: the host's packages only]
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    #[command(flatten)]
    runtime: Runtime,
    /// The weakest tier of boxes: t1 or t2
    #[arg(long, value_name = "TIER", default_value = "t1", value_parser = tier)]
    min_tier: errand_sandbox::Tier,
    /// Seconds for which others believe that it is alive when nothing is heard of it; it is heard of three times as often
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    alive: u64,
    /// Seconds between being asked to stop and being killed: calls under way may end in that time, others are handed back
    #[arg(long, value_name = "SECONDS", default_value_t = 110)]
    notice: u64,
    /// Serve /healthz and /metrics (Prometheus) there, to whoever asks
    #[arg(long, value_name = "ADDRESS:PORT", requires = "table")]
    pub(crate) metrics_listen: Option<std::net::SocketAddr>,
}

fn tier(given: &str) -> Result<errand_sandbox::Tier, String> {
    match given {
        "t1" => Ok(errand_sandbox::Tier::T1),
        "t2" => Ok(errand_sandbox::Tier::T2),
        _ => Err("give t1 or t2".to_owned()),
    }
}

/// Where runs are kept, and what carries their calls here.
pub(crate) struct Ports {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) heads: Arc<dyn Heads>,
    /// Sends to the queues that all share.
    pub(crate) queue: Arc<dyn Queue>,
    /// Calls of sessions that no runner holds.
    pub(crate) calls: Arc<dyn Inbox>,
    pub(crate) runners: Arc<dyn RunnerQueues>,
}

/// A runner has no secrets to swap in: runs whose grant needs one are left to whoever has it.
struct NoSecrets;

impl Vault for NoSecrets {
    fn secret(&self, _: &str) -> Result<Option<Secret>, String> {
        Ok(None)
    }

    fn variable(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

/// A runner at work.
pub(crate) struct Working {
    driver: Driver,
    runner: Arc<Runner>,
    workspaces: Arc<Workspaces>,
    inboxes: [Arc<dyn Inbox>; 2],
    workers: JoinSet<()>,
    beats: AbortHandle,
    counts: Arc<Counts>,
    notice: Duration,
}

impl Working {
    /// Takes its place in the fleet and begins to work.
    pub(crate) async fn start(
        ports: Ports,
        args: &Args,
        boxes: BoxSettings,
        images: Arc<Images>,
        (terms, reach): (Terms, Reach),
    ) -> Result<Self, String> {
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let id = args.id.clone().unwrap_or_else(|| format!("{:016x}", world.nonce().0));
        let room = Room {
            sessions: args.sessions.max(1),
            sessions_per_tenant: args.sessions_per_tenant.unwrap_or(usize::MAX).max(1),
        };
        let idle = Duration::from_secs(args.idle.max(1));
        let boxes = BoxSettings {
            runtime: args.runtime.config(boxes.engine.clone()),
            min_tier: args.min_tier,
            idle,
            warm: args.warm,
            room,
            images: Some(images),
            image: args.image.clone(),
            ..boxes
        };
        let told = |error: &dyn std::error::Error, code: &str| problem::chain(code, error);
        let workspaces = Workspaces::at(args.workspaces.clone(), boxes, ports.blobs);
        let workspaces = Arc::new(workspaces.map_err(|error| told(&error, error.code()))?);
        prepare(&workspaces).await?;
        let registry = Registry::built_in().map_err(|error| told(&error, error.code()))?;
        // Calls that need the network and no box are not this runner's.
        let network = Network::new::<&str>(&[]).map_err(|error| told(&error, error.code()))?;
        let ways = Ways::new(WaysSettings { terms, reach, vault: Arc::new(NoSecrets), tls: None });
        let tools = ToolBox::new(Arc::new(registry), Arc::clone(&workspaces), Arc::new(network));
        let tools = tools.reaching(Some(Arc::new(ways)));

        let settings = FleetSettings { alive_ms: args.alive.max(1).saturating_mul(1_000), ..FleetSettings::default() };
        let fleet = Fleet::new(ports.heads, ports.runners, Arc::clone(&ports.queue), Arc::clone(&world), settings);
        let (runner, own) = Runner::start(fleet.clone(), &id).await.map_err(|error| told(&error, error.code()))?;
        let counts = Arc::new(Counts::default());
        let adapters = Adapters {
            store: ports.store,
            queue: Arc::new(fleet),
            models: Arc::new(NoModels),
            tools: Arc::new(RunnerTools::new(Arc::new(tools), Arc::clone(&runner))),
            world,
            watch: Arc::clone(&counts) as _,
        };
        // A call has until its own message is delivered again, not until a function's time is over.
        let driver = Driver::new(adapters, Settings::default());
        let beats = tokio::spawn(beat(Arc::clone(&runner), Arc::clone(&workspaces))).abort_handle();
        let calls = args.calls.unwrap_or_else(|| 2 * std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let mut workers = JoinSet::new();
        let inboxes = [own, ports.calls];
        for inbox in &inboxes {
            workers.spawn(worker::serve(driver.clone(), Arc::clone(inbox), calls));
        }
        let notice = Duration::from_secs(args.notice);
        Ok(Self { driver, runner, workspaces, inboxes, workers, beats, counts, notice })
    }

    pub(crate) fn id(&self) -> &str {
        self.runner.id()
    }

    /// What `/healthz` and `/metrics` tell.
    pub(crate) fn state(&self) -> telling::State {
        telling::State { counts: Arc::clone(&self.counts), workspaces: Arc::clone(&self.workspaces) }
    }

    /// Leaves in good order: takes nothing new, lets calls end for as long as the notice allows, hands the others back, gives
    /// its sessions and what waits in its queue to whoever is left.
    pub(crate) async fn leave(mut self) -> Result<(), PortError> {
        self.counts.leave();
        self.driver.wind_down();
        for inbox in &self.inboxes {
            inbox.close().await;
        }
        let all = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.notice.saturating_sub(LEAVE), all).await.is_err() {
            self.driver.hand_back();
            let all = async { while self.workers.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(LEAVE / 2, all).await;
            self.workers.abort_all();
        }
        self.beats.abort();
        let left = self.runner.leave().await;
        let workspaces = self.workspaces;
        // They stay until the next start otherwise.
        let _ = tokio::task::spawn_blocking(move || workspaces.clear()).await;
        left
    }
}

/// Probes the host, makes the image and kernels ahead: before anybody sends a call here, whose time would be spent on it.
/// Dropping the future stops it.
async fn prepare(workspaces: &Arc<Workspaces>) -> Result<(), String> {
    struct Stop(CancelToken);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let stop = Stop(CancelToken::new().map_err(|error| format!("error: {error}"))?);
    let (workspaces, token) = (Arc::clone(workspaces), stop.0.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        // One that cannot would take calls only to fail them.
        workspaces.makes_boxes().map_err(|error| problem::chain(error.code(), &error))?;
        if let Err(error) = workspaces.prepare(&token) {
            tracing::warn!(code = error.code(), error = error.chain(), "calls that need the image try once more");
        }
        Ok(())
    });
    prepared.await.map_err(|error| format!("error: {error}"))?
}

/// Tells again and again that the runner is alive, and lets go of sessions that it has nothing of any longer.
async fn beat(runner: Arc<Runner>, workspaces: Arc<Workspaces>) {
    loop {
        SystemWorld.sleep(runner.beat_ms()).await;
        match runner.beat().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(runner = runner.id(), "this runner was held for dead; its sessions are others' now");
                let workspaces = Arc::clone(&workspaces);
                let _ = tokio::task::spawn_blocking(move || workspaces.let_go()).await;
            }
            Err(error) => tracing::warn!(runner = runner.id(), code = error.code(), %error, "nobody knows that it is alive"),
        }
        if let Err(error) = runner.keep_only(|run| workspaces.has(run)).await {
            tracing::warn!(runner = runner.id(), code = error.code(), %error, "sessions at rest stay claimed");
        }
    }
}
