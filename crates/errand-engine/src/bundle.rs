//! Bundles: a run in one file, with all it takes to verify and replay it elsewhere.
//!
//! The form is told in `docs/guide/bundles.md`: a first line, then entries of one line of JSON that says what follows
//! and how long it is, the bytes themselves as they are stored, and a line break; then a last line with the digest of
//! everything before. [`Writer`] writes one, [`read()`] checks every field, [`Bundle::check`] what only the whole can
//! show, [`Bundle::history`] gives the conversation a replay needs.
//!
//! A bundle is not signed: whoever can make one can make one that agrees with itself. What the checks prove is that it
//! is whole and that its parts belong together; what a replay proves is that this code would have made it so.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::read;
pub use write::Writer;

use errand_core::{Hash, Message, RecordError, RunId, RunLog, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the form that this code writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// Longest line that introduces an entry, in bytes.
const LINE_BYTES_MAX: u64 = 4_096;
/// Longest record, item or blob, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of records and items together: those are kept in memory.
const KEPT_BYTES_MAX: u64 = 1 << 30;
/// Most entries.
const ENTRIES_MAX: u64 = 10_000_000;

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    errand_bundle: u32,
    run: RunId,
    made: Timestamp,
    files: bool,
}

/// The line before an entry's bytes, and the last line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Record { run: RunId, number: u64, hash: Hash, bytes: u64 },
    Item { run: RunId, bytes: u64 },
    Blob { hash: Hash, bytes: u64 },
    End { entries: u64, sha256: Hash },
}

/// A digest over everything written so far: each step takes in the one before and the digest of an entry.
#[derive(Debug, Clone, Copy, Default)]
struct Digest(Hash);

impl Digest {
    fn take(&mut self, bytes: &[u8]) {
        let mut both = [0u8; 64];
        both[..32].copy_from_slice(&self.0.0);
        both[32..].copy_from_slice(&Hash::of(bytes).0);
        self.0 = Hash::of(&both);
    }
}

/// A bundle that was read: every record follows from the one before it, every blob gives its digest, and the whole
/// gives its own.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The run it is about.
    pub run: RunId,
    /// When it was made.
    pub made: Timestamp,
    /// Whether it holds what the files of the run hold.
    pub files: bool,
    /// That run and those of its thread before it.
    pub logs: BTreeMap<RunId, RunLog>,
    /// Digest and length of each blob.
    pub blobs: BTreeMap<Hash, u64>,
}

/// What a check that found nothing wrong went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Records whose bytes give their ledger hash.
    pub records: u64,
    /// Items whose digest is the one a record names.
    pub items: u64,
    /// Blobs whose bytes give their digest.
    pub blobs: u64,
    /// Ledger hash of the last record.
    pub head: Hash,
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("the bundle ends in the middle of entry {entry}: it was cut off; copy or export it again")]
    Truncated {
        /// Number of the entry, from 1.
        entry: u64,
    },
    /// It was written by newer code.
    #[error("the bundle has version {found}, this errand reads up to {VERSION}: use a newer errand")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is none, or has a form that no errand writes.
    #[error("this is no bundle that errand made: entry {entry}: {reason}")]
    Unreadable {
        /// Number of the entry, from 1; 0 for the first line.
        entry: u64,
        /// What is wrong.
        reason: String,
    },
    /// Something in it is longer than is read.
    #[error("entry {entry} of the bundle is larger than is read ({what})")]
    TooLarge {
        /// Number of the entry.
        entry: u64,
        /// Which bound.
        what: &'static str,
    },
    /// A record is not what was written.
    #[error("run {run}: {source}")]
    Record {
        /// Which run.
        run: RunId,
        /// Which record, and what is wrong with it.
        source: RecordError,
    },
    /// An item is not the one that a record consumed.
    #[error("run {run}: record {record} consumed item `{key}`, and the item {problem}")]
    Item {
        /// Which run.
        run: RunId,
        /// The record that names it.
        record: u64,
        /// Which item.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The bytes of a blob do not give its digest.
    #[error("blob {hash} of the bundle was altered: its bytes do not give its digest")]
    Blob {
        /// Which blob.
        hash: Hash,
    },
    /// The digest at the end is not that of what is before it.
    #[error("the bundle was altered outside its records: its digest is {found}, and it says {said}")]
    Altered {
        /// What its bytes give.
        found: Hash,
        /// What it says.
        said: Hash,
    },
    /// A run that belongs to it is missing, or is not as the one that names it says.
    #[error("run {run} names run {before} as the one before it in the thread, and that run {problem}")]
    History {
        /// The run that names it.
        run: RunId,
        /// The run that is named.
        before: RunId,
        /// What is wrong.
        problem: &'static str,
    },
    /// The files of the run are missing.
    #[error("blob {hash} is missing: it lists the files that record {record} left")]
    Files {
        /// Which blob.
        hash: Hash,
        /// Which record.
        record: u64,
    },
    /// The system refused to read or write.
    #[error("the bundle cannot be {action}")]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// The stable code that users and programs see.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Truncated { .. } => "bundle_truncated",
            Error::Newer { .. } => "bundle_newer",
            Error::Record { source: RecordError::Newer { .. }, .. } => "bundle_newer",
            Error::Unreadable { .. } => "bundle_unreadable",
            Error::TooLarge { .. } => "bundle_too_large",
            Error::Record { .. } | Error::Item { .. } | Error::Blob { .. } | Error::Altered { .. } => "bundle_forged",
            Error::History { .. } | Error::Files { .. } => "bundle_incomplete",
            Error::Io { .. } => "bundle_io",
        }
    }
}

impl Bundle {
    /// The run it is about.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if it is not there.
    pub fn log(&self) -> Result<&RunLog, Error> {
        self.logs.get(&self.run).ok_or_else(|| missing(self.run))
    }

    /// Checks what only the whole can show: each item is the one that a record consumed, each run before this one is
    /// the one that the next names, and with files the last workspace is there.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self) -> Result<Checked, Error> {
        let mut checked = Checked { records: 0, items: 0, blobs: self.blobs.len() as u64, head: self.log()?.run.hash };
        for log in self.logs.values() {
            checked.records += log.records.len() as u64;
            checked.items += consumed_items(log)?;
            self.before(log)?;
        }
        let log = self.log()?;
        if let Some(workspace) = log.workspace().filter(|_| self.files)
            && !self.blobs.contains_key(&workspace.manifest)
        {
            return Err(Error::Files { hash: workspace.manifest, record: log.run.number });
        }
        Ok(checked)
    }

    /// The conversation of the thread before the run, oldest first.
    ///
    /// # Errors
    /// [`Error::History`] if a run of the thread is missing.
    pub fn history(&self) -> Result<Vec<Message>, Error> {
        let mut parts = Vec::new();
        let mut log = self.log()?.clone();
        while let Some(before) = self.before(&log)? {
            // Each step goes to another run of the bundle; a ring of runs would never end.
            if parts.len() > self.logs.len() {
                return Err(Error::History { run: log.run.id, before: before.run.id, problem: "comes after it too" });
            }
            parts.push(before.conversation());
            // A summary covers what came before it.
            if before.compacted().is_some() {
                break;
            }
            log = before;
        }
        Ok(parts.into_iter().rev().flatten().collect())
    }

    /// The run before `log` in its thread, up to the record that `log` names.
    fn before(&self, log: &RunLog) -> Result<Option<RunLog>, Error> {
        let Some(history) = &log.started().history else { return Ok(None) };
        let problem = |problem| Error::History { run: log.run.id, before: history.run, problem };
        let before = self.logs.get(&history.run).ok_or_else(|| problem("is missing"))?;
        let last = usize::try_from(history.number).ok().and_then(|number| before.records.get(number.checked_sub(1)?));
        match last {
            Some(sealed) if sealed.hash == history.hash => {}
            Some(_) => return Err(problem("has another ledger hash there")),
            None => return Err(problem("is shorter")),
        }
        before.prefix(history.run, history.number).map(Some).map_err(|_| problem("does not begin with a started run"))
    }
}

/// Checks that each item a record consumed is there and is the one it consumed. Returns how many there were. What a
/// fork shares with its origin was consumed there.
///
/// # Errors
/// [`Error::Item`] names the first that is not.
pub fn consumed_items(log: &RunLog) -> Result<u64, Error> {
    let mut count = 0;
    for sealed in log.records.iter().filter(|sealed| sealed.record.run == log.run.id) {
        for consumed in &sealed.record.consumed {
            let problem = |problem| Error::Item {
                run: log.run.id,
                record: sealed.record.number,
                key: consumed.key.to_string(),
                problem,
            };
            let item = log.items.get(&consumed.key).ok_or_else(|| problem("is missing"))?;
            if item.digest() != consumed.sha256 {
                return Err(problem("was altered: its digest is another"));
            }
            count += 1;
        }
    }
    Ok(count)
}

fn missing(run: RunId) -> Error {
    Error::Unreadable { entry: 0, reason: format!("it is about run {run} and does not hold it") }
}
