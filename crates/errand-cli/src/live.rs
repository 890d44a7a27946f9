//! What the driver tells of runs as they go forward, on its way to whoever shows it.

use errand_core::{CallId, RunId, Sealed, Status};
use errand_engine::ports::{Delta, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::UnboundedSender;

/// Something that happened to a run just now.
#[derive(Debug)]
pub(crate) enum Live {
    Recorded {
        run: RunId,
        record: Sealed,
    },
    Attempt {
        run: RunId,
        record: u64,
        attempt: u32,
    },
    Delta {
        run: RunId,
        record: u64,
        delta: Delta,
    },
    Calling {
        run: RunId,
        call: CallId,
    },
    Called {
        run: RunId,
    },
    /// An image that a call waits for is being made.
    Image {
        name: String,
        step: String,
    },
    /// The data folder fails in a way that trying again does not mend.
    Broken {
        code: &'static str,
        message: String,
    },
}

impl Live {
    /// The run it is about, if it is about one.
    pub(crate) fn run(&self) -> Option<RunId> {
        match self {
            Live::Recorded { run, .. }
            | Live::Attempt { run, .. }
            | Live::Delta { run, .. }
            | Live::Calling { run, .. }
            | Live::Called { run, .. } => Some(*run),
            Live::Image { .. } | Live::Broken { .. } => None,
        }
    }
}

/// The driver's side of the channel. Replies are bounded in length, so what can lie in it is bounded as well.
pub(crate) struct Sender {
    sender: UnboundedSender<Live>,
    closely: Arc<AtomicBool>,
}

impl Sender {
    /// Tells of everything while `closely` is set, and of records after which a run does not go on always.
    pub(crate) fn new(sender: UnboundedSender<Live>, closely: Arc<AtomicBool>) -> Self {
        Self { sender, closely }
    }

    fn send(&self, live: Live) {
        // Nobody looks on any longer: the runs go on all the same.
        let _ = self.sender.send(live);
    }

    fn send_closely(&self, live: impl FnOnce() -> Live) {
        if self.closely.load(Ordering::Relaxed) {
            self.send(live());
        }
    }
}

impl Watch for Sender {
    fn recorded(&self, run: RunId, record: &Sealed) {
        if self.closely.load(Ordering::Relaxed) || record.record.head.status != Status::Running {
            self.send(Live::Recorded { run, record: record.clone() });
        }
    }

    fn attempt(&self, run: RunId, record: u64, attempt: u32) {
        self.send_closely(|| Live::Attempt { run, record, attempt });
    }

    fn delta(&self, run: RunId, record: u64, delta: Delta) {
        self.send_closely(|| Live::Delta { run, record, delta });
    }

    fn calling(&self, run: RunId, call: CallId) {
        self.send_closely(|| Live::Calling { run, call });
    }

    fn called(&self, run: RunId, _: CallId) {
        self.send_closely(|| Live::Called { run });
    }
}
