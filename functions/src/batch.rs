//! Messages of one invocation: all at the same time, each for itself. What fails, panics or is not done in time is named to
//! Lambda as failed and comes again; everything else is done with.

use async_trait::async_trait;
use errand_core::Timestamp;
use errand_engine::ports::World;
use futures::StreamExt;
use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::panic::AssertUnwindSafe;
use std::pin::pin;

/// So long before the deadline nothing goes on any longer: what is under way is handed back, in milliseconds.
pub const HAND_BACK_MS: u64 = 4_000;
/// So long before the deadline the answer is given, in milliseconds.
const ANSWER_MS: u64 = 1_000;

/// An event of SQS ("Using Lambda with Amazon SQS", checked 2026-11-22), as far as it is looked at.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Batch {
    /// Ten by default; more where somebody sets it so.
    #[serde(rename = "Records")]
    pub records: Vec<Record>,
}

/// A message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// By which Lambda is told that it failed.
    pub message_id: String,
    /// By which its time of being hidden can be changed.
    pub receipt_handle: String,
    /// What was sent.
    pub body: String,
    /// What SQS knows of it.
    pub attributes: Attributes,
}

/// What SQS knows of a message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attributes {
    /// Which delivery this is, from 1: a number as text.
    pub approximate_receive_count: String,
}

impl Record {
    /// Which delivery this is, from 1.
    pub fn receives(&self) -> u32 {
        self.attributes.approximate_receive_count.parse().unwrap_or(1)
    }

    /// How long a message that failed is put off, in milliseconds.
    pub fn back_off(&self) -> u64 {
        250 << self.receives().min(6)
    }
}

/// What Lambda is told: the messages that come again. It deletes the others.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// Each by its id.
    pub batch_item_failures: Vec<Failure>,
}

/// A message that comes again.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its id.
    pub item_identifier: String,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Lambda deletes it.
    Done,
    /// It comes again.
    Again,
}

/// When an invocation must have stopped what it does.
pub fn hand_back_at(deadline: Timestamp) -> Timestamp {
    Timestamp::from_millis(deadline.as_millis().saturating_sub(HAND_BACK_MS))
}

/// What one invocation does with its messages.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a message.
    async fn handle(&self, record: &Record) -> Fate;

    /// A message comes again after so many milliseconds.
    async fn put_off(&self, record: &Record, millis: u64);

    /// The time is nearly over: what is under way stops so that another can take it over.
    fn hand_back(&self);
}

impl Batch {
    /// Has each message handled, all at the same time. Before `deadline` what is under way is handed back; what does not end
    /// by that is left where it is.
    pub fn each<'a>(
        &'a self,
        world: &'a dyn World,
        deadline: Timestamp,
        handler: &'a dyn Handler,
    ) -> BoxFuture<'a, Failures> {
        self.all(world, deadline, handler).boxed()
    }

    async fn all(&self, world: &dyn World, deadline: Timestamp, handler: &dyn Handler) -> Failures {
        let mut done = vec![false; self.records.len()];
        let mut jobs = FuturesUnordered::new();
        for (index, record) in self.records.iter().enumerate() {
            jobs.push(one(handler, index, record).boxed());
        }
        let mut note = |(index, fate): (usize, Fate)| done[index] = fate == Fate::Done;
        if !drain(&mut jobs, world, hand_back_at(deadline), &mut note).await {
            tracing::warn!("the function's time is nearly over: what is under way is handed back");
            handler.hand_back();
            let last = Timestamp::from_millis(deadline.as_millis().saturating_sub(ANSWER_MS));
            drain(&mut jobs, world, last, &mut note).await;
        }
        drop(jobs);
        let failed = self.records.iter().zip(done).filter(|(_, is_done)| !is_done);
        let failed = failed.map(|(record, _)| Failure { item_identifier: record.message_id.clone() });
        Failures { batch_item_failures: failed.collect() }
    }
}

async fn one(handler: &dyn Handler, index: usize, record: &Record) -> (usize, Fate) {
    // A panic is an error of one message.
    if let Ok(fate) = AssertUnwindSafe(handler.handle(record)).catch_unwind().await {
        return (index, fate);
    }
    tracing::error!(id = record.message_id, "the function panicked; the message comes again");
    handler.put_off(record, record.back_off()).await;
    (index, Fate::Again)
}

/// Carries all `jobs` to their end, or until `at`; true if they ended.
async fn drain<T>(
    jobs: &mut FuturesUnordered<BoxFuture<'_, T>>,
    world: &dyn World,
    at: Timestamp,
    note: &mut (impl FnMut(T) + Send),
) -> bool {
    let mut time = pin!(world.sleep(at.since(world.now())));
    loop {
        match select(jobs.next(), time).await {
            Either::Left((Some(ended), rest)) => {
                note(ended);
                time = rest;
            }
            Either::Left((None, _)) => return true,
            Either::Right(_) => return jobs.is_empty(),
        }
    }
}
