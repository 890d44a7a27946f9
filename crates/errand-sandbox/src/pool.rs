//! A warm pool: sessions with a kernel that waits for its first cell, made ahead and used once.
//!
//! What is parked belongs to nobody: an empty workspace, an interpreter that has run nothing but its driver, user ids of
//! its own. A claim gives it its name and hands it over; it never comes back.

mod rate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::{PoolConfig, PoolStats};
use crate::engine::{Engine, Kernel, Nursery, Spawner, Zygote};
use crate::error::{Error, Result};
use crate::kernel::Language;
use crate::limits::Limits;
use crate::session::{Session, Sessions};
use rate::Rate;

/// After this long a parked kernel is replaced: images and interpreters change beneath it.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long after a claim the next kernel is made: whoever claims has the processor to itself meanwhile.
const QUIET: Duration = Duration::from_millis(20);
/// How often ages and rates are looked at when nothing else happens.
const LOOK: Duration = Duration::from_secs(30);
/// How long nothing is made after it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// A kernel over a new session.
#[derive(Debug)]
pub struct Claimed {
    /// It, with its session.
    pub kernel: Kernel,
    /// False where it had to be made first.
    pub was_ready: bool,
}

/// Kernels made ahead. Dropping it ends those that nobody has claimed.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    refiller: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    sessions: Arc<Sessions>,
    config: PoolConfig,
    nursery: Nursery,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    parked: BTreeMap<Language, VecDeque<Parked>>,
    rates: BTreeMap<Language, Rate>,
    claims: u64,
    misses: u64,
    last_claim: Option<Instant>,
    /// Languages whose kernels could not be made, and when to try again.
    retry: BTreeMap<Language, Instant>,
    failures: u64,
    last_failure: Option<String>,
    forked: u64,
    /// Why the last child of a zygote was not to be used.
    misborn: Option<String>,
    is_closed: bool,
}

#[derive(Debug)]
struct Parked {
    kernel: Kernel,
    since: Instant,
}

impl Pool {
    /// Begins to make kernels; claims may come at once.
    ///
    /// # Errors
    /// [`Error::LimitOutOfRange`], or [`Error::Io`] when no thread can be started.
    pub fn start(engine: Arc<Engine>, sessions: Arc<Sessions>, config: PoolConfig) -> Result<Pool> {
        config.limits.validate()?;
        let spawner = Spawner::start().map_err(|e| Error::io("starting a thread", "sandbox-pool", e))?;
        let nursery = Nursery::new(Arc::clone(&engine), config.limits.clone());
        let shared = Shared { engine, sessions, config, nursery, state: Mutex::default(), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        let refiller = std::thread::Builder::new()
            .name("sandbox-pool".to_owned())
            .spawn(move || theirs.refill(&Arc::new(spawner)))
            .map_err(|e| Error::io("starting a thread", "sandbox-pool", e))?;
        Ok(Pool { shared, refiller: Some(refiller) })
    }

    /// A kernel over the new session `id`: one that is ready, or else one made now.
    ///
    /// # Errors
    /// [`Error::SessionId`], [`Error::SessionExists`], and those of [`Engine::kernel`].
    pub fn claim(&self, id: &str, language: Language, limits: &Limits) -> Result<Claimed> {
        Sessions::check_id(id)?;
        let Some(mut parked) = self.shared.take(language, limits) else {
            let session = Arc::new(self.shared.sessions.create(id)?);
            return match self.shared.kernel_now(&session, language, limits) {
                Ok(kernel) => Ok(Claimed { kernel, was_ready: false }),
                Err(error) => {
                    self.shared.remove(session);
                    Err(error)
                }
            };
        };
        match self.shared.sessions.name(&mut parked.kernel, id) {
            Ok(()) => Ok(Claimed { kernel: parked.kernel, was_ready: true }),
            Err(error) => {
                // Nobody has seen it; one that cannot be named for another reason never will be.
                match &error {
                    Error::SessionExists { .. } => self.shared.park(parked),
                    _ => self.shared.end(parked.kernel),
                }
                Err(error)
            }
        }
    }

    /// How it stands.
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.lock();
        let parked = state.parked.values().map(VecDeque::len).sum();
        PoolStats {
            parked,
            claims: state.claims,
            misses: state.misses,
            forked: state.forked,
            no_zygote: state.misborn.clone().or_else(|| self.shared.nursery.failure()),
            failures: state.failures,
            last_failure: state.last_failure.clone(),
        }
    }

    /// Waits until as many kernels of each language wait as the pool keeps at least, or `patience` is over. True if so.
    pub fn is_filled_within(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            let least = *self.shared.config.parked.start();
            let count = |language| state.parked.get(language).map_or(0, VecDeque::len);
            if self.shared.config.languages.iter().all(|language| count(language) >= least) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(refiller) = self.refiller.take() {
            // What it could not make is in the statistics.
            let _ = refiller.join();
        }
        let parked = std::mem::take(&mut self.shared.lock().parked);
        parked.into_values().flatten().for_each(|parked| self.shared.end(parked.kernel));
    }
}

impl Shared {
    /// A kernel that waits and is well, if there is one.
    fn take(&self, language: Language, limits: &Limits) -> Option<Parked> {
        let mut state = self.lock();
        state.claims += 1;
        state.last_claim = Some(Instant::now());
        state.rates.entry(language).or_default().claimed(Instant::now());
        let (found, dead) = match limits == &self.config.limits {
            true => well(state.parked.entry(language).or_default()),
            false => (None, Vec::new()),
        };
        state.misses += u64::from(found.is_none());
        drop(state);
        self.changed.notify_all();
        dead.into_iter().for_each(|parked| self.end(parked.kernel));
        found
    }

    fn park(&self, parked: Parked) {
        self.lock().parked.entry(parked.kernel.language()).or_default().push_back(parked);
        self.changed.notify_all();
    }

    /// Makes what is missing, one after the other, until the pool is dropped.
    fn refill(&self, spawner: &Arc<Spawner>) {
        if self.config.languages.contains(&Language::Python) {
            // Also where none is kept ready: claims fork theirs.
            self.nursery.zygote();
        }
        let mut state = self.lock();
        while !state.is_closed {
            let old = state.too_old();
            let next = self.missing(&state);
            if old.is_empty() && next.is_none_or(|(_, wait)| !wait.is_zero()) {
                if next.is_none() && self.config.languages.contains(&Language::Python) && self.nursery.is_due() {
                    drop(state);
                    self.nursery.zygote();
                    state = self.lock();
                    continue;
                }
                let wait = next.map_or(LOOK, |(_, wait)| wait);
                state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(state);
            old.into_iter().for_each(|kernel| self.end(kernel));
            if let Some((language, wait)) = next
                && wait.is_zero()
            {
                let made = self.make(spawner, language);
                self.lock().made(language, &made);
                if let Ok(parked) = made {
                    self.park(parked);
                }
            }
            state = self.lock();
        }
    }

    /// The language of which most is missing, and how long to leave the processor to claims before.
    fn missing(&self, state: &State) -> Option<(Language, Duration)> {
        let now = Instant::now();
        let lacks = |language: &Language| {
            let target = state.rates.get(language).map_or(0, |rate| rate.target(now)).max(*self.config.parked.start());
            let parked = state.parked.get(language).map_or(0, VecDeque::len);
            target.min(*self.config.parked.end()).saturating_sub(parked)
        };
        // One that cannot be made keeps no other waiting.
        let until = |at: &Instant| at.saturating_duration_since(now);
        let pause = |language: &Language| state.retry.get(language).map_or(Duration::ZERO, until);
        let wanted = self.config.languages.iter().copied().filter(|language| lacks(language) > 0);
        let most = wanted.min_by_key(|language| (pause(language), usize::MAX - lacks(language)))?;
        // Claims have the processor to themselves for a moment, unless there is nothing left for them.
        let is_urgent = state.parked.get(&most).is_none_or(VecDeque::is_empty);
        let last = state.last_claim.filter(|_| !is_urgent);
        let quiet = last.map_or(Duration::ZERO, |last| QUIET.saturating_sub(last.elapsed()));
        Some((most, quiet.max(pause(&most))))
    }

    fn make(&self, spawner: &Arc<Spawner>, language: Language) -> Result<Parked> {
        let begun = Instant::now();
        let session = Arc::new(self.sessions.create_nameless()?);
        match self.kernel_ahead(spawner, &session, language) {
            Ok(kernel) => {
                self.lock().rates.entry(language).or_default().made(begun.elapsed());
                Ok(Parked { kernel, since: Instant::now() })
            }
            Err(error) => {
                self.remove(session);
                Err(error)
            }
        }
    }

    /// A kernel that nobody waits for: of a zygote, where the language and the host have one.
    fn kernel_ahead(&self, spawner: &Arc<Spawner>, session: &Arc<Session>, language: Language) -> Result<Kernel> {
        let zygote = if language == Language::Python { self.nursery.zygote() } else { None };
        match zygote.and_then(|zygote| self.forked(&zygote, session, true)) {
            Some(kernel) => Ok(kernel),
            None => self.engine.kernel_by(spawner, session, language, &self.config.limits),
        }
    }

    /// A kernel that somebody waits for: of a zygote that is ready, where there is one with these limits.
    fn kernel_now(&self, session: &Arc<Session>, language: Language, limits: &Limits) -> Result<Kernel> {
        let fits = language == Language::Python && limits == &self.config.limits;
        let zygote = if fits { self.nursery.ready() } else { None };
        match zygote.and_then(|zygote| self.forked(&zygote, session, false)) {
            Some(kernel) => Ok(kernel),
            None => self.engine.kernel(session, language, limits),
        }
    }

    fn forked(&self, zygote: &Arc<Zygote>, session: &Arc<Session>, is_parked: bool) -> Option<Kernel> {
        let forked = self.engine.kernel_of(zygote, session, is_parked);
        let mut state = self.lock();
        match forked {
            Ok(kernel) => {
                state.forked += 1;
                state.misborn = None;
                Some(kernel)
            }
            Err(error) => {
                state.misborn = Some(error.to_string());
                None
            }
        }
    }

    /// Removes a session that nobody else has.
    fn remove(&self, session: Arc<Session>) {
        if let Some(session) = Arc::into_inner(session) {
            // What cannot be removed now is removed at the next start.
            let _ = self.sessions.destroy(session);
        }
    }

    /// Ends a kernel that nobody claimed, with its session.
    fn end(&self, kernel: Kernel) {
        if let Some(session) = kernel.into_session() {
            // What cannot be removed now is removed at the next start.
            let _ = self.sessions.destroy(session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes what came of making a kernel.
    fn made(&mut self, language: Language, made: &Result<Parked>) {
        match made {
            Ok(_) => drop(self.retry.remove(&language)),
            Err(error) => {
                self.failures += 1;
                self.last_failure = Some(error.to_string());
                self.retry.insert(language, Instant::now() + AFTER_FAILURE);
            }
        }
    }

    fn too_old(&mut self) -> Vec<Kernel> {
        let mut old = Vec::new();
        for parked in self.parked.values_mut() {
            while parked.front().is_some_and(|first| first.since.elapsed() > AGE_MAX) {
                old.extend(parked.pop_front().map(|first| first.kernel));
            }
        }
        old
    }
}

/// The first that is well, and those before it that are not: a box may have died while it waited, of the host's memory
/// for one.
fn well(parked: &mut VecDeque<Parked>) -> (Option<Parked>, Vec<Parked>) {
    let mut dead = Vec::new();
    while let Some(first) = parked.pop_front() {
        if first.kernel.is_waiting() {
            return (Some(first), dead);
        }
        dead.push(first);
    }
    (None, dead)
}
