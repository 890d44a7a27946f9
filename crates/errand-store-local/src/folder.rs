//! The data folder: who may open it, and what lies in it.

use crate::blobs::sync_folder;
use crate::store::cache::Cache;
use crate::store::write::Transaction;
use crate::store::writer::{Work, Writer};
use crate::store::{LocalStore, Owned};
use crate::{Error, FaultPlan, LocalBlobs, recover, schema};
use errand_core::Timestamp;
use errand_engine::ports::World;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Memory for the logs of runs at work, in bytes. Runs that do not fit are read from the database at each step; one run
/// at least is always kept.
const CACHE_BYTES: usize = 8 << 20;

/// What a data folder is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// To carry runs out. One process at a time; the folder is made if there is none.
    Own {
        /// What this process was started as, for whoever finds the folder in use.
        command: String,
    },
    /// To look. Works beside an owner, and where nothing can be written.
    Read,
}

/// An open data folder.
pub struct DataFolder {
    path: PathBuf,
    store: Arc<LocalStore>,
    blobs: Arc<LocalBlobs>,
}

/// What the lock file says of the owner.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: Timestamp,
}

impl DataFolder {
    /// Opens the folder at `path`. Blocks for a moment: it reads the disk and, as the owner, writes to it.
    pub fn open(path: &Path, mode: Mode, world: Arc<dyn World>) -> Result<Self, Error> {
        Self::open_with_faults(path, mode, world, Arc::new(FaultPlan::none()))
    }

    /// Like [`DataFolder::open`], with a plan for dying at one of the writes.
    #[doc(hidden)]
    pub fn open_with_faults(path: &Path, mode: Mode, world: Arc<dyn World>, faults: Arc<FaultPlan>) -> Result<Self, Error> {
        let blobs = LocalBlobs::new(path.join("blobs"), Arc::clone(&faults));
        let store = match mode {
            Mode::Own { command } => own(path, command, world, &blobs, &faults)?,
            Mode::Read => read(path, world)?,
        };
        Ok(Self { path: path.to_owned(), store: Arc::new(store), blobs: Arc::new(blobs) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its runs.
    pub fn store(&self) -> &Arc<LocalStore> {
        &self.store
    }

    /// Its blobs.
    pub fn blobs(&self) -> &Arc<LocalBlobs> {
        &self.blobs
    }

    /// Lets go of the folder in good order; see [`LocalStore::close`].
    pub async fn close(&self) -> Result<(), Error> {
        self.store.close().await
    }
}

fn own(
    path: &Path,
    command: String,
    world: Arc<dyn World>,
    blobs: &LocalBlobs,
    faults: &Arc<FaultPlan>,
) -> Result<LocalStore, Error> {
    make(path)?;
    let lock = lock(path, command, world.now())?;
    let has_new_names = blobs.prepare()?;
    let file = schema::path(path);
    let schema::Opened { connection, is_new } = schema::open_owned(&file, faults)?;
    let epoch = if is_new {
        // Putting the database in place has made all names in the folder durable.
        schema::FIRST_EPOCH
    } else {
        if has_new_names {
            sync_folder(path)?;
        }
        let mut transaction = Transaction { connection: &connection, file: &file, epoch: 0, has_written: false };
        recover::begin(&mut transaction, &*world, faults)?
    };
    let cache = Arc::new(Cache::new(CACHE_BYTES));
    let work = Work { connection, file: file.clone(), epoch, cache: Arc::clone(&cache), faults: Arc::clone(faults), lock };
    let writer = Writer::start(path.to_owned(), work)?;
    let reading = schema::Reading::beside_owner(&file);
    Ok(LocalStore::new(path.to_owned(), reading, file, world, Some(Owned { epoch, cache, writer })))
}

fn read(path: &Path, world: Arc<dyn World>) -> Result<LocalStore, Error> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return Err(Error::NotAFolder { path: path.to_owned() }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing { path: path.to_owned() }),
        Err(error) => return Err(not_a_folder(path, error, Error::reading)),
    }
    let file = schema::path(path);
    if !file.exists() {
        check_ours(path)?;
    }
    let reading = schema::Reading::find(&file)?;
    Ok(LocalStore::new(path.to_owned(), reading, file, world, None))
}

/// Makes the folder, or makes sure that the one that is there is ours or empty.
pub(crate) fn make(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => check_ours(path),
        Ok(_) => Err(Error::NotAFolder { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| not_a_folder(path, error, Error::writing))
        }
        Err(error) => Err(not_a_folder(path, error, Error::writing)),
    }
}

fn not_a_folder(path: &Path, error: io::Error, other: fn(&'static str, &Path, io::Error) -> Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotADirectory => Error::NotAFolder { path: path.to_owned() },
        _ => other("open", path, error),
    }
}

/// A folder with files in it, none of them ours, is somebody else's: nothing is put beside them.
fn check_ours(path: &Path) -> Result<(), Error> {
    let failed = |error| Error::reading("list", path, error);
    let mut stranger = None;
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        match name.to_string_lossy().as_ref() {
            "errand.db" | "lock" => return Ok(()),
            "assistants" | "errand.toml" | "heads" | "images" | "keys.secret" | "lost+found" | "sandboxes" => {}
            hidden if hidden.starts_with('.') => {}
            other => stranger = Some(other.to_owned()),
        }
    }
    match stranger {
        Some(name) => Err(Error::NotErrand { path: path.to_owned(), found: format!("it holds `{name}` and no runs") }),
        None => Ok(()),
    }
}

/// Takes the folder for this process. The kernel lets go of the lock when the process ends, however it ends, so what an
/// earlier owner left in the file does not matter.
fn lock(path: &Path, command: String, now: Timestamp) -> Result<File, Error> {
    let file = path.join("lock");
    let failed = |error| Error::writing("lock", &file, error);
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held(path, &mut lock)),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let holder = Holder { pid: std::process::id(), command, since: now };
    // Plain data with text keys only, so serialising it cannot fail.
    let text = serde_json::to_vec(&holder).unwrap_or_default();
    lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(&text)).map_err(failed)?;
    Ok(lock)
}

fn held(path: &Path, lock: &mut File) -> Error {
    let mut text = String::new();
    let holder = lock.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    // Between taking the lock and writing down who took it there is a moment.
    let holder = holder.unwrap_or(Holder { pid: 0, command: "unknown".to_owned(), since: Timestamp::ZERO });
    Error::Held { path: path.to_owned(), pid: holder.pid, command: holder.command, since: holder.since }
}
