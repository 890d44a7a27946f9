//! A key as text: `errand_` + 16 characters of id + `_` + 40 characters of secret + 7 of checksum.
//!
//! Secret scanners find keys by `errand_[0-9a-hjkmnp-tv-z]{16}_[0-9a-hjkmnp-tv-z]{47}`, and the checksum (CRC-32 of all before
//! it) tells a key from a text that looks like one, as it tells a typing error from a key that is unknown.

use std::fmt;
use std::str::FromStr;

/// What every key begins with.
pub const PREFIX: &str = "errand_";
/// Crockford's base 32 alphabet in small letters: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an id: 80 bits.
const ID: usize = 16;
/// Characters of a secret: 200 bits.
const SECRET: usize = 40;
/// Characters of a checksum: 35 bits hold the 32.
const CHECK: usize = 7;

/// By which a key is known without being told: the 16 characters after `errand_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        random(ID).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no id of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("that is no id of a key: expected 16 small letters and digits, as `errand keys list` shows them")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    /// Takes a whole key too: somebody has found one somewhere and wants it revoked.
    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        if let Some(read) = read(text) {
            return Ok(read.id);
        }
        if text.len() == ID && is_plain(text) { Ok(Self(text.to_owned())) } else { Err(InvalidKeyId) }
    }
}

/// A text that has the form of a key.
pub(crate) struct Read<'a> {
    pub(crate) id: KeyId,
    pub(crate) secret: &'a str,
}

/// The parts of a key; `None` for a text that cannot be one.
pub(crate) fn read(text: &str) -> Option<Read<'_>> {
    let rest = text.strip_prefix(PREFIX).filter(|rest| rest.len() == ID + 1 + SECRET + CHECK && rest.is_ascii())?;
    let (id, rest) = rest.split_at(ID);
    let (secret, check) = rest.strip_prefix('_')?.split_at(SECRET);
    let is_whole = is_plain(id) && is_plain(secret) && check == checksum(&text[..text.len() - CHECK]);
    is_whole.then(|| Read { id: KeyId(id.to_owned()), secret })
}

/// A new key with this id.
pub(crate) fn write(id: &KeyId) -> Result<String, getrandom::Error> {
    Ok(sealed(&format!("{PREFIX}{id}_{}", random(SECRET)?)))
}

/// `text` with its checksum.
pub(crate) fn sealed(text: &str) -> String {
    format!("{text}{}", checksum(text))
}

fn checksum(text: &str) -> String {
    let sum = crc32fast::hash(text.as_bytes());
    (0..CHECK).rev().map(|place| digit((u64::from(sum) >> (5 * place)) as u8)).collect()
}

/// So many random characters: each has five bits of a random byte.
fn random(length: usize) -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; SECRET];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().take(length).map(|byte| digit(*byte)).collect())
}

fn digit(byte: u8) -> char {
    char::from(ALPHABET[usize::from(byte & 31)])
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_no_other_text_is() {
        let id = KeyId::random().unwrap();
        let text = write(&id).unwrap();
        let parts = read(&text).unwrap();
        assert_eq!((&parts.id, parts.secret.len(), text.len()), (&id, 40, 71));
        assert_eq!(text.parse::<KeyId>(), Ok(id.clone()));
        assert_eq!(id.as_str().parse::<KeyId>(), Ok(id));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'7' { b'8' } else { b'7' };
            assert!(read(&String::from_utf8(other).unwrap()).is_none(), "one character of {text} is another, at {at}");
        }
        let cut = &text[..70];
        for other in ["", "errand_", cut, &format!("{text}0"), &format!(" {text}"), &text.to_uppercase(), &"é".repeat(40)] {
            assert!(read(other).is_none(), "{other}");
        }
        for other in ["", "0123456789abcde", "0123456789abcdefg", "0123456789abcdeu", "../../etc/passwd"] {
            assert_eq!(other.parse::<KeyId>(), Err(InvalidKeyId), "{other}");
        }
    }

    /// Scanners outside of this repository go by it: it must not change.
    #[test]
    fn the_checksum_is_that_of_the_documentation() {
        let text = "errand_0123456789abcdef_0123456789abcdefghjkmnpqrstvwxyz01234567";
        assert_eq!(checksum(text), "3924jwr");
        assert!(read(&format!("{text}{}", checksum(text))).is_some());
    }
}
