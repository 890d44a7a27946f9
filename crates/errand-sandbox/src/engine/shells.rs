//! Boxes that are nobody's yet, made ahead of calls by a thread of their own; and the end of used ones, out of the way of
//! those who wait.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Engine;
use super::cgroup::Group;
use super::nest::{Nest, Shell};
use super::nursery::tight_nest;
use crate::error::Result;
use crate::limits::Limits;

/// How many lie ready.
const STOCK: usize = 8;
/// How long after a call the next ones are made: the call has the processor to itself meanwhile.
const QUIET: Duration = Duration::from_millis(5);
/// How long nothing is made after it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How often those that lie ready are looked at when nothing else happens.
const LOOK: Duration = Duration::from_secs(30);
/// How many used boxes may wait for their end.
const DONE_MAX: usize = 64;

/// The boxes that lie ready. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Shells {
    shared: Arc<Shared>,
    maker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    nest: Mutex<Option<Arc<Nest>>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Shell>,
    /// What is left of used boxes.
    done: Vec<Remains>,
    last: Option<Instant>,
    is_closed: bool,
}

/// What is left of a box whose processes are gone: its groups, and namespaces whose end takes time.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) _group: Group,
    pub(crate) _namespaces: Vec<std::os::fd::OwnedFd>,
}

impl Shells {
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Shells> {
        let shared = Shared { engine, nest: Mutex::default(), state: Mutex::default(), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        let work = move || theirs.work();
        let maker = std::thread::Builder::new().name("sandbox-shells".to_owned()).spawn(work)?;
        Ok(Shells { shared, maker: Some(maker) })
    }

    /// The nest that makes them, started if there is none.
    ///
    /// # Errors
    /// Where the host does not let it be, or its boxes do not pass the probe.
    pub(crate) fn nest(&self) -> Result<Arc<Nest>> {
        self.shared.nest()
    }

    /// One that is ready and well, if there is one; of this nest, where one is named.
    pub(crate) fn take(&self, nest: Option<&Arc<Nest>>) -> Option<Shell> {
        let mut state = self.shared.lock();
        state.last = Some(Instant::now());
        let mut unfit = Vec::new();
        let found = loop {
            match state.ready.pop_front() {
                None => break None,
                Some(shell) if shell.is_waiting() && nest.is_none_or(|nest| shell.is_of(nest)) => break Some(shell),
                Some(shell) => unfit.push(shell),
            }
        };
        drop(state);
        self.shared.changed.notify_all();
        found
    }

    /// Takes what is left of a used box; where too much waits already it is seen to at once.
    pub(crate) fn bury(&self, remains: Remains) {
        let mut state = self.shared.lock();
        if state.done.len() < DONE_MAX {
            state.done.push(remains);
            state.last = Some(Instant::now());
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    /// Waits until as many lie ready as are kept, or the patience is over. True if so.
    pub(crate) fn is_filled_within(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        while state.ready.len() < STOCK {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    /// Takes out those that nobody is to get: dead ones, and those of a nest that is gone or too old.
    fn unfit(&mut self) -> VecDeque<Shell> {
        let (ready, unfit) = std::mem::take(&mut self.ready).into_iter().partition(Shell::is_waiting);
        self.ready = ready;
        unfit
    }
}

impl Drop for Shells {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(maker) = self.maker.take() {
            // What it could not make nobody misses.
            let _ = maker.join();
        }
    }
}

impl Shared {
    /// Makes what is missing and ends what is used, in batches, until nobody wants it any more.
    fn work(&self) {
        let mut retry: Option<Instant> = None;
        let mut state = self.lock();
        while !state.is_closed {
            let now = Instant::now();
            let unfit = state.unfit();
            if !unfit.is_empty() {
                drop(state);
                drop(unfit);
                state = self.lock();
                continue;
            }
            let quiet = state.last.map_or(Duration::ZERO, |last| QUIET.saturating_sub(now - last));
            let wait = retry.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            let is_full = state.ready.len() >= STOCK;
            if state.done.is_empty() && (is_full || !wait.is_zero()) {
                let patience = if is_full { LOOK } else { wait };
                state = self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if !quiet.is_zero() {
                state = self.changed.wait_timeout(state, quiet).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let done = std::mem::take(&mut state.done);
            drop(state);
            drop(done);
            let made = if is_full || !wait.is_zero() { None } else { Some(self.make()) };
            state = self.lock();
            match made {
                Some(Ok(shell)) => {
                    state.ready.push_back(shell);
                    self.changed.notify_all();
                }
                Some(Err(_)) => {
                    // Calls do without; each says itself what is wrong with this host.
                    retry = Some(Instant::now() + AFTER_FAILURE);
                }
                None => {}
            }
        }
        let left = (std::mem::take(&mut state.ready), std::mem::take(&mut state.done));
        drop(state);
        drop(left);
    }

    fn make(&self) -> Result<Shell> {
        self.nest()?.shell(&self.engine, &Limits::default())
    }

    fn nest(&self) -> Result<Arc<Nest>> {
        let mut nest = self.nest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = nest.as_ref().filter(|nest| nest.is_fresh()) {
            return Ok(Arc::clone(ready));
        }
        let made = tight_nest(&self.engine)?;
        *nest = Some(Arc::clone(&made));
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
