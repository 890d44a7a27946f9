//! Errand on AWS: runs, heads and assistants in one DynamoDB table, blobs in one S3 bucket, messages in SQS queues.
//!
//! Reading order: [`Settings`] (names and addresses), [`Aws`] (the clients, and everything that is made of them),
//! [`AwsStore`] (runs, see `store/`), [`AwsBlobs`], [`AwsHeads`], [`AwsAssistants`], [`AwsQueue`], [`AwsInbox`] and [`AwsRunnerQueues`], [`Error`] (every way in
//! which it can fail, each with a code). Below them: `row` (keys and attributes, in which order and why), `body` (where the
//! bytes of a row lie), `table` (conditional writes and queries), `packed` (compression).
//!
//! Absent on purpose: decisions about runs, and making tables, buckets and shared queues, which is Terraform's. Tests are in
//! `tests/it/`: the suite that all adapters pass, and what is peculiar to AWS, on an emulator.

#[cfg(test)]
#[path = "../../../tests/it/conformance.rs"]
#[allow(unreachable_pub, dead_code, reason = "the suite is public where it is at home; here its samples are used")]
mod conformance;

mod assistants;
mod aws;
mod blobs;
mod body;
mod error;
mod heads;
mod packed;
mod queue;
mod row;
mod settings;
mod store;
mod table;

pub use assistants::AwsAssistants;
pub use aws::{Aws, loader};
pub use blobs::AwsBlobs;
pub use error::Error;
pub use heads::AwsHeads;
pub use queue::{AwsInbox, AwsQueue, AwsRunnerQueues, Sorted, sort};
pub use settings::{Settings, TENANT};
pub use store::AwsStore;
