use super::PortError;
use async_trait::async_trait;
use errand_core::{
    Amount, Call, Confinement, EgressUse, Outcome, RunId, Snapshot, TenantId, Tier, Timestamp, ToolSpec, Verdict,
};

/// Tools: what they take, and carrying them out.
#[async_trait]
pub trait Tools: Send + Sync {
    /// Checks the arguments of a call against the tool's schema, and works out what the core must know of them (the end
    /// of a wait, the share of a sub-run, whether this very call would change something). Pure.
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict;

    /// Checks that an answer has the form of a JSON Schema. The error tells the model what is wrong. Pure.
    fn check_answer(&self, schema: &str, answer: &str) -> Result<(), String>;

    /// True if these tools, as a run is pinned to them, can be called here: a run is left to whoever has its tools, in
    /// place of going on without them. Pure, and quick.
    fn serves(&self, specs: &[ToolSpec]) -> bool {
        let _ = specs;
        true
    }

    /// Whether a call of a run can be carried out here and now. Asked before anything of it is written down; nothing has
    /// happened if it cannot.
    async fn admit(&self, run: RunId, tenant: &TenantId, spec: &ToolSpec) -> Result<Admission, PortError> {
        let _ = (run, tenant, spec);
        Ok(Admission::Here)
    }

    /// Carries out a call. Whatever goes wrong is an outcome that the model can act on. Dropping the future stops the
    /// call.
    async fn run(&self, job: ToolJob<'_>) -> ToolReply;

    /// A run has ended or waits: what it holds on this machine can be let go. The snapshot stays.
    async fn release(&self, run: RunId);
}

/// Where a call can be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Here and now.
    Here,
    /// Here and now, and messages about the run's session come here: one that has too little time left is sent anew.
    Held,
    /// Here, but there is no room now; it is to be tried again when so many milliseconds have passed.
    Later {
        /// So many.
        millis: u64,
    },
    /// With another runner, which holds what it needs: the message goes there.
    Elsewhere,
}

/// A call to carry out.
#[derive(Debug, Clone, Copy)]
pub struct ToolJob<'a> {
    /// The run it belongs to: whose workspace it works in.
    pub run: RunId,
    /// The call itself. Its idempotency key is [`Call::idempotency_key`].
    pub call: Call<'a>,
    /// How the run knows the tool.
    pub spec: &'a ToolSpec,
    /// The newest snapshot of the run's workspace: where the call begins, whatever an attempt before it left.
    pub workspace: Option<Snapshot>,
    /// Time it may take, in milliseconds.
    pub timeout_ms: u64,
    /// Most of the result that the model is shown, in bytes.
    pub observation_bytes: u64,
    /// The conversation may hold an earlier call of the same tool: what it left in a process is counted on, and whoever
    /// does not have it says so.
    pub has_called_before: bool,
    /// The weakest tier of boxes that code of the call may run in, as the run and its tool say. A runner may ask for more.
    pub min_tier: Option<Tier>,
    /// Bytes that passed already between code of the run and the world outside: they are off what its tools are granted.
    pub egress_bytes: u64,
    /// Time now.
    pub now: Timestamp,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolReply {
    /// How it ended.
    pub outcome: Outcome,
    /// What it cost.
    pub spent: Amount,
    /// Time in a sandbox, in milliseconds.
    pub sandbox_ms: u64,
    /// The workspace as it left it, if it may have changed it.
    pub workspace: Option<Snapshot>,
    /// The box that it ran in, if it ran in one.
    pub sandbox: Option<Confinement>,
    /// What passed through the way out of that box, if it had one.
    pub egress: Option<Box<EgressUse>>,
}

impl ToolReply {
    /// A reply that cost nothing and left the workspace alone.
    pub fn free(outcome: Outcome) -> Self {
        Self { outcome, spent: Amount::ZERO, sandbox_ms: 0, workspace: None, sandbox: None, egress: None }
    }
}
