//! Runs in one SQLite file: one thread writes, commits are shared by whatever waits, reads go past it.

pub(crate) mod cache;
pub(crate) mod claims;
pub(crate) mod read;
pub(crate) mod write;
pub(crate) mod writer;

use crate::Error;
use crate::schema::Reading;
use async_trait::async_trait;
use cache::{Cache, Found};
use errand_core::{Item, ItemKey, Record, RunId, Sealed, Timestamp};
use errand_engine::ports::{Commit, DueEntry, Loaded, Page, PortError, Put, RunFilter, Store, World};
use read::Reader;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use write::{Answer, Write};
use writer::Writer;
pub use writer::WriterStats;

/// Connections that are kept for reading; more may be open for a moment.
const READERS_KEPT: usize = 2;

/// The runs of a data folder.
///
/// Owned, it writes and keeps the runs at work in memory. Opened for reading it asks the database each time, since
/// another process may be writing.
pub struct LocalStore {
    folder: PathBuf,
    readers: Arc<Readers>,
    world: Arc<dyn World>,
    owned: Option<Owned>,
}

/// What only an owner has.
pub(crate) struct Owned {
    pub(crate) epoch: i64,
    pub(crate) cache: Arc<Cache>,
    pub(crate) writer: Writer,
}

impl LocalStore {
    pub(crate) fn new(
        folder: PathBuf,
        reading: Reading,
        file: PathBuf,
        world: Arc<dyn World>,
        owned: Option<Owned>,
    ) -> Self {
        let readers = Readers { reading, file, idle: Mutex::default() };
        Self { folder, readers: Arc::new(readers), world, owned }
    }

    /// Runs that have not ended, the oldest first: what the queue is rebuilt from at start.
    pub async fn unfinished(&self) -> Result<Vec<RunId>, PortError> {
        Ok(self.readers.ask(|reader| reader.unfinished()).await?)
    }

    /// Lets go of memory that only a store at work needs.
    pub fn rest(&self) {
        self.readers.idle().clear();
    }

    /// What the writer did so far; `None` if the folder was opened for reading.
    pub fn stats(&self) -> Option<&WriterStats> {
        self.owned.as_ref().map(|owned| owned.writer.stats())
    }

    /// Stores what was only in memory and lets go of the folder. Writes asked for before are done first, later ones are
    /// refused. Without it the next owner takes this one for crashed.
    pub async fn close(&self) -> Result<(), Error> {
        match &self.owned {
            Some(owned) => owned.writer.close().await,
            None => Ok(()),
        }
    }

    /// A run as the database has it, memory aside: for tests that compare the two.
    #[doc(hidden)]
    pub async fn load_stored(&self, run: RunId) -> Result<Option<Loaded>, PortError> {
        let (epoch, now) = (self.epoch(), self.world.now());
        let entry = self.readers.ask(move |reader| reader.entry(run, epoch)).await?;
        Ok(entry.map(|entry| entry.loaded(None, now)))
    }

    fn epoch(&self) -> i64 {
        // Nothing was written before the first epoch, so to a reader nothing is inherited.
        self.owned.as_ref().map_or(0, |owned| owned.epoch)
    }

    fn cache(&self) -> Option<&Cache> {
        self.owned.as_ref().map(|owned| &*owned.cache)
    }

    async fn write(&self, run: RunId, write: Write) -> Result<Answer, Error> {
        match &self.owned {
            Some(owned) => owned.writer.write(run, write).await,
            None => Err(Error::ReadMode { path: self.folder.clone() }),
        }
    }

    /// An answer of another kind than the question cannot come; if it does, the writer is not what it should be.
    fn mixed_up(&self) -> PortError {
        Error::Closed { path: self.folder.clone() }.into()
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn begin(&self, run: RunId, records: &[Sealed], due: Timestamp) -> Result<Commit, PortError> {
        match self.write(run, Write::Begin { records: records.to_vec(), due }).await? {
            Answer::Commit(commit) => Ok(commit),
            _ => Err(self.mixed_up()),
        }
    }

    async fn load(&self, run: RunId) -> Result<Option<Loaded>, PortError> {
        let (epoch, now) = (self.epoch(), self.world.now());
        let ticket = match self.cache().map(|cache| cache.find(run, now)) {
            Some(Found::Loaded(loaded)) => return Ok(Some(*loaded)),
            Some(Found::Ticket(ticket)) => Some(ticket),
            None => None,
        };
        let Some(entry) = self.readers.ask(move |reader| reader.entry(run, epoch)).await? else { return Ok(None) };
        Ok(Some(match ticket {
            Some(ticket) => ticket.redeem(entry, now),
            None => entry.loaded(None, now),
        }))
    }

    async fn last(&self, run: RunId) -> Result<Option<Arc<Record>>, PortError> {
        if let Some(last) = self.cache().and_then(|cache| cache.last(run)) {
            return Ok(Some(last));
        }
        let last = self.readers.ask(move |reader| match reader.brief(run)? {
            Some(brief) => reader.record(run, brief.row, brief.head),
            None => Ok(None),
        });
        Ok(last.await?)
    }

    async fn commit(&self, run: RunId, record: &Sealed, wake: Option<Timestamp>) -> Result<Commit, PortError> {
        match self.write(run, Write::Commit { record: record.clone(), wake }).await? {
            Answer::Commit(commit) => Ok(commit),
            _ => Err(self.mixed_up()),
        }
    }

    async fn put(&self, run: RunId, item: &Item, wake: Option<Timestamp>) -> Result<Put, PortError> {
        if let Some(owned) = self.owned.as_ref().filter(|_| wake.is_none())
            && let Some(put) = owned.cache.claim(run, item, owned.epoch)
        {
            return Ok(put);
        }
        match self.write(run, Write::Put { item: item.clone(), wake }).await? {
            Answer::Put(put) => Ok(put),
            _ => Err(self.mixed_up()),
        }
    }

    async fn item(&self, run: RunId, key: &ItemKey) -> Result<Option<Item>, PortError> {
        let (epoch, now) = (self.epoch(), self.world.now());
        if let Some(found) = self.cache().and_then(|cache| cache.item(run, key, now)) {
            return Ok(found);
        }
        let wanted = key.clone();
        let found = self.readers.ask(move |reader| match reader.brief(run)? {
            Some(brief) => reader.item(&run.to_string(), brief.row, &wanted),
            None => Ok(None),
        });
        Ok(found.await?.map(|(mut item, written)| {
            if written < epoch {
                cache::expire(&mut item, now);
            }
            item
        }))
    }

    async fn move_due(&self, run: RunId, seen: Option<DueEntry>, at: Option<Timestamp>) -> Result<bool, PortError> {
        match self.write(run, Write::MoveDue { seen, at }).await? {
            Answer::Moved(moved) => Ok(moved),
            _ => Err(self.mixed_up()),
        }
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, PortError> {
        Ok(self.readers.ask(move |reader| reader.overdue(now, limit)).await?)
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page, PortError> {
        let filter = filter.clone();
        Ok(self.readers.ask(move |reader| reader.list(&filter)).await?)
    }
}

/// Connections that only read, used on tokio's threads for blocking work.
struct Readers {
    reading: Reading,
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Asks within one transaction, so that the parts of an answer belong together.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(Reader<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || readers.ask_blocking(question)).await;
        match asked {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            Err(_) => Err(Error::Closed { path: self.file.clone() }),
        }
    }

    fn ask_blocking<T>(&self, question: impl FnOnce(Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle().pop();
        let connection = idle.map_or_else(|| self.reading.open(), Ok)?;
        let failed = |error| Error::sqlite(&self.file, error);
        connection.execute_batch("BEGIN").map_err(failed)?;
        let answer = question(Reader { connection: &connection, file: &self.file })?;
        connection.execute_batch("COMMIT").map_err(failed)?;
        let mut idle = self.idle();
        if idle.len() < READERS_KEPT {
            idle.push(connection);
        }
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
