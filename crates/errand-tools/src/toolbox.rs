//! The engine's port for tools, over the registry and what stands behind each tool.

use crate::answer;
use crate::cache::{self, Cache};
use crate::execute::{Services, Work};
use crate::net::Network;
use crate::registry::{Registry, Tool};
use crate::text;
use crate::ways::Ways;
use crate::web::search::SearchProvider;
use crate::workspace::Workspaces;
use async_trait::async_trait;
use errand_core::{Amount, Class, Executor, Hash, Outcome, RunId, TenantId, Timestamp, ToolSpec, Verdict};
use errand_engine::ports::{Admission, PortError, ToolJob, ToolReply, Tools};
use serde_json::Value;
use std::sync::Arc;

/// Carries out tools.
pub struct ToolBox {
    registry: Arc<Registry>,
    services: Services,
    cache: Cache,
}

impl ToolBox {
    /// From the tools there are, the place for the runs' files, and the way out to the network.
    pub fn new(registry: Arc<Registry>, workspaces: Arc<Workspaces>, network: Arc<Network>) -> Self {
        let services = Services { workspaces, network, pages: Arc::default(), ways: None, search: None };
        Self { registry, services, cache: Cache::default() }
    }

    /// With somebody who searches for the tool `search`.
    pub fn searching(self, search: Option<SearchProvider>) -> Self {
        Self { services: Services { search, ..self.services }, ..self }
    }

    /// With what code in boxes may reach.
    pub fn reaching(self, ways: Option<Arc<Ways>>) -> Self {
        Self { services: Services { ways, ..self.services }, ..self }
    }

    /// The outcome without any secret that a tool, or its box's way out, was given.
    fn masked(&self, outcome: Outcome) -> Outcome {
        let mask = |text| match &self.services.ways {
            Some(ways) => ways.masked(self.registry.masks.mask(text)),
            None => self.registry.masks.mask(text),
        };
        match outcome {
            Outcome::Ok { text } => Outcome::Ok { text: mask(text) },
            Outcome::Error { code, text } => Outcome::Error { code, text: mask(text) },
            Outcome::Unknown { reason } => Outcome::Unknown { reason: mask(reason) },
            Outcome::Rejected { reason } => Outcome::Rejected { reason: mask(reason) },
        }
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
            Ok(checked) => Verdict::Accepted { until: checked.until, share: None, class: class(spec, checked.class) },
            Err(refused) => Verdict::Refused { code: refused.code().to_owned(), error: refused.to_string() },
        }
    }

    fn serves(&self, specs: &[ToolSpec]) -> bool {
        let reaches = |spec: &ToolSpec| match &self.services.ways {
            Some(ways) => ways.serves(spec),
            None => spec.egress.is_none(),
        };
        self.registry.serves(specs) && specs.iter().all(reaches)
    }

    fn check_answer(&self, schema: &str, answer: &str) -> Result<(), String> {
        answer::check(schema, answer)
    }

    async fn admit(&self, run: RunId, tenant: &TenantId, spec: &ToolSpec) -> Result<Admission, PortError> {
        if spec.executor != Executor::Sandbox {
            return Ok(Admission::Here);
        }
        let admitted = self.services.workspaces.admit(run, tenant).await;
        admitted.map_err(|error| PortError::Retry { message: error.chain() })
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        let bytes_max = usize::try_from(job.observation_bytes).unwrap_or(usize::MAX);
        let found = self.registry.tool(job.spec).and_then(|tool| Ok((tool.arguments(job.call.arguments)?, tool)));
        let (arguments, tool) = match found {
            Ok(found) => found,
            Err(refused) => return ToolReply::free(Outcome::error(refused.code(), refused.to_string())),
        };
        let keep = cached(&tool, &job, &arguments);
        if let Some(known) = keep.and_then(|(key, ttl_s)| self.cache.get(&key, ttl_s, job.now)) {
            let text = format!("[from the cache, {} s old]\n{}", known.age_s, known.text);
            return ToolReply::free(bounded(Outcome::Ok { text }, bytes_max));
        }
        let reply = tool.executor.run(Work { job, arguments, services: &self.services }).await;
        let outcome = if tool.is_added() || job.spec.egress.is_some() { self.masked(reply.outcome) } else { reply.outcome };
        // One that left something in a workspace, or was paid for, is more than its text.
        if let (Some((key, _)), Outcome::Ok { text }, None) = (keep, &outcome, &reply.workspace)
            && reply.spent == Amount::ZERO
        {
            self.cache.put(key, text, job.now);
        }
        ToolReply { outcome: bounded(outcome, bytes_max), ..reply }
    }

    async fn release(&self, run: RunId) {
        if let Err(error) = self.services.workspaces.release(run).await {
            tracing::warn!(%run, error = %error.chain(), "the workspace of a run could not be removed");
        }
    }
}

/// What repeating a call would do: with a way out it may be anything, whatever its arguments look like.
fn class(spec: &ToolSpec, checked: Option<Class>) -> Option<Class> {
    if spec.egress.is_some() { Some(Class::Effectful) } else { checked }
}

/// Under what and for how long the result of this call may be kept: only that of a pure one.
fn cached(tool: &Tool, job: &ToolJob<'_>, arguments: &Value) -> Option<(Hash, u32)> {
    let ttl_s = tool.cache_ttl_s?;
    let checked = tool.executor.check(job.call.tool, arguments, job.now).ok()?;
    let class = checked.class.unwrap_or(job.spec.class);
    (class == Class::Pure).then(|| (cache::key(&tool.spec, arguments, job.observation_bytes), ttl_s))
}

/// The outcome with no more text than a model is to be shown.
fn bounded(outcome: Outcome, bytes_max: usize) -> Outcome {
    match outcome {
        Outcome::Ok { text } => Outcome::Ok { text: text::bounded(&text, bytes_max, "") },
        Outcome::Error { code, text } => Outcome::Error { code, text: text::bounded(&text, bytes_max, "") },
        other => other,
    }
}
