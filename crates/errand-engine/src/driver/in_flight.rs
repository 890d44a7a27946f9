use errand_core::{Nonce, RunId};
use futures::future::{AbortHandle, Abortable, Aborted};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The work under way in this process, so that a cancel or a shutdown can stop it.
#[derive(Default)]
pub(crate) struct InFlight {
    handles: Mutex<BTreeMap<(RunId, Nonce), AbortHandle>>,
    winding_down: AtomicBool,
}

impl InFlight {
    /// Runs `work` until it ends or is stopped.
    pub(crate) async fn run<T>(&self, run: RunId, by: Nonce, work: impl Future<Output = T>) -> Result<T, Aborted> {
        let (handle, registration) = AbortHandle::new_pair();
        self.with(|handles| handles.insert((run, by), handle));
        let _guard = Registered { board: self, key: (run, by) };
        Abortable::new(work, registration).await
    }

    /// True once nothing new may begin in this process.
    pub(crate) fn is_winding_down(&self) -> bool {
        self.winding_down.load(Ordering::SeqCst)
    }

    pub(crate) fn wind_down(&self) {
        self.winding_down.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stop(&self, run: RunId) {
        self.with(|handles| handles.iter().filter(|((of, _), _)| *of == run).for_each(|(_, handle)| handle.abort()));
    }

    pub(crate) fn stop_all(&self) {
        self.with(|handles| handles.values().for_each(AbortHandle::abort));
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<(RunId, Nonce), AbortHandle>) -> T) -> T {
        act(&mut self.handles.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes the entry away again, also if the future is dropped half way.
struct Registered<'a> {
    board: &'a InFlight,
    key: (RunId, Nonce),
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.board.with(|handles| handles.remove(&self.key));
    }
}
