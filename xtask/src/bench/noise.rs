//! How much else the machine was doing.

use anyhow::Context;
use serde::Serialize;
use std::time::Instant;

/// Above this quotient of wall and processor time, figures in wall time mean nothing.
const QUIET_MAX: f64 = 1.5;
/// Processor time that the probe takes, in nanoseconds.
const PROBE_NS: u64 = 60_000_000;

/// What a moment was like.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Noise {
    /// Processes that wanted to run, over the last minute.
    pub(super) load: f64,
    /// Wall time over processor time of a loop that does nothing but count.
    pub(super) stretch: f64,
}

impl Noise {
    pub(super) fn measure() -> anyhow::Result<Self> {
        let (began, cpu) = (Instant::now(), cpu_ns()?);
        let mut sum = 0_u64;
        let used = loop {
            sum = (0..100_000).fold(sum, |sum: u64, number| std::hint::black_box(sum.wrapping_add(number)));
            let used = cpu_ns()? - cpu;
            if used >= PROBE_NS {
                break used;
            }
        };
        std::hint::black_box(sum);
        Ok(Self { load: load()?, stretch: began.elapsed().as_nanos() as f64 / used as f64 })
    }

    pub(super) fn worse(self, other: Self) -> Self {
        Self { load: self.load.max(other.load), stretch: self.stretch.max(other.stretch) }
    }

    pub(super) fn is_quiet(self) -> bool {
        self.stretch <= QUIET_MAX
    }
}

/// Processor time of this thread so far.
fn cpu_ns() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("no processor time is told")?;
    text.split_whitespace().next().and_then(|word| word.parse().ok()).context("no processor time is told")
}

fn load() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("no load is told")?;
    text.split_whitespace().next().and_then(|word| word.parse().ok()).context("no load is told")
}
