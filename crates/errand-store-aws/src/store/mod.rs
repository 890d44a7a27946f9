//! Runs in one table: a partition each.
//!
//! A record, and an item, is one conditional put. Only a run's beginning and what comes from outside (`wake`) are
//! transactions. See `row` for the order in which a run's rows lie, and why.

mod known;
mod list;
mod read;
mod write;

use crate::{Aws, AwsBlobs};
use async_trait::async_trait;
use errand_core::{Item, ItemKey, Record, RunId, Sealed, Timestamp};
use errand_engine::ports::{Commit, DueEntry, Loaded, Page, PortError, Put, RunFilter, Store};
use known::Known;
use std::sync::Arc;

/// The runs of a table. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct AwsStore {
    aws: Aws,
    blobs: AwsBlobs,
    known: Arc<Known>,
}

impl AwsStore {
    pub(crate) fn new(aws: Aws) -> Self {
        let blobs = aws.blobs();
        Self { aws, blobs, known: Arc::default() }
    }
}

#[async_trait]
impl Store for AwsStore {
    async fn begin(&self, run: RunId, records: &[Sealed], due: Timestamp) -> Result<Commit, PortError> {
        Ok(self.begin_rows(run, records, due).await?)
    }

    async fn load(&self, run: RunId) -> Result<Option<Loaded>, PortError> {
        Ok(self.load_rows(run).await?)
    }

    async fn last(&self, run: RunId) -> Result<Option<Arc<Record>>, PortError> {
        Ok(self.last_row(run).await?)
    }

    async fn commit(&self, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, PortError> {
        Ok(self.commit_row(run, record, wake).await?)
    }

    async fn put(&self, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, PortError> {
        Ok(self.put_row(run, item, wake).await?)
    }

    async fn item(&self, run: RunId, key: &ItemKey) -> Result<Option<Item>, PortError> {
        Ok(self.item_row(run, key).await?)
    }

    async fn move_due(&self, run: RunId, seen: Option<DueEntry>, at: Option<Timestamp>) -> Result<bool, PortError> {
        Ok(self.move_due_row(run, seen, at).await?)
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, PortError> {
        Ok(self.overdue_rows(now, limit).await?)
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page, PortError> {
        Ok(self.list_rows(filter).await?)
    }
}
