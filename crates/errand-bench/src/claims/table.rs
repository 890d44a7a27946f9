//! The table of figures: ours, the peer's, their quotient, and the goal.

use std::time::{Duration, Instant};

/// Times of one thing, in the order of the rounds.
#[derive(Default)]
pub(super) struct Times(Vec<Duration>);

/// Quotients to the peer's median that are to be reached.
pub(super) struct Goal {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Times {
    pub(super) fn since(&mut self, began: Instant) {
        self.0.push(began.elapsed());
    }

    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(super) fn take(&mut self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let began = Instant::now();
        work()?;
        self.since(began);
        Ok(())
    }

    /// In milliseconds; none where nothing was measured.
    pub(super) fn quantile(&mut self, percent: usize) -> Option<f64> {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1)?;
        self.0.get((last * percent).div_ceil(100)).map(|time| time.as_secs_f64() * 1e3)
    }
}

pub(super) fn head() {
    println!("{:<60} {:>8} {:>8} {:>9} {:>8} {:>8}  goal", "", "p50, ms", "p99, ms", "peer p50", "p50", "p99");
}

pub(super) fn row(name: &str, ours: &mut Times, peer: Option<&mut Times>, goal: Goal) {
    let (p50, p99) = (ours.quantile(50), ours.quantile(99));
    let peer = peer.and_then(|peer| peer.quantile(50));
    let quotient = |value: Option<f64>| Some(value? / peer?);
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let times = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}x"));
    let judged =
        [("p50", quotient(p50), goal.p50), ("p99", quotient(p99), goal.p99)].into_iter().filter_map(|(name, got, goal)| {
            let (got, goal) = (got?, goal?);
            Some(format!("{name} {goal} {}", if got <= goal { "met" } else { "missed" }))
        });
    let judged = judged.collect::<Vec<_>>().join(", ");
    let (a, b, c) = (shown(p50), shown(p99), shown(peer));
    println!("{name:<60} {a:>8} {b:>8} {c:>9} {:>8} {:>8}  {judged}", times(quotient(p50)), times(quotient(p99)));
}

/// A goal in milliseconds for the 99th of a hundred.
pub(super) fn limit(name: &str, ours: &mut Times, p99_ms: f64) {
    let (Some(p50), Some(p99)) = (ours.quantile(50), ours.quantile(99)) else { return };
    let met = if p99 <= p99_ms { "met" } else { "missed" };
    println!("{name:<60} {p50:>8.3} {p99:>8.3} {:>9} {:>8} {:>8}  p99 {p99_ms} ms {met}", "-", "-", "-");
}
