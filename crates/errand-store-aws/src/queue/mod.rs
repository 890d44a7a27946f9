//! Messages in SQS: standard queues, at least once and in any order, with the tenant as message group so that SQS is fair
//! among tenants.
//!
//! [`AwsQueue`] sends, [`AwsInbox`] receives for workers that pull, `wire` is what a message looks like on its way, `batch`
//! joins calls that are made at the same time, `runner` makes the queue of one host of boxes and takes it away.

mod batch;
mod inbox;
mod receipts;
mod runner;
mod send;
pub(crate) mod wire;

pub use inbox::AwsInbox;
pub use runner::AwsRunnerQueues;
pub use send::AwsQueue;
pub use wire::{Sorted, sort};
