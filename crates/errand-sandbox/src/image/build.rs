//! Making an image: fetch, unpack, compile, seal, and only then give it its name.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FlockOperation;

use super::lock::ImageLock;
use super::pip::{self, Run};
use super::progress::ImageProgress;
use super::store::{Image, Images, hold, locked};
use super::{IMAGE_DIR, ImageRecord, seal};
use crate::config::Interpreter;
use crate::engine::run::timespec;
use crate::error::{Error, Result};
use crate::exec::CancelToken;

/// All of it must be done by then; a slow line takes minutes.
const TIME_MAX: Duration = Duration::from_secs(1800);
/// Wheels only, none but those of the lock; where they go follows.
const PIP_OPTIONS: [&str; 11] = [
    "--require-hashes",
    "--no-deps",
    "--only-binary=:all:",
    "--no-compile",
    "--no-input",
    "--no-warn-script-location",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--timeout=20",
    "--retries=2",
    "--target",
];
/// How often to look whether another build is over.
const LOOK: Duration = Duration::from_millis(100);

impl Images {
    /// Makes an image from its lock, for the Python that boxes have; gives the one that is there when that was made from the
    /// same. Of two
    /// at once the second waits for the first.
    ///
    /// # Errors
    /// [`Error::ImageTools`] without a Python or pip, [`Error::ImageNetwork`], [`Error::ImageHash`] when a wheel is not what
    /// the lock says,
    /// [`Error::ImageNoWheel`] when there is none for this Python, [`Error::ImageNoRoom`], [`Error::ImageFailed`] for all
    /// else (also when it was
    /// cancelled). Nothing of it is left then, and an image of that name from before is as it was.
    pub fn build(
        &self,
        lock: &ImageLock,
        cancel: Option<&CancelToken>,
        progress: &mut dyn FnMut(ImageProgress),
    ) -> Result<Image> {
        let python =
            self.python().ok_or_else(|| Error::ImageTools { reason: "there is no python3 that boxes can use".into() })?;
        let tag = pip::tag(python)?;
        let held = self.lock_file(&lock.name)?;
        let until = Instant::now() + TIME_MAX;
        wait_for(&held, until, cancel, progress)?;
        if let Some(record) = self.record(&lock.name).filter(|record| record.key == lock.key(&tag))
            && let Some(image) = self.hold(&lock.name, &record.digest)?
        {
            return Ok(image);
        }
        let place = format!("building/{}", lock.name);
        // A build that was killed may have left something.
        self.clear(&place, &lock.name)?;
        let work = Work { images: self, lock, python, tag, held: &held, until, cancel };
        let made = work.make(&self.root.join(&place), progress);
        // After a failure the first error is the one to tell; what cannot be removed now goes at the next build.
        let cleared = self.clear(&place, &lock.name);
        let image = made?;
        cleared?;
        self.sweep(&lock.name)?;
        Ok(image)
    }
}

fn wait_for(
    held: &File,
    until: Instant,
    cancel: Option<&CancelToken>,
    progress: &mut dyn FnMut(ImageProgress),
) -> Result<()> {
    let mut told = false;
    while !locked(held, FlockOperation::NonBlockingLockExclusive)? {
        if !std::mem::replace(&mut told, true) {
            progress(ImageProgress::Waiting);
        }
        let mut fds: Vec<PollFd<'_>> =
            cancel.iter().map(|token| PollFd::from_borrowed_fd(token.fd(), PollFlags::IN)).collect();
        // Woken early it only looks early.
        let _ = poll(&mut fds, Some(&timespec(LOOK)));
        pip::check(until, cancel)?;
    }
    Ok(())
}

/// A build under way, whose lock is held.
struct Work<'a> {
    images: &'a Images,
    lock: &'a ImageLock,
    python: &'a Interpreter,
    tag: String,
    held: &'a File,
    until: Instant,
    cancel: Option<&'a CancelToken>,
}

impl Work<'_> {
    fn make(&self, place: &Path, progress: &mut dyn FnMut(ImageProgress)) -> Result<Image> {
        let io = |e: std::io::Error| room(e, place);
        let (tree, temporary, wanted) = (place.join("tree"), place.join("tmp"), place.join("lock.txt"));
        fs::create_dir(place).and_then(|()| fs::create_dir(&tree)).and_then(|()| fs::create_dir(&temporary)).map_err(io)?;
        fs::write(&wanted, &self.lock.text).map_err(io)?;
        self.fetch(&tree, &temporary, &wanted, progress)?;
        progress(ImageProgress::Compiling);
        self.compile(&tree, &temporary)?;
        progress(ImageProgress::Sealing);
        let sealed = seal::seal(&tree)?;
        let image = self.put_in_place(&tree, &sealed.digest)?;
        let record = ImageRecord {
            name: self.lock.name.clone(),
            digest: sealed.digest,
            key: self.lock.key(&self.tag),
            python: self.tag.clone(),
            python_path: self.python.path.canonicalize().map_err(io)?,
            packages: self.lock.packages.clone(),
            files: sealed.files,
            bytes: sealed.bytes,
        };
        self.images.remember(&record, self.lock)?;
        Ok(image)
    }

    fn put_in_place(&self, tree: &Path, digest: &str) -> Result<Image> {
        let io = |e: std::io::Error| room(e, tree);
        let layer = self.images.layer(digest);
        // What has its name must be whole after a power cut as well.
        File::open(tree).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)).map_err(io)?;
        // Held before it has its name: what nobody holds and no record names may be swept away.
        let own = hold(&self.lock.name, digest, tree, &layer)?;
        for _ in 0..3 {
            match (fs::rename(tree, &layer), own.clone()) {
                (Ok(()), Some(image)) => return Ok(image),
                // The same content is there already, unless it is removed this moment.
                (Err(_), _) if layer.is_dir() => {
                    if let Some(image) = self.images.hold(&self.lock.name, digest)? {
                        return Ok(image);
                    }
                }
                (other, _) => other.map_err(io)?,
            }
        }
        Err(Error::ImageFailed { reason: "its folder was removed meanwhile".into() })
    }

    fn fetch(&self, tree: &Path, temporary: &Path, wanted: &Path, progress: &mut dyn FnMut(ImageProgress)) -> Result<()> {
        let mut command = pip::command(self.python, self.images.config.search_path.as_deref())?;
        // The caller's options come first, so that what an image needs has the last word.
        command.arg("install").args(&self.images.config.pip_arguments).args(PIP_OPTIONS);
        command.arg(tree).arg("--requirement").arg(wanted);
        let of = self.lock.packages.len();
        let mut number = 0;
        let output = self.run(command, temporary, &mut |line| {
            // The second is said of wheels that lie on this host.
            if line.starts_with("Collecting ") || line.starts_with("Processing ") {
                number += 1;
                let package = self.lock.packages.get(number - 1).cloned().unwrap_or_default();
                progress(ImageProgress::Fetching { package, number, of });
            } else if line.starts_with("Installing collected packages") {
                progress(ImageProgress::Unpacking);
            }
        })?;
        if output.success { Ok(()) } else { Err(pip::why(&output.end)) }
    }

    /// Compiles what can be; some packages carry files for other versions of Python, which is no fault. Modules say where
    /// they lie in a
    /// box, and are not looked at again.
    fn compile(&self, tree: &Path, temporary: &Path) -> Result<()> {
        let mut command = Command::new(&self.python.path);
        command.args([
            "-I",
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
            "-p",
            IMAGE_DIR,
            "-s",
        ]);
        command.arg(tree).arg(tree);
        let output = self.run(command, temporary, &mut |_| {})?;
        match output.success || !pip::is_full(&output.end) {
            true => Ok(()),
            false => Err(pip::why(&output.end)),
        }
    }

    fn run(&self, mut command: Command, temporary: &Path, on_line: &mut dyn FnMut(&str)) -> Result<pip::Ran> {
        // All on one file system, and gone with the rest.
        command.env("TMPDIR", temporary).current_dir(temporary);
        // The lock is held until the last of its processes is gone, also when this one is killed.
        let held = self.held.try_clone().map_err(|e| Error::io("passing on an image's lock", "flock", e))?;
        Run { command, held, until: self.until, cancel: self.cancel }.run(on_line)
    }
}

fn room(error: std::io::Error, place: &Path) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::ImageNoRoom { said: error.to_string() }
        }
        _ => Error::io("making an image", place, error),
    }
}
