//! Restoring behind the back of whoever only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{ChunkStore, FilesOf, Manifest, Snapshot};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::session::Session;

/// A session whose workspace is being filled. Its files can be read at once, straight from the chunks; a box or a write needs
/// the [`Session`], which [`Restoring::finish`] gives when all is there. Dropped before that, it stops: the workspace then is
/// half restored and says so.
pub struct Restoring {
    manifest: Arc<Manifest>,
    store: Arc<dyn ChunkStore + Send>,
    stop: Arc<AtomicBool>,
    work: Option<JoinHandle<Result<(Session, Snapshot)>>>,
}

impl std::fmt::Debug for Restoring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restoring").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}

impl Restoring {
    /// Begins, on threads of its own.
    ///
    /// # Errors
    /// [`Error::Io`] when no thread can be started.
    pub fn begin(
        session: Session,
        store: Arc<dyn ChunkStore + Send>,
        manifest: Manifest,
        limits: Limits,
    ) -> Result<Restoring> {
        let (manifest, stop) = (Arc::new(manifest), Arc::new(AtomicBool::new(false)));
        let (what, from, until) = (manifest.clone(), store.clone(), stop.clone());
        let work = move || {
            let snapshot = session.restore_until(&*from, &what, &limits, &until)?;
            Ok((session, snapshot))
        };
        let started = std::thread::Builder::new().name("restore".into()).spawn(work);
        let work = started.map_err(|e| Error::io("starting a thread", "restore", e))?;
        Ok(Restoring { manifest, store, stop, work: Some(work) })
    }

    /// The files, readable from the first moment on.
    pub fn files(&self) -> FilesOf<'_> {
        FilesOf::new(&self.manifest, &*self.store)
    }

    /// Whether [`Restoring::finish`] would not wait.
    pub fn is_done(&self) -> bool {
        self.work.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the workspace is as the manifest says, and gives the session and what [`Session::restore`] gives.
    ///
    /// # Errors
    /// Those of [`Session::restore`]. The session is closed then; opened again, it can be restored again.
    pub fn finish(mut self) -> Result<(Session, Snapshot)> {
        let work = self.work.take().expect("only this and dropping take it, and both end it");
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(work) = self.work.take() {
            // How it ended concerns nobody any longer; that it has ended does: the session's lock is free then.
            drop(work.join());
        }
    }
}
