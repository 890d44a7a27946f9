use super::PortError;
use async_trait::async_trait;
use errand_core::{Head, Item, ItemKey, Record, RunId, RunLog, Sealed, TenantId, Timestamp, Totals};
use std::sync::Arc;

/// Where runs are kept: their records, the items beside them, and the due index.
///
/// Reads see every write that was acknowledged before they began. Writes marked conditional fail without a trace if
/// their key exists: they wake nobody then, either. Writing to a run that was never begun is an error.
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins a run with its first records (one; a fork has more) and makes its entry in the due index, due at `due`.
    /// Conditional on record 1.
    async fn begin(&self, run: RunId, records: &[Sealed], due: Timestamp) -> Result<Commit, PortError>;

    /// A run with all its records and items. `None` if there is no such run.
    async fn load(&self, run: RunId) -> Result<Option<Loaded>, PortError>;

    /// The last record of a run. `None` if there is no such run.
    async fn last(&self, run: RunId) -> Result<Option<Arc<Record>>, PortError>;

    /// Appends a record. Conditional on its number. With `wake`, its entry in the due index becomes due then, in the
    /// same transaction.
    async fn commit(&self, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, PortError>;

    /// Writes an item beside the log. Conditional on its key. With `wake`, the run's entry in the due index becomes due
    /// then, in the same transaction.
    async fn put(&self, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, PortError>;

    /// One item beside the log.
    async fn item(&self, run: RunId, key: &ItemKey) -> Result<Option<Item>, PortError>;

    /// Moves (or with `None` removes) a run's entry in the due index, if it is still as it was `seen`.
    /// False if it is not.
    async fn move_due(&self, run: RunId, seen: Option<DueEntry>, at: Option<Timestamp>) -> Result<bool, PortError>;

    /// Runs whose entry in the due index is due, the most overdue first, at most `limit`.
    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, PortError>;

    /// Runs, newest first.
    async fn list(&self, filter: &RunFilter) -> Result<Page, PortError>;
}

/// A run as it was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Records and items.
    pub log: RunLog,
    /// Its entry in the due index, if it has one.
    pub due: Option<DueEntry>,
}

/// An entry in the due index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueEntry {
    /// When sweep looks after the run.
    pub at: Timestamp,
    /// Grows with every write of the entry.
    pub version: u64,
}

/// What became of a conditional write of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// They are stored.
    Stored,
    /// That number is taken, by this record.
    Taken(Arc<Record>),
}

/// What became of a conditional write of an item.
#[expect(clippy::large_enum_variant, reason = "it is looked at once and dropped")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is stored.
    Stored,
    /// That key is taken, by this item.
    Taken(Item),
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of this tenant: there is no list over the runs of several.
    pub tenant: TenantId,
    /// Only runs with this status code.
    pub status: Option<String>,
    /// Only runs older than this one: the cursor of the page before.
    pub before: Option<RunId>,
    /// At most so many; 0 means 50.
    pub limit: u32,
}

/// A page of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// True if there are more.
    pub has_more: bool,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Which run.
    pub run: RunId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When its first record was made (in a fork: the fork's).
    pub started: Timestamp,
    /// When its last record was made.
    pub at: Timestamp,
    /// Number of its last record.
    pub number: u64,
    /// Its task, cut to 200 characters.
    pub task: String,
    /// Its model.
    pub model: String,
    /// Where it stands: its status code.
    pub status: String,
    /// What it has spent.
    pub totals: Totals,
    /// The run above it.
    pub parent: Option<RunId>,
}

impl RunSummary {
    /// The summary of a run, from record 1 and the last head: what stores keep for listing.
    pub fn of(log: &RunLog) -> Self {
        let head: &Head = &log.run.head;
        Self {
            run: log.run.id,
            tenant: log.run.config.tenant.clone(),
            started: log
                .records
                .iter()
                .find(|sealed| sealed.record.run == log.run.id)
                .map_or(log.run.at, |sealed| sealed.record.at),
            at: log.run.at,
            number: log.run.number,
            task: log.started().task.chars().take(200).collect(),
            model: log.run.model().name.clone(),
            status: head.status.code().to_owned(),
            totals: head.totals,
            parent: head.parent,
        }
    }
}
