//! Items beside the log: conditional writes with keys of their own, made by whoever has something to say.

use crate::{Allowance, Amount, CallId, Decision, Hash, Nonce, Observation, Spent, Timestamp, UserMessage};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an item is about. At most one item has a given key in a run; the first writer wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum ItemKey {
    /// An attempt at record `record` may be under way.
    Claim {
        /// The record that is due.
        record: u64,
        /// From 1.
        attempt: u32,
    },
    /// A claim that was taken back before anything was spent.
    Void {
        /// The record that was due.
        record: u64,
        /// The claim.
        attempt: u32,
    },
    /// What an attempt spent that did not become the record.
    Waste {
        /// The record that was due.
        record: u64,
        /// The attempt.
        attempt: u32,
    },
    /// A call is about to be sent. An effectful call has only attempt 1.
    Fence {
        /// Which call.
        call: CallId,
        /// From 1.
        attempt: u32,
    },
    /// What came of a call: for an effectful one, its receipt.
    Result {
        /// Which call.
        call: CallId,
    },
    /// A person's decision on whether a call is made.
    Approval {
        /// Which call.
        call: CallId,
    },
    /// A person's word on a call whose outcome was unknown.
    Resolution {
        /// Which call.
        call: CallId,
    },
    /// A person said something.
    Message {
        /// Chosen by the sender.
        id: String,
    },
    /// A person raised the budget.
    Raise {
        /// Chosen by the sender.
        id: String,
    },
}

impl fmt::Display for ItemKey {
    /// A short, unique, sortable text; stores may use it as their key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemKey::Claim { record, attempt } => write!(f, "claim/{record:010}/{attempt:05}"),
            ItemKey::Void { record, attempt } => write!(f, "void/{record:010}/{attempt:05}"),
            ItemKey::Waste { record, attempt } => write!(f, "waste/{record:010}/{attempt:05}"),
            ItemKey::Fence { call, attempt } => write!(f, "fence/{:010}/{:05}/{attempt:05}", call.record, call.index),
            ItemKey::Result { call } => write!(f, "result/{:010}/{:05}", call.record, call.index),
            ItemKey::Approval { call } => write!(f, "approval/{:010}/{:05}", call.record, call.index),
            ItemKey::Resolution { call } => write!(f, "resolution/{:010}/{:05}", call.record, call.index),
            ItemKey::Message { id } => write!(f, "message/{id}"),
            ItemKey::Raise { id } => write!(f, "raise/{id}"),
        }
    }
}

/// One item beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is about.
    pub key: ItemKey,
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub body: ItemBody,
}

impl Item {
    /// Digest of the item, by which a record names what it consumed.
    pub fn digest(&self) -> Hash {
        Hash::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// What an item says. The kind follows from the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "body", rename_all = "snake_case")]
pub enum ItemBody {
    /// Of a claim.
    Claim {
        /// Who claimed.
        by: Nonce,
        /// The most it can spend.
        bound: Amount,
        /// From then on the claimant is certainly dead.
        expires: Timestamp,
    },
    /// Of a void claim.
    Void,
    /// Of waste.
    Waste {
        /// What was spent.
        spent: Spent,
    },
    /// Of a fence.
    Fence {
        /// Who is about to send.
        by: Nonce,
        /// From then on the sender is certainly dead.
        expires: Timestamp,
    },
    /// Of a result.
    Result {
        /// What came of the call.
        observation: Observation,
    },
    /// Of an approval or a resolution.
    Decision {
        /// What was decided.
        decision: Decision,
        /// Who decided.
        by: String,
    },
    /// Of a message.
    Message {
        /// What was said.
        message: UserMessage,
    },
    /// Of a raise.
    Raise {
        /// By how much.
        by: Allowance,
        /// Who raised it.
        who: String,
    },
}
