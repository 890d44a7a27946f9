//! Counting: bytes of a session, and the pulse of a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes that a session may pass and has passed. Never more pass than were granted, however many connections share it.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// From the box outwards, or into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        Budget { left: AtomicU64::new(bytes), up: AtomicU64::new(0), down: AtomicU64::new(0) }
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Sets aside at most `wanted` bytes; none are left if it gives 0.
    pub(crate) fn reserve(&self, wanted: usize) -> usize {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left - left.min(wanted)));
        usize::try_from(taken.map_or(0, |left| left.min(wanted))).unwrap_or(0)
    }

    /// Books what really passed of what was set aside, and gives the rest back.
    pub(crate) fn settle(&self, way: Way, reserved: usize, passed: usize) {
        let whole = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left.fetch_add(whole(reserved.saturating_sub(passed)), Ordering::Relaxed);
        let counter = if way == Way::Up { &self.up } else { &self.down };
        counter.fetch_add(whole(passed), Ordering::Relaxed);
    }

    /// Bytes so far: up and down.
    pub(crate) fn passed(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// When a connection last carried a byte, and how many it carried.
#[derive(Debug)]
pub(crate) struct Pulse {
    begun: Instant,
    last_ms: AtomicU64,
    bytes: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Pulse {
        Pulse { begun: Instant::now(), last_ms: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    pub(crate) fn beat(&self, bytes: usize) {
        self.last_ms.store(self.age_ms(), Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// How long nothing has passed.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.age_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// How fast a session may open connections: this many at once, and then so many a second.
pub(crate) const BURST: u32 = 1000;
/// How often one more may come.
const EACH: Duration = Duration::from_millis(1);

/// A bucket that fills with time.
#[derive(Debug)]
pub(crate) struct Pace {
    tokens: u32,
    since: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace { tokens: BURST, since: now }
    }

    /// Takes one; tells how long to wait first.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let grown = now.saturating_duration_since(self.since).as_nanos() / EACH.as_nanos();
        let grown = u32::try_from(grown).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(grown).min(BURST);
        self.since = if self.tokens == BURST { now } else { self.since + EACH * grown };
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                Duration::ZERO
            }
            None => {
                // The next one is taken in advance.
                self.since += EACH;
                self.since.saturating_duration_since(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn threads_that_share_a_budget_never_pass_more_than_it() {
        let budget = Arc::new(Budget::new(1_000_000));
        let spend = |budget: Arc<Budget>| {
            move || loop {
                let reserved = budget.reserve(777);
                if reserved == 0 {
                    break;
                }
                budget.settle(Way::Up, reserved, reserved.min(500));
            }
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(spend(Arc::clone(&budget)))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(budget.passed(), (1_000_000, 0));
        assert!(budget.is_used_up());
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..BURST).all(|_| pace.take(start).is_zero()));
        assert_eq!(pace.take(start), EACH);
        assert_eq!(pace.take(start), EACH * 2);
        assert!(pace.take(start + EACH * 3).is_zero());
        assert!((0..BURST).all(|_| pace.take(start + Duration::from_secs(3600)).is_zero()));
        assert!(!pace.take(start + Duration::from_secs(3600)).is_zero());
    }
}
