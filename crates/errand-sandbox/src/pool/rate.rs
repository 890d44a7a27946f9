//! How many kernels to keep ready: as many as are claimed while two are made, at the rate of the last seconds.

use std::time::{Duration, Instant};

/// Over how long claims count.
const WINDOW: Duration = Duration::from_secs(10);
/// Part of a new measurement in the mean.
const WEIGHT: f64 = 0.2;

/// Exponential means of claims per second and of the time it takes to make a kernel.
#[derive(Debug, Default)]
pub(super) struct Rate {
    per_second: f64,
    last: Option<Instant>,
    make_s: Option<f64>,
}

impl Rate {
    pub(super) fn claimed(&mut self, now: Instant) {
        self.per_second = self.at(now) + 1.0 / WINDOW.as_secs_f64();
        self.last = Some(now);
    }

    pub(super) fn made(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.make_s = Some(self.make_s.map_or(took, |mean| mean + WEIGHT * (took - mean)));
    }

    /// Kernels that should wait.
    pub(super) fn target(&self, now: Instant) -> usize {
        let wanted = (self.at(now) * self.make_s.unwrap_or(0.1) * 2.0).ceil();
        // A whole number that is not negative; what does not fit is bounded by whoever asks.
        wanted as usize
    }

    fn at(&self, now: Instant) -> f64 {
        let age = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.per_second * (-age.as_secs_f64() / WINDOW.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_follows_the_claims_and_falls_when_they_stop() {
        let (mut rate, begun) = (Rate::default(), Instant::now());
        assert_eq!(rate.target(begun), 0);
        rate.made(Duration::from_millis(500));
        // Twenty a second for a minute.
        let at = |n: u32| begun + Duration::from_millis(50) * n;
        (0..1200).for_each(|n| rate.claimed(at(n)));
        let busy = rate.target(at(1200));
        assert!((19..=21).contains(&busy), "{busy}");
        assert!(rate.target(at(1200) + WINDOW) < busy / 2);
        assert_eq!(rate.target(at(1200) + 100 * WINDOW), 1, "rounded up, and bounded by whoever asks");
    }

    #[test]
    fn the_time_it_takes_to_make_one_is_a_mean() {
        let mut rate = Rate::default();
        rate.made(Duration::from_secs(1));
        rate.made(Duration::from_secs(2));
        assert!((rate.make_s.unwrap() - 1.2).abs() < 1e-9);
    }
}
