//! The workspaces of runs: a folder per run while it is at work on this machine, and snapshots in the blobs.
//!
//! [`Workspaces`] hands a call its `Desk`: the folder, brought to the snapshot at which the call begins, and the engine
//! that makes boxes. `import` takes the user's files in; [`files_made`], [`fetch_file`] and [`fetch_all`] hand out what a
//! run made, from the blobs alone.

mod boxes;
mod chunks;
mod desk;
mod error;
mod export;
mod import;
mod kernels;
mod outlet;
mod room;
mod wardrobe;

pub use boxes::BoxSettings;
pub(crate) use boxes::Chosen;
pub use chunks::SessionStore;
pub(crate) use desk::Desk;
pub use error::Error;
pub(crate) use export::OWN_FOLDER;
pub use export::{Fetched, FileMade, PartLink, fetch_all, fetch_file, file_links, files_made};
pub use import::{FILES_MAX, IMPORT_BYTES_MAX};
pub use room::Room;
pub(crate) use wardrobe::Look;
pub use wardrobe::OnImage;

use crate::ways::Ways;
use boxes::Boxes;
use chunks::Chunks;
use desk::State;
use errand_core::{EgressGrant, RunId, Snapshot, TenantId};
use errand_engine::ports::{Admission, Blobs, ToolReply};
use errand_sandbox::{CancelToken, Language, Limits, PoolStats, Sessions, Tier};
use room::Runs;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;
use wardrobe::Patience;

/// How often idle kernels are looked for.
const LOOK_LEAST: Duration = Duration::from_millis(20);
const LOOK_MOST: Duration = Duration::from_secs(15);
/// Longer than an image may take.
const IMAGE_PATIENCE: Duration = Duration::from_secs(3_600);

/// The workspaces of the runs at work on this machine.
pub struct Workspaces {
    host: Arc<Host>,
    blobs: Arc<dyn Blobs>,
}

/// What all calls share.
struct Host {
    sessions: Arc<Sessions>,
    boxes: Boxes,
    /// Held while somebody looks after kernels that nobody uses; dropping it ends the watch.
    watch: OnceLock<Sender<()>>,
    runs: Mutex<Runs>,
}

/// A call's turn in the workspace of its run.
pub(crate) struct Turn {
    pub(crate) run: RunId,
    /// Under which the call is remembered; a call under a known key is not carried out again.
    pub(crate) key: String,
    /// Where it begins.
    pub(crate) workspace: Option<Snapshot>,
    /// The kernel that the call is going to use.
    pub(crate) wanted: Option<Wanted>,
    /// The way out that its box is to have.
    pub(crate) way: Option<WayWanted>,
}

/// A way out that a call was granted.
pub(crate) struct WayWanted {
    /// Who opens it, if anybody does.
    pub(crate) ways: Option<Arc<Ways>>,
    pub(crate) grant: EgressGrant,
    /// Bytes of it that calls before have used.
    pub(crate) used: u64,
}

/// A kernel that a call is going to use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) language: Language,
    /// The weakest tier that its box may be of.
    pub(crate) least: Tier,
}

impl Workspaces {
    /// Opens the folder `root` for workspaces, making it if needed, and removes what an earlier process left there: only
    /// snapshots outlive a process. No other process may use `root` at the same time.
    ///
    /// # Errors
    /// [`Error::Sandbox`] if the folder cannot be made, or others may write to it.
    pub fn at(root: PathBuf, boxes: impl Into<BoxSettings>, blobs: Arc<dyn Blobs>) -> Result<Self, Error> {
        let sessions = Arc::new(Sessions::at(root)?);
        clear(&sessions, |id| tracing::warn!(session = id, "a workspace that was left is in use by another process"))?;
        let boxes = Boxes::new(boxes.into(), Arc::clone(&sessions));
        let host = Arc::new(Host { sessions, boxes, watch: OnceLock::new(), runs: Mutex::default() });
        Ok(Self { host, blobs })
    }

    /// Probes the host, makes the image that runs see if it is not there, and kernels ahead if that is asked for, so that the
    /// first call finds them. Blocks until the image is made, or `cancel` says stop.
    ///
    /// # Errors
    /// [`Error::Image`] where the image cannot be had; calls that need it try once more.
    pub fn prepare(&self, cancel: &CancelToken) -> Result<(), Error> {
        self.host.boxes.ready();
        self.host.boxes.ensure_image(Patience { until: Instant::now() + IMAGE_PATIENCE, cancel })
    }

    /// Begins to make the image that runs see, where it is not there, and does not wait for it.
    ///
    /// # Errors
    /// [`Error::ImageBuilding`] while it is made; [`Error::Image`] where it cannot be had.
    pub fn begin_image(&self) -> Result<(), Error> {
        let cancel = CancelToken::new().map_err(|e| Error::Thread { problem: e.to_string() })?;
        self.host.boxes.ensure_image(Patience { until: Instant::now(), cancel: &cancel })
    }

    /// Whether this host makes boxes for code, as strong as its settings demand. Probes it, the first time; blocks.
    ///
    /// # Errors
    /// [`Error::BoxUnavailable`] or [`Error::Sandbox`] with the reasons.
    pub fn makes_boxes(&self) -> Result<(), Error> {
        self.host.boxes.choose(Tier::T1, false).map(drop)
    }

    /// How the kernels made ahead stand, where there are any.
    pub fn pool_stats(&self) -> Option<PoolStats> {
        self.host.boxes.pool(Tier::T0).map(|pool| pool.stats())
    }

    /// Removes all folders, once nothing works in them any longer; snapshots stay. So a disk that a run has filled has
    /// room again.
    ///
    /// # Errors
    /// Those of listing and removing the folders.
    pub fn clear(&self) -> Result<(), Error> {
        let states = self.host.runs().drain();
        for (run, state) in states {
            // One that is still locked is worked in.
            if let Ok(mut state) = state.try_lock() {
                state.release(&id(run), &self.host.sessions)?;
            }
        }
        clear(&self.host.sessions, |id| tracing::debug!(session = id, "a workspace is in use to the end"))
    }

    /// Whether a run's workspace can be on this machine now; see [`Room`].
    pub(crate) async fn admit(&self, run: RunId, tenant: &TenantId) -> Result<Admission, Error> {
        watch_idle(&self.host);
        self.host.admit(run, tenant).await
    }

    /// Lets go of all runs at rest, with what their interpreters hold: other machines go on with them.
    pub fn let_go(&self) {
        self.host.let_go_all();
    }

    /// How many runs have something on this machine.
    pub fn count(&self) -> usize {
        self.host.runs().count()
    }

    /// True if something of a run is on this machine.
    pub fn has(&self, run: RunId) -> bool {
        self.host.runs().has(run)
    }

    /// Carries out a call in the workspace of its run: waits for its turn, then runs `work` on a thread that may block.
    /// Dropping the future stops the call; its turn ends when it has stopped. A call that was carried out here before is
    /// not carried out again: its reply is given once more.
    pub(crate) async fn carry_out(
        &self,
        turn: Turn,
        work: impl FnOnce(&mut Desk<'_>) -> ToolReply + Send + 'static,
    ) -> Result<ToolReply, Error> {
        let Turn { run, key, workspace, wanted, way } = turn;
        self.in_turn(run, move |state, host, chunks, cancel| {
            if let Some(reply) = state.reply(&key) {
                return Ok(reply);
            }
            if let Some(wanted) = wanted {
                watch_idle(host);
                // What was made ahead has no door.
                if way.is_none() {
                    state.claim(&id(run), wanted, &host.boxes);
                }
            }
            state.begin(&id(run), workspace, &host.sessions, chunks)?;
            let way = way.map(|way| state.way(run, &way)).transpose()?;
            let reply = work(&mut Desk { state, boxes: &host.boxes, chunks, cancel, way });
            if !cancel.is_cancelled() {
                state.remember(key, &reply);
            }
            Ok(reply)
        })
        .await
    }

    /// Lets go of what this machine holds of a run; snapshots stay.
    pub(crate) async fn release(&self, run: RunId) -> Result<(), Error> {
        let mut state = self.lock(run).await;
        let host = self.host.clone();
        on_thread(move || host.let_go(run, &mut state)).await?
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        run: RunId,
        work: impl FnOnce(&mut State, &Arc<Host>, &Chunks, &CancelToken) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let cancel = CancelToken::new().map_err(|e| Error::Thread { problem: e.to_string() })?;
        let stop = StopOnDrop(cancel.clone());
        let mut state = self.lock(run).await;
        let host = self.host.clone();
        let chunks = Chunks::new(self.blobs.clone());
        let done = on_thread(move || work(&mut state, &host, &chunks, &cancel)).await;
        drop(stop);
        self.host.runs().touch(run);
        done?
    }

    /// The turn of whoever waits.
    async fn lock(&self, run: RunId) -> OwnedMutexGuard<State> {
        loop {
            let state = self.host.runs().state(run);
            let state = state.lock_owned().await;
            if !state.released {
                return state;
            }
        }
    }
}

fn clear(sessions: &Sessions, in_use: impl Fn(&str)) -> Result<(), Error> {
    for id in sessions.list()? {
        match sessions.open(&id) {
            Ok(session) => sessions.destroy(session)?,
            Err(errand_sandbox::Error::SessionBusy { .. }) => in_use(&id),
            Err(error) => tracing::warn!(session = id, %error, "a workspace that was left stays"),
        }
    }
    Ok(())
}

/// Ends what nobody has used for long, from time to time, until the host is gone.
fn watch_idle(host: &Arc<Host>) {
    let (idle, weak) = (host.boxes.settings.idle, Arc::downgrade(host));
    host.watch.get_or_init(|| {
        let (held, gone) = channel::<()>();
        let look = move || {
            while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout((idle / 4).clamp(LOOK_LEAST, LOOK_MOST)) {
                let Some(host) = weak.upgrade() else { return };
                host.end_idle(idle);
            }
        };
        // Without it kernels end with their runs.
        if let Err(error) = std::thread::Builder::new().name("kernels-idle".to_owned()).spawn(look) {
            tracing::warn!(%error, "kernels that nobody uses stay until their runs end");
        }
        held
    });
}

struct StopOnDrop(CancelToken);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `work` where it may block, to its end even if nobody waits for it any longer.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Thread { problem: error.to_string() })
}

/// The name of a run's folder.
fn id(run: RunId) -> String {
    run.to_string()
}

/// What a workspace may hold: the defaults of the sandbox.
fn limits() -> Limits {
    Limits::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use errand_core::{Hash, Timestamp};
    use errand_engine::ports::PortError;
    use errand_sandbox::EngineConfig;

    struct NoBlobs;

    #[async_trait]
    impl Blobs for NoBlobs {
        async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError> {
            Ok(Hash::of(bytes))
        }

        async fn get(&self, _: &Hash) -> Result<Option<Vec<u8>>, PortError> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn who_waits_while_a_run_is_let_go_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let workspaces = Workspaces::at(folder.path().join("w"), EngineConfig::default(), Arc::new(NoBlobs)).unwrap();
        let run = RunId::new(Timestamp::ZERO, 1);
        let turn = workspaces.lock(run).await;
        let (release, waiting) = (workspaces.release(run), workspaces.lock(run));
        let begin = async {
            tokio::task::yield_now().await;
            drop(turn);
        };
        let (released, state, ()) = tokio::join!(release, waiting, begin);
        released.unwrap();
        assert!(!state.released);
        let listed = workspaces.host.runs().state(run);
        assert!(Arc::ptr_eq(&listed, OwnedMutexGuard::mutex(&state)));
    }
}
