//! The folder of one run on this machine, and a call at work in it.

use super::boxes::Boxes;
use super::chunks::Chunks;
use super::{Error, limits};
use errand_core::Snapshot;
use errand_engine::ports::ToolReply;
use errand_sandbox::{CancelToken, Change, Engine, Manifest, Session, Sessions};
use std::collections::VecDeque;

/// Replies of this many calls are remembered, in case one is handed out again. Calls of one model reply are fewer.
const REMEMBERED: usize = 64;

/// What this machine holds of a run. Whoever has it locked has the workspace to itself.
#[derive(Default)]
pub(super) struct State {
    session: Option<Session>,
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
            self.session = Some(sessions.open_or_create(id)?);
            self.holds = None;
        }
        if !self.chain.contains(&given) {
            self.chain = vec![given];
            self.holds = None;
        }
        let (None, Some(session)) = (&self.holds, &self.session) else { return Ok(()) };
        let manifest = match self.newest() {
            Some(snapshot) => chunks.manifest(&snapshot.manifest)?,
            None => Manifest::default(),
        };
        self.holds = Some(session.restore(chunks, &manifest, &limits())?);
        Ok(())
    }

    /// Removes the folder.
    pub(super) fn release(&mut self, id: &str, sessions: &Sessions) -> Result<(), Error> {
        self.released = true;
        let session = match self.session.take() {
            Some(session) => session,
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
}

impl Desk<'_> {
    /// The workspace.
    pub(crate) fn session(&self) -> &Session {
        self.state.session.as_ref().expect("a desk is only made after `begin` opened the session")
    }

    /// What makes boxes.
    pub(crate) fn engine(&self) -> Result<&Engine, Error> {
        self.boxes.engine()
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
