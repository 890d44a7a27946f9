//! Identifiers: a prefix for the reader, then 26 characters that sort by time.

use crate::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 alphabet, as ULIDs use it (no I, L, O, U).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A text that is not an identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a run id: expected `run_` and 26 letters and digits, as `errand runs` lists them")]
pub struct InvalidId {
    /// What was given, cut to 64 characters.
    pub text: String,
}

/// One errand. Printed `run_` + 26 characters; sorts by the time it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u128);

impl RunId {
    /// An id from the time of creation and 80 bits of entropy (the rest of `entropy` is ignored).
    pub fn new(at: Timestamp, entropy: u128) -> Self {
        let time = u128::from(at.as_millis()) << 80;
        Self(time | (entropy & ((1 << 80) - 1)))
    }

    /// The id of the run that follows from `origin` by `what`: the same inputs always give the same id,
    /// so starting it twice is harmless.
    pub fn derived(origin: RunId, what: &str, at: Timestamp) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(origin.0.to_be_bytes());
        hasher.update(what.as_bytes());
        let digest = hasher.finalize();
        let mut entropy = [0u8; 16];
        entropy.copy_from_slice(&digest[..16]);
        Self::new(at, u128::from_be_bytes(entropy))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("run_")?;
        for position in (0..26).rev() {
            let index = (self.0 >> (position * 5)) & 31;
            fmt::Write::write_char(f, char::from(ALPHABET[index as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { text: text.chars().take(64).collect() };
        let digits = text.strip_prefix("run_").ok_or_else(invalid)?;
        if digits.len() != 26 {
            return Err(invalid());
        }
        let mut value: u128 = 0;
        for byte in digits.bytes() {
            let index = ALPHABET.iter().position(|symbol| *symbol == byte.to_ascii_uppercase()).ok_or_else(invalid)?;
            value = value.checked_mul(32).ok_or_else(invalid)? | index as u128;
        }
        Ok(Self(value))
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who pays: the owner of keys, budgets and runs. 1 to 64 ASCII letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

impl TenantId {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The only tenant there is where nobody made others.
impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no name of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no name of a tenant: give 1 to 64 letters, digits, `_` and `-`")]
pub struct InvalidTenant {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl FromStr for TenantId {
    type Err = InvalidTenant;

    fn from_str(text: &str) -> Result<Self, InvalidTenant> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidTenant { text: text.chars().take(64).collect() })
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A tool call of a run: the record it was born in and its place in that record's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId {
    /// Number of the record whose model reply asked for the call.
    pub record: u64,
    /// Place in that reply's list of calls, from 0.
    pub index: u32,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.record, self.index)
    }
}

impl FromStr for CallId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parsed = text
            .split_once('.')
            .and_then(|(record, index)| Some(CallId { record: record.parse().ok()?, index: index.parse().ok()? }));
        parsed.ok_or_else(|| InvalidId { text: text.chars().take(64).collect() })
    }
}

/// Who tried: one invocation of a worker, told apart from every other by 64 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce(pub u64);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Nonce).map_err(serde::de::Error::custom)
    }
}

/// A SHA-256 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let mut bytes = [0u8; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidHash);
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(|_| InvalidHash)?;
        }
        Ok(Self(bytes))
    }
}

/// A text that is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct InvalidHash;

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_printing_and_sort_by_time() {
        let early = RunId::new(Timestamp::from_millis(1), u128::MAX);
        let late = RunId::new(Timestamp::from_millis(2), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.to_string().parse::<RunId>().unwrap(), late);
        assert_eq!(late.to_string().to_lowercase().parse::<RunId>().unwrap(), late);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "run_",
            "run_!",
            "task_01HZZZZZZZZZZZZZZZZZZZZZZZ",
            "run_ZZZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "run_UUUUUUUUUUUUUUUUUUUUUUUUUU",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
        assert!("7".parse::<CallId>().is_err());
        assert!("éé".repeat(16).parse::<Hash>().is_err());
    }
}
