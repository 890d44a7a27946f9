use super::PortError;
use async_trait::async_trait;
use errand_core::Hash;

/// Content-addressed bytes. What was put is never changed.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Keeps `bytes` under their SHA-256. Putting the same bytes again is harmless.
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError>;

    /// The bytes with this digest, checked; `None` if they are not there.
    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError>;
}
