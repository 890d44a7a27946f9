//! The lines by which the benchmark tells a program what to do, and the line it answers with.
//!
//! An order is `RUNS AT_ONCE STEPS NAME`; the answer is a [`Done`] as JSON.

use anyhow::{Context, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How many runs of how many steps, and how many of them at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) runs: usize,
    pub(crate) at_once: usize,
    pub(crate) steps: usize,
    /// Tells the runs of this order from all others.
    pub(crate) name: String,
}

impl Order {
    pub(crate) fn parse(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [runs, at_once, steps, name] = words[..] else { bail!("`{line}` is not RUNS AT_ONCE STEPS NAME") };
        let number = |word: &str| word.parse().with_context(|| format!("`{word}` in `{line}`"));
        Ok(Self { runs: number(runs)?, at_once: number(at_once)?, steps: number(steps)?, name: name.to_owned() })
    }

    /// The task of run `index`, which tells the stub how to answer.
    pub(crate) fn task(&self, index: usize) -> String {
        format!("bench/{}-{index}/{}/", self.name, self.steps)
    }
}

/// What an order cost.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    runs: usize,
    wall_ns: u64,
    cpu_ns: u64,
}

/// Measures an order from its beginning.
pub(crate) struct Clock {
    began: Instant,
    cpu: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu() }
    }

    pub(crate) fn done(&self, runs: usize) -> Done {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Done { runs, wall_ns: nanos(self.began.elapsed()), cpu_ns: nanos(cpu().saturating_sub(self.cpu)) }
    }
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_four_words() {
        let order = Order::parse("5 1 20 a").unwrap();
        assert_eq!(order.task(3), "bench/a-3/20/");
        assert!(Order::parse("5 1 20").is_err() && Order::parse("x 1 20 a").is_err());
    }
}
