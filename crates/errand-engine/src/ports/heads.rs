use super::PortError;
use async_trait::async_trait;

/// Small objects under names, replaced as a whole on the condition that they are as the writer knows them: which snapshot of
/// a sandbox session is the last.
#[async_trait]
pub trait Heads: Send + Sync {
    /// What is there, if anything.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError>;

    /// Puts `bytes` there in one step if exactly `expected` is there (`None`: nothing); when it returns, everybody reads
    /// them. False if something else is there. After an error nobody knows whether it was done.
    async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError>;
}
