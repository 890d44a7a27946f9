use super::{Claim, Kept, Runner};
use crate::ports::{Admission, PortError, ToolJob, ToolReply, Tools};
use async_trait::async_trait;
use errand_core::{Executor, Outcome, RunId, TenantId, Timestamp, ToolSpec, Verdict};
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
        if admission == Admission::Here {
            return Ok(Admission::Held);
        }
        if is_new {
            // Another runner may have room.
            self.runner.release(run).await?;
        }
        Ok(admission)
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        if job.spec.executor != Executor::Sandbox {
            return self.tools.run(job).await;
        }
        let call = job.call.id;
        let before = self.runner.start_of(job.run, call, job.workspace);
        let reply = self.tools.run(ToolJob { workspace: before, ..job }).await;
        let Some(after) = reply.workspace else { return reply };
        match self.runner.advance(job.run, Kept { by: call, before, after }).await {
            Ok(true) => reply,
            Ok(false) => lost(reply, "another runner took the session over while the call was under way"),
            Err(error) => lost(reply, &format!("the session could not be written: {error}")),
        }
    }

    async fn release(&self, run: RunId) {
        self.tools.release(run).await;
        if let Err(error) = self.runner.release(run).await {
            tracing::warn!(%run, %error, "the session of a run stays claimed until its runner leaves");
        }
    }
}

/// A call that was carried out, and whose files are not the session's.
fn lost(reply: ToolReply, why: &str) -> ToolReply {
    let text = format!("{why}: the files it wrote are not kept. Look what is there before you repeat it.");
    ToolReply { outcome: Outcome::error("session_lost", text), workspace: None, ..reply }
}
