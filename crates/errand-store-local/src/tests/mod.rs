//! What is peculiar to this store. What it shares with others is in the conformance suite, run here as well.

#[path = "../../../../tests/it/conformance.rs"]
#[allow(unreachable_pub, reason = "the suite is public where it is at home")]
mod conformance;

mod blobs;
mod cache;
mod claims;
mod group;
mod kill;
mod opening;
mod queue;
mod suite;

use crate::{DataFolder, Error, LocalStore, Mode};
use async_trait::async_trait;
use conformance::sample;
use errand_core::{Nonce, RunLog, Timestamp};
use errand_engine::ports::{Commit, Store, World};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// A world whose clock stands still until it is moved.
struct TestWorld {
    now: watch::Sender<u64>,
    /// How far its steady clock has come: sleeps end by it, however the other is set.
    steady: watch::Sender<u64>,
    nonces: AtomicU64,
}

impl TestWorld {
    fn new() -> Arc<Self> {
        let now = watch::Sender::new(sample::at(0).as_millis());
        Arc::new(Self { now, steady: watch::Sender::new(0), nonces: AtomicU64::new(1_000) })
    }

    fn set(&self, millis: u64) {
        self.now.send_replace(sample::at(millis).as_millis());
    }

    fn pass(&self, millis: u64) {
        self.now.send_modify(|now| *now += millis);
        self.pass_without_clock(millis);
    }

    fn pass_without_clock(&self, millis: u64) {
        self.steady.send_modify(|steady| *steady += millis);
    }
}

#[async_trait]
impl World for TestWorld {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(*self.now.borrow())
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.nonces.fetch_add(1, Ordering::Relaxed))
    }

    async fn sleep(&self, millis: u64) {
        let mut steady = self.steady.subscribe();
        let end = *steady.borrow() + millis;
        steady.wait_for(|now| *now >= end).await.unwrap();
    }
}

fn own(path: &Path, world: &Arc<TestWorld>) -> Result<DataFolder, Error> {
    DataFolder::open(path, Mode::Own { command: "errand test".to_owned() }, Arc::clone(world) as Arc<dyn World>)
}

fn read(path: &Path) -> Result<DataFolder, Error> {
    DataFolder::open(path, Mode::Read, TestWorld::new())
}

fn code<T>(opened: Result<T, Error>) -> (&'static str, String) {
    match opened {
        Ok(_) => ("ok", String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

async fn begin(store: &LocalStore, number: u64) -> RunLog {
    let log = sample::log(sample::run(number), sample::at(number));
    assert_eq!(store.begin(log.run.id, &log.records, sample::at(number)).await.unwrap(), Commit::Stored);
    log
}

async fn step(store: &LocalStore, log: &mut RunLog, attempt: u32, books: bool) {
    let record = sample::step(log, attempt, 1, books);
    assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
    log.push(record);
}
