//! Writing runs.

use super::AwsStore;
use super::list::{First, Last, list_partition};
use super::read::{ledger, own_key};
use crate::row::{self, Row};
use crate::table::{Change, Part};
use crate::{Error, body};
use errand_core::{Item, Record, RunId, RunLog, Sealed, TenantId, Timestamp};
use errand_engine::ports::{Commit, DueEntry, Put, RunSummary};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

/// Most records that are written in the transaction with which a run begins, beside its own row. A transaction takes 100
/// rows (DynamoDB, checked 2026-11-21).
const FIRST_RECORDS: usize = 90;
/// Writes at the same time where a run begins with more.
const WRITES: usize = 8;

impl AwsStore {
    /// The run's own row and record 1 appear together. A long fork's other records are written before, so that whoever
    /// finds the run finds all of them.
    pub(super) async fn begin_rows(&self, run: RunId, records: &[Sealed], due: Timestamp) -> Result<Commit, Error> {
        let log = RunLog::fold(run, records.to_vec(), []).map_err(|source| ledger(run, source))?;
        let (first, rest) = records.split_at(records.len().min(FIRST_RECORDS));
        if !rest.is_empty() {
            if self.has_begun(run).await? {
                return Ok(Commit::Taken(self.record_at(run, 1).await?));
            }
            let writes = stream::iter(0..rest.len()).map(|index| self.write_ahead(run, &rest[index]));
            let writes = writes.buffer_unordered(WRITES);
            writes.try_collect::<()>().await?;
        }
        let mut parts = vec![Part::New(own_row(&RunSummary::of(&log), &log, due)?)];
        for record in first {
            parts.push(Part::New(self.record_row(run, record).await?));
        }
        match self.aws.transact(parts).await? {
            Ok(()) => {
                self.known.saw(run, log.run.number);
                self.known.is_of(run, &log.run.config.tenant);
                Ok(Commit::Stored)
            }
            Err(_) => Ok(Commit::Taken(self.record_at(run, 1).await?)),
        }
    }

    /// A record of a run that has not begun yet; one that an earlier try left is as good.
    async fn write_ahead(&self, run: RunId, record: &Sealed) -> Result<(), Error> {
        match self.aws.put_new(self.record_row(run, record).await?).await? {
            Err(found) if row::hash_of(&found, row::HASH) != Some(record.hash) => {
                let reason = "another run was about to begin under its id: fork again".to_owned();
                Err(Error::Unfit { what: format!("run {run}"), reason })
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn commit_row(&self, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, Error> {
        let number = record.record.number;
        self.must_follow(run, number).await?;
        let new = self.record_row(run, record).await?;
        if let Err(found) = self.write_new(run, new, wake).await? {
            // A write that was tried twice is shown its own record, and knows it.
            let taken = match row::hash_of(&found, row::HASH) {
                Some(hash) if hash == record.hash => Arc::clone(&record.record),
                _ => self.record_at(run, number).await?,
            };
            self.known.saw(run, number);
            return Ok(Commit::Taken(taken));
        }
        self.known.wrote(run, record);
        if record.record.head.status.is_ended() {
            self.known.forget(run);
            self.file_as_ended(run, &record.record).await;
        }
        Ok(Commit::Stored)
    }

    pub(super) async fn put_row(&self, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, Error> {
        if !self.has_begun(run).await? {
            return Err(Error::UnknownRun { run });
        }
        let mut new = row::key(run.to_string(), row::item_key(&item.key));
        // An item is plain data with text keys only, so serialising it cannot fail.
        body::write(&mut new, &serde_json::to_vec(item).unwrap_or_default(), &self.blobs).await?;
        match self.write_new(run, new, wake).await? {
            Ok(()) => Ok(Put::Stored),
            Err(found) => Ok(Put::Taken(self.read_item(run, &found).await?)),
        }
    }

    /// One conditional put; with `wake` a transaction that also makes the run due. `Err` within: the row that is there.
    async fn write_new(&self, run: RunId, new: Row, wake: Option<Timestamp>) -> Result<Result<(), Row>, Error> {
        let Some(at) = wake else { return self.aws.put_new(new).await };
        let key: Row = [row::PARTITION, row::SORT].iter().map(|name| ((*name).to_owned(), new[*name].clone())).collect();
        let parts = vec![Part::New(new), Part::Change(due_change(run, Some(at), "attribute_exists(pk)", Row::new())?)];
        let Err(mut found) = self.aws.transact(parts).await? else { return Ok(Ok(())) };
        match found.swap_remove(0) {
            Some(Some(row)) => Ok(Err(row)),
            // What is there cannot go; emulators need not send it along.
            Some(None) => match self.aws.row(key).await? {
                Some(row) => Ok(Err(row)),
                None => Err(row::unreadable(format!("a row of run {run}"), "it is there and is not")),
            },
            None => Err(Error::UnknownRun { run }),
        }
    }

    /// The record before `number` must be there. Who loaded the run knows; others have to ask.
    async fn must_follow(&self, run: RunId, number: u64) -> Result<(), Error> {
        if number > 1 && self.known.number(run) + 1 >= number {
            return Ok(());
        }
        let last = match self.last_row(run).await? {
            Some(last) => last.number,
            None => return Err(Error::UnknownRun { run }),
        };
        if number > last + 1 || number == 0 { Err(Error::Gap { run, number, last }) } else { Ok(()) }
    }

    async fn record_row(&self, run: RunId, record: &Sealed) -> Result<Row, Error> {
        let mut new = row::key(run.to_string(), row::record_key(record.record.number));
        new.insert(row::HASH.to_owned(), row::bytes(record.hash.0));
        body::write(&mut new, record.bytes.as_bytes(), &self.blobs).await?;
        Ok(new)
    }

    /// Versions never come back, so they alone tell entries apart.
    pub(super) async fn move_due_row(
        &self,
        run: RunId,
        seen: Option<DueEntry>,
        at: Option<Timestamp>,
    ) -> Result<bool, Error> {
        let (condition, values) = match seen {
            Some(seen) => ("dv = :seen AND attribute_exists(da)", [(":seen".to_owned(), row::number(seen.version))].into()),
            None => ("attribute_exists(pk) AND attribute_not_exists(da)", Row::new()),
        };
        let change = due_change(run, at, condition, values)?;
        let writer = change.values.get(":writer").cloned();
        match self.aws.change(change).await? {
            Ok(()) => Ok(true),
            // A write that was tried twice finds itself.
            Err(found) => Ok(found.is_some_and(|found| found.get(row::WRITER) == writer.as_ref())),
        }
    }

    async fn file_as_ended(&self, run: RunId, record: &Record) {
        match self.tenant_of(run).await {
            Ok(tenant) => self.list_as_ended(run, &tenant, record).await,
            Err(error) => tracing::debug!(%run, %error, "whose run it is cannot be read; the next list files it"),
        }
    }

    /// Files a run under how it ended, for lists. If it does not succeed, the next list does it: a list looks at the last
    /// record of every run that it believes to be open.
    pub(super) async fn list_as_ended(&self, run: RunId, tenant: &TenantId, record: &Record) {
        let values = [
            (":list", row::text(list_partition(tenant, record.head.status.code()))),
            (":last", row::text(Last::of(record).to_text())),
        ];
        let change = Change {
            key: own_key(run),
            update: format!("SET {} = :list, {} = :last", row::LIST_PARTITION, row::LAST),
            condition: "attribute_exists(pk)".to_owned(),
            values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        if let Err(error) = self.aws.change(change).await {
            tracing::debug!(%run, %error, "a run that has ended is still listed as open; the next list mends it");
        }
    }
}

/// A run's own row as it begins.
fn own_row(summary: &RunSummary, log: &RunLog, due: Timestamp) -> Result<Row, Error> {
    let mut own = own_key(summary.run);
    let ended = log.run.head.status.is_ended();
    let listed = if ended { summary.status.as_str() } else { super::list::OPEN };
    let attributes = [
        (row::FORM, row::number(row::FORM_KNOWN)),
        (row::TENANT, row::text(summary.tenant.as_str())),
        (row::DUE_PARTITION, row::text(row::due_partition(summary.run))),
        (row::DUE, row::number(due.as_millis())),
        (row::DUE_VERSION, row::number(1)),
        (row::WRITER, row::bytes(row::nonce()?)),
        (row::LIST_PARTITION, row::text(list_partition(&summary.tenant, listed))),
        (row::FIRST, row::text(First::of(summary).to_text())),
    ];
    own.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
    if ended {
        own.insert(row::LAST.to_owned(), row::text(Last::of(log.last()).to_text()));
    }
    Ok(own)
}

/// Makes a run due at `at`, or not at all.
fn due_change(run: RunId, at: Option<Timestamp>, condition: &str, mut values: Row) -> Result<Change, Error> {
    values.insert(":one".to_owned(), row::number(1));
    values.insert(":writer".to_owned(), row::bytes(row::nonce()?));
    let update = match at {
        Some(at) => {
            values.insert(":at".to_owned(), row::number(at.as_millis()));
            values.insert(":part".to_owned(), row::text(row::due_partition(run)));
            "SET da = :at, dp = :part, dv = dv + :one, w = :writer"
        }
        None => "SET dv = dv + :one, w = :writer REMOVE da, dp",
    };
    Ok(Change { key: own_key(run), update: update.to_owned(), condition: condition.to_owned(), values })
}
