//! Reading runs.

use super::AwsStore;
use crate::row::{self, Row};
use crate::{Error, body};
use errand_core::{Hash, Item, ItemKey, LogError, Record, RecordError, RunId, RunLog, Sealed, TenantId, Timestamp};
use errand_engine::ports::{DueEntry, Loaded};
use futures::{StreamExt, TryStreamExt, future, stream};
use std::sync::Arc;

/// Bodies fetched from the bucket at the same time.
const FETCHES: usize = 16;
/// A run whose records are shorter than this, in bytes, is read anew: one question is quicker than two.
const READ_AGAIN: usize = 16 << 10;

impl AwsStore {
    /// One query, in as many pages as the run takes; of a long run that was read before, its own row and then what came since.
    pub(super) async fn load_rows(&self, run: RunId) -> Result<Option<Loaded>, Error> {
        let mut records = self.known.records(run);
        if records.iter().map(|sealed| sealed.bytes.len()).sum::<usize>() < READ_AGAIN {
            records.clear();
        }
        let Some((own, rows)) = self.rows_after(run, records.len()).await? else { return Ok(None) };
        row::check_form(&own, &format!("run {run}"))?;
        let due = due_of(&own);
        let bodies = stream::iter(0..rows.len()).map(|index| self.body(run, &rows[index])).buffered(FETCHES);
        let bodies: Vec<Vec<u8>> = bodies.try_collect().await?;
        let mut items = Vec::new();
        for (row, bytes) in rows.iter().zip(&bodies) {
            if let Some(number) = row::record_number(sort(row)) {
                let before = records.last().map_or(Hash::default(), |sealed| sealed.hash);
                let opened = open(row, bytes, number, &before, records.len() as u64 + 1);
                records.push(opened.map_err(|error| ledger(run, error.into()))?);
            } else if row::is_item(sort(row)) {
                items.push(item(run, bytes)?);
            }
        }
        let log = RunLog::fold(run, records, items).map_err(|source| ledger(run, source))?;
        self.known.saw(run, log.run.number);
        self.known.is_of(run, &log.run.config.tenant);
        match log.run.head.status.is_ended() {
            true => self.known.forget(run),
            false => self.known.read(run, &log.records),
        }
        Ok(Some(Loaded { log, due }))
    }

    /// A run's own row, and its rows after the first `known` records. The order in which they are read matters: see `row`.
    async fn rows_after(&self, run: RunId, known: usize) -> Result<Option<(Row, Vec<Row>)>, Error> {
        let query = self.aws.query().expression_attribute_values(":run", row::text(run.to_string()));
        if known == 0 {
            let mut rows = self.aws.rows(query.key_condition_expression("pk = :run"), usize::MAX).await?;
            // Without a row of its own it has not begun, whatever else of it is there already.
            let has_begun = rows.first().is_some_and(|first| sort(first) == row::RUN);
            return Ok(has_begun.then(|| (rows.remove(0), rows)));
        }
        let Some(own) = self.aws.row(own_key(run)).await? else { return Ok(None) };
        let query = query.key_condition_expression("pk = :run AND sk > :last");
        let query = query.expression_attribute_values(":last", row::text(row::record_key(known as u64)));
        Ok(Some((own, self.aws.rows(query, usize::MAX).await?)))
    }

    /// The last two records: the one before is what the last is checked against.
    pub(super) async fn last_row(&self, run: RunId) -> Result<Option<Arc<Record>>, Error> {
        let (has_begun, mut rows) = future::try_join(self.has_begun(run), self.last_rows(run, 2)).await?;
        if !has_begun || rows.is_empty() {
            return Ok(None);
        }
        rows.reverse();
        let last = self.open_last(run, &rows).await?;
        self.known.saw(run, last.number);
        Ok(Some(last))
    }

    /// Record `number`, which is there.
    pub(super) async fn record_at(&self, run: RunId, number: u64) -> Result<Arc<Record>, Error> {
        let query = self.records(run, &row::record_key(number.saturating_sub(1)), &row::record_key(number));
        self.open_last(run, &self.aws.rows(query, 2).await?).await
    }

    /// The last `limit` records, the newest first.
    pub(super) async fn last_rows(&self, run: RunId, limit: usize) -> Result<Vec<Row>, Error> {
        let query = self.records(run, row::RECORDS, row::RECORDS_END).scan_index_forward(false);
        self.aws.rows(query, limit).await
    }

    fn records(&self, run: RunId, from: &str, to: &str) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        let query = self.aws.query().key_condition_expression("pk = :run AND sk BETWEEN :from AND :to");
        let query = query.expression_attribute_values(":run", row::text(run.to_string()));
        query.expression_attribute_values(":from", row::text(from)).expression_attribute_values(":to", row::text(to))
    }

    /// The last of one or two records that follow each other.
    async fn open_last(&self, run: RunId, rows: &[Row]) -> Result<Arc<Record>, Error> {
        let Some(last) = rows.last() else { return Err(ledger(run, LogError::NotStarted)) };
        let number = row::record_number(sort(last)).unwrap_or_default();
        let before = rows.len().checked_sub(2).and_then(|before| row::hash_of(&rows[before], row::HASH)).unwrap_or_default();
        let bytes = self.body(run, last).await?;
        let opened = open(last, &bytes, number, &before, number).map_err(|error| ledger(run, error.into()))?;
        Ok(opened.record)
    }

    /// Whether the run has a row of its own.
    pub(super) async fn has_begun(&self, run: RunId) -> Result<bool, Error> {
        if self.known.number(run) > 0 {
            return Ok(true);
        }
        let Some(own) = self.aws.row(own_key(run)).await? else { return Ok(false) };
        row::check_form(&own, &format!("run {run}"))?;
        self.known.saw(run, 1);
        Ok(true)
    }

    /// Whose run it is. It never changes.
    pub(super) async fn tenant_of(&self, run: RunId) -> Result<TenantId, Error> {
        if let Some(tenant) = self.known.tenant(run) {
            return Ok(tenant);
        }
        let own = self.aws.row(own_key(run)).await?.ok_or(Error::UnknownRun { run })?;
        let text = row::text_of(&own, row::TENANT).unwrap_or_default();
        let tenant = text.parse().map_err(|error: errand_core::InvalidTenant| {
            row::unreadable(format!("the row of run {run}"), error.to_string())
        })?;
        self.known.is_of(run, &tenant);
        Ok(tenant)
    }

    pub(super) async fn item_row(&self, run: RunId, key: &ItemKey) -> Result<Option<Item>, Error> {
        let Some(row) = self.aws.row(row::key(run.to_string(), row::item_key(key))).await? else { return Ok(None) };
        Ok(Some(self.read_item(run, &row).await?))
    }

    /// The item of a row.
    pub(super) async fn read_item(&self, run: RunId, row: &Row) -> Result<Item, Error> {
        item(run, &self.body(run, row).await?)
    }

    async fn body(&self, run: RunId, row: &Row) -> Result<Vec<u8>, Error> {
        body::read(row, &format!("row {} of run {run}", sort(row)), &self.blobs).await
    }

    /// Every partition of the index is asked, and the most overdue of them all are taken.
    pub(super) async fn overdue_rows(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, Error> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let asked = (0..row::DUE_PARTITIONS).map(|part| {
            let query = self.aws.query_index(row::DUE_INDEX).key_condition_expression("dp = :part AND da <= :now");
            let query = query.expression_attribute_values(":part", row::text(row::due_partition_at(part)));
            let query = query.expression_attribute_values(":now", row::number(now.as_millis()));
            async move { self.aws.rows(query, limit as usize).await }
        });
        let found = future::try_join_all(asked).await?;
        let mut due: Vec<(u64, RunId)> = Vec::new();
        for row in found.iter().flatten() {
            due.push((row::number_of(row, row::DUE).unwrap_or_default(), run_of(row)?));
        }
        due.sort_unstable();
        Ok(due.into_iter().take(limit as usize).map(|(_, run)| run).collect())
    }
}

/// Key of a run's own row.
pub(super) fn own_key(run: RunId) -> Row {
    row::key(run.to_string(), row::RUN)
}

/// The entry in the due index that a run's own row says it has.
fn due_of(own: &Row) -> Option<DueEntry> {
    let at = Timestamp::from_millis(row::number_of(own, row::DUE)?);
    Some(DueEntry { at, version: row::number_of(own, row::DUE_VERSION)? })
}

fn sort(row: &Row) -> &str {
    row::text_of(row, row::SORT).unwrap_or_default()
}

/// The run that a row is of.
pub(super) fn run_of(row: &Row) -> Result<RunId, Error> {
    let text = row::text_of(row, row::PARTITION).unwrap_or_default();
    text.parse().map_err(|error: errand_core::InvalidId| row::unreadable(format!("run `{text}`"), error.to_string()))
}

fn open(row: &Row, bytes: &[u8], number: u64, before: &Hash, expected: u64) -> Result<Sealed, RecordError> {
    if number != expected {
        return Err(RecordError::Gap { expected, found: number });
    }
    let (Some(hash), Ok(text)) = (row::hash_of(row, row::HASH), std::str::from_utf8(bytes)) else {
        return Err(RecordError::Altered { number });
    };
    Sealed::open(text, hash, before, number)
}

fn item(run: RunId, bytes: &[u8]) -> Result<Item, Error> {
    serde_json::from_slice(bytes).map_err(|error| row::unreadable(format!("an item of run {run}"), error.to_string()))
}

pub(super) fn ledger(run: RunId, source: LogError) -> Error {
    Error::Ledger { run, source }
}
