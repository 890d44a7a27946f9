//! Sending.

use super::batch::Batch;
use super::wire;
use crate::error::{At, sorted};
use crate::{Aws, Error, settings};
use async_trait::async_trait;
use aws_sdk_sqs::types::{BatchResultErrorEntry, MessageAttributeValue, SendMessageBatchRequestEntry};
use errand_core::Timestamp;
use errand_engine::ports::{Message, PortError, Queue, World};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest delay, in seconds (SQS, checked 2026-11-21).
const DELAY_MAX: u64 = 900;
/// Of a body that nobody can make use of, so much is kept, in bytes.
const KEPT: usize = 200 << 10;
/// Longest reason that goes along with it, in characters.
const REASON_MAX: usize = 300;
/// Queues whose batches are remembered: the shared ones and those of runners.
const QUEUES_MAX: usize = 1_000;

/// The sending side of the queues. Cheap to clone; clones share their batches.
#[derive(Clone)]
pub struct AwsQueue {
    aws: Aws,
    world: Arc<dyn World>,
    batches: Arc<Mutex<HashMap<String, Arc<Batch<Entry>>>>>,
}

/// A message on its way out.
#[derive(Debug, Clone)]
struct Entry {
    body: String,
    delay: i32,
    reason: Option<String>,
}

impl AwsQueue {
    pub(crate) fn new(aws: Aws, world: Arc<dyn World>) -> Self {
        Self { aws, world, batches: Arc::default() }
    }

    /// Sends a message to the queue at `url`, such as that of a runner.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn send_to(&self, url: &str, message: &Message) -> Result<(), Error> {
        let delay = delay(message.not_before(), self.world.now());
        self.add(url, Entry { body: wire::body(message), delay, reason: None }).await
    }

    /// Puts a body that nobody can make use of among the dead letters, with the reason. A long one is cut.
    ///
    /// # Errors
    /// When SQS does not take it: the message then stays where it is.
    pub async fn put_aside(&self, body: &str, reason: &str) -> Result<(), Error> {
        let end = body.floor_char_boundary(KEPT);
        // SQS takes no empty body and no control characters.
        let plain = |char: char| if is_plain(char) { char } else { '\u{FFFD}' };
        let body: String = if body.is_empty() { "(empty)".to_owned() } else { body[..end].chars().map(plain).collect() };
        let reason = reason.chars().take(REASON_MAX).map(plain).collect();
        let dead = self.aws.settings.dead.clone();
        self.add(&dead, Entry { body, delay: 0, reason: Some(reason) }).await
    }

    async fn add(&self, url: &str, entry: Entry) -> Result<(), Error> {
        let batch = self.batch(url);
        let call = |entries| {
            let (aws, url) = (self.aws.clone(), url.to_owned());
            async move { call(&aws, &url, entries).await }
        };
        batch.add(entry, call).await
    }

    fn batch(&self, url: &str) -> Arc<Batch<Entry>> {
        // No code that holds the lock can panic half way through a change.
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() >= QUEUES_MAX && !batches.contains_key(url) {
            batches.clear();
        }
        Arc::clone(batches.entry(url.to_owned()).or_default())
    }
}

async fn call(aws: &Aws, url: &str, entries: Vec<Entry>) -> Vec<Result<(), Error>> {
    let at = aws.at_queue("sqs:SendMessage", url);
    let built: Result<Vec<_>, _> = entries.iter().enumerate().map(|(id, entry)| request(id, entry)).collect();
    let sent = match built {
        Ok(built) => aws.sqs.send_message_batch().queue_url(url).set_entries(Some(built)).send().await,
        Err(error) => return vec![Err(error); entries.len()],
    };
    match sent {
        Ok(sent) => answers(at, entries.len(), sent.failed()),
        Err(error) => vec![Err(sorted(at, &error)); entries.len()],
    }
}

fn is_plain(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn request(id: usize, entry: &Entry) -> Result<SendMessageBatchRequestEntry, Error> {
    let unfit =
        |error: aws_sdk_sqs::error::BuildError| Error::Unfit { what: "a message".to_owned(), reason: error.to_string() };
    let request = SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(&entry.body);
    let request = request.delay_seconds(entry.delay).message_group_id(settings::TENANT);
    let request = match &entry.reason {
        Some(reason) => {
            let reason = MessageAttributeValue::builder().data_type("String").string_value(reason).build();
            request.message_attributes("reason", reason.map_err(unfit)?)
        }
        None => request,
    };
    request.build().map_err(unfit)
}

/// The answer of each of `count` entries, whose ids are their places.
pub(super) fn answers(at: At<'_>, count: usize, failed: &[BatchResultErrorEntry]) -> Vec<Result<(), Error>> {
    let mut answers = vec![Ok(()); count];
    for failure in failed {
        let (action, resource) = (at.action.to_owned(), at.resource.to_owned());
        let reason = format!("{}: {}", failure.code(), failure.message().unwrap_or_default());
        let error = match failure.sender_fault() {
            true => Error::Refused { action, resource, reason },
            false => Error::Unavailable { action, resource, reason },
        };
        if let Some(answer) = failure.id().parse().ok().and_then(|id: usize| answers.get_mut(id)) {
            *answer = Err(error);
        }
    }
    answers
}

/// Seconds that a message is held back, rounded up; what is due later is sent on when it arrives.
fn delay(not_before: Option<Timestamp>, now: Timestamp) -> i32 {
    let millis = not_before.map_or(0, |due| due.since(now));
    millis.div_ceil(1_000).min(DELAY_MAX) as i32
}

#[async_trait]
impl Queue for AwsQueue {
    async fn send(&self, message: Message) -> Result<(), PortError> {
        let url = match &message {
            // A call that needs no runner is carried out by whoever makes records.
            Message::Step { .. } | Message::Call { sandbox: false, .. } => &self.aws.settings.steps,
            Message::Call { sandbox: true, .. } => &self.aws.settings.calls,
        };
        Ok(self.send_to(url, &message).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_whole_seconds_and_fifteen_minutes_at_most() {
        let now = Timestamp::from_millis(1_000_000);
        let of = |millis: u64| delay(Some(now.plus(millis)), now);
        assert_eq!((delay(None, now), of(0), of(1), of(1_000), of(1_001)), (0, 0, 1, 1, 2));
        assert_eq!((of(900_000), of(900_001), of(u64::MAX / 2)), (900, 900, 900));
        assert_eq!(delay(Some(Timestamp::ZERO), now), 0, "what was due long ago");
    }

    #[test]
    fn each_entry_of_a_batch_has_its_own_answer() {
        let failure = |id: &str, sender| {
            let failure = BatchResultErrorEntry::builder().id(id).sender_fault(sender).code("X").message("no");
            failure.build().unwrap()
        };
        let at = At { action: "sqs:SendMessage", resource: "q", region: "r" };
        let answers = answers(at, 3, &[failure("1", true), failure("2", false), failure("9", true), failure("x", true)]);
        let codes: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Error::code)).collect();
        assert_eq!(codes, [None, Some("aws_refused"), Some("aws_unavailable")]);
    }
}
