//! Keys as they are kept: one small object each, of kind [`KEY_KIND`], found by its id.

use crate::form::{self, KeyId};
use crate::gate::{Principal, Refusal};
use crate::root::RootKey;
use errand_core::{Hash, TenantId, Timestamp};
use errand_engine::ports::{Heads, PortError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// The kind of head that a key is.
pub const KEY_KIND: &str = "key";
/// Most keys that are kept. Making one more forgets the one that has been useless for the longest time.
pub const KEYS_MAX: usize = 1_000;
/// The form of stored keys that this code writes.
const SCHEMA: u32 = 1;
/// Longest name of a key, in characters.
const NAME_MAX: usize = 100;
/// How coarse it is known when a key was last used, in milliseconds: one write an hour, not one a request.
const USED_EVERY_MS: u64 = 3_600_000;
/// How often a change is tried anew that others came before.
const TRIES: usize = 64;

/// A key cannot be made, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its name cannot be one.
    #[error("the name of a key has 1 to {NAME_MAX} characters, none of them a control character")]
    NameInvalid,
    /// It would never have been good.
    #[error("a key that expires at once opens nothing: give a duration such as 30d")]
    ExpiresAtOnce,
    /// There are too many.
    #[error("there are {KEYS_MAX} keys, the most there can be, and all are in force: revoke one first")]
    TooMany,
    /// There is none with this id.
    #[error("there is no key {id}: `errand keys list` lists them")]
    NotFound {
        /// The id.
        id: KeyId,
    },
    /// What is stored cannot be understood.
    #[error("the stored key {id} cannot be read ({reason}): restore it from a copy, or remove it")]
    Damaged {
        /// Its id, or what stands in its place.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
    /// Where keys are kept failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NameInvalid => "key_name_invalid",
            Error::ExpiresAtOnce => "key_expires_at_once",
            Error::TooMany => "key_limit",
            Error::NotFound { .. } => "key_not_found",
            Error::Damaged { .. } => "key_damaged",
            Error::Entropy(_) => "entropy_missing",
            Error::Port(error) => error.code(),
        }
    }
}

/// Stands in for a key that is not there, so that the same is computed.
const NOBODY: &[u8] = br#"{"schema":1,"tenant":"default","name":"nobody","created":1795310332349,"used":1795310332349,
    "tag":"0000000000000000000000000000000000000000000000000000000000000000"}"#;

/// A key that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose runs it begins and sees.
    pub tenant: TenantId,
    /// For people: who has it, what it is for.
    pub name: Option<String>,
    /// It is good for so long, in milliseconds; for ever if nothing is said.
    pub lives_ms: Option<u64>,
}

/// A key as it is shown to its owner, once. Printing it for debugging shows nothing of it.
pub struct Issued(String);

impl Issued {
    /// The key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(…)")
    }
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// For people; empty if it has none.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it opens nothing, if ever.
    pub expires: Option<Timestamp>,
    /// When it was last used, to within an hour.
    pub used: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl KeyInfo {
    /// Since when it opens nothing; `None` while it is in force.
    pub fn useless_since(&self, now: Timestamp) -> Option<Timestamp> {
        let expired = self.expires.filter(|expires| *expires <= now);
        [self.revoked, expired].into_iter().flatten().min()
    }

    fn refusal(&self, now: Timestamp) -> Option<Refusal> {
        match (self.revoked, self.expires) {
            (Some(_), _) => Some(Refusal::Revoked),
            (None, Some(expires)) if expires <= now => Some(Refusal::Expired),
            _ => None,
        }
    }

    fn principal(&self) -> Principal {
        Principal { tenant: self.tenant.clone(), key: Some(self.id.clone()) }
    }
}

/// A key as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    schema: u32,
    tenant: TenantId,
    name: String,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<Timestamp>,
    /// Over tenant, id and secret.
    tag: Hash,
}

impl Stored {
    fn info(&self, id: KeyId) -> KeyInfo {
        let Stored { tenant, name, created, expires, used, revoked, .. } = self.clone();
        KeyInfo { id, tenant, name, created, expires, used, revoked }
    }

    fn bytes(&self) -> Vec<u8> {
        // Plain data with text keys only.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// One that was read, and the bytes by which it is known to be unchanged.
struct Found {
    stored: Stored,
    bytes: Vec<u8>,
}

/// Makes keys and checks them. Clones share everything.
#[derive(Clone)]
pub struct Keys {
    heads: Arc<dyn Heads>,
    root: RootKey,
}

impl Keys {
    /// Those in `heads`, hashed under `root`.
    pub fn new(heads: Arc<dyn Heads>, root: RootKey) -> Self {
        Self { heads, root }
    }

    /// Makes a key. What is returned is the only copy of it.
    ///
    /// # Errors
    /// When what is wanted cannot be had, or the key cannot be kept.
    pub async fn create(&self, wanted: Wanted, now: Timestamp) -> Result<(Issued, KeyInfo), Error> {
        let name = wanted.name.unwrap_or_default();
        if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(Error::NameInvalid);
        }
        let expires = match wanted.lives_ms {
            Some(0) => return Err(Error::ExpiresAtOnce),
            Some(lives) => Some(now.plus(lives)),
            None => None,
        };
        self.make_room(now).await?;
        let id = KeyId::random()?;
        let text = form::write(&id)?;
        let secret = form::read(&text).map_or("", |read| read.secret);
        let tag = self.tag(&wanted.tenant, &id, secret);
        let stored =
            Stored { schema: SCHEMA, tenant: wanted.tenant, name, created: now, expires, used: None, revoked: None, tag };
        match self.heads.replace(&head(&id), None, &stored.bytes()).await? {
            true => Ok((Issued(text), stored.info(id))),
            false => Err(Error::Damaged { id: id.to_string(), reason: "two keys came to the same id".to_owned() }),
        }
    }

    /// Who has this key. A wrong id takes as long as a wrong secret: the same is computed, on what no key can have.
    pub(crate) async fn check(&self, text: &str, now: Timestamp) -> Result<Principal, Refusal> {
        let read = form::read(text).ok_or(Refusal::Malformed)?;
        let bytes = self.heads.read(&head(&read.id)).await.map_err(|error| Refusal::from(Error::from(error)))?;
        let is_there = Choice::from(u8::from(bytes.is_some()));
        let found = parsed(&read.id, bytes.unwrap_or_else(|| NOBODY.to_vec())).map_err(Refusal::from)?;
        let tag = self.tag(&found.stored.tenant, &read.id, read.secret);
        if !bool::from(tag.0.ct_eq(&found.stored.tag.0) & is_there) {
            return Err(Refusal::Unknown);
        }
        let info = found.stored.info(read.id);
        match info.refusal(now) {
            Some(refusal) => Err(refusal),
            None => {
                self.note_use(&info, found, now).await;
                Ok(info.principal())
            }
        }
    }

    /// Whether the key with this id is still in force, for whoever was let in with it before.
    pub(crate) async fn stands(&self, id: &KeyId, now: Timestamp) -> Result<Principal, Refusal> {
        let found = find(&*self.heads, id).await.map_err(Refusal::from)?.ok_or(Refusal::Unknown)?;
        let info = found.stored.info(id.clone());
        info.refusal(now).map_or_else(|| Ok(info.principal()), Err)
    }

    /// Nothing depends on it: whoever comes second, or fails, leaves it.
    async fn note_use(&self, info: &KeyInfo, found: Found, now: Timestamp) {
        if info.used.is_some_and(|used| now.since(used) < USED_EVERY_MS) {
            return;
        }
        let Found { mut stored, bytes } = found;
        stored.used = Some(now);
        if let Err(error) = self.heads.replace(&head(&info.id), Some(&bytes), &stored.bytes()).await {
            tracing::debug!(key = %info.id, %error, "when a key was last used could not be written down");
        }
    }

    async fn make_room(&self, now: Timestamp) -> Result<(), Error> {
        let all = list(&*self.heads).await?;
        if all.len() < KEYS_MAX {
            return Ok(());
        }
        let useless = all.iter().filter_map(|key| key.useless_since(now).map(|since| (since, &key.id)));
        let (_, id) = useless.min().ok_or(Error::TooMany)?;
        if let Some(found) = find(&*self.heads, id).await? {
            self.heads.remove(&head(id), &found.bytes).await?;
        }
        Ok(())
    }

    fn tag(&self, tenant: &TenantId, id: &KeyId, secret: &str) -> Hash {
        self.root.tag(&["errand key 1", tenant.as_str(), id.as_str(), secret])
    }
}

/// All keys there are, the oldest first. Takes no root key.
///
/// # Errors
/// When one of them cannot be read.
pub async fn list(heads: &dyn Heads) -> Result<Vec<KeyInfo>, Error> {
    let mut all = Vec::new();
    for (name, bytes) in heads.list(KEY_KIND, None, 2 * KEYS_MAX).await? {
        let id = name.strip_prefix(KEY_KIND).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&name);
        let id = id.parse::<KeyId>();
        let id = id.map_err(|error| Error::Damaged { id: name.clone(), reason: error.to_string() })?;
        all.push(parsed(&id, bytes)?.stored.info(id));
    }
    all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(all)
}

/// Revokes a key, for good. When this returns, no request that begins later is let in with it, wherever it arrives. A key
/// that is revoked already stays as it is. Takes no root key.
///
/// # Errors
/// When there is no such key, or it cannot be changed.
pub async fn revoke(heads: &dyn Heads, id: &KeyId, now: Timestamp) -> Result<KeyInfo, Error> {
    for _ in 0..TRIES {
        let Found { mut stored, bytes } = find(heads, id).await?.ok_or_else(|| Error::NotFound { id: id.clone() })?;
        if stored.revoked.is_some() {
            return Ok(stored.info(id.clone()));
        }
        stored.revoked = Some(now);
        if heads.replace(&head(id), Some(&bytes), &stored.bytes()).await? {
            return Ok(stored.info(id.clone()));
        }
    }
    Err(Error::Port(PortError::Retry { message: format!("key {id} is being changed by others: try again") }))
}

async fn find(heads: &dyn Heads, id: &KeyId) -> Result<Option<Found>, Error> {
    heads.read(&head(id)).await?.map(|bytes| parsed(id, bytes)).transpose()
}

fn parsed(id: &KeyId, bytes: Vec<u8>) -> Result<Found, Error> {
    let damaged = |reason: String| Error::Damaged { id: id.to_string(), reason };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match stored.schema {
        SCHEMA => Ok(Found { stored, bytes }),
        other => Err(damaged(format!("its schema is {other}, this version reads {SCHEMA}"))),
    }
}

fn head(id: &KeyId) -> String {
    format!("{KEY_KIND}.{id}")
}
