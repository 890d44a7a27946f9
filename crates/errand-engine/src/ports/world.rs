use async_trait::async_trait;
use errand_core::{Nonce, Timestamp};

/// Time and entropy.
#[async_trait]
pub trait World: Send + Sync {
    /// The time now. May be wrong or set back.
    fn now(&self) -> Timestamp;

    /// 64 random bits.
    fn nonce(&self) -> Nonce;

    /// 80 random bits or more, for a run id.
    fn entropy(&self) -> u128 {
        u128::from(self.nonce().0) << 64 | u128::from(self.nonce().0)
    }

    /// Ends when `millis` have passed, by a clock that is never set back.
    async fn sleep(&self, millis: u64);
}
