use super::{Inbox, Message, PortError, Queue};
use async_trait::async_trait;
use std::sync::Arc;

/// The queues of runners: each has one of its own, made when it starts and taken away when it leaves.
#[async_trait]
pub trait RunnerQueues: Send + Sync {
    /// Makes the queue of a runner, unless it is there.
    async fn make(&self, runner: &str) -> Result<Arc<dyn Inbox>, PortError>;

    /// Sends a message to a runner. False if it has no queue (any longer).
    async fn send(&self, runner: &str, message: &Message) -> Result<bool, PortError>;

    /// Sends what waits in the queue of a runner that has left to `to`, and takes the queue away; what was in that runner's
    /// hands is lost. Harmless where there is no queue.
    async fn dissolve(&self, runner: &str, to: &dyn Queue) -> Result<(), PortError>;
}

/// Brings runners up.
#[async_trait]
pub trait Scale: Send + Sync {
    /// There is work and no runner is alive: there must be at least one. Asked again while that is so, and harmless then.
    async fn raise(&self) -> Result<(), PortError>;
}
