//! What stands behind a tool: the seam between the tool box and the kinds of tools there are.

use crate::arguments::Refused;
use crate::code::Bounds;
use crate::net::Network;
use crate::ways::Ways;
use crate::web::fetch::Pages;
use crate::web::search::SearchProvider;
use crate::workspace::{Desk, Error, Turn, Wanted, WayWanted, Workspaces};
use async_trait::async_trait;
use errand_core::{Class, Outcome, Timestamp};
use errand_engine::ports::{ToolJob, ToolReply};
use errand_sandbox::{Language, Tier};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What all executors work with.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) network: Arc<Network>,
    /// Pages that are being read in parts.
    pub(crate) pages: Arc<Pages>,
    /// What code may reach, if anything.
    pub(crate) ways: Option<Arc<Ways>>,
    /// Who searches, if somebody does.
    pub(crate) search: Option<SearchProvider>,
}

/// Carries out the calls of a tool. A new kind of tool is a module that implements this.
#[async_trait]
pub(crate) trait Execute: Send + Sync {
    /// Checks what a schema cannot express, and works out what the core must know. Pure, and quick.
    fn check(&self, tool: &str, arguments: &Value, now: Timestamp) -> Result<Checked, Refused> {
        let _ = (tool, arguments, now);
        Ok(Checked::default())
    }

    /// Carries out a call. Its arguments fit the tool's schema. Dropping the future stops the call.
    async fn run(&self, work: Work<'_>) -> ToolReply;
}

/// What a check found out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Until when a person or the clock is waited for.
    pub(crate) until: Option<Timestamp>,
    /// What repeating this very call would do, where its arguments decide that.
    pub(crate) class: Option<Class>,
}

/// A call to carry out.
pub(crate) struct Work<'a> {
    pub(crate) job: ToolJob<'a>,
    /// Checked against the tool's schema.
    pub(crate) arguments: Value,
    pub(crate) services: &'a Services,
}

impl Work<'_> {
    /// What the call may use.
    pub(crate) fn bounds(&self) -> Bounds {
        let observation_bytes = usize::try_from(self.job.observation_bytes).unwrap_or(usize::MAX);
        let (time, has_called_before) = (Duration::from_millis(self.job.timeout_ms), self.job.has_called_before);
        let least = self.job.min_tier.map_or(Tier::T0, tier);
        Bounds { time, observation_bytes, has_called_before, least }
    }

    /// Works in the workspace of the run, when it is this call's turn.
    pub(crate) async fn in_workspace(&self, work: impl FnOnce(&mut Desk<'_>) -> ToolReply + Send + 'static) -> ToolReply {
        self.in_workspace_with(None, work).await
    }

    /// The same, for a call that is going to use a kernel.
    pub(crate) async fn in_workspace_with(
        &self,
        wanted: Option<Language>,
        work: impl FnOnce(&mut Desk<'_>) -> ToolReply + Send + 'static,
    ) -> ToolReply {
        let least = self.bounds().least;
        let wanted = wanted.map(|language| Wanted { language, least });
        let job = &self.job;
        let way = job.spec.egress.as_ref().map(|grant| WayWanted {
            ways: self.services.ways.clone(),
            grant: grant.clone(),
            used: job.egress_bytes,
        });
        let turn = Turn { run: job.run, key: job.call.idempotency_key(), workspace: job.workspace, wanted, way };
        self.services.workspaces.carry_out(turn, work).await.unwrap_or_else(|error| failed(&error))
    }
}

/// As the sandbox knows it.
fn tier(tier: errand_core::Tier) -> Tier {
    match tier {
        errand_core::Tier::T0 => Tier::T0,
        errand_core::Tier::T1 => Tier::T1,
        errand_core::Tier::T2 => Tier::T2,
    }
}

/// The reply of a call that failed at the workspace.
pub(crate) fn failed(error: &Error) -> ToolReply {
    ToolReply::free(Outcome::error(error.code(), error.chain()))
}
