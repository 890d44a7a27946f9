//! `sweep`: by the clock, looks after runs that are overdue and after what dead runners left; by the queue of dead letters,
//! looks at what was delivered too often.

use crate::batch::{Batch, Failures, Fate, Handler, Record, hand_back_at};
use crate::{Cloud, Error, Settings};
use async_trait::async_trait;
use errand_core::{RunId, Timestamp};
use errand_engine::ports::Delivery;
use errand_engine::{Disposition, Driver};
use errand_store_aws::{Sorted, sort};
use serde::{Deserialize, Serialize};

/// Overdue runs looked after at a time, and how many times in one invocation at most.
const RUNS: u32 = 100;
const ROUNDS: usize = 20;
/// What nobody can use is looked at again after so long, in milliseconds: SQS hides nothing for longer than 12 hours.
const FOR_PEOPLE_MS: u64 = 36_000_000;

/// What calls the function: a batch of dead letters, or anything else, such as a schedule.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// Dead letters.
    Letters(Batch),
    /// The clock.
    Clock(serde::de::IgnoredAny),
}

/// What the function answers.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// Dead letters that stay.
    Letters(Failures),
    /// What was looked after.
    Clock {
        /// Overdue runs.
        overdue: usize,
        /// Dead runners.
        buried: usize,
    },
}

/// The function behind the schedule and the queue of dead letters. Cheap to clone.
#[derive(Clone)]
pub struct Sweep {
    cloud: Cloud,
}

impl Sweep {
    /// From the environment.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub async fn open() -> Result<Self, Error> {
        Ok(Self::new(Cloud::open(&Settings::from_environment()?).await?))
    }

    /// Over `cloud`.
    pub fn new(cloud: Cloud) -> Self {
        Self { cloud }
    }

    /// Handles one invocation, which must be answered before `deadline`.
    ///
    /// # Errors
    /// Those of looking after runs and runners: the next time by the clock tries again.
    pub async fn handle(&self, event: Event, deadline: Timestamp) -> Result<Reply, errand_engine::Error> {
        match event {
            Event::Letters(batch) => Ok(Reply::Letters(self.letters(&batch, deadline).await)),
            Event::Clock(_) => self.clock(hand_back_at(deadline)).await,
        }
    }

    async fn clock(&self, until: Timestamp) -> Result<Reply, errand_engine::Error> {
        let driver = self.cloud.driver();
        // Runs are looked after whether or not runners can be, and the other way round.
        let swept = self.overdue(&driver, until).await;
        let revive = |run: RunId| {
            let driver = driver.clone();
            async move { driver.revive(run).await }
        };
        let buried = self.cloud.fleet.bury(revive).await?;
        Ok(Reply::Clock { overdue: swept?, buried })
    }

    async fn overdue(&self, driver: &Driver, until: Timestamp) -> Result<usize, errand_engine::Error> {
        let mut all = 0;
        for _ in 0..ROUNDS {
            let count = driver.sweep(RUNS).await?;
            all += count;
            if count < RUNS as usize || self.cloud.world.now() >= until {
                break;
            }
        }
        Ok(all)
    }

    async fn letters(&self, batch: &Batch, deadline: Timestamp) -> Failures {
        let letters = Letters { cloud: &self.cloud, driver: self.cloud.driver(), until: hand_back_at(deadline) };
        batch.each(&*self.cloud.world, deadline, &letters).await
    }
}

/// Dead letters of one invocation, with a driver of its own.
struct Letters<'a> {
    cloud: &'a Cloud,
    driver: Driver,
    until: Timestamp,
}

#[async_trait]
impl Handler for Letters<'_> {
    async fn handle(&self, record: &Record) -> Fate {
        let (Sorted::Due(message) | Sorted::Early(message)) = sort(&record.body, self.cloud.world.now()) else {
            // For people to look at; it goes when its time in the queue is over.
            self.put_off(record, FOR_PEOPLE_MS).await;
            return Fate::Again;
        };
        // Dead letters were delivered as often as messages may be, whatever this queue has counted.
        let delivery = Delivery { message, hidden_until: self.until, receives: u32::MAX, handle: 0 };
        match self.driver.dead_letter(&delivery).await {
            Ok(Disposition::Acknowledge) => Fate::Done,
            Ok(Disposition::GiveBack(at)) => {
                self.put_off(record, at.since(self.cloud.world.now())).await;
                Fate::Again
            }
            Err(error) => {
                tracing::warn!(run = %delivery.message.run(), code = error.code(), %error, "dead letter given back");
                self.put_off(record, record.back_off()).await;
                Fate::Again
            }
        }
    }

    async fn put_off(&self, record: &Record, millis: u64) {
        self.cloud.aws.put_off(&self.cloud.aws.settings().dead, &record.receipt_handle, millis).await;
    }

    fn hand_back(&self) {
        self.driver.hand_back();
    }
}
