//! Sessions: a folder with a workspace, and whose it is.
//!
//! Layout under the root given by the caller: `ROOT/ID/workspace` and `ROOT/ID/session.json`; the latter is locked while
//! a [`Session`] is open. The root must belong to this user alone.

mod files;
mod listed;
pub(crate) mod owner;
pub(crate) mod paths;
pub(crate) mod walk;

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, mkdirat, openat, renameat_with};
use rustix::io::Errno;

use crate::config::{SessionOptions, VolumeSize};
use crate::door::WayOut;
use crate::engine::Kernel;
use crate::engine::volume::{self, Volume};
use crate::error::{Error, Result};
use crate::image::{Image, Images};
use crate::report::Strength;
pub(crate) use files::{give, ids};
use owner::Owner;

/// Where locks on user ids lie when the runner is root: it must be one place per host.
pub(crate) const ID_LOCKS: &str = "/run/errand-sandbox";

/// Sessions that nobody has named yet.
const NAMELESS_PREFIX: &str = ".errand-nameless-";

/// The file of a volume, beside its session's record.
const VOLUME: &str = "volume.img";
/// As much as a call may have.
const VOLUME_BYTES_MAX: u64 = 10 << 30;
const VOLUME_FILES_MAX: u64 = 500_000;

/// The folder that holds all sessions of a runner.
#[derive(Debug)]
pub struct Sessions {
    root: PathBuf,
    dir: OwnedFd,
    id_locks: PathBuf,
    images: Option<Arc<Images>>,
}

/// A leased workspace. Calls through `&self` may run at the same time.
#[derive(Debug)]
pub struct Session {
    id: String,
    path: PathBuf,
    workspace: OwnedFd,
    owner: Owner,
    /// What its boxes show beside the host's system: its name, and the image unless that is missing.
    image: Option<(String, Option<Image>)>,
    volume: Option<Volume>,
    /// What leads out of its boxes.
    way_out: Option<Arc<dyn WayOut>>,
    /// Held for its lock; and what it says.
    record: Mutex<(File, Record)>,
}

/// What `session.json` holds.
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Record {
    schema: u32,
    slot: Option<u32>,
    /// The name of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// The workspace is a volume of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<VolumeSize>,
    /// What whoever made it granted it, in words of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<serde_json::Value>,
}

impl Sessions {
    /// Opens the folder, making it when missing, and clears what an interrupted `destroy` left.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made, or belongs to or is writable by others.
    pub fn at(root: impl Into<PathBuf>) -> Result<Sessions> {
        let root = root.into();
        owner::private_folder(&root)?;
        let root = root.canonicalize().map_err(|e| Error::io("finding the sessions folder", &root, e))?;
        let dir = open_folder(rustix::fs::CWD, &root)?;
        let sessions = Sessions { root, dir, id_locks: ID_LOCKS.into(), images: None };
        sessions.clear_removed()?;
        Ok(sessions)
    }

    /// Where sessions find their images.
    #[must_use]
    pub fn with_images(self, images: Arc<Images>) -> Sessions {
        Sessions { images: Some(images), ..self }
    }

    /// Makes a new session with an empty workspace.
    ///
    /// # Errors
    /// [`Error::SessionId`], [`Error::SessionExists`] or [`Error::Io`].
    pub fn create(&self, id: &str) -> Result<Session> {
        self.create_with(id, &SessionOptions::default())
    }

    /// Makes a new session with an image or a hard bound, which it has also after it is opened again.
    ///
    /// # Errors
    /// As [`Sessions::create`] and [`Images::named`]; [`Error::LimitOutOfRange`] and [`Error::NoVolume`].
    pub fn create_with(&self, id: &str, options: &SessionOptions) -> Result<Session> {
        check_id(id)?;
        // Before anything is made.
        let held = options.image.as_deref().map(|name| self.image(name)).transpose()?;
        options.volume.map(VolumeSize::validate).transpose()?;
        self.make(id, held, options.volume)
    }

    fn image(&self, name: &str) -> Result<Image> {
        let nowhere = || Error::ImageMissing { name: name.into(), reason: "these sessions have no folder of images".into() };
        self.images.as_ref().ok_or_else(nowhere)?.named(name)
    }

    fn make(&self, id: &str, image: Option<Image>, size: Option<VolumeSize>) -> Result<Session> {
        match mkdirat(&self.dir, id, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::SessionExists { id: id.into() }),
            Err(e) => return Err(Error::io("making a session", self.root.join(id), e)),
        }
        let folder = open_folder(&self.dir, Path::new(id))?;
        mkdirat(&folder, "workspace", Mode::RWXU).map_err(|e| Error::io("making a workspace", self.root.join(id), e))?;
        let path = self.root.join(id);
        let made = size.map_or(Ok(()), |size| volume::make(&path.join(VOLUME), size.bytes, size.files));
        match made.and_then(|()| self.lease_with(id, image, size)) {
            // Of a session that could not be made whole nothing is left.
            Err(error) if size.is_some() => self.remove(id).and(Err(error)),
            other => other,
        }
    }

    /// Makes a session that belongs to nobody yet: it is not listed, and gone with its holder.
    pub(crate) fn create_nameless(&self) -> Result<Session> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAMELESS_PREFIX}{}-{number}", std::process::id());
        self.make(&name, None, None)
    }

    /// Gives the session of a kernel that nobody has used its name.
    ///
    /// # Errors
    /// [`Error::SessionId`], [`Error::SessionExists`] or [`Error::Io`].
    pub(crate) fn name(&self, kernel: &mut Kernel, id: &str) -> Result<()> {
        check_id(id)?;
        let shared = || Error::SessionBusy { id: id.into() };
        let session = kernel.session_mut().ok_or_else(shared)?;
        match renameat_with(&self.dir, session.id.as_str(), &self.dir, id, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::SessionExists { id: id.into() }),
            Err(e) => return Err(Error::io("naming a session", &session.path, e)),
        }
        session.id = id.into();
        session.path = self.root.join(id);
        Ok(())
    }

    /// Refuses what is no id of a session.
    ///
    /// # Errors
    /// [`Error::SessionId`].
    pub fn check_id(id: &str) -> Result<()> {
        check_id(id)
    }

    /// Opens a session that was created before, by this process or another that is gone.
    ///
    /// # Errors
    /// [`Error::SessionId`], [`Error::SessionMissing`], [`Error::SessionBusy`] or [`Error::Io`].
    pub fn open(&self, id: &str) -> Result<Session> {
        check_id(id)?;
        self.lease(id)
    }

    /// Opens the session, creating it when missing.
    ///
    /// # Errors
    /// As `open` and `create`.
    pub fn open_or_create(&self, id: &str) -> Result<Session> {
        match self.create(id) {
            Err(Error::SessionExists { .. }) => self.open(id),
            other => other,
        }
    }

    /// Removes a session with all its files.
    ///
    /// # Errors
    /// [`Error::Io`] when something could not be removed; the session is then gone from `list` all the same and the rest is
    /// removed by the next [`Sessions::at`].
    pub fn destroy(&self, session: Session) -> Result<()> {
        let doomed = format!("{}{}", walk::REMOVING_PREFIX, session.id);
        rustix::fs::renameat(&self.dir, session.id.as_str(), &self.dir, doomed.as_str())
            .map_err(|e| Error::io("removing a session", &session.path, e))?;
        drop(session);
        self.remove(&doomed)
    }

    /// The ids of all sessions, sorted.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<String>> {
        let names = walk::names(self.dir.as_fd()).map_err(|e| Error::io("listing sessions", &self.root, e))?;
        let mut ids: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        ids.retain(|id| check_id(id).is_ok());
        ids.sort();
        Ok(ids)
    }

    fn lease(&self, id: &str) -> Result<Session> {
        self.lease_with(id, None, None)
    }

    /// `new` and `size` are those of a session that was just made.
    fn lease_with(&self, id: &str, new: Option<Image>, size: Option<VolumeSize>) -> Result<Session> {
        let path = self.root.join(id);
        let folder = match open_folder(&self.dir, Path::new(id)) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::SessionMissing { id: id.into() });
            }
            other => other?,
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let record = openat(&folder, "session.json", flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Error::io("opening a session's record", &path, e))?;
        match flock(&record, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::SessionBusy { id: id.into() }),
            Err(e) => return Err(Error::io("locking a session", &path, e)),
        }
        let mut record = File::from(record);
        let before = read_record(&mut record).map_err(|e| Error::io("reading a session's record", &path, e))?;
        let size = size.or(before.volume);
        if size.is_none() && path.join(VOLUME).exists() {
            let source = std::io::Error::other("it has a volume, and its record does not say so");
            return Err(Error::io("reading a session's record", &path, source));
        }
        let (volume, workspace) = match size {
            None => (None, open_folder(&folder, Path::new("workspace"))?),
            Some(_) => {
                let (volume, workspace) = Volume::open(&path.join(VOLUME), &path.join("workspace"))?;
                (Some(volume), workspace)
            }
        };
        let image = match (new, before.image.clone()) {
            (Some(new), _) => Some((new.name().to_owned(), Some(new))),
            // Without its image a session has its files all the same.
            (None, Some(name)) => Some((name.clone(), self.image(&name).ok())),
            (None, None) => None,
        };
        let owner = Owner::take(&self.id_locks, before.slot)?;
        let image_name = image.as_ref().map(|(name, _)| name.clone());
        let grant = before.grant.clone();
        let now = Record { schema: 1, slot: owner.slot(), image: image_name, volume: size, grant };
        if owner.needs_chown() && before.slot != now.slot {
            give_all(workspace.as_fd(), &owner)?;
        }
        if before != now {
            write_record(&mut record, &now).map_err(|e| Error::io("writing a session's record", &path, e))?;
        }
        listed::used_now(&record);
        Ok(Session {
            id: id.into(),
            path,
            workspace,
            owner,
            image,
            volume,
            way_out: None,
            record: Mutex::new((record, now)),
        })
    }

    fn clear_removed(&self) -> Result<()> {
        let names = walk::names(self.dir.as_fd()).map_err(|e| Error::io("listing sessions", &self.root, e))?;
        for name in names.iter().filter_map(|name| name.to_str().ok()) {
            if name.starts_with(walk::REMOVING_PREFIX) {
                self.remove(name)?;
            } else if name.starts_with(NAMELESS_PREFIX) {
                match self.lease(name) {
                    Ok(session) => self.destroy(session)?,
                    Err(Error::SessionBusy { .. }) => {}
                    // Its maker died before it was whole.
                    Err(_) => self.remove(name)?,
                }
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let c_name = CString::new(name).expect("ids and our own names hold no NUL");
        walk::remove_all(self.dir.as_fd(), &c_name).map_err(|e| Error::io("removing a session", self.root.join(name), e))
    }
}

impl Session {
    /// The session's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the workspace lies on the host: to show to people. Read and write it through this type, never by path,
    /// because code in a box may have put links into it.
    pub fn workspace_path(&self) -> PathBuf {
        self.path.join("workspace")
    }

    /// User and group id the box has on the host.
    pub fn host_ids(&self) -> (u32, u32) {
        (self.owner.uid, self.owner.gid)
    }

    /// Gives its boxes a way out, for as long as it is open. Those that run already stay without. A record alone gives none.
    pub fn set_way_out(&mut self, way_out: Arc<dyn WayOut>) {
        self.way_out = Some(way_out);
    }

    /// Whether its boxes have a way out. What they do may then change something outside, so a call in it is effectful: it must
    /// not be repeated by itself after a crash.
    pub fn has_way_out(&self) -> bool {
        self.way_out.is_some()
    }

    pub(crate) fn way_out(&self) -> Option<&Arc<dyn WayOut>> {
        self.way_out.as_ref()
    }

    /// What was kept with [`Session::keep_grant`], also by a process before this one.
    pub fn grant(&self) -> Option<serde_json::Value> {
        self.record().1.grant.clone()
    }

    fn record(&self) -> MutexGuard<'_, (File, Record)> {
        // What is kept is replaced as a whole.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what the session is granted, for those who open it later. It holds no secret: the file lies beside the workspace.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn keep_grant(&self, grant: serde_json::Value) -> Result<()> {
        let mut record = self.record();
        let (file, kept) = &mut *record;
        let now = Record { grant: Some(grant), ..kept.clone() };
        let failed = |e| Error::io("writing a session's record", &self.path, e);
        write_record(file, &now).map_err(failed)?;
        *kept = now;
        Ok(())
    }

    /// What its boxes show beside the host's system.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref().and_then(|(_, image)| image.as_ref())
    }

    /// The name of the image that it was made with and that is not there: nothing runs before it is.
    pub fn lacks_image(&self) -> Option<&str> {
        self.image.as_ref().filter(|(_, image)| image.is_none()).map(|(name, _)| name.as_str())
    }

    /// Shows its boxes this image for as long as it is open.
    pub fn take_image(&mut self, image: Image) {
        self.image = Some((image.name().to_owned(), Some(image)));
    }

    /// # Errors
    /// [`Error::ImageMissing`].
    pub(crate) fn image_to_show(&self) -> Result<Option<&Image>> {
        match self.lacks_image() {
            Some(name) => Err(Error::ImageMissing { name: name.into(), reason: "its session was made with it".into() }),
            None => Ok(self.image()),
        }
    }

    /// How its workspace is bounded: hard if it is a file system of its own, else by what the runner sees when it looks.
    pub fn workspace_quota(&self) -> Strength {
        if self.volume.is_some() { Strength::Hard } else { Strength::Soft }
    }

    pub(crate) fn volume(&self) -> Option<&Volume> {
        self.volume.as_ref()
    }

    /// Where the runner keeps what concerns the session; no box sees it.
    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.workspace.as_fd()
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl VolumeSize {
    fn validate(self) -> Result<()> {
        let table = [
            ("volume bytes", self.bytes, volume::BYTES_MIN, VOLUME_BYTES_MAX),
            ("volume files", self.files, 1, VOLUME_FILES_MAX),
        ];
        match table.into_iter().find(|(_, value, min, max)| !(*min..=*max).contains(value)) {
            Some((limit, value, min, max)) => Err(Error::LimitOutOfRange { limit, value, min, max }),
            None => Ok(()),
        }
    }
}

fn check_id(id: &str) -> Result<()> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let bytes = id.as_bytes();
    let fits = (1..=64).contains(&bytes.len()) && bytes.iter().copied().all(plain);
    if fits && bytes[0].is_ascii_alphanumeric() {
        return Ok(());
    }
    Err(Error::SessionId { id: id.chars().take(80).collect() })
}

fn open_folder(at: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty()).map_err(|e| Error::io("opening a folder", path, e))
}

fn read_record(file: &mut File) -> std::io::Result<Record> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    // One that is shorter than the one before lies over its beginning until it is cut.
    let first = serde_json::Deserializer::from_str(&text).into_iter().next();
    Ok(first.transpose()?.unwrap_or_default())
}

/// In one write, and cut only then: whoever is killed in between leaves a record, for without one a session would be opened
/// as one that was granted nothing and has no volume.
fn write_record(file: &mut File, record: &Record) -> std::io::Result<()> {
    let text = serde_json::to_vec(record)?;
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
}

/// Gives the workspace and everything in it to the owner, links themselves and not their targets.
fn give_all(workspace: BorrowedFd<'_>, owner: &Owner) -> Result<()> {
    give(workspace, owner).map_err(|e| Error::io("changing the owner", "workspace", e))?;
    walk::walk(workspace, "", &mut |found| {
        let (uid, gid) = ids(owner);
        rustix::fs::chownat(found.dir, found.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::io("changing the owner", found.shown, e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_made_once_held_once_found_again_and_destroyed() {
        let root = tempfile::tempdir().unwrap();
        let sessions = Sessions::at(root.path().join("sessions")).unwrap();
        let session = sessions.create("run_01").unwrap();
        session.put_file("a/b.txt", b"hello").unwrap();
        assert_eq!(sessions.create("run_01").unwrap_err().code(), "sandbox_session_exists");
        assert_eq!(sessions.open("run_01").unwrap_err().code(), "sandbox_session_busy");
        assert_eq!(sessions.open("run_02").unwrap_err().code(), "sandbox_session_missing");
        drop(session);
        let again = sessions.open_or_create("run_01").unwrap();
        assert_eq!(again.read_file("a/b.txt", 0, 100).unwrap().bytes, b"hello");
        assert_eq!(sessions.list().unwrap(), ["run_01"]);
        sessions.destroy(again).unwrap();
        assert_eq!(sessions.list().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_record_that_was_not_cut_yet_is_read_and_one_that_is_lost_opens_no_volume() {
        let root = tempfile::tempdir().unwrap();
        let sessions = Sessions::at(root.path().join("sessions")).unwrap();
        let folder = root.path().join("sessions/a");
        let session = sessions.create("a").unwrap();
        session.keep_grant(serde_json::json!({"long": "x".repeat(100)})).unwrap();
        let long = std::fs::read(folder.join("session.json")).unwrap();
        session.keep_grant(serde_json::json!("short")).unwrap();
        drop(session);
        // Killed between writing the short one and cutting it.
        let short = std::fs::read(folder.join("session.json")).unwrap();
        std::fs::write(folder.join("session.json"), [&short[..], &long[short.len()..]].concat()).unwrap();
        assert_eq!(sessions.open("a").unwrap().grant(), Some("short".into()));
        std::fs::write(folder.join("session.json"), "{\"schema\":1,\"slo").unwrap();
        assert_eq!(sessions.open("a").unwrap_err().code(), "sandbox_io");
        std::fs::write(folder.join("session.json"), "").unwrap();
        std::fs::write(folder.join(VOLUME), "").unwrap();
        assert_eq!(sessions.open("a").unwrap_err().code(), "sandbox_io");
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let sessions = Sessions::at(root.path().join("sessions")).unwrap();
        for id in ["", ".", "..", "a/b", "/etc", "-a", "a b", "é", &"x".repeat(65)] {
            assert_eq!(sessions.create(id).unwrap_err().code(), "sandbox_session_id", "{id}");
        }
    }

    #[test]
    fn what_an_interrupted_destroy_left_goes_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("sessions");
        drop(Sessions::at(&at).unwrap());
        std::fs::create_dir_all(at.join(".errand-removing-x/deep")).unwrap();
        Sessions::at(&at).unwrap();
        assert!(!at.join(".errand-removing-x").exists());
    }
}
