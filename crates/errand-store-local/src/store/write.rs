//! What each write does, inside the writer's transaction.

use super::cache::{Brief, Change, Changed, Entry};
use super::claims::{self, Admitted, Facts, RunClaims};
use super::read::{Reader, storable, stored_time};
use crate::{Error, schema};
use errand_core::{Item, ItemKey, RunId, RunLog, Sealed, Timestamp};
use errand_engine::ports::{Commit, DueEntry, Put, RunSummary};
use rusqlite::{Connection, params};
use std::path::Path;

/// A write that waits for its turn.
#[derive(Debug)]
pub(crate) enum Write {
    Begin { records: Vec<Sealed>, due: Timestamp },
    Commit { record: Sealed, wake: Option<Timestamp> },
    Put { item: Item, wake: Option<Timestamp> },
    MoveDue { seen: Option<DueEntry>, at: Option<Timestamp> },
}

/// What became of it.
#[expect(clippy::large_enum_variant, reason = "it is looked at once and dropped")]
#[derive(Debug)]
pub(crate) enum Answer {
    Commit(Commit),
    Put(Put),
    Moved(bool),
}

/// Why it failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This write alone, and nothing of it was done.
    Refused(Error),
    /// The whole transaction.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Broken(error)
    }
}

/// One run within the transaction.
#[derive(Debug)]
pub(crate) struct Touched {
    run: RunId,
    name: String,
    brief: Option<Brief>,
    begun: Option<Entry>,
    changes: Vec<Change>,
    claims: RunClaims,
}

/// The transaction: where it writes, for which owner, and whether there is anything to commit.
pub(crate) struct Transaction<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) file: &'a Path,
    pub(crate) epoch: i64,
    pub(crate) has_written: bool,
}

impl Touched {
    pub(crate) fn new(run: RunId, (brief, claims): (Option<Brief>, RunClaims)) -> Self {
        Self { run, name: run.to_string(), brief, begun: None, changes: Vec::new(), claims }
    }

    /// For the cache, once the transaction took hold.
    pub(crate) fn changed(self) -> Changed {
        Changed { run: self.run, begun: self.begun, brief: self.brief, changes: self.changes, claims: self.claims }
    }

    /// Does `write`, or says why not.
    pub(crate) fn apply(&mut self, write: &Write, to: &mut Transaction<'_>) -> Result<Answer, Failure> {
        if self.brief.is_none() {
            self.brief = to.reader().brief(self.run)?;
        }
        match write {
            Write::Begin { records, due } => self.begin(records, *due, to).map(Answer::Commit),
            Write::Commit { record, wake } => self.commit(record, *wake, to).map(Answer::Commit),
            Write::Put { item, wake } => self.put(item, *wake, to).map(Answer::Put),
            Write::MoveDue { seen, at } => self.move_due(*seen, *at, to).map(Answer::Moved),
        }
    }

    fn begin(&mut self, records: &[Sealed], due: Timestamp, to: &mut Transaction<'_>) -> Result<Commit, Failure> {
        if let Some(brief) = &self.brief {
            return self.taken(brief.row, 1, to);
        }
        let log = RunLog::fold(self.run, records.to_vec(), [])
            .map_err(|source| Failure::Refused(Error::Ledger { run: self.run, source }))?;
        let summary = RunSummary::of(&log);
        let row = to.insert_run(&self.name, &summary, log.run.head.status.is_ended(), due)?;
        for sealed in records {
            to.insert_record(row, sealed)?;
        }
        let brief = Brief {
            row,
            head: log.run.number,
            head_epoch: to.epoch,
            status: summary.status,
            due_at: Some(storable(due)),
            due_version: 1,
        };
        self.brief = Some(brief.clone());
        self.begun = Some(Entry { brief, log, inherited: Vec::new() });
        Ok(Commit::Stored)
    }

    fn commit(&mut self, sealed: &Sealed, wake: Option<Timestamp>, to: &mut Transaction<'_>) -> Result<Commit, Failure> {
        let brief = self.known()?;
        let (row, last, number) = (brief.row, brief.head, sealed.record.number);
        if number <= last {
            return self.taken(row, number, to);
        }
        if number != last + 1 {
            return Err(Failure::Refused(Error::Gap { run: self.run, number, last }));
        }
        if number > schema::RECORDS_MAX {
            return Err(Failure::Refused(Error::LogFull { run: self.run, most: schema::RECORDS_MAX }));
        }
        to.insert_record(row, sealed)?;
        let status = &sealed.record.head.status;
        if brief.status != status.code() {
            to.set_status(row, status.code(), status.is_ended())?;
        }
        let brief = self.known_mut()?;
        brief.head = number;
        brief.head_epoch = to.epoch;
        if brief.status != status.code() {
            brief.status = status.code().to_owned();
        }
        self.changes.push(Change::Record(sealed.clone()));
        let unbooked = self.claims.settle(&sealed.record);
        self.store(unbooked, to)?;
        self.wake(wake, to)?;
        Ok(Commit::Stored)
    }

    fn put(&mut self, item: &Item, wake: Option<Timestamp>, to: &mut Transaction<'_>) -> Result<Put, Failure> {
        let facts = self.facts(&item.key, to)?;
        match self.claims.admit(item, facts) {
            Admitted::Taken(taken) => return Ok(Put::Taken(*taken)),
            Admitted::InMemory => {}
            Admitted::Store(before) => {
                self.store(before, to)?;
                self.store(vec![item.clone()], to)?;
            }
        }
        self.wake(wake, to)?;
        Ok(Put::Stored)
    }

    fn move_due(
        &mut self,
        seen: Option<DueEntry>,
        at: Option<Timestamp>,
        to: &mut Transaction<'_>,
    ) -> Result<bool, Failure> {
        let Some(brief) = &self.brief else { return Ok(false) };
        // Versions never come back, so they alone tell entries apart.
        if brief.due().map(|entry| entry.version) != seen.map(|entry| entry.version) {
            return Ok(false);
        }
        self.set_due(at, to)?;
        Ok(true)
    }

    fn wake(&mut self, at: Option<Timestamp>, to: &mut Transaction<'_>) -> Result<(), Failure> {
        at.map_or(Ok(()), |at| self.set_due(Some(at), to))
    }

    fn set_due(&mut self, at: Option<Timestamp>, to: &mut Transaction<'_>) -> Result<(), Failure> {
        let at = at.map(storable);
        let brief = self.known_mut()?;
        brief.due_at = at;
        brief.due_version += 1;
        to.set_due(brief.row, at, brief.due_version)?;
        Ok(())
    }

    fn facts(&self, key: &ItemKey, to: &Transaction<'_>) -> Result<Facts, Failure> {
        let brief = self.known()?;
        let reader = to.reader();
        let taken = reader.item(&self.name, brief.row, key)?.map(|(item, _)| item);
        let open_stored = match key {
            ItemKey::Claim { record, .. } => claims::has_open(&reader.claims(&self.name, brief.row, *record)?, *record),
            _ => false,
        };
        Ok(Facts { head: brief.head, head_is_ours: brief.head_epoch == to.epoch, taken, open_stored })
    }

    fn store(&mut self, items: Vec<Item>, to: &mut Transaction<'_>) -> Result<(), Failure> {
        let row = self.known()?.row;
        for item in items {
            to.insert_item(row, &item)?;
            self.changes.push(Change::Item(item));
        }
        Ok(())
    }

    fn taken(&self, row: i64, number: u64, to: &Transaction<'_>) -> Result<Commit, Failure> {
        let record = to.reader().record(self.run, row, number)?;
        let gap = || Failure::Refused(Error::Gap { run: self.run, number, last: 0 });
        record.map(Commit::Taken).ok_or_else(gap)
    }

    fn known(&self) -> Result<&Brief, Failure> {
        self.brief.as_ref().ok_or(Failure::Refused(Error::UnknownRun { run: self.run }))
    }

    fn known_mut(&mut self) -> Result<&mut Brief, Failure> {
        self.brief.as_mut().ok_or(Failure::Refused(Error::UnknownRun { run: self.run }))
    }
}

impl Transaction<'_> {
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { connection: self.connection, file: self.file }
    }

    pub(crate) fn begin(&self) -> Result<(), Error> {
        self.control("BEGIN IMMEDIATE")
    }

    pub(crate) fn commit(&self) -> Result<(), Error> {
        self.control("COMMIT")
    }

    fn control(&self, statement: &str) -> Result<(), Error> {
        let failed = |error| Error::sqlite(self.file, error);
        self.connection.prepare_cached(statement).map_err(failed)?.execute([]).map_err(failed)?;
        Ok(())
    }

    fn insert_run(&mut self, name: &str, summary: &RunSummary, ended: bool, due: Timestamp) -> Result<i64, Error> {
        self.execute(
            "INSERT INTO runs (run, status, ended, started, task, model, parent, due_at, due_version, tenant)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, ?9)",
            params![
                name,
                summary.status,
                ended,
                stored_time(summary.started),
                summary.task,
                summary.model,
                summary.parent.map(|parent| parent.to_string()),
                stored_time(due),
                summary.tenant.as_str(),
            ],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    fn insert_record(&mut self, row: i64, sealed: &Sealed) -> Result<(), Error> {
        let epoch = self.epoch;
        self.execute(
            "INSERT INTO records (slot, epoch, hash, bytes) VALUES (?1, ?2, ?3, ?4)",
            params![schema::slot(row, sealed.record.number), epoch, sealed.hash.0, &*sealed.bytes],
        )
    }

    pub(crate) fn insert_item(&mut self, row: i64, item: &Item) -> Result<(), Error> {
        // An item is plain data with text keys only, so serialising it cannot fail.
        let (text, epoch) = (serde_json::to_string(item).unwrap_or_default(), self.epoch);
        self.execute(
            "INSERT INTO items (run, key, epoch, item) VALUES (?1, ?2, ?3, ?4)",
            params![row, item.key.to_string(), epoch, text],
        )
    }

    fn set_status(&mut self, row: i64, status: &str, ended: bool) -> Result<(), Error> {
        self.execute("UPDATE runs SET status = ?2, ended = ?3 WHERE id = ?1", params![row, status, ended])
    }

    fn set_due(&mut self, row: i64, at: Option<Timestamp>, version: u64) -> Result<(), Error> {
        self.execute(
            "UPDATE runs SET due_at = ?2, due_version = ?3 WHERE id = ?1",
            params![row, at.map(stored_time), version as i64],
        )
    }

    pub(crate) fn execute(&mut self, statement: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        self.has_written = true;
        let failed = |error| Error::sqlite(self.file, error);
        self.connection.prepare_cached(statement).map_err(failed)?.execute(values).map_err(failed)?;
        Ok(())
    }
}
