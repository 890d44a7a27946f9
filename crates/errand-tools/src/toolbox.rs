//! The engine's port for tools, over the registry and what stands behind each tool.

use crate::answer;
use crate::execute::{Services, Work};
use crate::net::Network;
use crate::registry::Registry;
use crate::text;
use crate::workspace::Workspaces;
use async_trait::async_trait;
use errand_core::{Outcome, RunId, Timestamp, ToolSpec, Verdict};
use errand_engine::ports::{ToolJob, ToolReply, Tools};
use std::sync::Arc;

/// Carries out tools.
pub struct ToolBox {
    registry: Arc<Registry>,
    services: Services,
}

impl ToolBox {
    /// From the tools there are, the place for the runs' files, and the way out to the network.
    pub fn new(registry: Arc<Registry>, workspaces: Arc<Workspaces>, network: Arc<Network>) -> Self {
        Self { registry, services: Services { workspaces, network } }
    }
}

#[async_trait]
impl Tools for ToolBox {
    /// The arguments are checked against this program's schema of the tool, for it is this program that takes them.
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict {
        let checked = self.registry.tool(spec).and_then(|tool| {
            let arguments = tool.arguments(arguments)?;
            tool.executor.check(&spec.definition.name, &arguments, now)
        });
        match checked {
            Ok(checked) => Verdict::Accepted { until: checked.until, share: None, class: checked.class },
            Err(refused) => Verdict::Refused { code: refused.code().to_owned(), error: refused.to_string() },
        }
    }

    fn check_answer(&self, schema: &str, answer: &str) -> Result<(), String> {
        answer::check(schema, answer)
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        let bytes_max = usize::try_from(job.observation_bytes).unwrap_or(usize::MAX);
        let found = self.registry.tool(job.spec).and_then(|tool| Ok((tool.arguments(job.call.arguments)?, tool)));
        let (arguments, tool) = match found {
            Ok(found) => found,
            Err(refused) => return ToolReply::free(Outcome::error(refused.code(), refused.to_string())),
        };
        let reply = tool.executor.run(Work { job, arguments, services: &self.services }).await;
        ToolReply { outcome: bounded(reply.outcome, bytes_max), ..reply }
    }

    async fn release(&self, run: RunId) {
        if let Err(error) = self.services.workspaces.release(run).await {
            tracing::warn!(%run, error = %error.chain(), "the workspace of a run could not be removed");
        }
    }
}

/// The outcome with no more text than a model is to be shown.
fn bounded(outcome: Outcome, bytes_max: usize) -> Outcome {
    match outcome {
        Outcome::Ok { text } => Outcome::Ok { text: text::bounded(&text, bytes_max, "") },
        Outcome::Error { code, text } => Outcome::Error { code, text: text::bounded(&text, bytes_max, "") },
        other => other,
    }
}
