//! The real world: the system's clock, its entropy, and waiting.

use async_trait::async_trait;
use errand_core::{Nonce, Timestamp};
use errand_engine::ports::World;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock and the entropy of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWorld;

#[async_trait]
impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn nonce(&self) -> Nonce {
        Nonce(getrandom::u64().expect("every system this builds for has an entropy source"))
    }

    fn entropy(&self) -> u128 {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("every system this builds for has an entropy source");
        u128::from_ne_bytes(bytes)
    }

    /// Needs a tokio runtime with its timer.
    async fn sleep(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_differ_and_the_clock_is_past_2025() {
        assert_ne!(SystemWorld.nonce(), SystemWorld.nonce());
        assert_ne!(SystemWorld.entropy() >> 64, SystemWorld.entropy() & u128::from(u64::MAX));
        assert!(SystemWorld.now().as_millis() > 1_735_689_600_000);
    }
}
