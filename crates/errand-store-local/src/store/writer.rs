//! The one thread that writes. It takes every write that waits, does them in one transaction, and answers each when
//! that has taken hold. It never waits for more: the group is what arrived while the one before was being synced.

use super::cache::Cache;
use super::write::{Answer, Failure, Touched, Transaction, Write};
use crate::{Error, FaultPlan, recover};
use errand_core::RunId;
use rusqlite::Connection;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Most writes in one transaction: bounds how long the first of them waits for the last.
const GROUP_MAX: usize = 256;

/// What the writer did so far.
#[derive(Debug, Default)]
pub struct WriterStats {
    transactions: AtomicU64,
    writes: AtomicU64,
}

impl WriterStats {
    /// Transactions that changed something: each was synced to the disk once.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Writes asked for, refused ones and claims in memory left out.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

struct Waiting {
    run: RunId,
    write: Write,
    reply: Reply<Answer>,
}

enum Request {
    Write(Box<Waiting>),
    Close(Reply<()>),
}

/// The way to the writer. Dropping it ends the thread, once everything sent before is done.
#[derive(Debug)]
pub(crate) struct Writer {
    folder: PathBuf,
    sender: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stats: Arc<WriterStats>,
}

/// What the thread works with. It holds the folder's lock, so that the lock is let go after the last write.
pub(crate) struct Work {
    pub(crate) connection: Connection,
    pub(crate) file: PathBuf,
    pub(crate) epoch: i64,
    pub(crate) cache: Arc<Cache>,
    pub(crate) faults: Arc<FaultPlan>,
    pub(crate) lock: File,
}

impl Writer {
    pub(crate) fn start(folder: PathBuf, work: Work) -> Result<Self, Error> {
        let (sender, receiver) = channel();
        let stats = Arc::new(WriterStats::default());
        let mut loop_ = Loop { work, stats: Arc::clone(&stats) };
        let thread = std::thread::Builder::new()
            .name("errand-writer".to_owned())
            .spawn(move || loop_.run(&receiver))
            .map_err(|source| Error::Io { action: "start a thread for", path: folder.clone(), source })?;
        Ok(Self { folder, sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), stats })
    }

    pub(crate) fn stats(&self) -> &WriterStats {
        &self.stats
    }

    /// Waits until `write` took hold.
    pub(crate) async fn write(&self, run: RunId, write: Write) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Write(Box::new(Waiting { run, write, reply })))?;
        answer.await.map_err(|_| self.closed())?
    }

    /// Stores what was only in memory, notes that this end was a clean one, and ends the thread.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Close(reply))?;
        let closed = answer.await.map_err(|_| self.closed())?;
        self.join();
        closed
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender.as_ref().map(|sender| sender.send(request));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.closed()),
        }
    }

    fn join(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread reports its failures to whoever waits for an answer.
            let _ = thread.join();
        }
    }

    fn closed(&self) -> Error {
        Error::Closed { path: self.folder.clone() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

struct Loop {
    work: Work,
    stats: Arc<WriterStats>,
}

impl Loop {
    fn run(&mut self, receiver: &Receiver<Request>) {
        let mut busy = 0;
        while let Ok(first) = receiver.recv() {
            let mut group = Vec::new();
            let mut closing = None;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Write(waiting) => group.push(*waiting),
                    Request::Close(reply) => {
                        closing = Some(reply);
                        break;
                    }
                }
                next = if group.len() < GROUP_MAX { receiver.try_recv().ok() } else { None };
                if next.is_none() && group.len() < busy {
                    // Those of the group before are about to come again: they get the processor first, once.
                    std::thread::yield_now();
                    next = receiver.try_recv().ok();
                }
            }
            busy = group.len().min(GROUP_MAX);
            self.write(group);
            if let Some(reply) = closing {
                let closed = self.close();
                self.let_go();
                let _ = reply.send(closed);
                return;
            }
        }
        self.let_go();
    }

    /// Said aloud and not left to closing the file: a child process that is just being started may hold a copy of it.
    fn let_go(&self) {
        let _ = self.work.lock.unlock();
    }

    /// Does a group of writes in one transaction; if that fails, each in one of its own, so that every one of them
    /// learns what is wrong with itself.
    fn write(&mut self, group: Vec<Waiting>) {
        if group.is_empty() {
            return;
        }
        match self.attempt(&group) {
            Ok(answers) => reply(group, answers),
            Err(error) if group.len() == 1 => reply(group, vec![Err(error)]),
            Err(_) => {
                for waiting in group {
                    let answers = self.attempt(std::slice::from_ref(&waiting)).unwrap_or_else(|error| vec![Err(error)]);
                    reply(vec![waiting], answers);
                }
            }
        }
    }

    fn attempt(&self, group: &[Waiting]) -> Result<Vec<Result<Answer, Error>>, Error> {
        let attempted = self.transact(group);
        if attempted.is_err() {
            // Fails if SQLite has rolled back already, which is as good.
            let _ = self.work.connection.execute_batch("ROLLBACK");
            self.work.cache.abandon();
        }
        attempted
    }

    fn transact(&self, group: &[Waiting]) -> Result<Vec<Result<Answer, Error>>, Error> {
        let Work { connection, file, epoch, cache, faults, .. } = &self.work;
        let mut transaction = Transaction { connection, file, epoch: *epoch, has_written: false };
        transaction.begin()?;
        let mut touched: HashMap<RunId, Touched> = HashMap::with_capacity(group.len());
        let mut answers = Vec::with_capacity(group.len());
        for Waiting { run, write, .. } in group {
            let run = touched.entry(*run).or_insert_with(|| Touched::new(*run, cache.reserve(*run)));
            answers.push(match run.apply(write, &mut transaction) {
                Ok(answer) => Ok(answer),
                Err(Failure::Refused(error)) => Err(error),
                Err(Failure::Broken(error)) => return Err(error),
            });
        }
        let written = transaction.has_written;
        let write = if written { faults.before() } else { 0 };
        transaction.commit()?;
        if written {
            faults.after(write);
            self.stats.transactions.fetch_add(1, Ordering::Relaxed);
            self.stats.writes.fetch_add(group.len() as u64, Ordering::Relaxed);
        }
        cache.commit(touched.into_values().map(Touched::changed));
        Ok(answers)
    }

    fn close(&mut self) -> Result<(), Error> {
        let Work { connection, file, epoch, cache, faults, .. } = &self.work;
        let mut transaction = Transaction { connection, file, epoch: *epoch, has_written: false };
        let closed = recover::close(&mut transaction, cache.take_open_claims(), faults);
        if closed.is_err() {
            let _ = connection.execute_batch("ROLLBACK");
            return closed;
        }
        // Only tidies up: what is left of the log is read at the next start.
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(())
    }
}

fn reply(group: Vec<Waiting>, answers: Vec<Result<Answer, Error>>) {
    for (waiting, answer) in group.into_iter().zip(answers) {
        // Whoever asked may be gone; the write stands all the same.
        let _ = waiting.reply.send(answer);
    }
}
