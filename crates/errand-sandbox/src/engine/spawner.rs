//! The thread that starts boxes that stay: a box dies with the thread that made it, and callers' threads come and go.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread, which ends when this is dropped, and with it every box it made.
#[derive(Debug)]
pub(crate) struct Spawner {
    jobs: Mutex<Sender<Job>>,
}

impl Spawner {
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start() -> std::io::Result<Spawner> {
        let (jobs, waiting) = channel::<Job>();
        // A panic is one of whoever asked: the thread goes on, for boxes die with it.
        let work = move || waiting.iter().for_each(|job| drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))));
        std::thread::Builder::new().name("sandbox-spawner".to_owned()).spawn(work)?;
        Ok(Spawner { jobs: Mutex::new(jobs) })
    }

    /// Does `work` on the thread and waits for it. `None` if it panicked.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            // Whoever asked waits for it.
            let _ = done.send(work());
        });
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job).ok()?;
        result.recv().ok()
    }
}
