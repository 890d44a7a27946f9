//! The summary at the end of every record: all that is needed to go on.

use crate::{Allowance, Amount, CallState, PendingCall, RunId, Snapshot, Timestamp, Usd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a run stands after a record. Small: no text of the conversation is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whether it goes on.
    pub status: Status,
    /// What is due next.
    pub due: Due,
    /// All that is on the books so far.
    pub totals: Totals,
    /// Size of the conversation.
    pub context: ContextSize,
    /// Failures in a row.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub faults: Faults,
    /// Which model thinks: 0 for the run's own, then its fall-backs.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub model: u32,
    /// Which summarizer is asked: the run's summarizers, then the models that think.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub summarizer: u32,
    /// Model turns in the conversation since it was last shortened.
    #[serde(default)]
    pub turns: u32,
    /// The workspace as the last call left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Snapshot>,
    /// Labels of untrusted origin that the conversation carries.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taint: BTreeSet<String>,
    /// The run this one is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// How many runs stand above this one.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub depth: u32,
    /// What has been granted on top of the budget in record 1.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub raised: Allowance,
}

/// Whether a run goes on, and if not, how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Work is due.
    Running,
    /// Only people or the clock can make it go on.
    Waiting,
    /// The next call does not fit the budget; it goes on when that is raised.
    Paused,
    /// It answered.
    Done,
    /// It could not go on.
    Failed {
        /// Stable code.
        code: String,
        /// What a person reads: what failed, and what to do.
        message: String,
    },
    /// Somebody stopped it.
    Cancelled {
        /// Why, if they said.
        reason: String,
    },
    /// The next call did not fit the budget.
    BudgetExceeded {
        /// Which bound: `usd`, `tokens`, `steps`, `active_time` or `output_tokens`.
        bound: BudgetBound,
    },
}

/// A bound of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetBound {
    /// Money.
    Usd,
    /// Tokens.
    Tokens,
    /// Model turns.
    Steps,
    /// Time at work.
    ActiveTime,
    /// Output tokens of all turns together.
    OutputTokens,
}

impl Status {
    /// True if nothing will ever follow.
    pub fn is_ended(&self) -> bool {
        !matches!(self, Status::Running | Status::Waiting | Status::Paused)
    }

    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Waiting => "waiting",
            Status::Paused => "paused",
            Status::Done => "done",
            Status::Failed { .. } => "failed",
            Status::Cancelled { .. } => "cancelled",
            Status::BudgetExceeded { .. } => "budget_exceeded",
        }
    }
}

/// What the record after the head will be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "due", rename_all = "snake_case")]
pub enum Due {
    /// A model call.
    Model {
        /// The most it can cost.
        reserve: Amount,
        /// Most output tokens to ask for.
        max_output_tokens: u64,
        /// Time it may take, in milliseconds.
        timeout_ms: u64,
        /// Not before this time, if an earlier attempt failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
        /// What the model is called for.
        #[serde(default, skip_serializing_if = "ModelTask::is_turn")]
        task: ModelTask,
    },
    /// Outcomes of tool calls, some of which may be known already.
    Calls {
        /// All calls of the last reply that were accepted.
        calls: Vec<PendingCall>,
    },
    /// A raised budget.
    Budget,
    /// Nothing: the run has ended.
    Nothing {
        /// Calls that were under way when it ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        abandoned: Vec<PendingCall>,
    },
}

/// What a model is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum ModelTask {
    /// The next turn of the conversation.
    #[default]
    Turn,
    /// Shortening the conversation, which would soon be longer than the model takes.
    Compact {
        /// Whether long texts are cut before the summarizer sees them, since it would not take them all.
        cut: bool,
    },
}

impl ModelTask {
    fn is_turn(&self) -> bool {
        *self == ModelTask::Turn
    }
}

impl Due {
    /// What a model is due to be called for.
    pub fn task(&self) -> Option<ModelTask> {
        match self {
            Due::Model { task, .. } => Some(*task),
            _ => None,
        }
    }

    /// The calls that are pending (or were when the run ended).
    pub fn calls(&self) -> &[PendingCall] {
        match self {
            Due::Calls { calls } => calls,
            Due::Nothing { abandoned } => abandoned,
            Due::Model { .. } | Due::Budget => &[],
        }
    }

    /// The earliest time at which the clock alone makes something happen. Never while a machine owes an outcome: the
    /// clock's word is taken in together with that one.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Due::Model { not_before, .. } => *not_before,
            Due::Calls { calls } if calls.iter().any(|call| call.state.is_at_work()) => None,
            Due::Calls { calls } => calls.iter().filter_map(|call| call.state.deadline()).min(),
            Due::Budget | Due::Nothing { .. } => None,
        }
    }
}

impl Head {
    /// Goes over to the next model for `task`, which counts and fails by itself.
    pub(crate) fn fall_back(&mut self, task: ModelTask) {
        self.faults.model = 0;
        match task {
            ModelTask::Turn => {
                self.model += 1;
                self.context.recount();
            }
            ModelTask::Compact { .. } => self.summarizer += 1,
        }
    }
}

impl CallState {
    /// When the clock alone ends this state.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            CallState::Timer { at } => Some(*at),
            CallState::Person { until } => *until,
            _ => None,
        }
    }
}

/// All that is on a run's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Money and tokens.
    pub spent: Amount,
    /// The part of the money that no provider confirmed: answers were lost and their bound was booked.
    pub unconfirmed: Usd,
    /// Input tokens read from providers' caches.
    pub cached_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// The part of them that summaries took: nobody was answered with it.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub summary_tokens: u64,
    /// Model turns.
    pub steps: u32,
    /// Tool calls that were accepted.
    pub calls: u32,
    /// Time at work, in milliseconds.
    pub active_ms: u64,
    /// Time in sandboxes, in milliseconds.
    pub sandbox_ms: u64,
    /// Bytes that passed between code in boxes and the world outside.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub egress_bytes: u64,
}

impl Totals {
    /// Output tokens of turns: what a caller's bound on the answer is held against.
    pub fn said_tokens(&self) -> u64 {
        self.output_tokens.saturating_sub(self.summary_tokens)
    }
}

/// Size of the conversation: the part a provider has counted, and what came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContextSize {
    /// Tokens of everything up to the last reply, by the provider's count.
    pub tokens: u64,
    /// Bytes said since.
    pub bytes: u64,
    /// Messages said since.
    pub messages: u64,
    /// Bytes of the whole conversation.
    pub all_bytes: u64,
    /// Messages of the whole conversation.
    pub all_messages: u64,
    /// Images shown since.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub images: u32,
    /// Images of the whole conversation.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub all_images: u32,
}

impl ContextSize {
    /// Tokens that a provider may add around each message (role, separators), a generous bound.
    const PER_MESSAGE: u64 = 16;
    /// Tokens that a provider may add once to a request that it has not counted before.
    const PER_REQUEST: u64 = 512;
    /// Fewest bytes that a token has on average, in texts that are not adversarial.
    const BYTES_PER_TOKEN: u64 = 3;

    /// The most input tokens the next request can have, where an image is at most `image_tokens`. No tokenizer makes
    /// more than one token of a byte.
    pub fn token_bound(&self, image_tokens: u64) -> u64 {
        let around = self.messages.saturating_mul(Self::PER_MESSAGE).saturating_add(Self::PER_REQUEST);
        let images = u64::from(self.images).saturating_mul(image_tokens);
        self.tokens.saturating_add(self.bytes).saturating_add(around).saturating_add(images)
    }

    /// About how many input tokens the next request will have.
    pub fn token_estimate(&self, image_tokens: u64) -> u64 {
        let around = self.messages.saturating_mul(Self::PER_MESSAGE);
        let images = u64::from(self.images).saturating_mul(image_tokens);
        self.tokens.saturating_add(self.bytes / Self::BYTES_PER_TOKEN).saturating_add(around).saturating_add(images)
    }

    /// Counts one more message.
    pub fn add(&mut self, bytes: u64) {
        self.add_many(bytes, 1);
    }

    /// Counts more messages.
    pub fn add_many(&mut self, bytes: u64, messages: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.messages = self.messages.saturating_add(messages);
        self.all_bytes = self.all_bytes.saturating_add(bytes);
        self.all_messages = self.all_messages.saturating_add(messages);
    }

    /// Counts images shown with a message that is counted already.
    pub fn add_images(&mut self, images: u32) {
        self.images = self.images.saturating_add(images);
        self.all_images = self.all_images.saturating_add(images);
    }

    /// Counts a reply with the tokens that the provider counted up to its end. One that counts less than before cannot
    /// make the next bound smaller than the truth.
    pub fn counted(&mut self, tokens: u64, bytes: u64) {
        self.add(bytes);
        self.tokens = self.tokens.max(tokens);
        self.bytes = 0;
        self.messages = 0;
        self.images = 0;
    }

    /// Forgets what a provider counted: another model counts by itself.
    pub fn recount(&mut self) {
        self.tokens = 0;
        self.bytes = self.all_bytes;
        self.messages = self.all_messages;
        self.images = self.all_images;
    }
}

/// Failures in a row, cleared by a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Faults {
    /// Malformed model replies.
    pub malformed: u32,
    /// Failed model attempts.
    pub model: u32,
}
