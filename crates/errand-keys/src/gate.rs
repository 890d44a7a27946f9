//! What a listener asks of every request.

use crate::form::{KeyId, PREFIX};
use crate::keys::{Error, Keys};
use errand_core::{TenantId, Timestamp};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose runs, files and sandboxes it begins and sees.
    pub tenant: TenantId,
    /// By which key; none for a program of this machine that needs none.
    pub key: Option<KeyId>,
}

impl Principal {
    /// A program of this machine, without a key.
    pub fn local() -> Self {
        Self { tenant: TenantId::default(), key: None }
    }
}

/// Why somebody is not let in. Only who has the secret of a key is told that it has expired or was revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no key, and one is needed.
    #[error("this server needs an API key: send it as `Authorization: Bearer errand_…` (in E2B's dialect as `X-API-Key`)")]
    Missing,
    /// What was sent is no key.
    #[error("what was sent is no API key: a key begins with `errand_` and has 71 characters; look for a missing one")]
    Malformed,
    /// There is no such key.
    #[error("this API key is not known here: `errand keys create` makes one")]
    Unknown,
    /// It was good once.
    #[error("this API key has expired: `errand keys create` makes another")]
    Expired,
    /// It was taken away.
    #[error("this API key was revoked: ask for another")]
    Revoked,
    /// Whether it is good cannot be told now.
    #[error("API keys cannot be checked just now: try again")]
    Unavailable {
        /// What failed, for the log.
        code: &'static str,
        /// What failed, for the log.
        reason: String,
    },
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Unavailable { code, .. } => code,
            _ => "invalid_api_key",
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Unavailable { code: error.code(), reason: error.to_string() }
    }
}

/// Lets requests in, or not. Clones share everything.
#[derive(Clone)]
pub struct Gate {
    keys: Option<Keys>,
    required: bool,
}

impl Gate {
    /// Whoever comes must have a key.
    pub fn closed(keys: Keys) -> Self {
        Self { keys: Some(keys), required: true }
    }

    /// A key is not needed; one that is sent must be right, and counts.
    pub fn ajar(keys: Keys) -> Self {
        Self { keys: Some(keys), required: false }
    }

    /// There are no keys.
    pub fn open() -> Self {
        Self { keys: None, required: false }
    }

    /// Whether nobody gets in without a key.
    pub fn is_closed(&self) -> bool {
        self.required
    }

    /// Who asks, given the key that came with the request.
    ///
    /// Where no key is needed, a text that does not begin as one counts as none: SDKs insist on sending something.
    ///
    /// # Errors
    /// Why there is no way in.
    pub async fn admit(&self, given: Option<&str>, now: Timestamp) -> Result<Principal, Refusal> {
        match (given, &self.keys) {
            (Some(text), Some(keys)) if self.required || text.starts_with(PREFIX) => keys.check(text, now).await,
            (Some(text), None) if text.starts_with(PREFIX) => Err(Refusal::Unknown),
            _ if self.required => Err(Refusal::Missing),
            _ => Ok(Principal::local()),
        }
    }

    /// Whether who was let in before as `before` would still be let in.
    ///
    /// # Errors
    /// Why not.
    pub async fn readmit(&self, before: &Principal, now: Timestamp) -> Result<(), Refusal> {
        match (&before.key, &self.keys) {
            (None, _) if self.required => Err(Refusal::Missing),
            (None, _) => Ok(()),
            (Some(_), None) => Err(Refusal::Unknown),
            (Some(id), Some(keys)) if keys.stands(id, now).await?.tenant == before.tenant => Ok(()),
            (Some(_), Some(_)) => Err(Refusal::Unknown),
        }
    }
}

/// The key in the value of an `Authorization` header: what stands behind `Bearer`.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
