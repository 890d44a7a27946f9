//! What is done to messages that were received: they are deleted, or hidden for another while.

use super::batch::Batch;
use super::send::answers;
use crate::error::sorted;
use crate::{Aws, Error};
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;

/// Beyond this time a message is hidden no longer, in seconds: SQS counts 12 hours from its receipt (checked 2026-11-21).
const PUT_OFF_MAX: u64 = 36_000;

impl Aws {
    /// Hides a message of the queue at `url` that somebody else received, such as Lambda, for so many milliseconds from now:
    /// whole seconds, rounded up, 10 hours at most. If it fails, the message comes again when its time is over.
    pub async fn put_off(&self, url: &str, receipt: &str, millis: u64) {
        Receipts::new(self.clone(), url).hide(receipt, millis.div_ceil(1_000).min(PUT_OFF_MAX)).await;
    }
}

/// By receipts, in one queue.
#[derive(Debug)]
pub(super) struct Receipts {
    aws: Aws,
    url: String,
    deletes: Batch<String>,
}

impl Receipts {
    pub(super) fn new(aws: Aws, url: &str) -> Self {
        Self { aws, url: url.to_owned(), deletes: Batch::default() }
    }

    /// If it fails, the message comes again, which is normal.
    pub(super) async fn delete(&self, receipt: String) {
        let call = |receipts| {
            let (aws, url) = (self.aws.clone(), self.url.clone());
            async move { delete_all(&aws, &url, receipts).await }
        };
        let deleted = self.deletes.add(receipt, call).await;
        if let Err(error) = deleted {
            tracing::warn!(code = error.code(), %error, "a message that is done with could not be deleted; it comes again");
        }
    }

    /// If it fails, the message comes again when its time is over, or did already.
    pub(super) async fn hide(&self, receipt: &str, seconds: u64) {
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        let change = self.aws.sqs.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        if let Err(error) = change.visibility_timeout(seconds).send().await {
            let error = sorted(self.aws.at_queue("sqs:ChangeMessageVisibility", &self.url), &error);
            tracing::debug!(code = error.code(), %error, "a message could not be given back; it comes when its time is over");
        }
    }
}

async fn delete_all(aws: &Aws, url: &str, receipts: Vec<String>) -> Vec<Result<(), Error>> {
    let at = aws.at_queue("sqs:DeleteMessage", url);
    let entry = |(id, receipt): (usize, &String)| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(id.to_string()).receipt_handle(receipt);
        entry.build().map_err(|error| Error::Unfit { what: "a receipt".to_owned(), reason: error.to_string() })
    };
    let done = match receipts.iter().enumerate().map(entry).collect() {
        Ok(entries) => aws.sqs.delete_message_batch().queue_url(url).set_entries(Some(entries)).send().await,
        Err(error) => return vec![Err(error); receipts.len()],
    };
    match done {
        Ok(done) => answers(at, receipts.len(), done.failed()),
        Err(error) => vec![Err(sorted(at, &error)); receipts.len()],
    }
}
