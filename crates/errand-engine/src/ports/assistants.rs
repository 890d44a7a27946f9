use super::PortError;
use async_trait::async_trait;

/// Assistants that are kept, as the texts they were given as. Versions count from 1 and are never changed.
#[async_trait]
pub trait Assistants: Send + Sync {
    /// Keeps `text` as version `version` of `name`. Conditional: false, and nothing is written, if that version is there.
    async fn put(&self, name: &str, version: u64, text: &str) -> Result<bool, PortError>;

    /// One version of an assistant. `None` if there is none.
    async fn get(&self, name: &str, version: u64) -> Result<Option<String>, PortError>;

    /// The newest version of an assistant; 0 if it was never kept.
    async fn newest(&self, name: &str) -> Result<u64, PortError>;

    /// The names of all that were ever kept, in order.
    async fn names(&self) -> Result<Vec<String>, PortError>;
}
