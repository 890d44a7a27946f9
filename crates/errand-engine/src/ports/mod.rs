//! What the engine asks of the world. One trait per kind of adapter; adapters know these and never each other.
//!
//! [`Store`], [`Blobs`], [`Heads`] and [`Assistants`] keep, [`Queue`] carries, [`Models`] think, [`Tools`] act, [`World`] tells time and draws
//! nonces, [`Watch`] looks on.

mod assistants;
mod blobs;
mod fleet;
mod heads;
mod models;
mod queue;
mod store;
mod tools;
mod watch;
mod world;

pub use assistants::Assistants;
pub use blobs::{Blobs, Signer};
pub use fleet::{RunnerQueues, Scale};
pub use heads::{HEAD_BYTES_MAX, Heads, is_head_name, is_head_part};
pub use models::{Delta, DeltaSink, ModelFacts, Models};
pub use queue::{Delivery, Inbox, Message, Queue};
pub use store::{Commit, DueEntry, Loaded, Page, Put, RunFilter, RunSummary, Store};
pub use tools::{Admission, ToolJob, ToolReply, Tools};
pub use watch::Watch;
pub use world::World;

/// A failure of an adapter, sorted by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It may work later: the message goes back to its queue.
    #[error("{message}")]
    Retry {
        /// What failed, on what, and what to do.
        message: String,
    },
    /// It will not work until a person changes something.
    #[error("{message}")]
    Broken {
        /// Stable code.
        code: &'static str,
        /// What failed, on what, and what to do.
        message: String,
    },
}

impl PortError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            PortError::Retry { .. } => "try_again",
            PortError::Broken { code, .. } => code,
        }
    }
}
