use super::PortError;
use async_trait::async_trait;

/// Small objects under names, replaced as a whole on the condition that they are as the writer knows them: which snapshot of
/// a sandbox session is the last, who holds a session, which runners there are.
///
/// A name is made of 1 to 64 ASCII letters, digits, `_` and `-`; or of two such parts with a `.` between them, the first of
/// which is its *kind*, by which names can be listed. An object has at most [`HEAD_BYTES_MAX`] bytes.
#[async_trait]
pub trait Heads: Send + Sync {
    /// What is there, if anything.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError>;

    /// Puts `bytes` there in one step if exactly `expected` is there (`None`: nothing); when it returns, everybody reads
    /// them. False if something else is there. After an error nobody knows whether it was done.
    async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError>;

    /// Takes away what is there if it is exactly `expected`; when it returns, everybody finds nothing. False if something
    /// else is there, or nothing. After an error nobody knows whether it was done.
    async fn remove(&self, name: &str, expected: &[u8]) -> Result<bool, PortError>;

    /// Names of the form `KIND.REST` with what is there, in the order of their names, from the first after `after` (a whole
    /// name; need not be there any longer), at most `limit`.
    async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, PortError>;
}

/// Longest object, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// True if `name` is one that [`Heads`] take: adapters refuse others, so that none leads anywhere else.
pub fn is_head_name(name: &str) -> bool {
    let mut parts = name.splitn(2, '.');
    parts.all(is_head_part)
}

/// True if `part` is one of the parts of such a name.
pub fn is_head_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !part.is_empty() && part.len() <= 64 && part.bytes().all(plain)
}
