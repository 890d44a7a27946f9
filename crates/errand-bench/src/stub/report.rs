//! What the stub saw: when requests came and answers went.

use super::exchange::Request;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;

/// Everything since the last report.
#[derive(Default)]
pub(super) struct Log {
    runs: HashMap<String, Run>,
    gaps: Vec<Gap>,
    requests: usize,
    first_ns: Option<u64>,
    bytes_min: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Run {
    requests: usize,
    went: Option<Instant>,
}

/// From an answer to the request after it.
struct Gap {
    ns: u64,
    /// Where in its run, in tenths.
    tenth: usize,
}

/// What is told of it. Times in nanoseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    requests: usize,
    /// When the first request was there, since 1970.
    first_ns: Option<u64>,
    /// Shortest and longest body.
    bytes: [usize; 2],
    gap_p50_ns: Option<u64>,
    gap_p99_ns: Option<u64>,
    /// Medians of the first tenth and of the last tenth of the runs.
    gap_tenths_ns: [Option<u64>; 2],
}

impl Log {
    /// Notes a request and tells its number in its run, from 1.
    pub(super) fn came(&mut self, request: &Request, at: Instant, wall_ns: u64, bytes: usize) -> usize {
        self.requests += 1;
        self.first_ns.get_or_insert(wall_ns);
        self.bytes_min = if self.bytes_min == 0 { bytes } else { self.bytes_min.min(bytes) };
        self.bytes_max = self.bytes_max.max(bytes);
        let run = self.runs.entry(request.run.clone()).or_default();
        run.requests += 1;
        if let Some(went) = run.went.take() {
            let ns = u64::try_from(at.saturating_duration_since(went).as_nanos()).unwrap_or(u64::MAX);
            // Gap k lies between request k and k + 1, and a run of n steps has n of them.
            let tenth = (run.requests - 2) * 10 / request.steps.max(1);
            self.gaps.push(Gap { ns, tenth });
        }
        run.requests
    }

    /// Notes that the answer is on its way.
    pub(super) fn went(&mut self, request: &Request, at: Instant) {
        if let Some(run) = self.runs.get_mut(&request.run) {
            run.went = Some(at);
        }
    }

    pub(super) fn report(self) -> Report {
        let gaps = |wanted: &dyn Fn(usize) -> bool| {
            let mut gaps: Vec<u64> = self.gaps.iter().filter(|gap| wanted(gap.tenth)).map(|gap| gap.ns).collect();
            gaps.sort_unstable();
            gaps
        };
        let all = gaps(&|_| true);
        Report {
            requests: self.requests,
            first_ns: self.first_ns,
            bytes: [self.bytes_min, self.bytes_max],
            gap_p50_ns: quantile(&all, 50),
            gap_p99_ns: quantile(&all, 99),
            gap_tenths_ns: [quantile(&gaps(&|tenth| tenth == 0), 50), quantile(&gaps(&|tenth| tenth >= 9), 50)],
        }
    }
}

/// The value below which `percent` of the sorted values lie.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn gaps_are_sorted_into_tenths_of_their_run() {
        let request = Request { run: "a".to_owned(), steps: 20 };
        let mut log = Log::default();
        let mut now = Instant::now();
        for step in 0..21_u64 {
            log.came(&request, now, 7, 100 + step as usize);
            log.went(&request, now);
            now += Duration::from_nanos(10 + step);
        }
        let report = log.report();
        assert_eq!((report.requests, report.first_ns, report.bytes), (21, Some(7), [100, 120]));
        assert_eq!(report.gap_p50_ns, Some(20));
        assert_eq!(report.gap_tenths_ns, [Some(11), Some(29)]);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(quantile(&[], 50), None);
        assert_eq!(quantile(&[3], 99), Some(3));
    }
}
