use super::Delta;
use errand_core::{CallId, RunId, Sealed};

/// Looks on as runs go forward, on the machine that carries them. Must not block. Nothing depends on it.
pub trait Watch: Send + Sync {
    /// A record was stored.
    fn recorded(&self, run: RunId, record: &Sealed) {
        let _ = (run, record);
    }

    /// An attempt at record `record` begins to show something; what an earlier attempt showed is void.
    fn attempt(&self, run: RunId, record: u64, attempt: u32) {
        let _ = (run, record, attempt);
    }

    /// A piece of a reply on its way.
    fn delta(&self, run: RunId, record: u64, delta: Delta) {
        let _ = (run, record, delta);
    }

    /// A call is being carried out.
    fn calling(&self, run: RunId, call: CallId) {
        let _ = (run, call);
    }

    /// A call ended on this machine; its record follows.
    fn called(&self, run: RunId, call: CallId) {
        let _ = (run, call);
    }
}

impl Watch for () {}
