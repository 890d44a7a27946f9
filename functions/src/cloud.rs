//! The composition root: the adapters over AWS, made once per process, and a driver for each invocation.

use crate::{Error, Settings};
use async_trait::async_trait;
use errand_core::{Executor, RunId, TenantId, Timestamp, ToolSpec, Verdict};
use errand_engine::fleet::{Fleet, FleetSettings};
use errand_engine::ports::{Admission, Blobs, Models, PortError, ToolJob, ToolReply, Tools, World};
use errand_engine::{Adapters, Driver};
use errand_models::Providers;
use errand_store_aws::{Aws, AwsQueue};
use errand_store_local::SystemWorld;
use errand_tools::{BoxSettings, Network, Registry, ToolBox, Workspaces};
use std::sync::Arc;

/// Messages that a runner's queue hands out at a time; here they are only sent.
const AT_ONCE: usize = 1;

/// Everything that carries runs on. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Cloud {
    pub(crate) aws: Aws,
    pub(crate) queue: AwsQueue,
    pub(crate) fleet: Fleet,
    pub(crate) world: Arc<dyn World>,
    models: Arc<dyn Models>,
    tools: Arc<dyn Tools>,
}

impl Cloud {
    /// Makes the clients and the adapters. Nothing is asked of AWS yet: a start is quick, and what is wrong there is told by
    /// the first message.
    ///
    /// # Errors
    /// Settings that cannot be used; a region that is not to be found.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let models = Providers::new(&settings.models)?;
        let aws = Aws::connect(settings.aws.clone()).await?;
        let models = models.with_blobs(Arc::new(aws.blobs()));
        Self::with(aws, Arc::new(models))
    }

    /// Over clients and models that somebody else made.
    ///
    /// # Errors
    /// When the tools cannot be made ready.
    pub fn with(aws: Aws, models: Arc<dyn Models>) -> Result<Self, Error> {
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let queue = aws.queue(Arc::clone(&world));
        let fleet = Fleet::new(
            Arc::new(aws.heads()),
            Arc::new(aws.runner_queues(Arc::clone(&world), AT_ONCE)),
            Arc::new(queue.clone()),
            Arc::clone(&world),
            FleetSettings::default(),
        );
        let tools = Arc::new(NoBoxes(tools(Arc::new(aws.blobs()), &*world)?));
        Ok(Self { aws, queue, fleet, world, models, tools })
    }

    /// A driver of its own for one invocation: stopping what is under way stops nothing of another's, and a later invocation
    /// in the same process begins afresh.
    pub fn driver(&self) -> Driver {
        let adapters = Adapters {
            store: Arc::new(self.aws.store()),
            queue: Arc::new(self.fleet.clone()),
            models: Arc::clone(&self.models),
            tools: Arc::clone(&self.tools),
            world: Arc::clone(&self.world),
            watch: Arc::new(()),
        };
        // How long a step may take is said with each message, by its invocation's deadline.
        Driver::new(adapters, errand_engine::Settings { step_ms: u64::MAX / 4, ..errand_engine::Settings::DEFAULT })
    }
}

/// The built-in tools. Boxes are runners' alone: the folder for them stays empty.
fn tools(blobs: Arc<dyn Blobs>, world: &dyn World) -> Result<ToolBox, Error> {
    let registry = Registry::built_in().map_err(|error| Error::tools(error.code(), &error))?;
    let network = Network::new::<&str>(&[]).map_err(|error| Error::tools(error.code(), &error))?;
    let folder = std::env::temp_dir().join(format!("errand-function-{:016x}", world.nonce().0));
    let workspaces = Workspaces::at(folder, BoxSettings::default(), blobs);
    let workspaces = workspaces.map_err(|error| Error::tools(error.code(), &error))?;
    Ok(ToolBox::new(Arc::new(registry), Arc::new(workspaces), Arc::new(network)))
}

/// Tools without boxes: calls that need one are for runners.
struct NoBoxes(ToolBox);

#[async_trait]
impl Tools for NoBoxes {
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict {
        self.0.check(spec, arguments, now)
    }

    fn check_answer(&self, schema: &str, answer: &str) -> Result<(), String> {
        self.0.check_answer(schema, answer)
    }

    fn serves(&self, specs: &[ToolSpec]) -> bool {
        self.0.serves(specs)
    }

    async fn admit(&self, run: RunId, tenant: &TenantId, spec: &ToolSpec) -> Result<Admission, PortError> {
        match spec.executor {
            Executor::Sandbox => Ok(Admission::Elsewhere),
            _ => self.0.admit(run, tenant, spec).await,
        }
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        self.0.run(job).await
    }

    async fn release(&self, run: RunId) {
        self.0.release(run).await;
    }
}
