//! One numbered, immutable entry of a run's log, and the chain that ties it to all before it.

use crate::event::Event;
use crate::{Hash, Head, ItemKey, Nonce, RunId, Spent, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The schema number that this code writes.
pub const SCHEMA: u16 = 1;

/// Room for a record of usual length while it is written, in bytes.
const USUAL_BYTES: usize = 4 << 10;

/// One entry of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Schema of this record; [`SCHEMA`] when it was written by this code.
    pub schema: u16,
    /// The run it was born in; a fork shares records born in its origin.
    pub run: RunId,
    /// Its number, from 1.
    pub number: u64,
    /// When it was made; never earlier than the record before it.
    pub at: Timestamp,
    /// When the work that led to it began, if anybody worked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// The record number of the message it was made under; 0 if it was made from outside (a cancel, a fork).
    pub made_under: u64,
    /// The attempt that became it; 0 if it needed no claim.
    pub attempt: u32,
    /// Who made it.
    pub maker: Nonce,
    /// What happened.
    pub event: Event,
    /// The items it consumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumed: Vec<Consumed>,
    /// The attempts it put on the books.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub books: Vec<Booked>,
    /// Where the run stands after it.
    pub head: Head,
}

/// An item that a record took in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// Which item.
    pub key: ItemKey,
    /// Digest of its bytes.
    pub sha256: Hash,
}

/// The cost of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// The record it was an attempt at.
    pub record: u64,
    /// Which attempt.
    pub attempt: u32,
    /// What it cost.
    pub spent: Spent,
}

/// A record with the bytes that are stored and hashed. Those bytes are the truth; they are never written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The record.
    pub record: Arc<Record>,
    /// Its canonical bytes: JSON with the fields in the order of the struct, no white space.
    pub bytes: Arc<str>,
    /// Ledger hash: SHA-256 of the hash before it and the bytes.
    pub hash: Hash,
}

/// Stored bytes that cannot be the record they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of a record.
    #[error("record {number} cannot be read: {reason}")]
    Unreadable {
        /// The number it should have.
        number: u64,
        /// What the parser says.
        reason: String,
    },
    /// Written by newer code.
    #[error("record {number} has schema {schema}, this version reads up to {SCHEMA}: use a newer errand")]
    Newer {
        /// Its number.
        number: u64,
        /// Its schema.
        schema: u16,
    },
    /// The hash does not follow from the bytes.
    #[error("record {number} was altered: its bytes do not give its ledger hash")]
    Altered {
        /// Its number.
        number: u64,
    },
    /// A number is missing or doubled.
    #[error("record {expected} is missing: found record {found} in its place")]
    Gap {
        /// The number that should be there.
        expected: u64,
        /// The number that is.
        found: u64,
    },
}

impl Sealed {
    /// Seals a record on top of the ledger hash before it ([`Hash::default`] for record 1).
    pub fn seal(record: Record, before: &Hash) -> Self {
        // A record is plain data with text keys only, so serialising it cannot fail.
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        let written = serde_json::to_writer(&mut bytes, &record);
        debug_assert!(written.is_ok());
        let hash = chain(before, &bytes);
        // JSON is written as UTF-8.
        let bytes = std::str::from_utf8(&bytes).unwrap_or_default().into();
        Self { record: Arc::new(record), bytes, hash }
    }

    /// Reads stored bytes back and checks them against the ledger.
    pub fn open(bytes: &str, hash: Hash, before: &Hash, number: u64) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Schema {
            schema: u16,
        }
        if chain(before, bytes.as_bytes()) != hash {
            return Err(RecordError::Altered { number });
        }
        let unreadable = |error: serde_json::Error| RecordError::Unreadable { number, reason: error.to_string() };
        let Schema { schema } = serde_json::from_str(bytes).map_err(unreadable)?;
        if schema > SCHEMA {
            return Err(RecordError::Newer { number, schema });
        }
        let record: Record = serde_json::from_str(bytes).map_err(unreadable)?;
        if record.number != number {
            return Err(RecordError::Gap { expected: number, found: record.number });
        }
        Ok(Self { record: Arc::new(record), bytes: bytes.into(), hash })
    }
}

fn chain(before: &Hash, bytes: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(before.0);
    hasher.update(bytes);
    Hash(hasher.finalize().into())
}
