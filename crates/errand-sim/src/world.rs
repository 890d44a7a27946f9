//! The seeded world: what time it is, what is stored and sent, what truly happened, and who is alive.

use crate::check::Truth;
use crate::faults::Faults;
use crate::rng::Rng;
use crate::twin::Twin;
use async_trait::async_trait;
use errand_core::{Item, ItemKey, Nonce, RunId, Sealed, Timestamp};
use errand_engine::ports::{DueEntry, Message, World};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// One run as it is stored.
#[derive(Default)]
pub(crate) struct StoredRun {
    pub(crate) records: Vec<Sealed>,
    pub(crate) items: BTreeMap<ItemKey, Item>,
    /// Claims that an exclusive store keeps in memory only.
    pub(crate) volatile: BTreeMap<ItemKey, Item>,
    pub(crate) due: Option<DueEntry>,
    pub(crate) due_version: u64,
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) handle: u64,
    pub(crate) message: Message,
    pub(crate) visible: Timestamp,
    pub(crate) receives: u32,
}

/// All of the world's state.
pub(crate) struct State {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) now: Timestamp,
    pub(crate) runs: BTreeMap<RunId, StoredRun>,
    pub(crate) queue: Vec<Queued>,
    pub(crate) next_handle: u64,
    pub(crate) timers: Vec<(Timestamp, u64, Waker)>,
    pub(crate) next_timer: u64,
    /// The task that is being polled.
    pub(crate) current: usize,
    /// Set when the task that is being polled dies.
    pub(crate) crashed: bool,
    pub(crate) truth: Truth,
    pub(crate) calm: bool,
    /// The faults this seed began with.
    pub(crate) drawn: Faults,
    pub(crate) trace: Option<Vec<String>>,
    /// A real store that is asked the same.
    pub(crate) twin: Option<Twin>,
}

/// A handle on the world; adapters are made of it.
#[derive(Clone)]
pub(crate) struct Sim {
    state: Arc<Mutex<State>>,
}

impl Sim {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults { many_models: seed.is_multiple_of(4), ..Faults::draw(&mut rng) };
        let drawn = faults.clone();
        let state = State {
            rng,
            faults,
            now: Timestamp::from_millis(1_800_000_000_000),
            runs: BTreeMap::new(),
            queue: Vec::new(),
            next_handle: 0,
            timers: Vec::new(),
            next_timer: 0,
            current: 0,
            crashed: false,
            truth: Truth::default(),
            calm: false,
            drawn,
            trace: traced.then(Vec::new),
            twin: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let mut state = self.lock();
        let (now, current) = (state.now.as_millis() - 1_800_000_000_000, state.current);
        if let Some(trace) = &mut state.trace {
            let line = line();
            trace.push(format!("{now:>9} #{current:<3} {line}"));
        }
    }

    /// A point where others may run, and where this worker may die or be held up.
    pub(crate) async fn turn(&self) {
        let (crash, stall) = {
            let mut state = self.lock();
            let faults = state.faults.clone();
            let crash = state.rng.chance(faults.crash);
            let stall = state.rng.chance(faults.stall).then(|| {
                let most = if state.rng.chance(500) { 5_000 } else { 900_000 };
                state.rng.between(10, most)
            });
            (crash, stall)
        };
        if crash {
            self.trace(|| "dies".to_owned());
            self.lock().crashed = true;
            std::future::pending::<()>().await;
        }
        match stall {
            Some(millis) => {
                self.trace(|| format!("is held up for {millis} ms"));
                self.sleep_ms(millis).await;
            }
            None => yield_once().await,
        }
    }

    pub(crate) async fn sleep_ms(&self, millis: u64) {
        let until = self.lock().now.plus(millis);
        poll_fn(|context| {
            let mut state = self.lock();
            if state.now >= until {
                return Poll::Ready(());
            }
            let id = state.next_timer;
            state.next_timer += 1;
            state.timers.push((until, id, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn chance(&self, of: impl FnOnce(&Faults) -> u64) -> bool {
        let mut state = self.lock();
        let per_mille = of(&state.faults);
        state.rng.chance(per_mille)
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl World for Sim {
    fn now(&self) -> Timestamp {
        let mut state = self.lock();
        let skew = state.faults.skew_ms;
        // Each worker has a clock of its own, wrong by a fixed amount.
        let own = (state.current as u64).wrapping_mul(0x9E37_79B9) % (skew + 1);
        let now = state.now;
        state.truth.clock_reads += 1;
        Timestamp::from_millis(now.as_millis() - own)
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.lock().rng.next())
    }

    async fn sleep(&self, millis: u64) {
        self.sleep_ms(millis).await;
    }
}
