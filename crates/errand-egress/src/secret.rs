//! Secrets that a box uses and never sees: it holds a placeholder, which becomes the secret in the headers of requests to the
//! hosts it belongs to, and the secret becomes the placeholder again in what these hosts answer.

use std::fmt;

use bytes::{Bytes, BytesMut};
use hyper::header::{HeaderMap, HeaderValue};
use memchr::memmem;

use crate::host::Pattern;
use crate::target::Place;

/// Shortest secret: a shorter one would be found in texts by chance.
const VALUE_BYTES_MIN: usize = 8;
/// Longest secret.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// A secret, and the hosts that may see it.
#[derive(Clone)]
pub struct Secret {
    name: String,
    value: String,
    placeholder: String,
    hosts: Vec<Pattern>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, …)", self.name)
    }
}

/// A secret that cannot be used; nothing of it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {name} cannot be swapped by the proxy: {problem}")]
pub struct SecretError {
    /// The variable it goes by.
    pub name: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl SecretError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "egress_grant_invalid"
    }
}

impl Secret {
    /// The secret `value`, whose placeholder the box finds in its variable `name`, for these hosts.
    ///
    /// # Errors
    /// [`SecretError`]: it is too short, too long, or no text for a header; or the name is none for a variable; or the system
    /// gives no random number.
    pub fn new(name: &str, value: &str, hosts: Vec<Pattern>) -> Result<Secret, SecretError> {
        let refuse = |problem| Err(SecretError { name: name.chars().take(80).collect(), problem });
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.len() > 200 || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit())
        {
            return refuse("its name is none for a variable");
        }
        if !(VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len()) {
            return refuse("it has fewer than 8 or more than 8192 bytes");
        }
        if HeaderValue::from_str(value).is_err() {
            return refuse("it cannot stand in a header");
        }
        if hosts.is_empty() {
            return refuse("no host may see it");
        }
        let mut chance = [0u8; 16];
        if getrandom::fill(&mut chance).is_err() {
            return refuse("the system gives no random number");
        }
        let placeholder = format!("errand-secret-{:032x}", u128::from_be_bytes(chance));
        Ok(Secret { name: name.to_owned(), value: value.to_owned(), placeholder, hosts })
    }

    /// The variable and the placeholder that the box finds in it.
    pub(crate) fn variable(&self) -> (String, String) {
        (self.name.clone(), self.placeholder.clone())
    }
}

/// Those of the secrets that `host` may see.
pub(crate) fn known<'a>(host: &Place, secrets: &'a [Secret]) -> Vec<&'a Secret> {
    secrets.iter().filter(|secret| secret.hosts.iter().any(|pattern| pattern.means(host))).collect()
}

/// Puts secrets in place of their placeholders; tells whether there was one.
pub(crate) fn swap(headers: &mut HeaderMap, secrets: &[&Secret]) -> bool {
    let mut is_used = false;
    for secret in secrets {
        for value in headers.values_mut() {
            let Some(swapped) = replace(value.as_bytes(), &secret.placeholder, &secret.value) else { continue };
            // A secret was checked to be fit for a header, and so was what surrounds it.
            let Ok(mut swapped) = HeaderValue::from_bytes(&swapped) else { continue };
            swapped.set_sensitive(true);
            *value = swapped;
            is_used = true;
        }
    }
    is_used
}

/// Hides the secrets in the headers of an answer.
pub(crate) fn hide(headers: &mut HeaderMap, secrets: &[&Secret]) {
    for value in headers.values_mut() {
        for secret in secrets {
            if let Some(hidden) = replace(value.as_bytes(), &secret.value, &secret.placeholder)
                && let Ok(hidden) = HeaderValue::from_bytes(&hidden)
            {
                *value = hidden;
            }
        }
    }
}

fn replace(text: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    memmem::find(text, from.as_bytes())?;
    let (mut out, mut last) = (Vec::with_capacity(text.len()), 0);
    for at in memmem::find_iter(text, from.as_bytes()) {
        out.extend_from_slice(&text[last..at]);
        out.extend_from_slice(to.as_bytes());
        last = at + from.len();
    }
    out.extend_from_slice(&text[last..]);
    Some(out)
}

/// Hides secrets in a body that comes in pieces, also where one lies across two of them.
#[derive(Debug)]
pub(crate) struct Scrub {
    secrets: Vec<Secret>,
    held: BytesMut,
}

impl Scrub {
    pub(crate) fn new(secrets: &[&Secret]) -> Scrub {
        Scrub { secrets: secrets.iter().map(|secret| (*secret).clone()).collect(), held: BytesMut::new() }
    }

    /// What can be passed on after this piece; the beginning of what may be a secret waits.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        for secret in &self.secrets {
            if let Some(hidden) = replace(&self.held, &secret.value, &secret.placeholder) {
                self.held = BytesMut::from(&hidden[..]);
            }
        }
        let waits = self.secrets.iter().map(|secret| beginning(&self.held, secret.value.as_bytes())).max().unwrap_or(0);
        self.held.split_to(self.held.len() - waits).freeze()
    }

    /// What is left at the end.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

/// The length of the longest end of `text` that `value` begins with.
fn beginning(text: &[u8], value: &[u8]) -> usize {
    let longest = text.len().min(value.len().saturating_sub(1));
    (1..=longest).rev().find(|length| text.ends_with(&value[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(value: &str) -> Secret {
        Secret::new("KEY", value, vec![Pattern::parse("api.example").unwrap()]).unwrap()
    }

    #[test]
    fn a_placeholder_becomes_the_secret_for_its_hosts_only() {
        let secret = secret("sk-0123456789");
        let (name, placeholder) = secret.variable();
        assert_eq!(name, "KEY");
        let given = || {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {placeholder}").parse().unwrap());
            headers.insert("x", "y".parse().unwrap());
            headers
        };
        let all = [secret.clone()];
        let mut headers = given();
        let known_by = |host: &str| known(&Place::parse(host).unwrap(), &all);
        assert!(swap(&mut headers, &known_by("api.example")));
        assert_eq!(headers["authorization"], "Bearer sk-0123456789");
        hide(&mut headers, &[&secret]);
        assert_eq!(headers, given());
        let mut headers = given();
        assert!(known_by("other.example").is_empty() && !swap(&mut headers, &known_by("other.example")));
        assert_eq!(headers, given());
        assert!(!format!("{secret:?}").contains("sk-"));
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_told() {
        let hosts = || vec![Pattern::parse("api.example").unwrap()];
        for (name, value) in
            [("KEY", "short"), ("KEY", "with\nline break"), ("", "12345678"), ("A=B", "12345678"), ("1A", "12345678")]
        {
            let error = Secret::new(name, value, hosts()).unwrap_err().to_string();
            assert!(!error.contains(value), "{error}");
        }
        assert!(Secret::new("KEY", "12345678", Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn a_secret_is_hidden_however_the_body_is_cut(
            parts in proptest::collection::vec("(a|aab|aabaaab|aabaaabaaac|x){0,4}", 0..8)
        ) {
            let secret = secret("aabaaabaaac");
            let whole = parts.concat();
            let mut scrub = Scrub::new(&[&secret]);
            let mut out: Vec<u8> = parts.iter().flat_map(|part| scrub.piece(part.as_bytes())).collect();
            out.extend(scrub.rest());
            let expected = whole.replace("aabaaabaaac", &secret.placeholder);
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
