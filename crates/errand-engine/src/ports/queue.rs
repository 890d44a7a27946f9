use super::PortError;
use async_trait::async_trait;
use errand_core::{CallId, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// What queues carry. At-least-once delivery, reordering, delay and duplicates are normal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// Record `record` of a run is due.
    Step {
        /// Which run.
        run: RunId,
        /// Which record.
        record: u64,
        /// Not before this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
    },
    /// A tool call is due.
    Call {
        /// Which run.
        run: RunId,
        /// Which call.
        call: CallId,
        /// It is a runner's, which has the run's workspace.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sandbox: bool,
        /// Not before this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
    },
}

impl Message {
    /// The run it is about.
    pub fn run(&self) -> RunId {
        match self {
            Message::Step { run, .. } | Message::Call { run, .. } => *run,
        }
    }

    /// Not before this time.
    pub fn not_before(&self) -> Option<Timestamp> {
        match self {
            Message::Step { not_before, .. } | Message::Call { not_before, .. } => *not_before,
        }
    }

    /// The same message, due at another time.
    pub fn at(&self, time: Timestamp) -> Self {
        let mut message = self.clone();
        match &mut message {
            Message::Step { not_before, .. } | Message::Call { not_before, .. } => *not_before = Some(time),
        }
        message
    }
}

/// A queue's sending side.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends a message. It should arrive at its `not_before`, may arrive earlier, and may arrive more than once.
    async fn send(&self, message: Message) -> Result<(), PortError>;
}

/// A message in the hands of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What was sent.
    pub message: Message,
    /// Until then nobody else receives it, counted from the first time anybody saw this delivery.
    pub hidden_until: Timestamp,
    /// Which delivery of the message this is, from 1.
    pub receives: u32,
    /// By which the queue knows it.
    pub handle: u64,
}

/// A queue's receiving side, for workers that pull.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// The next message that is due; waits for one. `None` once the queue is closed.
    async fn receive(&self) -> Option<Delivery>;

    /// The message is done with.
    async fn ack(&self, delivery: &Delivery);

    /// The message goes back and is delivered again at `at`.
    async fn give_back(&self, delivery: &Delivery, at: Timestamp);

    /// Ends the inbox: whoever receives gets `None`. What was not handed out goes back to the queue, if that lives on.
    async fn close(&self);
}
