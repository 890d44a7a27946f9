use super::{Claim, Runner};
use crate::ports::{Admission, PortError, ToolJob, ToolReply, Tools};
use async_trait::async_trait;
use errand_core::{Executor, RunId, TenantId, Timestamp, ToolSpec, Verdict};
use std::sync::Arc;

/// Tools of a runner: calls over the workspace of a run are taken only if the run's session is this runner's.
pub struct RunnerTools {
    tools: Arc<dyn Tools>,
    runner: Arc<Runner>,
}

impl RunnerTools {
    /// `tools` as those of `runner`.
    pub fn new(tools: Arc<dyn Tools>, runner: Arc<Runner>) -> Self {
        Self { tools, runner }
    }
}

#[async_trait]
impl Tools for RunnerTools {
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict {
        self.tools.check(spec, arguments, now)
    }

    fn check_answer(&self, schema: &str, answer: &str) -> Result<(), String> {
        self.tools.check_answer(schema, answer)
    }

    fn serves(&self, specs: &[ToolSpec]) -> bool {
        self.tools.serves(specs)
    }

    async fn admit(&self, run: RunId, tenant: &TenantId, spec: &ToolSpec) -> Result<Admission, PortError> {
        if spec.executor != Executor::Sandbox {
            return self.tools.admit(run, tenant, spec).await;
        }
        let Claim::Mine { is_new } = self.runner.claim(run).await? else { return Ok(Admission::Elsewhere) };
        let admission = self.tools.admit(run, tenant, spec).await?;
        if is_new && admission != Admission::Here {
            // Another runner may have room.
            self.runner.release(run).await?;
        }
        Ok(admission)
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        self.tools.run(job).await
    }

    async fn release(&self, run: RunId) {
        self.tools.release(run).await;
        if let Err(error) = self.runner.release(run).await {
            tracing::warn!(%run, %error, "the session of a run stays claimed until its runner leaves");
        }
    }
}
