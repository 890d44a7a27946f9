//! What a run made, handed out from the blobs: no workspace and no box is needed.

use super::Error;
use super::chunks::{blob, manifest};
use errand_core::{Hash, Snapshot};
use errand_engine::ports::{Blobs, PortError};
use errand_sandbox::{ChangeKind, Manifest, Node};
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder in which the engine keeps long outputs; it is not something the run made.
pub(crate) const OWN_FOLDER: &str = ".errand/";

/// A file that a run made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMade {
    /// Path in the workspace.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// True if the user gave it and the run changed it.
    pub changed: bool,
}

/// What [`fetch_all`] wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files written, on the host.
    pub written: Vec<PathBuf>,
    /// Links in the workspace: they are not made on the host, where they would lead elsewhere.
    pub links: Vec<String>,
}

/// The files that differ between the workspace as the run began and as it is in `last`, sorted by path.
///
/// # Errors
/// [`Error::Blob`] or [`Error::Sandbox`] if a manifest is missing or damaged.
pub async fn files_made(blobs: &dyn Blobs, first: Option<Snapshot>, last: Option<Snapshot>) -> Result<Vec<FileMade>, Error> {
    let (before, after) = (manifest_of(blobs, first).await?, manifest_of(blobs, last).await?);
    let changes = before.diff(&after).into_iter().filter(|change| change.kind != ChangeKind::Removed);
    let made = changes.filter(|change| !change.path.starts_with(OWN_FOLDER)).filter_map(|change| {
        let bytes = size(&after, &change.path)?;
        Some(FileMade { path: change.path, bytes, changed: change.kind == ChangeKind::Changed })
    });
    Ok(made.collect())
}

/// Writes the file at `path` of a workspace to `to`. Every byte is checked against its digest first. Gives its length.
///
/// # Errors
/// [`Error::NoSuchFile`], [`Error::Blob`] and [`Error::Sandbox`] for missing or damaged blobs, [`Error::Unwritable`].
pub async fn fetch_file(blobs: &dyn Blobs, workspace: &Hash, path: &str, to: &mut (dyn Write + Send)) -> Result<u64, Error> {
    let manifest = manifest(blobs, workspace).await?;
    copy_out(blobs, &manifest, path, to).await
}

/// Writes the files at `paths` (all, if `None`) of a workspace into `folder`, which is made if it is not there. Nothing
/// that exists is written over, and no link on the way is followed.
///
/// # Errors
/// As [`fetch_file`]; files written before the failure stay.
pub async fn fetch_all(
    blobs: &dyn Blobs,
    workspace: &Hash,
    paths: Option<&[String]>,
    folder: &Path,
) -> Result<Fetched, Error> {
    let manifest = manifest(blobs, workspace).await?;
    let wanted: Option<HashSet<&str>> = paths.map(|paths| paths.iter().map(String::as_str).collect());
    if let Some(path) = wanted.iter().flatten().find(|path| size(&manifest, path).is_none()) {
        return Err(Error::NoSuchFile { path: (*path).to_owned() });
    }
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let mut fetched = Fetched::default();
    for (path, node) in manifest.entries() {
        let in_question = wanted.as_ref().map_or(!path.starts_with(OWN_FOLDER), |wanted| wanted.contains(path));
        match node {
            Node::File { .. } if in_question => {
                let to = make_way(folder, path)?;
                let mut file =
                    OpenOptions::new().write(true).create_new(true).open(&to).map_err(|error| unwritable(&to, &error))?;
                copy_out(blobs, &manifest, path, &mut file).await?;
                fetched.written.push(to);
            }
            Node::Link { .. } if in_question => fetched.links.push(path.to_owned()),
            _ => {}
        }
    }
    Ok(fetched)
}

/// Where to fetch a part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLink {
    /// How many bytes it has.
    pub bytes: u64,
    /// A link to the store.
    pub url: String,
}

/// Links to the parts of the file at `path`, in order, by which others fetch it from the store itself for as long as `valid`.
/// None where the store signs nothing: then hand the file out with [`fetch_file`].
///
/// # Errors
/// As [`fetch_file`].
pub async fn file_links(
    blobs: &dyn Blobs,
    workspace: &Hash,
    path: &str,
    valid: Duration,
) -> Result<Option<Vec<PartLink>>, Error> {
    let Some(signer) = blobs.signer() else { return Ok(None) };
    let manifest = manifest(blobs, workspace).await?;
    let Some(Node::File { chunks, .. }) = manifest.get(path) else {
        return Err(Error::NoSuchFile { path: path.chars().take(400).collect() });
    };
    let mut links = Vec::new();
    for chunk in chunks {
        let hash = Hash(chunk.hash);
        let refused = |error: PortError| Error::Blob { hash: hash.to_string(), problem: error.to_string() };
        links.push(PartLink { bytes: u64::from(chunk.bytes), url: signer.link(&hash, valid).await.map_err(refused)? });
    }
    Ok(Some(links))
}

/// Makes the folders above `path` within `folder`. The parts of `path` are plain names: the manifest was checked.
fn make_way(folder: &Path, path: &str) -> Result<PathBuf, Error> {
    let mut at = folder.to_owned();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        if parts.peek().is_none() {
            break;
        }
        match std::fs::create_dir(&at) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let found = std::fs::symlink_metadata(&at).map_err(|error| unwritable(&at, &error))?;
                if !found.is_dir() {
                    let problem = "it lies where a folder is needed: choose another folder".to_owned();
                    return Err(Error::Unwritable { path: at, problem });
                }
            }
            Err(error) => return Err(unwritable(&at, &error)),
        }
    }
    Ok(at)
}

async fn copy_out(blobs: &dyn Blobs, manifest: &Manifest, path: &str, to: &mut (dyn Write + Send)) -> Result<u64, Error> {
    let Some(Node::File { chunks, size, .. }) = manifest.get(path) else {
        return Err(Error::NoSuchFile { path: path.chars().take(400).collect() });
    };
    for chunk in chunks {
        let bytes = blob(blobs, &Hash(chunk.hash)).await?;
        if bytes.len() as u64 != u64::from(chunk.bytes) {
            let problem = format!("it has {} bytes, and {path:?} needs {}", bytes.len(), chunk.bytes);
            return Err(Error::Blob { hash: Hash(chunk.hash).to_string(), problem });
        }
        to.write_all(&bytes).map_err(|error| unwritable(Path::new(path), &error))?;
    }
    to.flush().map_err(|error| unwritable(Path::new(path), &error))?;
    Ok(*size)
}

async fn manifest_of(blobs: &dyn Blobs, snapshot: Option<Snapshot>) -> Result<Manifest, Error> {
    match snapshot {
        Some(snapshot) => manifest(blobs, &snapshot.manifest).await,
        None => Ok(Manifest::default()),
    }
}

fn size(manifest: &Manifest, path: &str) -> Option<u64> {
    match manifest.get(path)? {
        Node::File { size, .. } => Some(*size),
        _ => None,
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    let problem = match error.kind() {
        ErrorKind::AlreadyExists => "it exists already: choose another folder".to_owned(),
        _ => error.to_string(),
    };
    Error::Unwritable { path: path.to_owned(), problem }
}
