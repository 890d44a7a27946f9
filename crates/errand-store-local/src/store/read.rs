//! Queries. Each function works within one transaction of its caller, so that what it returns belongs together.

use super::cache::{Brief, Entry};
use crate::{Error, schema};
use errand_core::{Hash, Head, Item, ItemKey, LogError, Record, RecordError, RunId, RunLog, Sealed, Timestamp};
use errand_engine::ports::{Page, RunFilter, RunSummary};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Runs on a page unless the filter says otherwise.
const PAGE: u32 = 50;

/// A connection within a transaction, and the file it is of.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) file: &'a Path,
}

impl Reader<'_> {
    /// What a write has to know of a run.
    pub(crate) fn brief(&self, run: RunId) -> Result<Option<Brief>, Error> {
        let found =
            self.first("SELECT id, status, due_at, due_version FROM runs WHERE run = ?1", [run.to_string()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?, row.get::<_, i64>(3)?))
            })?;
        let Some((row, status, due_at, due_version)) = found else { return Ok(None) };
        let head = self.first(
            "SELECT slot, epoch FROM records WHERE slot BETWEEN ?1 AND ?2 ORDER BY slot DESC LIMIT 1",
            [schema::slot(row, 0), schema::slot(row, schema::RECORDS_MAX)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some((slot, head_epoch)) = head else { return Err(self.ledger(run, LogError::NotStarted)) };
        Ok(Some(Brief {
            row,
            head: schema::number(slot),
            head_epoch,
            status,
            due_at: due_at.map(time),
            due_version: due_version as u64,
        }))
    }

    /// A run, every record checked against the ledger.
    pub(crate) fn entry(&self, run: RunId, epoch: i64) -> Result<Option<Entry>, Error> {
        let Some(brief) = self.brief(run)? else { return Ok(None) };
        let mut records: Vec<Sealed> = Vec::with_capacity(brief.head as usize);
        let mut statement =
            self.prepare("SELECT slot, hash, bytes FROM records WHERE slot BETWEEN ?1 AND ?2 ORDER BY slot")?;
        let span = [schema::slot(brief.row, 0), schema::slot(brief.row, schema::RECORDS_MAX)];
        let mut rows = statement.query(span).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            let before = records.last().map_or(Hash::default(), |sealed| sealed.hash);
            let expected = records.len() as u64 + 1;
            let opened = self.open(row, &before, expected)?.map_err(|error| self.ledger(run, error.into()))?;
            records.push(opened);
        }
        let (items, inherited) = self.items(run, brief.row, epoch)?;
        let log = RunLog::fold(run, records, items).map_err(|error| self.ledger(run, error))?;
        Ok(Some(Entry { brief, log, inherited }))
    }

    /// Record `number` of the run in `row`, checked against the hash before it.
    pub(crate) fn record(&self, run: RunId, row: i64, number: u64) -> Result<Option<Arc<Record>>, Error> {
        let mut statement =
            self.prepare("SELECT slot, hash, bytes FROM records WHERE slot BETWEEN ?1 AND ?2 ORDER BY slot")?;
        let span = [schema::slot(row, number.max(2) - 1), schema::slot(row, number)];
        let mut rows = statement.query(span).map_err(|error| self.failed(error))?;
        let mut before = Hash::default();
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            if schema::number(row.get(0).map_err(|error| self.failed(error))?) == number {
                let opened = self.open(row, &before, number)?.map_err(|error| self.ledger(run, error.into()))?;
                return Ok(Some(opened.record));
            }
            before = Hash(row.get(1).map_err(|error| self.failed(error))?);
        }
        Ok(None)
    }

    /// One stored item, and the owner that wrote it.
    pub(crate) fn item(&self, run: &str, row: i64, key: &ItemKey) -> Result<Option<(Item, i64)>, Error> {
        let found =
            self.first("SELECT item, epoch FROM items WHERE run = ?1 AND key = ?2", params![row, key.to_string()], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?))
            })?;
        found.map(|(text, epoch)| Ok((self.parse(run, "item", &text)?, epoch))).transpose()
    }

    /// The stored claims for `record` and what voids them.
    pub(crate) fn claims(&self, run: &str, row: i64, record: u64) -> Result<BTreeMap<ItemKey, Item>, Error> {
        let mut statement =
            self.prepare("SELECT item FROM items WHERE run = ?1 AND (key BETWEEN ?2 AND ?3 OR key BETWEEN ?4 AND ?5)")?;
        let claim = |attempt| ItemKey::Claim { record, attempt }.to_string();
        let void = |attempt| ItemKey::Void { record, attempt }.to_string();
        // Attempts have at least five digits in a key, so `~` ends the span also beyond 99,999.
        let span = params![row, claim(0), claim(u32::MAX) + "~", void(0), void(u32::MAX) + "~"];
        let texts = statement
            .query_map(span, |row| row.get::<_, String>(0))
            .and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(|error| self.failed(error))?;
        let items = texts.iter().map(|text| self.parse::<Item>(run, "claim", text));
        items.map(|item| item.map(|item| (item.key.clone(), item))).collect()
    }

    /// Runs whose entry in the due index is due, the most overdue first.
    pub(crate) fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, Error> {
        let question = "SELECT run FROM runs WHERE due_at IS NOT NULL AND due_at <= ?1 ORDER BY due_at, run LIMIT ?2";
        self.run_ids(question, params![stored_time(now), limit])
    }

    /// Runs that have not ended, the oldest first.
    pub(crate) fn unfinished(&self) -> Result<Vec<RunId>, Error> {
        self.run_ids("SELECT run FROM runs WHERE ended = 0 ORDER BY run", [])
    }

    /// Runs, newest first.
    pub(crate) fn list(&self, filter: &RunFilter) -> Result<Page, Error> {
        let limit = if filter.limit == 0 { PAGE } else { filter.limit } as usize;
        let before = filter.before.map_or_else(|| "run_~".to_owned(), |run| run.to_string());
        let columns = "SELECT id, run, status, started, task, model, parent, tenant FROM runs WHERE tenant = ?1";
        let (tenant, wanted) = (filter.tenant.as_str(), limit as i64 + 1);
        let mut listed = match &filter.status {
            Some(status) => self.rows(
                &format!("{columns} AND run < ?2 AND status = ?4 ORDER BY run DESC LIMIT ?3"),
                params![tenant, before, wanted, status],
            )?,
            None => {
                self.rows(&format!("{columns} AND run < ?2 ORDER BY run DESC LIMIT ?3"), params![tenant, before, wanted])?
            }
        };
        let has_more = listed.len() > limit;
        listed.truncate(limit);
        let runs = listed.into_iter().map(|listed| self.summary(listed)).collect::<Result<_, _>>()?;
        Ok(Page { runs, has_more })
    }

    /// The last record of a run as stored.
    pub(crate) fn last_bytes(&self, row: i64) -> Result<Option<(u64, i64, String)>, Error> {
        self.first(
            "SELECT slot, epoch, bytes FROM records WHERE slot BETWEEN ?1 AND ?2 ORDER BY slot DESC LIMIT 1",
            [schema::slot(row, 0), schema::slot(row, schema::RECORDS_MAX)],
            |row| Ok((schema::number(row.get(0)?), row.get(1)?, row.get(2)?)),
        )
    }

    pub(crate) fn parse<T: for<'de> Deserialize<'de>>(&self, run: &str, what: &str, text: &str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|error| Error::Unreadable {
            run: run.to_owned(),
            what: what.to_owned(),
            reason: error.to_string(),
        })
    }

    pub(crate) fn failed(&self, error: rusqlite::Error) -> Error {
        Error::sqlite(self.file, error)
    }

    fn ledger(&self, run: RunId, source: LogError) -> Error {
        Error::Ledger { run, source }
    }

    fn open(&self, row: &Row<'_>, before: &Hash, expected: u64) -> Result<Result<Sealed, RecordError>, Error> {
        let failed = |error| self.failed(error);
        let found = schema::number(row.get(0).map_err(failed)?);
        if found != expected {
            return Ok(Err(RecordError::Gap { expected, found }));
        }
        // A hash of another length cannot be the right one.
        let stored = row.get_ref(1).map_err(failed)?;
        let Some(hash) = stored.as_blob().ok().and_then(|blob| <[u8; 32]>::try_from(blob).ok()) else {
            return Ok(Err(RecordError::Altered { number: expected }));
        };
        let text = row.get_ref(2).map_err(failed)?;
        let Ok(bytes) = text.as_str() else { return Ok(Err(RecordError::Altered { number: expected })) };
        Ok(Sealed::open(bytes, Hash(hash), before, expected))
    }

    fn items(&self, run: RunId, row: i64, epoch: i64) -> Result<(Vec<Item>, Vec<ItemKey>), Error> {
        let mut statement = self.prepare("SELECT item, epoch FROM items WHERE run = ?1 ORDER BY key")?;
        let rows = statement
            .query_map([row], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
            .and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(|error| self.failed(error))?;
        let mut items = Vec::with_capacity(rows.len());
        let mut inherited = Vec::new();
        for (text, written) in rows {
            let item: Item = self.parse(&run.to_string(), "item", &text)?;
            if written < epoch && matches!(item.key, ItemKey::Claim { .. } | ItemKey::Fence { .. }) {
                inherited.push(item.key.clone());
            }
            items.push(item);
        }
        Ok((items, inherited))
    }

    fn summary(&self, listed: Listed) -> Result<RunSummary, Error> {
        /// The part of a record that a list shows.
        #[derive(Deserialize)]
        struct Tail {
            number: u64,
            at: Timestamp,
            head: Head,
        }
        let run = self.run_id(&listed.run)?;
        let last = self.last_bytes(listed.row)?.ok_or_else(|| self.ledger(run, LogError::NotStarted))?;
        let Tail { number, at, head } = self.parse(&listed.run, "last record", &last.2)?;
        let unreadable = |error: errand_core::InvalidTenant| Error::Unreadable {
            run: listed.run.clone(),
            what: "tenant".to_owned(),
            reason: error.to_string(),
        };
        Ok(RunSummary {
            run,
            tenant: listed.tenant.parse().map_err(unreadable)?,
            started: time(listed.started),
            at,
            number,
            task: listed.task,
            model: listed.model,
            status: listed.status,
            totals: head.totals,
            parent: listed.parent.map(|parent| self.run_id(&parent)).transpose()?,
        })
    }

    fn rows(&self, question: &str, values: impl rusqlite::Params) -> Result<Vec<Listed>, Error> {
        let listed = |row: &Row<'_>| {
            Ok(Listed {
                row: row.get(0)?,
                run: row.get(1)?,
                status: row.get(2)?,
                started: row.get(3)?,
                task: row.get(4)?,
                model: row.get(5)?,
                parent: row.get(6)?,
                tenant: row.get(7)?,
            })
        };
        let mut statement = self.prepare(question)?;
        let rows = statement.query_map(values, listed).and_then(|rows| rows.collect());
        rows.map_err(|error| self.failed(error))
    }

    fn run_ids(&self, question: &str, values: impl rusqlite::Params) -> Result<Vec<RunId>, Error> {
        let mut statement = self.prepare(question)?;
        let texts = statement
            .query_map(values, |row| row.get::<_, String>(0))
            .and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(|error| self.failed(error))?;
        texts.iter().map(|text| self.run_id(text)).collect()
    }

    fn run_id(&self, text: &str) -> Result<RunId, Error> {
        text.parse().map_err(|error: errand_core::InvalidId| Error::Unreadable {
            run: text.to_owned(),
            what: "run id".to_owned(),
            reason: error.to_string(),
        })
    }

    fn first<T>(
        &self,
        question: &str,
        values: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        self.prepare(question)?.query_row(values, read).optional().map_err(|error| self.failed(error))
    }

    fn prepare(&self, question: &str) -> Result<rusqlite::CachedStatement<'_>, Error> {
        self.connection.prepare_cached(question).map_err(|error| self.failed(error))
    }
}

struct Listed {
    row: i64,
    run: String,
    status: String,
    started: i64,
    task: String,
    model: String,
    parent: Option<String>,
    tenant: String,
}

/// Times beyond what SQLite counts are the end of time.
pub(crate) fn stored_time(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// `time` as it will be read back.
pub(crate) fn storable(at: Timestamp) -> Timestamp {
    time(stored_time(at))
}

fn time(stored: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(stored).unwrap_or(0))
}
