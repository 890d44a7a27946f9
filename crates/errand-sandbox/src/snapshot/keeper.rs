//! Keeping a session's files where they outlive the machine.

use std::collections::HashSet;
use std::sync::Mutex;

use super::head::{Head, HeadStore};
use super::manifest::{Manifest, hex, unhex};
use super::spool::{Pending, Spool, Through};
use super::{ChunkStore, Snapshot};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::session::Session;

/// Folder beside the workspace for what the store did not take yet.
const SPOOL: &str = "spool";

/// What became of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The workspace is as the last snapshot.
    Unchanged,
    /// It is in the store, and the last one.
    Stored {
        /// Digest of its manifest.
        manifest: [u8; 32],
        /// Its number, from 1.
        turn: u64,
    },
    /// The store is away: it is on this machine's disk, and goes to the store with the next [`Keeper::keep`] or
    /// [`Keeper::flush`] that finds it there.
    Held {
        /// How many chunks wait.
        chunks: u64,
        /// What the store said.
        problem: String,
    },
}

/// The one who may say what the last snapshot of a session is.
///
/// In this order: [`Keeper::take_over`], [`Keeper::restore`] unless the workspace is in place, then [`Keeper::keep`] after
/// each call that may have changed something.
#[derive(Debug)]
pub struct Keeper {
    head: Head,
    last: Option<Snapshot>,
    spool: Spool,
    /// What is in the spool and is to follow the head.
    pending: Option<[u8; 32]>,
    /// What an earlier process had kept here when another runner took the session over.
    stranded: Option<std::path::PathBuf>,
}

impl Keeper {
    /// Takes the session over: any other keeper of it fails from now on. What an earlier process on this machine held back
    /// goes on if nobody else has had the session since, else it is put aside (see [`Keeper::stranded`]).
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::HeadRefused`], [`Error::Io`].
    pub fn take_over(session: &Session, heads: &dyn HeadStore) -> Result<Keeper> {
        let io = |e| Error::io("opening what was held back", session.folder(), e);
        let spool = Spool::at(session.folder().join(SPOOL)).map_err(io)?;
        let head = Head::take_over(session.id(), heads)?;
        let (mut pending, mut stranded) = (None, None);
        if let Some(held) = spool.pending().map_err(io)? {
            if held.turn == head.turn {
                // Whoever had it since, nothing followed.
                pending = unhex(&held.manifest);
            } else if head.manifest == unhex(&held.manifest) {
                // It got there, and the process died before it tidied up.
                spool.clear().map_err(io)?;
            } else {
                stranded = Some(spool.put_aside(&held).map_err(io)?);
            }
        }
        Ok(Keeper { head, last: None, spool, pending, stranded })
    }

    /// Digest of the manifest that the workspace is to have: the last stored, or what was held back.
    pub fn manifest(&self) -> Option<[u8; 32]> {
        self.pending.or(self.head.manifest)
    }

    /// Where the chunks and the manifest lie that an earlier process on this machine held back and that came too late, because
    /// another runner has gone on with the session since. Nothing removes them but the end of the session.
    pub fn stranded(&self) -> Option<&std::path::Path> {
        self.stranded.as_deref()
    }

    /// Makes the workspace what it was in the last snapshot.
    ///
    /// # Errors
    /// Those of [`Session::restore`]; [`Error::Chunk`] also if the manifest is missing or damaged.
    pub fn restore(&mut self, session: &Session, chunks: &dyn ChunkStore, limits: &Limits) -> Result<()> {
        let through = Through { store: chunks, spool: &self.spool, problem: Mutex::new(None) };
        let manifest = match self.manifest() {
            None => Manifest::default(),
            Some(hash) => Manifest::fetch(&through, &hash)?,
        };
        self.last = Some(session.restore(&through, &manifest, limits)?);
        Ok(())
    }

    /// Takes a snapshot and makes it the last. If the store is away it is kept on this machine's disk and that is told, not an
    /// error: nothing is lost.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another has taken the session over: what is here is not the session any longer. Those of
    /// [`Session::snapshot`].
    pub fn keep(
        &mut self,
        session: &Session,
        chunks: &dyn ChunkStore,
        heads: &dyn HeadStore,
        limits: &Limits,
    ) -> Result<Kept> {
        let through = Through { store: chunks, spool: &self.spool, problem: Mutex::new(None) };
        let taken = match session.snapshot(&through, self.last.as_ref(), limits) {
            Ok(taken) => taken,
            Err(error) => {
                // Each failure would leave chunks of its own. The first error is the one to tell.
                let _ = through.is_away().then(|| self.keep_only_pending(&through));
                return Err(error);
            }
        };
        let bytes = taken.manifest.to_bytes();
        let hash = taken.manifest.hash();
        let is_new = self.manifest() != Some(hash);
        if is_new {
            through.put(&bytes).map_err(|source| Error::Store { action: "keep a manifest", source })?;
            let manifest = hex(&hash);
            // Before anybody hears of it, so that a process that dies here has lost nothing.
            let note = Pending { fence: self.head.fence, turn: self.head.turn, manifest };
            if through.is_away() || self.pending.is_some() {
                let wanted = taken.manifest.chunks().map(|chunk| chunk.hash).chain([hash]).collect();
                let held = self.spool.note(&note).and_then(|()| self.spool.keep_only(&wanted));
                held.map_err(|e| Error::io("holding a snapshot back", session.folder(), e))?;
            }
            self.pending = Some(hash);
        }
        self.last = Some(taken);
        if self.pending.is_none() {
            return Ok(Kept::Unchanged);
        }
        self.flush(session, chunks, heads)
    }

    /// Removes what is held back for no snapshot.
    fn keep_only_pending(&self, chunks: &dyn ChunkStore) -> Result<()> {
        let wanted = match self.pending {
            None => HashSet::new(),
            Some(hash) => Manifest::fetch(chunks, &hash)?.chunks().map(|chunk| chunk.hash).chain([hash]).collect(),
        };
        self.spool.keep_only(&wanted).map_err(|e| Error::io("removing what was held back", SPOOL, e))
    }

    /// Gives the store what was held back, if anything was.
    ///
    /// # Errors
    /// As [`Keeper::keep`].
    pub fn flush(&mut self, session: &Session, chunks: &dyn ChunkStore, heads: &dyn HeadStore) -> Result<Kept> {
        let Some(manifest) = self.pending else { return Ok(Kept::Unchanged) };
        let io = |e| Error::io("giving away what was held back", session.folder(), e);
        let waiting = self.spool.hashes().map_err(io)?;
        let held = |problem: String| Ok(Kept::Held { chunks: waiting.len() as u64, problem });
        for hash in &waiting {
            let Some(bytes) = self.spool.get(hash).map_err(io)? else { continue };
            if let Err(error) = chunks.put(&bytes) {
                return held(error.to_string());
            }
        }
        match self.head.follow(session.id(), heads, manifest) {
            Ok(next) => {
                let turn = next.turn;
                self.head = next;
                self.pending = None;
                self.spool.clear().map_err(io)?;
                Ok(Kept::Stored { manifest, turn })
            }
            Err(Error::Store { source, .. }) => {
                let note = Pending { fence: self.head.fence, turn: self.head.turn, manifest: hex(&manifest) };
                self.spool.note(&note).map_err(io)?;
                held(source.to_string())
            }
            Err(error) => Err(error),
        }
    }
}
