//! The floors' records: SQLite as ADR 0003 has it (a log, every commit synced), or nothing.

use anyhow::Context;
use rusqlite::{Connection, params};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// How records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Not at all: what is left is the work with the model.
    None,
    /// One commit per record.
    Each,
    /// A thread that commits all that waits.
    Grouped,
}

/// A run's row and a record's number in one integer, as Errand has it.
const NUMBER_BITS: u32 = 24;

pub(super) struct Store {
    runs: Cell<i64>,
    way: Way,
}

enum Way {
    None,
    Each(RefCell<Connection>),
    Grouped(Sender<Waiting>),
}

struct Waiting {
    slot: i64,
    bytes: Vec<u8>,
    done: oneshot::Sender<rusqlite::Result<()>>,
}

impl Store {
    pub(super) fn open(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        let way = match kind {
            Kind::None => Way::None,
            Kind::Each => Way::Each(RefCell::new(connect(folder)?)),
            Kind::Grouped => {
                let connection = connect(folder)?;
                let (sender, receiver) = channel();
                std::thread::spawn(move || write(connection, &receiver));
                Way::Grouped(sender)
            }
        };
        Ok(Self { runs: Cell::new(0), way })
    }

    /// The row of a new run, whose first record is stored.
    pub(super) async fn begin(&self, task: &[u8]) -> anyhow::Result<i64> {
        let run = self.runs.get() + 1;
        self.runs.set(run);
        self.step(run, 0, task.to_vec()).await?;
        Ok(run)
    }

    /// Returns once the record is on the disk.
    pub(super) async fn step(&self, run: i64, number: i64, bytes: Vec<u8>) -> anyhow::Result<()> {
        let slot = (run << NUMBER_BITS) | number;
        match &self.way {
            Way::None => Ok(()),
            Way::Each(connection) => {
                let mut connection = connection.borrow_mut();
                let transaction = connection.transaction()?;
                insert(&transaction, slot, &bytes)?;
                Ok(transaction.commit()?)
            }
            Way::Grouped(writer) => {
                let (done, wait) = oneshot::channel();
                writer.send(Waiting { slot, bytes, done }).context("the writer has ended")?;
                Ok(wait.await.context("the writer has ended")??)
            }
        }
    }
}

fn connect(folder: &Path) -> anyhow::Result<Connection> {
    std::fs::create_dir_all(folder)?;
    let connection = Connection::open(folder.join("floor.db"))?;
    let settings = [("page_size", "1024"), ("journal_mode", "WAL"), ("synchronous", "FULL"), ("wal_autocheckpoint", "4000")];
    for (name, value) in settings {
        connection.pragma_update(None, name, value)?;
    }
    connection.execute_batch("CREATE TABLE records (slot INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT")?;
    Ok(connection)
}

fn insert(connection: &Connection, slot: i64, bytes: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO records (slot, bytes) VALUES (?1, ?2)")?.execute(params![slot, bytes])?;
    Ok(())
}

/// Commits all that waits, and again, until nobody can send any more.
fn write(mut connection: Connection, receiver: &Receiver<Waiting>) {
    while let Ok(first) = receiver.recv() {
        let group: Vec<Waiting> = std::iter::once(first).chain(receiver.try_iter()).collect();
        let written = commit(&mut connection, &group);
        for waiting in group {
            // The benchmark runs on an empty disk; one error is told to one of those that wait, and ends it.
            let answer = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(error.to_string().into())),
            };
            let _ = waiting.done.send(answer);
        }
    }
}

fn commit(connection: &mut Connection, group: &[Waiting]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for waiting in group {
        insert(&transaction, waiting.slot, &waiting.bytes)?;
    }
    transaction.commit()
}
