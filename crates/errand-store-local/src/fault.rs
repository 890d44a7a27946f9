//! Crash injection for tests: the process dies at a chosen write.

use std::sync::atomic::{AtomicU64, Ordering};

/// On which side of a write the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Everything is prepared, nothing has taken hold.
    Before,
    /// The write has taken hold, nobody was told.
    After,
}

/// Where the process dies, if anywhere. Writes are counted over the whole folder: each committed transaction of the
/// database and each new blob is one, opening the folder as its owner included.
#[derive(Debug, Default)]
pub struct FaultPlan {
    crash: Option<(u64, Moment)>,
    writes: AtomicU64,
}

impl FaultPlan {
    /// Never dies.
    pub fn none() -> Self {
        Self::default()
    }

    /// Dies by `abort` at write number `write`, from 1.
    pub fn crash_at(write: u64, moment: Moment) -> Self {
        Self { crash: Some((write, moment)), writes: AtomicU64::new(0) }
    }

    /// Writes so far: what a scenario counts first, to then crash at each of them.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// A write is about to take hold.
    pub(crate) fn before(&self) -> u64 {
        let write = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        self.strike(write, Moment::Before);
        write
    }

    /// Write number `write` took hold.
    pub(crate) fn after(&self, write: u64) {
        self.strike(write, Moment::After);
    }

    fn strike(&self, write: u64, moment: Moment) {
        if self.crash == Some((write, moment)) {
            std::process::abort();
        }
    }
}
