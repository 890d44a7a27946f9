//! What this process has seen of runs. Records are never changed and their number only grows, so what was true stays true,
//! whatever others do: a write need not ask whether the record before it is there, and a load need not read again what it
//! has read.

use errand_core::{RunId, Sealed, TenantId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most runs of which something is remembered. Beyond it all are forgotten, and asked for again.
const RUNS_MAX: usize = 10_000;
/// Most memory for records, in bytes: a function of 128 MB has room for it. A record is kept as bytes and as a value.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(crate) struct Known {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunId, Seen>,
    bytes: usize,
    clock: u64,
}

/// What was seen of one run.
#[derive(Debug, Default)]
struct Seen {
    /// So many records it has at least.
    number: u64,
    /// Whose it is; that never changes.
    tenant: Option<TenantId>,
    /// The first of them, without a gap.
    records: Vec<Sealed>,
    bytes: usize,
    used: u64,
}

impl Known {
    /// A run was seen to have `number` records.
    pub(crate) fn saw(&self, run: RunId, number: u64) {
        let mut inner = self.lock();
        let seen = inner.seen(run);
        seen.number = number.max(seen.number);
    }

    /// A run was seen to be this tenant's.
    pub(crate) fn is_of(&self, run: RunId, tenant: &TenantId) {
        self.lock().seen(run).tenant = Some(tenant.clone());
    }

    /// Whose run it is, if that is known.
    pub(crate) fn tenant(&self, run: RunId) -> Option<TenantId> {
        self.lock().runs.get(&run)?.tenant.clone()
    }

    /// How many records a run is known to have; 0 if nothing is known of it.
    pub(crate) fn number(&self, run: RunId) -> u64 {
        self.lock().runs.get(&run).map_or(0, |seen| seen.number)
    }

    /// The first records of a run, as far as they are remembered.
    pub(crate) fn records(&self, run: RunId) -> Vec<Sealed> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let Some(seen) = inner.runs.get_mut(&run) else { return Vec::new() };
        seen.used = clock;
        seen.records.clone()
    }

    /// All records of a run were read.
    pub(crate) fn read(&self, run: RunId, records: &[Sealed]) {
        let mut inner = self.lock();
        let remembered = inner.seen(run).records.len();
        for record in records.iter().skip(remembered) {
            inner.push(run, record);
        }
        inner.shrink(run);
    }

    /// A record was written.
    pub(crate) fn wrote(&self, run: RunId, record: &Sealed) {
        let mut inner = self.lock();
        let seen = inner.seen(run);
        seen.number = record.record.number.max(seen.number);
        // A single record of a run that was never read would be of no use.
        if !seen.records.is_empty() && seen.records.len() as u64 + 1 == record.record.number {
            inner.push(run, record);
            inner.shrink(run);
        }
    }

    /// The records of a run are not needed any more.
    pub(crate) fn forget(&self, run: RunId) {
        self.lock().forget(run);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that holds the lock can panic half way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn seen(&mut self, run: RunId) -> &mut Seen {
        if self.runs.len() >= RUNS_MAX && !self.runs.contains_key(&run) {
            (self.runs, self.bytes) = (HashMap::new(), 0);
        }
        self.clock += 1;
        let seen = self.runs.entry(run).or_default();
        seen.used = self.clock;
        seen
    }

    fn push(&mut self, run: RunId, record: &Sealed) {
        let bytes = record.bytes.len() * 3 + 512;
        let seen = self.seen(run);
        seen.number = record.record.number.max(seen.number);
        seen.records.push(record.clone());
        seen.bytes += bytes;
        self.bytes += bytes;
    }

    fn forget(&mut self, run: RunId) {
        if let Some(seen) = self.runs.get_mut(&run) {
            self.bytes -= seen.bytes;
            (seen.records, seen.bytes) = (Vec::new(), 0);
        }
    }

    /// Forgets the records that were looked at the longest ago; those of `run` last.
    fn shrink(&mut self, run: RunId) {
        while self.bytes > BYTES_MAX {
            let others = self.runs.iter().filter(|(other, seen)| seen.bytes > 0 && **other != run);
            let oldest = others.min_by_key(|(_, seen)| seen.used).map_or(run, |(oldest, _)| *oldest);
            self.forget(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sample;

    #[test]
    fn what_was_written_goes_on_from_what_was_read() {
        let (known, mut log) = (Known::default(), sample::log(sample::run(1), sample::at(1)));
        let run = log.run.id;
        assert_eq!((known.number(run), known.records(run).len()), (0, 0));
        log.push(sample::step(&log, 0, 1, false));
        known.wrote(run, &log.records[1]);
        assert_eq!((known.number(run), known.records(run).len()), (2, 0), "the first was never read");
        known.read(run, &log.records);
        known.read(run, &log.records[..1]);
        log.push(sample::step(&log, 0, 1, false));
        log.push(sample::step(&log, 0, 1, false));
        known.wrote(run, &log.records[3]);
        assert_eq!((known.number(run), known.records(run)), (4, log.records[..2].to_vec()), "there would be a gap");
        known.wrote(run, &log.records[2]);
        known.wrote(run, &log.records[2]);
        assert_eq!(known.records(run), log.records[..3]);
        known.saw(run, 2);
        known.forget(run);
        assert_eq!((known.number(run), known.records(run).len()), (4, 0));
    }

    #[test]
    fn memory_has_a_bound_and_the_oldest_go_first() {
        let known = Known::default();
        let text = "x".repeat(BYTES_MAX / 12).into();
        let mut large = sample::log(sample::run(1), sample::at(1)).records;
        large[0].bytes = text;
        for number in 1..=4 {
            known.read(sample::run(number), &large);
            known.records(sample::run(1));
        }
        let remembered = (1..=4).filter(|number| !known.records(sample::run(*number)).is_empty());
        assert_eq!(remembered.collect::<Vec<_>>(), [1, 3, 4], "the second was not looked at for the longest time");
        large[0].bytes = "x".repeat(BYTES_MAX).into();
        known.read(sample::run(9), &large);
        assert!((1..=9).all(|number| known.records(sample::run(number)).is_empty()), "larger than all there is");
        assert_eq!((known.number(sample::run(4)), known.lock().bytes), (1, 0));
    }
}
