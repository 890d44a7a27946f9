//! The pure state machine of a run: state + event + now → state + effects.
//!
//! Reading order: [`RunConfig`] (what a run is pinned to), [`Event`] (what can happen, a file per kind in `event/`),
//! [`Head`] (where a run stands after a record), [`Run::handle`] (event → head), [`Head::effects`] (what the head asks of
//! the world), [`Record`] and [`Sealed`] (one entry of the log and its place in the ledger), [`RunLog`] (the log with the
//! items beside it), [`RunLog::next`] (what can be done now), [`RunLog::claim`] and [`RunLog::bill`] (who may spend),
//! [`RunLog::request`] (what the model is sent) and [`Asked`] (so that this is not made anew each time), [`replay()`].
//!
//! Absent on purpose: IO, async, clocks, randomness, threads, floating point. Whatever comes from outside comes in as an
//! argument and is recorded. Tests: `tests.rs` here, `tests/cases/` for whole runs, `errand-sim` for the protocol.

mod asked;
mod books;
mod call;
mod config;
mod effect;
mod event;
mod head;
mod id;
mod item;
mod limits;
mod log;
mod message;
mod money;
mod next;
mod record;
mod replay;
mod run;
mod time;
mod transcript;

#[cfg(test)]
mod tests;

pub use asked::{Asked, Memo};
pub use books::{Bill, ClaimDecision};
pub use call::{CallState, Confinement, EgressUse, Observation, Outcome, PendingCall, Snapshot, Strength, Verdict};
pub use config::{
    Approval, AssistantRef, Class, EgressGrant, Executor, ModelChoice, OutputSchema, RunConfig, Tier, ToolSpec,
};
pub use effect::Effect;
pub use event::{
    BudgetExceeded, BudgetRaised, Cancelled, Compacted, Decided, Decision, Event, Failed, Fault, Forked, History, InputFile,
    Messaged, ModelFailed, ModelReplied, Observed, Parent, Started, Surface, TextSize, UserMessage,
};
pub use head::{BudgetBound, ContextSize, Due, Faults, Head, ModelTask, Status, Totals};
pub use id::{CallId, Hash, InvalidHash, InvalidId, InvalidTenant, Nonce, RunId, TenantId};
pub use item::{Item, ItemBody, ItemKey};
pub use limits::Limits;
pub use log::{Call, LogError, Making, RunLog};
pub use message::{
    Finish, Image, Message, ModelError, ModelErrorKind, ModelReply, ModelRequest, Opaque, RequestedCall, ToolDefinition,
};
pub use money::{Allowance, Amount, Budget, Price, Spent, Usage, Usd, WhenExceeded};
pub use next::Next;
pub use record::{Booked, Consumed, Record, RecordError, SCHEMA, Sealed};
pub use replay::{Divergence, Replayed, replay, verify};
pub use run::{Input, Left, Rejection, Run};
pub use time::Timestamp;
pub use transcript::{SUMMARY_NOTE, SUMMARY_PROMPT, answered, unanswered};

/// What stands for itself is not written: records are kept by the million.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
