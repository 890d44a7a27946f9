//! The machine's clock, which a test can move on.

use async_trait::async_trait;
use errand_core::{Nonce, Timestamp};
use errand_engine::ports::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that is ahead of the machine's by as much as a test says.
pub(crate) struct Clock {
    ahead_ms: AtomicU64,
    nonces: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { ahead_ms: AtomicU64::new(0), nonces: AtomicU64::new(1) })
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.ahead_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

#[async_trait]
impl World for Clock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        Timestamp::from_millis(since + self.ahead_ms.load(Ordering::SeqCst))
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.nonces.fetch_add(1, Ordering::SeqCst))
    }

    async fn sleep(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
