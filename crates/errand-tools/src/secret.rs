//! Secrets: where tools get them, and that they are shown to nobody.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be sent where it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What tools may ask of the world they are started in.
pub trait Vault: Send + Sync {
    /// The secret called `name`.
    ///
    /// # Errors
    /// Why it cannot be read, without any of it. `None` if nobody set it.
    fn secret(&self, name: &str) -> Result<Option<Secret>, String>;

    /// A variable of the environment, for servers that are the user's own programs.
    fn variable(&self, name: &str) -> Option<OsString>;
}

/// A value of a manifest: written there, or named there and held elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Given {
    /// As it stands.
    Literal(String),
    /// A secret, with what goes before it (`Bearer `).
    Secret {
        /// Its name.
        secret: String,
        #[serde(default)]
        prefix: String,
    },
    /// A variable of the environment.
    Variable {
        /// Its name.
        variable: String,
    },
}

/// Why a value cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nobody set it.
    #[error(
        "the secret {name} is not set: set the variable ERRAND_SECRET_{name}, or name a file that holds it under [secrets] in errand.toml"
    )]
    Secret {
        /// Its name.
        name: String,
    },
    /// It cannot be read.
    #[error("the secret {name} cannot be read: {problem}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },
}

/// The secrets that were handed out in this process, so that none is shown.
#[derive(Default)]
pub(crate) struct Masks(Mutex<BTreeSet<(usize, String, String)>>);

/// A secret shorter than this is not looked for in texts: it would be found everywhere.
const SHORTEST: usize = 4;

impl Masks {
    /// Gets a secret and sees to it that it is masked from now on.
    pub(crate) fn take(&self, vault: &dyn Vault, name: &str) -> Result<Secret, Missing> {
        let found = vault.secret(name).map_err(|problem| Missing::Unreadable { name: name.to_owned(), problem })?;
        let secret = found.ok_or_else(|| Missing::Secret { name: name.to_owned() })?;
        let json = serde_json::to_string(secret.expose()).unwrap_or_default();
        let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for form in [secret.expose(), json.trim_matches('"'), &crate::added::percent(secret.expose())] {
            if form.len() >= SHORTEST {
                // Sorted by length, so that a secret within a secret does not leave the rest of the longer one.
                forms.insert((usize::MAX - form.len(), form.to_owned(), name.to_owned()));
            }
        }
        Ok(secret)
    }

    /// `text` without any secret.
    pub(crate) fn mask(&self, text: String) -> String {
        let forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forms.iter().fold(text, |text, (_, form, name)| match text.contains(form.as_str()) {
            true => text.replace(form.as_str(), &format!("[secret {name}]")),
            false => text,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Secrets of a test.
    pub(crate) struct Few(pub(crate) BTreeMap<String, String>);

    impl Vault for Few {
        fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
            Ok(self.0.get(name).map(Secret::new))
        }

        fn variable(&self, name: &str) -> Option<OsString> {
            self.0.get(name).map(OsString::from)
        }
    }

    #[test]
    fn secrets_are_masked_in_every_form() {
        let vault =
            Few([("A", "se\"cret/1"), ("B", "se\"cret/1+more"), ("S", "abc")].map(|(n, s)| (n.into(), s.into())).into());
        let masks = Masks::default();
        assert_eq!(masks.mask("se\"cret/1".to_owned()), "se\"cret/1");
        for name in ["A", "B", "S"] {
            masks.take(&vault, name).unwrap();
        }
        let text = "plain se\"cret/1, longer se\"cret/1+more, json se\\\"cret/1, url se%22cret%2F1, abc";
        let shown = masks.mask(text.to_owned());
        assert_eq!(shown, "plain [secret A], longer [secret B], json [secret A], url [secret A], abc");
        assert_eq!(masks.take(&vault, "C").unwrap_err(), Missing::Secret { name: "C".to_owned() });
        assert_eq!(format!("{:?}", Secret::new("x")), "Secret(…)");
    }
}
