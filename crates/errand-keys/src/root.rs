//! The key under which keys are hashed.

use errand_core::Hash;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// 32 random bytes that whoever serves keeps secret. What is stored of keys is worth nothing without it.
#[derive(Clone)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// From its bytes, which must have come from a good source of randomness.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The HMAC-SHA-256 of `parts` under this key. Each part ends with a line feed, so none may contain one.
    pub fn tag(&self, parts: &[&str]) -> Hash {
        // HMAC takes keys of any length (RFC 2104), so this one is always taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Hash::default() };
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        Hash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(…)")
    }
}
