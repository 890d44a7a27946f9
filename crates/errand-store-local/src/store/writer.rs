//! The one writer. A thread takes every write that waits, does them in one transaction, and answers each when that has
//! taken hold. It never waits for more: the group is what arrived while the one before was being synced.
//!
//! A write that has nobody to share with is done where it is asked for, if the disk is quick: on the way to a thread and
//! back a step would spend as much as on the write itself.

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
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most writes in one transaction: bounds how long the first of them waits for the last.
const GROUP_MAX: usize = 256;

/// The longest that a write may take, the time before, for the next one to be done where it is asked for: whoever waits
/// there keeps others waiting, so it has to be less than what they notice.
const QUICK: Duration = Duration::from_millis(2);

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

/// A write that is asked for.
struct Job {
    run: RunId,
    write: Write,
}

struct Waiting {
    job: Job,
    reply: Reply<Answer>,
}

enum Request {
    Write(Box<Waiting>),
    Close(Reply<()>),
}

/// The way to the writer. Dropping it ends the thread, once everything sent before is done.
pub(crate) struct Writer {
    folder: PathBuf,
    sender: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Nothing once the store is closed.
    desk: Arc<Mutex<Option<Desk>>>,
    stats: Arc<WriterStats>,
}

/// What is written with. It holds the folder's lock, so that the lock is let go after the last write.
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
        let desk = Desk { work, stats: Arc::clone(&stats), last: None, is_quick: false };
        let desk = Arc::new(Mutex::new(Some(desk)));
        let shared = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("errand-writer".to_owned())
            .spawn(move || serve(&shared, &receiver))
            .map_err(|source| Error::Io { action: "start a thread for", path: folder.clone(), source })?;
        Ok(Self { folder, sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), desk, stats })
    }

    pub(crate) fn stats(&self) -> &WriterStats {
        &self.stats
    }

    /// Waits until `write` took hold.
    pub(crate) async fn write(&self, run: RunId, write: Write) -> Result<Answer, Error> {
        let job = Job { run, write };
        // The desk may be had, and its last writer was the same: the thread has nothing to do that could be shared.
        if let Ok(mut desk) = self.desk.try_lock()
            && let Some(desk) = desk.as_mut().filter(|desk| desk.is_alone(&job))
        {
            return desk.write(&[job]).pop().unwrap_or_else(|| Err(self.closed()));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Write(Box::new(Waiting { job, reply })))?;
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

/// Where writes are done, one group after the other.
struct Desk {
    work: Work,
    stats: Arc<WriterStats>,
    /// The run that was written last, if it was the only one in its group.
    last: Option<RunId>,
    /// Whether that went quickly.
    is_quick: bool,
}

/// The thread: does what waits until it is told to close, or nobody can ask any more.
fn serve(desk: &Mutex<Option<Desk>>, receiver: &Receiver<Request>) {
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
        let (jobs, replies): (Vec<Job>, Vec<_>) = group.into_iter().map(|waiting| (waiting.job, waiting.reply)).unzip();
        // After a panic nobody knows how far the one before came: whoever waits learns that the store is closed.
        let Ok(mut held) = desk.lock() else { break };
        let Some(at) = held.as_mut() else { break };
        let answers = at.write(&jobs);
        let closed = closing.map(|reply| (reply, held.take().map_or(Ok(()), Desk::close)));
        drop(held);
        answer(replies, answers);
        if let Some((reply, closed)) = closed {
            let _ = reply.send(closed);
            return;
        }
    }
    if let Some(desk) = desk.lock().unwrap_or_else(PoisonError::into_inner).take() {
        desk.let_go();
    }
}

fn answer(replies: Vec<Reply<Answer>>, answers: Vec<Result<Answer, Error>>) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Whoever asked may be gone; the write stands all the same.
        let _ = reply.send(answer);
    }
}

impl Desk {
    /// True if nobody else writes, as far as can be seen, and writing does not take long.
    fn is_alone(&self, job: &Job) -> bool {
        let is_first = matches!(job.write, Write::Begin { .. });
        self.is_quick && (is_first || self.last == Some(job.run))
    }

    /// Does a group of writes in one transaction; if that fails, each in one of its own, so that every one of them
    /// learns what is wrong with itself. There are as many answers as writes.
    fn write(&mut self, group: &[Job]) -> Vec<Result<Answer, Error>> {
        let (began, before) = (Instant::now(), self.stats.transactions());
        let answers = match self.attempt(group) {
            Ok(answers) => answers,
            Err(error) if group.len() == 1 => vec![Err(error)],
            Err(_) => group
                .iter()
                .flat_map(|job| self.attempt(std::slice::from_ref(job)).unwrap_or_else(|error| vec![Err(error)]))
                .collect(),
        };
        if let Some(first) = group.first() {
            self.last = group.iter().all(|job| job.run == first.run).then_some(first.run);
            // What wrote nothing tells nothing of the disk.
            if self.stats.transactions() > before {
                self.is_quick = began.elapsed() < QUICK;
            }
        }
        answers
    }

    fn attempt(&self, group: &[Job]) -> Result<Vec<Result<Answer, Error>>, Error> {
        let attempted = self.transact(group);
        if attempted.is_err() {
            // Fails if SQLite has rolled back already, which is as good.
            let _ = self.work.connection.execute_batch("ROLLBACK");
            self.work.cache.abandon();
        }
        attempted
    }

    fn transact(&self, group: &[Job]) -> Result<Vec<Result<Answer, Error>>, Error> {
        let Work { connection, file, epoch, cache, faults, .. } = &self.work;
        let mut transaction = Transaction { connection, file, epoch: *epoch, has_written: false };
        transaction.begin()?;
        let mut touched: HashMap<RunId, Touched> = HashMap::with_capacity(group.len());
        let mut answers = Vec::with_capacity(group.len());
        for Job { run, write } in group {
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

    /// Stores what was only in memory, and lets go of the folder. Nothing is written after it.
    fn close(self) -> Result<(), Error> {
        let closed = self.leave();
        self.let_go();
        closed
    }

    /// Said aloud and not left to closing the file: a child process that is just being started may hold a copy of it.
    fn let_go(self) {
        let _ = self.work.lock.unlock();
    }

    fn leave(&self) -> Result<(), Error> {
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
