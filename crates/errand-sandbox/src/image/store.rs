//! The folder of images: finding, listing and removing them.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::poll;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::lock::{ImageLock, check_name, unknown};
use super::pip;
use super::{ImageProgress, ImageRecord, ImagesConfig};
use crate::config::Interpreter;
use crate::engine::interpreters;
use crate::engine::run::timespec;
use crate::error::{Error, Result};
use crate::exec::CancelToken;
use crate::session::owner::private_folder;
use crate::session::walk;
/// How long a lock is waited for before an image counts as in use.
const PATIENCE: Duration = Duration::from_secs(1);

/// An image that is there. While one of these lives it cannot be removed.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    digest: String,
    path: PathBuf,
    _held: Arc<File>,
}

impl Image {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over all that it holds, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The folder of its packages on the host: what a box shows at [`super::IMAGE_DIR`].
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder that holds all images of a runner.
#[derive(Debug)]
pub struct Images {
    pub(super) root: PathBuf,
    pub(super) config: ImagesConfig,
    python: OnceLock<Option<Interpreter>>,
}

impl Images {
    /// Opens the folder, making it when missing.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made, or belongs to or is writable by others.
    pub fn at(root: impl Into<PathBuf>, config: ImagesConfig) -> Result<Images> {
        let root = root.into();
        private_folder(&root)?;
        let root = root.canonicalize().map_err(|e| Error::io("finding the images folder", &root, e))?;
        for folder in ["layers", "names", "building", "locks"] {
            private_folder(&root.join(folder))?;
        }
        Ok(Images { root, config, python: OnceLock::new() })
    }

    /// An image that is there and fits the Python that boxes have.
    ///
    /// # Errors
    /// [`Error::ImageUnknown`]; [`Error::ImageMissing`] when it must be built first; [`Error::Io`].
    pub fn named(&self, name: &str) -> Result<Image> {
        check_name(name)?;
        let missing = |reason: &str| Err(Error::ImageMissing { name: name.into(), reason: reason.into() });
        let Some(record) = self.record(name) else {
            return match self.lock_of(name) {
                Ok(_) => missing("it was not built yet"),
                Err(error) => Err(error),
            };
        };
        if self.python().and_then(|python| python.path.canonicalize().ok()) != Some(record.python_path) {
            return missing(&format!("it was built for {}, and boxes have another Python now", record.python));
        }
        match self.hold(name, &record.digest)? {
            // It may have been removed between the two looks at its name.
            Some(image) if self.record(name).is_some_and(|now| now.digest == image.digest) => Ok(image),
            _ => missing("its folder is gone"),
        }
    }

    /// An image that is there, built first where that is needed.
    ///
    /// # Errors
    /// As [`Images::named`] and [`Images::build`].
    pub fn ensure(
        &self,
        name: &str,
        cancel: Option<&CancelToken>,
        progress: &mut dyn FnMut(ImageProgress),
    ) -> Result<Image> {
        match self.named(name) {
            Err(Error::ImageMissing { .. }) => self.build(&self.lock_of(name)?, cancel, progress),
            other => other,
        }
    }

    /// Whether there is an image of that name that was made from these packages, or it can probably be made. Only looks for files,
    /// and starts nothing.
    pub fn can_have(&self, name: &str, packages: &[&str]) -> bool {
        let is_there = check_name(name).is_ok() && self.record(name).is_some() && self.holds(name, packages);
        is_there || Images::can_build(name, self.config.search_path.as_deref())
    }

    /// Whether an image can probably be made, wherever its folder: it comes with Errand, and there is a Python with pip.
    pub fn can_build(name: &str, search_path: Option<&std::ffi::OsStr>) -> bool {
        let python = || interpreters::find(search_path).into_iter().find(|one| one.name == "python3");
        ImageLock::built_in_names().any(|known| known == name) && python().is_some_and(|python| pip::lies_beside(&python))
    }

    /// Whether the image of that name was made from all of these packages, of whatever version.
    pub fn holds(&self, name: &str, packages: &[&str]) -> bool {
        let held = self.record(name).map(|record| record.packages).unwrap_or_default();
        let has = |wanted: &&str| held.iter().any(|one| one.split("==").next() == Some(*wanted));
        check_name(name).is_ok() && packages.iter().all(has)
    }

    /// All images, by name.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        let folder = self.root.join("names");
        let io = |e| Error::io("listing images", &folder, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name().into_string().unwrap_or_default();
            names.extend(name.strip_suffix(".json").filter(|name| check_name(name).is_ok()).map(String::from));
        }
        names.sort();
        Ok(names.iter().filter_map(|name| self.record(name)).collect())
    }

    /// Removes an image, and its layer unless another image has the same.
    ///
    /// # Errors
    /// [`Error::ImageUnknown`] when there is none of that name; [`Error::ImageInUse`] while a box has it or somebody builds
    /// it;
    /// [`Error::Io`].
    pub fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let in_use = || Error::ImageInUse { name: name.into() };
        let building = self.lock_file(name)?;
        if !exclusively(&building, PATIENCE)? {
            return Err(in_use());
        }
        let record = self.record(name).ok_or_else(|| unknown(name, &self.names()))?;
        let is_shared = self.list()?.iter().any(|other| other.name != name && other.digest == record.digest);
        let layer = if is_shared { None } else { open_folder(&self.layer(&record.digest))? };
        if let Some(layer) = &layer
            && !exclusively(layer, PATIENCE)?
        {
            return Err(in_use());
        }
        self.forget(name)?;
        if layer.is_some() {
            // The lock is held until the folder has lost its name.
            self.clear(&format!("layers/{}", record.digest), name)?;
        }
        drop(layer);
        self.sweep(name)
    }

    /// Removes the layers that no image is any longer and that nobody has. The caller holds the lock of `name`.
    pub(super) fn sweep(&self, name: &str) -> Result<()> {
        let named: Vec<String> = self.list()?.into_iter().map(|record| record.digest).collect();
        let folder = self.root.join("layers");
        let io = |e| Error::io("listing images", &folder, e);
        for entry in fs::read_dir(&folder).map_err(io)? {
            let digest = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            if named.contains(&digest) {
                continue;
            }
            if let Some(layer) = open_folder(&self.layer(&digest))?
                && exclusively(&layer, PATIENCE)?
                // It may have become an image since.
                && !self.list()?.iter().any(|record| record.digest == digest)
            {
                self.clear(&format!("layers/{digest}"), name)?;
            }
        }
        Ok(())
    }

    /// What an image is made from: what it was made from last, else what comes with Errand.
    ///
    /// # Errors
    /// [`Error::ImageUnknown`].
    pub fn lock_of(&self, name: &str) -> Result<ImageLock> {
        check_name(name)?;
        let kept = fs::read_to_string(self.root.join(format!("names/{name}.lock"))).ok();
        let kept = kept.and_then(|text| ImageLock::parse(name, &text).ok());
        kept.or_else(|| ImageLock::built_in(name)).ok_or_else(|| unknown(name, &self.names()))
    }

    fn names(&self) -> Vec<String> {
        self.list().unwrap_or_default().into_iter().map(|record| record.name).collect()
    }

    /// The Python that boxes have.
    pub(super) fn python(&self) -> Option<&Interpreter> {
        let find = || interpreters::find(self.config.search_path.as_deref()).into_iter().find(|one| one.name == "python3");
        self.python.get_or_init(find).as_ref()
    }

    /// One that cannot be read is none: building it again heals it.
    pub(super) fn record(&self, name: &str) -> Option<ImageRecord> {
        let text = fs::read(self.root.join(format!("names/{name}.json"))).ok()?;
        let record: ImageRecord = serde_json::from_slice(&text).ok()?;
        let is_digest = record.digest.len() == 64 && record.digest.bytes().all(|c| c.is_ascii_hexdigit());
        (record.name == name && is_digest).then_some(record)
    }

    /// Gives a layer its name, in one step.
    pub(super) fn remember(&self, record: &ImageRecord, lock: &ImageLock) -> Result<()> {
        let json = serde_json::to_vec_pretty(record).map_err(|e| Error::io("writing down an image", "json", e))?;
        self.put(&format!("{}.lock", record.name), lock.text.as_bytes())?;
        self.put(&format!("{}.json", record.name), &json)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (new, path) = (self.root.join(format!("names/.new-{name}")), self.root.join("names").join(name));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        });
        written.map_err(|e| Error::io("writing down an image", path, e))
    }

    /// Takes a name away, first what makes it an image.
    fn forget(&self, name: &str) -> Result<()> {
        for suffix in ["json", "lock"] {
            match fs::remove_file(self.root.join(format!("names/{name}.{suffix}"))) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("removing an image", self.root.join(name), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn layer(&self, digest: &str) -> PathBuf {
        self.root.join("layers").join(digest)
    }

    /// The image of a layer, if that is there.
    pub(super) fn hold(&self, name: &str, digest: &str) -> Result<Option<Image>> {
        let path = self.layer(digest);
        hold(name, digest, &path, &path)
    }

    pub(super) fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join("locks").join(name);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        file.map_err(|e| Error::io("opening an image's lock", path, e))
    }

    /// Removes a folder below the root that the holder of the image's lock wants gone; it loses its name at once.
    pub(super) fn clear(&self, path: &str, name: &str) -> Result<()> {
        let io = |e: std::io::Error| Error::io("removing an image", self.root.join(path), e);
        let doomed = format!("building/{name}.removed");
        let remove = |path: &str| {
            let dir = File::open(&self.root).map_err(io)?;
            let c_path = crate::engine::view::c_string(path);
            walk::remove_all(dir.as_fd(), &c_path).map_err(|e| io(e.into()))
        };
        remove(&doomed)?;
        match fs::rename(self.root.join(path), self.root.join(&doomed)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io)?,
        }
        remove(&doomed)
    }
}

/// The image that lies at `now` and will have its place at `path`, if it is there.
pub(super) fn hold(name: &str, digest: &str, now: &Path, path: &Path) -> Result<Option<Image>> {
    let Some(held) = open_folder(now)? else { return Ok(None) };
    // Whoever removes it has it for a moment only.
    locked(&held, FlockOperation::LockShared)?;
    Ok(Some(Image { name: name.into(), digest: digest.into(), path: path.into(), _held: Arc::new(held) }))
}

/// Whether this process gets it alone within that time: a process that is just being started has the locks of its parent for
/// a moment.
fn exclusively(file: &File, patience: Duration) -> Result<bool> {
    let until = Instant::now() + patience;
    while !locked(file, FlockOperation::NonBlockingLockExclusive)? {
        if Instant::now() >= until {
            return Ok(false);
        }
        // Nothing to wake it: the kernel tells nobody of locks let go.
        let _ = poll(&mut [], Some(&timespec(Duration::from_millis(10))));
    }
    Ok(true)
}

fn open_folder(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::io("opening an image", path, e)),
    }
}

/// False when another has it and the operation does not wait.
pub(super) fn locked(file: &File, operation: FlockOperation) -> Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::io("locking an image", "flock", e)),
    }
}
