//! The kernels of one run: interpreters over its workspace that keep what calls define.

use super::{Error, boxes};
use errand_sandbox::{Cell, CellOutcome, Engine, Kernel, Language, Session, WayOut};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kernels of a run, at most one of each language.
#[derive(Default)]
pub(super) struct Kernels {
    live: BTreeMap<Language, Live>,
    /// Languages of whose last loss the model was told.
    pub(super) told: BTreeSet<Language>,
}

struct Live {
    kernel: Kernel,
    /// When it was last used; never, if it has seen nothing of the run.
    used: Option<Instant>,
    /// What leads out of its box.
    way_out: Option<Arc<dyn WayOut>>,
}

impl Live {
    /// Whether this very way leads out of its box, or none where none is to.
    fn leads(&self, way_out: &Option<Arc<dyn WayOut>>) -> bool {
        match (&self.way_out, way_out) {
            (Some(own), Some(other)) => std::ptr::addr_eq(Arc::as_ptr(own), Arc::as_ptr(other)),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Kernels {
    /// Takes a kernel that has seen nothing of the run.
    pub(super) fn put(&mut self, kernel: Kernel) {
        self.live.insert(kernel.language(), Live { kernel, used: None, way_out: None });
    }

    /// Has one that is well, has this way out, and, if `fresh`, has seen nothing. True if it has seen nothing.
    pub(super) fn have(
        &mut self,
        engine: &Arc<Engine>,
        session: &Arc<Session>,
        language: Language,
        fresh: bool,
        way_out: Option<Arc<dyn WayOut>>,
    ) -> Result<bool, Error> {
        let fits = |live: &Live| live.kernel.is_waiting() && !(fresh && live.used.is_some()) && live.leads(&way_out);
        if !self.live.get(&language).is_some_and(fits) {
            // The one before is gone before the next is made, so that they are never both there.
            self.live.remove(&language);
            let limits = boxes::limits();
            let kernel = match &way_out {
                Some(way_out) => engine.kernel_with_way_out(session, language, &limits, Arc::clone(way_out))?,
                None => engine.kernel(session, language, &limits)?,
            };
            self.live.insert(language, Live { kernel, used: None, way_out });
        }
        Ok(self.live.get(&language).is_none_or(|live| live.used.is_none()))
    }

    /// Runs a cell; a kernel that is lost with it is let go of.
    pub(super) fn run(&mut self, language: Language, cell: Cell) -> Result<CellOutcome, Error> {
        let gone = || errand_sandbox::Error::KernelGone { language: language.name() };
        let live = self.live.get_mut(&language).ok_or_else(gone)?;
        let ran = live.kernel.run(cell);
        live.used = Some(Instant::now());
        if !live.kernel.is_alive() {
            self.live.remove(&language);
        }
        Ok(ran?)
    }

    /// Ends those that have seen something of the run.
    pub(super) fn end_used(&mut self) {
        self.live.retain(|_, live| live.used.is_none());
    }

    /// Ends those that nobody has used for so long.
    pub(super) fn end_idle(&mut self, idle: Duration) {
        self.live.retain(|_, live| live.used.is_none_or(|used| used.elapsed() < idle));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(super) fn end_all(&mut self) {
        self.live.clear();
    }
}
