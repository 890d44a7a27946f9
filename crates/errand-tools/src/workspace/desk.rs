//! The folder of one run on this machine, and a call at work in it.

use super::boxes::{self, Boxes, Chosen};
use super::chunks::Chunks;
use super::kernels::Kernels;
use super::outlet::Outlet;
use super::wardrobe::{Look, Patience};
use super::{Error, Wanted, WayWanted, limits};
use errand_core::{EgressUse, RunId, Snapshot};
use errand_engine::ports::ToolReply;
use errand_sandbox::{
    CancelToken, Cell, CellOutcome, Change, Engine, Interpreter, Language, Manifest, Session, Sessions, Tier, WayOut,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Replies of this many calls are remembered, in case one is handed out again. Calls of one model reply are fewer.
const REMEMBERED: usize = 64;

/// What this machine holds of a run. Whoever has it locked has the workspace to itself.
#[derive(Default)]
pub(super) struct State {
    /// Before the session, which they share: they are gone before it is removed.
    kernels: Kernels,
    session: Option<Arc<Session>>,
    /// The ways out that its boxes may have, by what they were granted.
    outlets: Vec<Outlet>,
    /// What the folder certainly holds; `None` if something may have changed it since.
    holds: Option<errand_sandbox::Snapshot>,
    /// What it held before a change that is under way.
    before: Option<errand_sandbox::Snapshot>,
    /// Snapshots made here one after the other; the first was given from outside (`None`: an empty workspace).
    chain: Vec<Option<Snapshot>>,
    /// Calls carried out here and what came of them.
    done: VecDeque<(String, ToolReply)>,
    /// Set when the run was let go: who waited for its turn must begin anew.
    pub(super) released: bool,
}

impl State {
    /// What came of a call that was carried out here before.
    pub(super) fn reply(&self, key: &str) -> Option<ToolReply> {
        self.done.iter().find(|(known, _)| known == key).map(|(_, reply)| reply.clone())
    }

    pub(super) fn remember(&mut self, key: String, reply: &ToolReply) {
        if self.done.len() >= REMEMBERED {
            self.done.pop_front();
        }
        self.done.push_back((key, reply.clone()));
    }

    /// Takes a kernel that is ready, with its empty folder, for a run that has no folder yet.
    pub(super) fn claim(&mut self, id: &str, Wanted { language, least }: Wanted, boxes: &Boxes) {
        if self.session.is_some() {
            return;
        }
        // Where none can be had, one is made once the folder is there.
        let Some(Ok(claimed)) = boxes.pool(least).map(|pool| pool.claim(id, language, &boxes::limits())) else { return };
        self.session = Some(Arc::clone(claimed.kernel.session()));
        self.holds = None;
        self.kernels.put(claimed.kernel);
    }

    /// Ends kernels that nobody has used for so long.
    pub(super) fn end_idle(&mut self, idle: Duration) {
        self.kernels.end_idle(idle);
    }

    pub(super) fn has_kernels(&self) -> bool {
        !self.kernels.is_empty()
    }

    /// Opens the folder and brings it to where a call from `given` begins: to the last snapshot made here after `given`, for
    /// parallel calls take turns and each finds what the others left; to `given` itself if it was made elsewhere.
    pub(super) fn begin(
        &mut self,
        id: &str,
        given: Option<Snapshot>,
        sessions: &Sessions,
        chunks: &Chunks,
    ) -> Result<(), Error> {
        if self.session.is_none() {
            self.session = Some(Arc::new(sessions.open_or_create(id)?));
            self.holds = None;
        }
        if !self.chain.contains(&given) {
            self.chain = vec![given];
            self.holds = None;
        }
        let (None, Some(session)) = (&self.holds, &self.session) else { return Ok(()) };
        // What they defined belongs to files that are not these.
        self.kernels.end_used();
        let manifest = match self.newest() {
            Some(snapshot) => chunks.manifest(&snapshot.manifest)?,
            None => Manifest::default(),
        };
        self.holds = Some(session.restore(chunks, &manifest, &limits())?);
        Ok(())
    }

    /// The way out that is wanted, open; which of those there are.
    pub(super) fn way(&mut self, run: RunId, wanted: &WayWanted) -> Result<usize, Error> {
        let passed = self.outlets.iter().map(Outlet::passed).fold(0, u64::saturating_add);
        match self.outlets.iter().position(|outlet| outlet.is_of(&wanted.grant)) {
            Some(at) if self.outlets[at].knows(wanted.used, passed) => Ok(at),
            Some(at) => {
                // Calls elsewhere have used some of it: what stands here must not go on by what was left before.
                self.kernels.end_all();
                self.outlets[at] = Outlet::open(run, wanted)?;
                Ok(at)
            }
            None => {
                self.outlets.push(Outlet::open(run, wanted)?);
                Ok(self.outlets.len() - 1)
            }
        }
    }

    /// Removes the folder.
    pub(super) fn release(&mut self, id: &str, sessions: &Sessions) -> Result<(), Error> {
        self.released = true;
        self.kernels.end_all();
        self.outlets.clear();
        let session = match self.session.take().map(Arc::into_inner) {
            Some(Some(session)) => session,
            // Nobody else has it: kernels give it back as they end.
            Some(None) => return Ok(()),
            None => match sessions.open(id) {
                Err(errand_sandbox::Error::SessionMissing { .. }) => return Ok(()),
                other => other?,
            },
        };
        Ok(sessions.destroy(session)?)
    }

    fn newest(&self) -> Option<Snapshot> {
        self.chain.last().copied().flatten()
    }
}

/// What a call works with, on a thread that may block.
pub(crate) struct Desk<'a> {
    pub(super) state: &'a mut State,
    pub(super) boxes: &'a Boxes,
    pub(super) chunks: &'a Chunks,
    /// Set when the call is to stop.
    pub(crate) cancel: &'a CancelToken,
    /// Which of the ways out its box is to have.
    pub(super) way: Option<usize>,
}

impl Desk<'_> {
    /// The workspace.
    pub(crate) fn session(&self) -> &Session {
        self.state.session.as_deref().expect("a desk is only made after `begin` opened the session")
    }

    /// The tier for a call that is to run in `least` or a stronger one, with the image that runs see. While that is made it is
    /// waited for, but no longer than `until`.
    pub(crate) fn choose(&self, least: Tier, is_script: bool, until: Instant) -> Result<Chosen, Error> {
        let chosen = self.boxes.choose(least, is_script)?;
        match self.boxes.image() {
            Some(look) => self.boxes.dress(chosen, look, Patience { until, cancel: self.cancel }),
            None => Ok(chosen),
        }
    }

    /// The same with an image that the call itself needs.
    pub(crate) fn choose_with(&self, least: Tier, look: Look<'_>, until: Instant) -> Result<Chosen, Error> {
        let chosen = self.boxes.choose(least, false)?;
        self.boxes.dress(chosen, look, Patience { until, cancel: self.cancel })
    }

    /// The interpreters that boxes of a tier can use.
    pub(crate) fn interpreters(&self, tier: Tier) -> &[Interpreter] {
        self.boxes.ready().interpreters(tier)
    }

    /// Has a kernel of the run for a cell, made by `engine` where there is none. True if it is a new one.
    pub(crate) fn kernel(&mut self, engine: &Arc<Engine>, language: Language, fresh: bool) -> Result<bool, Error> {
        let way = self.way_out();
        let session = self.state.session.as_ref().expect("a desk is only made after `begin` opened the session");
        self.state.kernels.have(engine, session, language, fresh, way)
    }

    /// The way out that the box of this call is to have.
    pub(crate) fn way_out(&self) -> Option<Arc<dyn WayOut>> {
        self.way.and_then(|at| self.state.outlets.get(at)).map(Outlet::way_out)
    }

    /// What passed through it since [`Desk::used`] was last asked.
    pub(crate) fn passed(&self) -> Option<EgressUse> {
        self.way.and_then(|at| self.state.outlets.get(at)).map(Outlet::unsettled)
    }

    /// The same, for the last time.
    pub(crate) fn used(&mut self) -> Option<EgressUse> {
        let at = self.way?;
        self.state.outlets.get_mut(at).map(Outlet::used)
    }

    /// Runs a cell on the kernel of the run.
    pub(crate) fn run(&mut self, language: Language, cell: Cell) -> Result<CellOutcome, Error> {
        self.state.kernels.run(language, cell)
    }

    /// True once after a loss that the model was told of; to be asked by the next cell, whether it misses anything or not.
    pub(crate) fn was_told(&mut self, language: Language) -> bool {
        self.state.kernels.told.remove(&language)
    }

    /// Notes that the model is told of the loss of a kernel.
    pub(crate) fn tell(&mut self, language: Language) {
        self.state.kernels.told.insert(language);
    }

    /// To be called before anything in the workspace is changed. Unless [`Desk::keep`] follows, the change is undone before
    /// the next call.
    pub(crate) fn session_to_change(&mut self) -> &Session {
        if let Some(holds) = self.state.holds.take() {
            self.state.before = Some(holds);
        }
        self.session()
    }

    /// Keeps the workspace as it is now. Gives the snapshot, if anything changed, and what did.
    pub(crate) fn keep(&mut self) -> Result<(Option<Snapshot>, Vec<Change>), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Stopped);
        }
        let before = self.state.before.take();
        let taken = self.session().snapshot(self.chunks, before.as_ref(), &limits())?;
        let changes = before.map(|before| before.manifest.diff(&taken.manifest)).unwrap_or_default();
        let previous = self.state.newest();
        let snapshot = if changes.is_empty() {
            None
        } else {
            let manifest = self.chunks.put_manifest(&taken.manifest)?;
            Some(Snapshot { turn: previous.map_or(0, |previous| previous.turn + 1), manifest })
        };
        self.state.chain.extend(snapshot.map(Some));
        self.state.holds = Some(taken);
        Ok((snapshot, changes))
    }
}
