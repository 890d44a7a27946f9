//! Which snapshot of a session is the last, and who may say so.
//!
//! The head of a session is one small object that is only ever replaced as a whole, on the condition that it is as the writer
//! knows it. Whoever takes a session over raises its *fence* that way; from then on whoever held it before fails to write, for
//! the head is not as he knows it, however sure he is that the session is his.

use super::manifest::{hex, unhex};
use crate::error::{Error, Result};

const SCHEMA: u32 = 1;
/// How often taking over is tried while others do the same.
const ATTEMPTS: usize = 16;

/// Where heads are kept by name; given by the caller.
pub trait HeadStore: Sync {
    /// What is there, if anything.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>>;

    /// Puts `bytes` there in one step if exactly `expected` is there (`None`: nothing), for all to see when it returns. False
    /// if something else is there.
    ///
    /// # Errors
    /// When that failed, or nobody knows whether it did.
    fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> std::io::Result<bool>;
}

/// The last snapshot of a session, and under which fence it may be followed by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fence: u64,
    /// How many snapshots there were.
    pub(super) turn: u64,
    /// Digest of the last manifest; none before the first.
    pub(super) manifest: Option<[u8; 32]>,
    /// As it lies in the store.
    bytes: Vec<u8>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: u32,
    session: String,
    fence: u64,
    turn: u64,
    manifest: Option<String>,
}

impl Head {
    /// Raises the fence: whoever wrote before does so no more.
    pub(super) fn take_over(session: &str, store: &dyn HeadStore) -> Result<Head> {
        for _ in 0..ATTEMPTS {
            let found = read(session, store)?;
            let (fence, turn, manifest) = found.as_ref().map_or((0, 0, None), |head| (head.fence, head.turn, head.manifest));
            let next = Head::new(session, fence + 1, turn, manifest);
            match store.replace(session, found.as_ref().map(|head| &*head.bytes), &next.bytes) {
                Ok(true) => return Ok(next),
                Ok(false) => {}
                // It may have been written all the same: then it is an older fence of ours, and the next try raises it.
                Err(source) => return Err(Error::Store { action: "take a session over", source }),
            }
        }
        Err(Error::SessionBusy { id: session.into() })
    }

    /// Makes `manifest` the last.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another has taken the session over, [`Error::Store`].
    pub(super) fn follow(&self, session: &str, store: &dyn HeadStore, manifest: [u8; 32]) -> Result<Head> {
        let next = Head::new(session, self.fence, self.turn + 1, Some(manifest));
        match store.replace(session, Some(&self.bytes), &next.bytes) {
            Ok(true) => return Ok(next),
            Ok(false) => {}
            Err(source) => return Err(Error::Store { action: "write the head of a session", source }),
        }
        match read(session, store)? {
            Some(found) if found == next => Ok(next),
            // A write of ours that nobody answered for: a fence has one holder. It is followed in turn.
            Some(found) if found.fence == self.fence && found.turn > self.turn => found.follow(session, store, manifest),
            found => {
                let theirs = found.map_or(0, |head| head.fence);
                Err(Error::Fenced { session: session.into(), ours: self.fence, theirs })
            }
        }
    }

    fn new(session: &str, fence: u64, turn: u64, manifest: Option<[u8; 32]>) -> Head {
        let manifest_text = manifest.as_ref().map(hex);
        let written = Written { schema: SCHEMA, session: session.into(), fence, turn, manifest: manifest_text };
        let bytes = serde_json::to_vec(&written).expect("strings and numbers always have a JSON form");
        Head { fence, turn, manifest, bytes }
    }
}

fn read(session: &str, store: &dyn HeadStore) -> Result<Option<Head>> {
    let found = store.read(session).map_err(|source| Error::Store { action: "read the head of a session", source })?;
    let Some(bytes) = found else { return Ok(None) };
    let wrong = || Error::HeadRefused { session: session.into() };
    let written: Written = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    let manifest = written.manifest.as_deref().map(|text| unhex(text).ok_or_else(wrong)).transpose()?;
    if written.schema != SCHEMA || written.session != session || written.fence == u64::MAX {
        return Err(wrong());
    }
    Ok(Some(Head { fence: written.fence, turn: written.turn, manifest, bytes }))
}
