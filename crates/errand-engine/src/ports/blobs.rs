use super::PortError;
use async_trait::async_trait;
use errand_core::Hash;
use std::time::Duration;

/// Content-addressed bytes. What was put is never changed.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Keeps `bytes` under their SHA-256. Putting the same bytes again is harmless.
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError>;

    /// The bytes with this digest, checked; `None` if they are not there.
    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError>;

    /// What lets others fetch blobs from the store itself; none where the store can sign nothing, as on a laptop.
    fn signer(&self) -> Option<&dyn Signer> {
        None
    }
}

/// Makes links by which whoever has one fetches one blob, without asking us.
#[async_trait]
pub trait Signer: Send + Sync {
    /// A link to the bytes with this digest, as they were put; it works for `valid` and then no more.
    async fn link(&self, hash: &Hash, valid: Duration) -> Result<String, PortError>;
}
