//! Files that the user names are copied into the workspace of a new run.

use super::{Desk, Error, Workspaces, id, limits};
use errand_core::{Hash, InputFile, RunId, Snapshot};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most bytes of all files given to a run: half of what a workspace may hold, so that there is room to work.
pub const IMPORT_BYTES_MAX: u64 = 512 << 20;
/// Most files given to a run.
pub const FILES_MAX: usize = 100;

impl Workspaces {
    /// Copies `files` into the empty workspace of the new run `run`. Each lands at the top under its own name; of two with
    /// the same name the later gets a number (`data.csv`, `data-2.csv`). Links are followed: whoever names them may read
    /// what they lead to. Nothing is copied unless everything can be.
    ///
    /// # Errors
    /// [`Error::FileMissing`], [`Error::FileUnreadable`], [`Error::FileNotPlain`], [`Error::FileTooLarge`],
    /// [`Error::TooManyFiles`], [`Error::FileName`], and those of the workspace itself.
    pub async fn import(&self, run: RunId, files: Vec<PathBuf>) -> Result<(Vec<InputFile>, Option<Snapshot>), Error> {
        self.import_onto(run, None, files).await
    }

    /// As [`Workspaces::import`], into a workspace that goes on from `base`, such as that of the run before in a
    /// conversation. A file of the same name takes the place of the one there. Without files this is `base` itself.
    ///
    /// # Errors
    /// As [`Workspaces::import`].
    pub async fn import_onto(
        &self,
        run: RunId,
        base: Option<Snapshot>,
        files: Vec<PathBuf>,
    ) -> Result<(Vec<InputFile>, Option<Snapshot>), Error> {
        if files.is_empty() {
            return Ok((Vec::new(), base));
        }
        let imported = self.in_turn(run, move |state, host, chunks, cancel| {
            let opened = open_all(&files)?;
            state.begin(&id(run), base, &host.sessions, chunks)?;
            let mut desk = Desk { state, boxes: &host.boxes, chunks, cancel, way: None };
            let copied = opened.into_iter().map(|file| copy(&mut desk, file)).collect::<Result<Vec<_>, _>>()?;
            let (snapshot, _) = desk.keep()?;
            Ok((copied, snapshot.or(base)))
        });
        match imported.await {
            Ok(imported) => Ok(imported),
            Err(error) => {
                // The run will not begin. That its folder could not be removed is less than why.
                if let Err(left) = self.release(run).await {
                    tracing::warn!(%run, error = %left.chain(), "the workspace of a run that did not begin stays");
                }
                Err(error)
            }
        }
    }
}

/// A file that can be copied, and the name it gets.
struct Opened {
    path: PathBuf,
    name: String,
    file: File,
    bytes: u64,
}

/// Opens all files, and sees to it that they can be taken, before any is copied.
fn open_all(files: &[PathBuf]) -> Result<Vec<Opened>, Error> {
    if files.len() > FILES_MAX {
        return Err(Error::TooManyFiles { count: files.len(), max: FILES_MAX });
    }
    let mut taken = HashSet::new();
    let mut total = 0u64;
    let mut opened = Vec::new();
    for path in files {
        let name = free_name(name_of(path)?, &mut taken);
        let (file, metadata) = open(path)?;
        total = total.saturating_add(metadata.len());
        if total > IMPORT_BYTES_MAX {
            return Err(Error::FileTooLarge { path: path.clone(), bytes: total, max: IMPORT_BYTES_MAX });
        }
        opened.push(Opened { path: path.clone(), name, file, bytes: metadata.len() });
    }
    Ok(opened)
}

/// The last part of a path, if a workspace can hold it.
fn name_of(path: &Path) -> Result<String, Error> {
    let unusable = |problem| Error::FileName { path: path.to_owned(), problem };
    let name = path.file_name().ok_or_else(|| unusable("the path ends without a name"))?;
    let name = name.to_str().ok_or_else(|| unusable("it is not UTF-8"))?;
    if name.chars().any(char::is_control) {
        return Err(unusable("it holds control characters"));
    }
    if name == ".errand" {
        return Err(unusable("the workspace has a folder of its own with this name"));
    }
    Ok(name.to_owned())
}

fn free_name(name: String, taken: &mut HashSet<String>) -> String {
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => (stem, format!(".{ending}")),
        _ => (name.as_str(), String::new()),
    };
    let numbered = (2..).map(|number| format!("{stem}-{number}{ending}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(name.clone());
    taken.insert(free.clone());
    free
}

fn open(path: &Path) -> Result<(File, Metadata), Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::FileMissing { path: path.to_owned() },
        _ => Error::FileUnreadable { path: path.to_owned(), problem: error.to_string() },
    };
    // Looked at before it is opened: opening a pipe would wait for somebody to write into it.
    plain(path, &std::fs::metadata(path).map_err(failed)?)?;
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    plain(path, &metadata)?;
    Ok((file, metadata))
}

fn plain(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    match metadata {
        plain if plain.is_file() => Ok(()),
        folder if folder.is_dir() => Err(Error::FileNotPlain { path: path.to_owned(), kind: "a folder" }),
        _ => Err(Error::FileNotPlain { path: path.to_owned(), kind: "a device, pipe or socket" }),
    }
}

fn copy(desk: &mut Desk<'_>, opened: Opened) -> Result<InputFile, Error> {
    let Opened { path, name, file, bytes } = opened;
    let mut reader = Hashing { file, digest: Sha256::new(), failed: None };
    // A file that grows meanwhile is refused, not cut.
    let most = bytes.saturating_add(limits().workspace_bytes - IMPORT_BYTES_MAX).min(IMPORT_BYTES_MAX);
    let copied = desk.session_to_change().put_reader(&name, &mut reader, most);
    if let Some(problem) = reader.failed {
        return Err(Error::FileUnreadable { path, problem });
    }
    Ok(InputFile { path: name, bytes: copied?, sha256: Hash(reader.digest.finalize().into()) })
}

/// Takes the digest of what is read through it, and remembers why reading failed.
struct Hashing {
    file: File,
    digest: Sha256,
    failed: Option<String>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer).inspect_err(|error| self.failed = Some(error.to_string()))?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
