//! The files of a run, read from its snapshots: what lies there, what the run made, what they hold.

use crate::error::Error;
use crate::text;
use errand_core::{Hash, RunLog, Snapshot};
use errand_sandbox::{ChangeKind, Manifest, Node};
use errand_store_local::LocalBlobs;
use serde::Serialize;
use std::fs::File;
use std::path::Path;

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileEntry {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Whether the run made or changed it.
    pub(crate) made: bool,
}

/// The workspace of a run as its last call left it.
pub(crate) struct Workspace {
    manifest: Manifest,
    made: Vec<String>,
}

impl Workspace {
    /// The files of the run; none if no call ever had a workspace.
    pub(crate) fn of(log: &RunLog, blobs: &LocalBlobs) -> Result<Self, Error> {
        let begun = manifest(log.started().workspace, blobs)?;
        let manifest = manifest(log.workspace(), blobs)?;
        let changes = begun.diff(&manifest);
        let made = changes.into_iter().filter(|change| change.kind != ChangeKind::Removed).map(|change| change.path);
        let made = made.collect();
        Ok(Self { manifest, made })
    }

    /// All files, by path.
    pub(crate) fn list(&self) -> Vec<FileEntry> {
        let file = |(path, node): (&str, &Node)| match node {
            Node::File { size, .. } => {
                let made = self.made.iter().any(|made| made == path);
                // Long outputs of tools lie there; nobody made them on purpose.
                if path.starts_with(".errand/") {
                    return None;
                }
                Some(FileEntry { path: path.to_owned(), bytes: *size, made })
            }
            Node::Folder | Node::Link { .. } => None,
        };
        self.manifest.entries().filter_map(file).collect()
    }

    /// The digests of all that the workspace holds, the manifest's own among them.
    pub(crate) fn blobs(&self) -> Vec<Hash> {
        let mut hashes: Vec<Hash> = self.manifest.chunks().map(|chunk| Hash(chunk.hash)).collect();
        hashes.push(Hash(self.manifest.hash()));
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

/// What a workspace held.
pub(crate) fn manifest(snapshot: Option<Snapshot>, blobs: &LocalBlobs) -> Result<Manifest, Error> {
    let Some(snapshot) = snapshot else { return Ok(Manifest::default()) };
    let missing =
        || Error::new("blob_missing", format!("the list of files {} is not in the data folder", snapshot.manifest));
    let bytes = blobs.get_blocking(&snapshot.manifest)?.ok_or_else(missing)?;
    Manifest::from_bytes(&bytes).map_err(|error| Error::chain(error.code(), &error))
}

/// Writes a file of a run to the host, or to standard output for `-`. An existing file is not replaced.
pub(crate) async fn save(log: &RunLog, path: &str, blobs: &LocalBlobs, output: &Path) -> Result<u64, Error> {
    let missing = || Error::new("no_such_file", format!("run {} has no files", log.run.id));
    let manifest = log.workspace().ok_or_else(missing)?.manifest;
    let refused = |error| crate::toolbox::workspace(&error);
    if output == Path::new("-") {
        return errand_tools::fetch_file(blobs, &manifest, path, &mut std::io::stdout()).await.map_err(refused);
    }
    let mut file = create(output)?;
    let saved = errand_tools::fetch_file(blobs, &manifest, path, &mut file).await.map_err(refused);
    if saved.is_err() {
        let _ = std::fs::remove_file(output);
    }
    saved
}

/// A new file on the host. An existing one is not replaced.
pub(crate) fn create(path: &Path) -> Result<File, Error> {
    let shown = text::path(path);
    File::create_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new("output_exists", format!("{shown} exists already: name another file, or remove it"))
        }
        _ => Error::new("output_failed", format!("{shown} cannot be written: {error}")),
    })
}
