//! `step`: makes the records that are due, and carries out the calls that need no box.

use crate::batch::{Batch, Failures, Fate, Handler, Record, hand_back_at};
use crate::{Cloud, Error, Settings};
use async_trait::async_trait;
use errand_core::Timestamp;
use errand_engine::ports::{Delivery, Message};
use errand_engine::{Disposition, Driver};
use errand_store_aws::{Sorted, sort};

/// How often messages of newer code are left to that, and for how long, in milliseconds: as everywhere on SQS.
const LEFT_TIMES: u32 = 20;
const LEFT_MS: u64 = 30_000;

/// The function behind the queue of steps. Cheap to clone.
#[derive(Clone)]
pub struct Step {
    cloud: Cloud,
}

impl Step {
    /// From the environment.
    ///
    /// # Errors
    /// Settings that cannot be used, such as a time-out that a model's may outlast.
    pub async fn open() -> Result<Self, Error> {
        let settings = Settings::from_environment()?;
        settings.check_timeout()?;
        Ok(Self::new(Cloud::open(&settings).await?))
    }

    /// Over `cloud`.
    pub fn new(cloud: Cloud) -> Self {
        Self { cloud }
    }

    /// Handles the messages of one invocation, which must be answered before `deadline`.
    pub async fn handle(&self, batch: Batch, deadline: Timestamp) -> Failures {
        let invocation = Invocation { cloud: &self.cloud, driver: self.cloud.driver(), until: hand_back_at(deadline) };
        batch.each(&*self.cloud.world, deadline, &invocation).await
    }
}

/// One invocation, with a driver of its own.
struct Invocation<'a> {
    cloud: &'a Cloud,
    driver: Driver,
    /// Nothing is begun that may not end by then.
    until: Timestamp,
}

#[async_trait]
impl Handler for Invocation<'_> {
    async fn handle(&self, record: &Record) -> Fate {
        match sort(&record.body, self.cloud.world.now()) {
            Sorted::Due(message) => self.deliver(record, message).await,
            Sorted::Early(message) => self.send_on(record, &message).await,
            Sorted::Newer(_) if record.receives() < LEFT_TIMES => {
                self.put_off(record, LEFT_MS).await;
                Fate::Again
            }
            Sorted::Newer(version) => {
                self.put_aside(record, &format!("it has version {version}, which no worker here knows")).await
            }
            Sorted::Unusable(reason) => self.put_aside(record, &reason).await,
        }
    }

    async fn put_off(&self, record: &Record, millis: u64) {
        self.cloud.aws.put_off(&self.cloud.aws.settings().steps, &record.receipt_handle, millis).await;
    }

    fn hand_back(&self) {
        self.driver.hand_back();
    }
}

impl Invocation<'_> {
    async fn deliver(&self, record: &Record, message: Message) -> Fate {
        // The queue hides it for longer than the function lives.
        let delivery = Delivery { message, hidden_until: self.until, receives: record.receives(), handle: 0 };
        match self.driver.handle(&delivery).await {
            Ok(Disposition::Acknowledge) => Fate::Done,
            Ok(Disposition::GiveBack(at)) => {
                self.put_off(record, at.since(self.cloud.world.now())).await;
                Fate::Again
            }
            Err(error) => {
                tracing::warn!(run = %delivery.message.run(), code = error.code(), %error, "message given back");
                self.put_off(record, record.back_off()).await;
                Fate::Again
            }
        }
    }

    /// Delays are 15 minutes at most: what is due later goes round.
    async fn send_on(&self, record: &Record, message: &Message) -> Fate {
        match self.cloud.queue.send_to(&self.cloud.aws.settings().steps, message).await {
            Ok(()) => Fate::Done,
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "a message that is due later could not be sent on");
                self.put_off(record, record.back_off()).await;
                Fate::Again
            }
        }
    }

    async fn put_aside(&self, record: &Record, reason: &str) -> Fate {
        tracing::warn!(
            id = record.message_id,
            reason,
            "a message that nobody can make use of is put among the dead letters"
        );
        match self.cloud.queue.put_aside(&record.body, reason).await {
            Ok(()) => Fate::Done,
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "a message could not be put among the dead letters");
                self.put_off(record, record.back_off()).await;
                Fate::Again
            }
        }
    }
}
