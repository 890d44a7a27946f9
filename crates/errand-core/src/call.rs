//! Tool calls on their way: what is pending and what came of it.

use crate::{Amount, CallId, Class, Hash, RunId, Tier, Timestamp};
use serde::{Deserialize, Serialize};

/// A tool call that a reply asked for and that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCall {
    /// Which call.
    pub id: CallId,
    /// Name of the tool.
    pub tool: String,
    /// What repeating it would do.
    pub class: Class,
    /// Where it stands.
    pub state: CallState,
}

/// Where a pending call stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CallState {
    /// A person must allow it first.
    Approval,
    /// Handed out to the calls queue.
    HandedOut {
        /// Time it may take, in milliseconds.
        timeout_ms: u64,
    },
    /// A person must answer, without a deadline unless one is given.
    Person {
        /// When nobody will be waited for any longer.
        until: Option<Timestamp>,
    },
    /// It is over when this time has come.
    Timer {
        /// The time.
        at: Timestamp,
    },
    /// A run of its own carries it out.
    SubRun {
        /// That run.
        run: RunId,
        /// What it may spend.
        slice: Amount,
    },
    /// Handed to the caller: the run ends with it once its other calls are over.
    Caller,
    /// It was sent and nobody knows what came of it. A person must say.
    Unknown,
    /// Its outcome is in the log.
    Done,
}

impl CallState {
    /// True if the run has nothing more to wait for here.
    pub fn is_over(&self) -> bool {
        matches!(self, CallState::Done | CallState::Caller)
    }

    /// True while a machine, not a person or the clock, owes the outcome.
    pub fn is_at_work(&self) -> bool {
        matches!(self, CallState::HandedOut { .. } | CallState::SubRun { .. })
    }
}

/// What came of a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which call.
    pub call: CallId,
    /// What came of it.
    pub outcome: Outcome,
    /// What it cost.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub spent: Amount,
    /// The run that made the call and pays for it, if it is not the one whose call it was: a fork that shares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<RunId>,
    /// Time in a sandbox, in milliseconds.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub sandbox_ms: u64,
    /// The workspace as the call left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Snapshot>,
    /// The box that it ran in, if it ran in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Confinement>,
    /// What passed between its code and the world outside of the box, where it had a way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Box<EgressUse>>,
}

/// What passed through the way out of a box during a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressUse {
    /// Requests and tunnels that were let through.
    pub allowed: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Bytes sent.
    pub bytes_up: u64,
    /// Bytes received.
    pub bytes_down: u64,
    /// Why the last of those that were refused were, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
}

impl EgressUse {
    /// Bytes both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes_up.saturating_add(self.bytes_down)
    }
}

/// How a box kept what ran in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// How strongly it was isolated.
    pub tier: Tier,
    /// Memory of the whole box.
    pub memory: Strength,
    /// Processes of the whole box.
    pub processes: Strength,
    /// Processor time.
    pub cpu: Strength,
    /// Bytes and files of the workspace.
    pub workspace: Strength,
    /// Output kept.
    pub output: Strength,
    /// Wall time.
    pub time: Strength,
}

/// How well a limit held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Not enforced.
    Absent,
    /// Enforced after the fact, or for each process: it could be overshot for a moment.
    Soft,
    /// Enforced for the whole box, in a way that what is inside cannot evade.
    Hard,
}

/// The files of a run at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Snapshot {
    /// How many snapshots came before it: parallel calls take turns in the workspace, whatever order they end in.
    pub turn: u64,
    /// Digest of its manifest.
    pub manifest: Hash,
}

impl Verdict {
    /// The call can be made, and nothing more is known of it.
    pub const ACCEPTED: Verdict = Verdict::Accepted { until: None, share: None, class: None };
}

impl Observation {
    /// An observation that cost nothing and left the workspace alone.
    pub fn free(call: CallId, outcome: Outcome) -> Self {
        Self { call, outcome, spent: Amount::ZERO, payer: None, sandbox_ms: 0, workspace: None, sandbox: None, egress: None }
    }

    /// What `run` pays for it.
    pub fn cost_for(&self, run: RunId) -> Amount {
        if self.payer.is_none_or(|payer| payer == run) { self.spent } else { Amount::ZERO }
    }
}

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It did what was asked.
    Ok {
        /// What the model is shown.
        text: String,
    },
    /// It did not, and the model may act on why.
    Error {
        /// Stable code.
        code: String,
        /// What the model is shown: what failed, and what to do.
        text: String,
    },
    /// It was sent; whether it took hold is not known.
    Unknown {
        /// What is known.
        reason: String,
    },
    /// A person would not have it.
    Rejected {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// An error with a code.
    pub fn error(code: &str, text: impl Into<String>) -> Self {
        Outcome::Error { code: code.to_owned(), text: text.into() }
    }

    /// What the model is shown, and whether it counts as an error.
    pub fn shown(&self) -> (String, bool) {
        match self {
            Outcome::Ok { text } => (text.clone(), false),
            Outcome::Error { code, text } => (format!("error {code}: {text}"), true),
            Outcome::Unknown { reason } => {
                (format!("outcome unknown: {reason}. Do not assume that it happened or that it did not."), true)
            }
            Outcome::Rejected { reason } => (format!("a person rejected this call: {reason}"), true),
        }
    }
}

/// The engine's check of one call that a model asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The tool exists and the arguments fit its schema.
    Accepted {
        /// For a timer: when it is over. For a question: until when an answer is waited for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// For a sub-run: the share of the budget asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        share: Option<Amount>,
        /// What repeating this very call would do, where its arguments decide that and not the tool alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<Class>,
    },
    /// The call cannot be made; the model is told why.
    Refused {
        /// Stable code.
        code: String,
        /// What is wrong, and what would be right.
        error: String,
    },
}
