//! What can happen to a run: one file per kind, each with what it means for the head.

mod budget_exceeded;
mod budget_raised;
mod cancelled;
mod compacted;
mod decided;
mod failed;
mod forked;
mod messaged;
mod model_failed;
mod model_replied;
mod observed;
mod started;

pub use budget_exceeded::BudgetExceeded;
pub use budget_raised::BudgetRaised;
pub use cancelled::Cancelled;
pub use compacted::{Compacted, TextSize};
pub use decided::{Decided, Decision};
pub use failed::Failed;
pub use forked::Forked;
pub use messaged::{Messaged, UserMessage};
pub use model_failed::ModelFailed;
pub use model_replied::{Fault, ModelReplied};
pub use observed::Observed;
pub use started::{History, InputFile, Parent, Started, Surface};

use crate::Hash;
use serde::{Deserialize, Serialize};

/// What a record says happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Record 1: the errand is accepted.
    Started(Box<Started>),
    /// A model answered.
    ModelReplied(Box<ModelReplied>),
    /// A model call failed.
    ModelFailed(ModelFailed),
    /// A summarizer shortened the conversation.
    Compacted(Box<Compacted>),
    /// Tool calls ended.
    Observed(Observed),
    /// A person decided on a call.
    Decided(Decided),
    /// A person said something while the run was at work.
    Messaged(Messaged),
    /// Somebody stopped the run.
    Cancelled(Cancelled),
    /// The next call does not fit the budget.
    BudgetExceeded(BudgetExceeded),
    /// The budget was raised.
    BudgetRaised(BudgetRaised),
    /// The engine gave the run up.
    Failed(Failed),
    /// The run goes on from a record of another run.
    Forked(Box<Forked>),
}

impl Event {
    /// Digest of the request that a model answered.
    pub fn request(&self) -> Option<Hash> {
        match self {
            Event::ModelReplied(replied) => Some(replied.request),
            Event::Compacted(compacted) => Some(compacted.request),
            _ => None,
        }
    }

    /// The stable word for the kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Started(_) => "started",
            Event::ModelReplied(_) => "model_replied",
            Event::ModelFailed(_) => "model_failed",
            Event::Compacted(_) => "compacted",
            Event::Observed(_) => "observed",
            Event::Decided(_) => "decided",
            Event::Messaged(_) => "messaged",
            Event::Cancelled(_) => "cancelled",
            Event::BudgetExceeded(_) => "budget_exceeded",
            Event::BudgetRaised(_) => "budget_raised",
            Event::Failed(_) => "failed",
            Event::Forked(_) => "forked",
        }
    }
}
