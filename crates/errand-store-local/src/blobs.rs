//! Content-addressed files: `blobs/ab/cdef…`, named by the SHA-256 of their bytes, written once; `cdef….lz4` where they are
//! kept compressed.

use crate::{Error, FaultPlan, packed};
use async_trait::async_trait;
use errand_core::Hash;
use errand_engine::ports::{Blobs, PortError};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The blobs of a data folder. Only its owner puts; anybody may get.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    faults: Arc<FaultPlan>,
    temporary: AtomicU64,
}

impl LocalBlobs {
    pub(crate) fn new(folder: PathBuf, faults: Arc<FaultPlan>) -> Self {
        Self { inner: Arc::new(Inner { folder, faults, temporary: AtomicU64::new(0) }) }
    }

    /// Makes the folders, and clears what an owner that died left half written. True if there was none: its name is to be
    /// made durable.
    pub(crate) fn prepare(&self) -> Result<bool, Error> {
        let folder = self.temporary_folder();
        let is_new = make(&self.inner.folder)?;
        // Nothing that lies here has to last, nor has its name.
        make(&folder)?;
        let failed = |error| Error::reading("list", &folder, error);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let _ = fs::remove_file(entry.map_err(failed)?.path());
        }
        Ok(is_new)
    }

    /// Like [`Blobs::put`]: when it returns, the bytes are on the disk.
    pub fn put_blocking(&self, bytes: &[u8]) -> Result<Hash, Error> {
        let hash = Hash::of(bytes);
        // A blob is renamed into place whole, so one that can be the right one is. What rots later, `get` finds.
        if is_whole(&self.path(&hash), bytes) || packed::is_of(&self.packed_path(&hash), bytes.len()) {
            return Ok(hash);
        }
        match packed::pack(bytes) {
            Some(packed) => self.write(&self.packed_path(&hash), &packed)?,
            None => self.write(&self.path(&hash), bytes)?,
        }
        Ok(hash)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> Result<(), Error> {
        let parent = file.parent().unwrap_or(&self.inner.folder);
        self.make_folder(parent)?;
        let temporary = self.write_temporary(bytes)?;
        let write = self.inner.faults.before();
        let renamed = fs::rename(&temporary, file).map_err(|error| Error::writing("rename", &temporary, error));
        if renamed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        renamed?;
        sync_folder(parent)?;
        self.inner.faults.after(write);
        Ok(())
    }

    /// Like [`Blobs::get`].
    pub fn get_blocking(&self, hash: &Hash) -> Result<Option<Vec<u8>>, Error> {
        let plain = match self.read(&self.path(hash), hash, Some) {
            // One that was cut off may have been written anew, compressed.
            Err(error @ Error::BlobDamaged { .. }) => {
                return self.read(&self.packed_path(hash), hash, packed::unpack).transpose().unwrap_or(Err(error)).map(Some);
            }
            other => other?,
        };
        match plain {
            None => self.read(&self.packed_path(hash), hash, packed::unpack),
            found => Ok(found),
        }
    }

    fn read(
        &self,
        file: &Path,
        hash: &Hash,
        form: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let read = match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::reading("read", file, error))?,
        };
        match form(read) {
            Some(bytes) if Hash::of(&bytes) == *hash => Ok(Some(bytes)),
            _ => Err(Error::BlobDamaged { hash: *hash, path: file.to_owned() }),
        }
    }

    /// Whether a blob is there, unchecked.
    pub fn has(&self, hash: &Hash) -> bool {
        self.path(hash).is_file() || self.packed_path(hash).is_file()
    }

    /// Where a blob lies or would lie if it is kept as it is; one that is compressed has `.lz4` behind it.
    pub fn path(&self, hash: &Hash) -> PathBuf {
        let name = hash.to_string();
        self.inner.folder.join(&name[..2]).join(&name[2..])
    }

    fn packed_path(&self, hash: &Hash) -> PathBuf {
        let mut path = self.path(hash).into_os_string();
        path.push(".lz4");
        path.into()
    }

    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let number = self.inner.temporary.fetch_add(1, Ordering::Relaxed);
        let file = self.temporary_folder().join(number.to_string());
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).and_then(|mut opened| {
            opened.write_all(bytes)?;
            opened.sync_all()
        });
        match written {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = fs::remove_file(&file);
                Err(Error::writing("write", &file, error))
            }
        }
    }

    fn temporary_folder(&self) -> PathBuf {
        self.inner.folder.join("tmp")
    }

    fn make_folder(&self, folder: &Path) -> Result<(), Error> {
        if make(folder)? { folder.parent().map_or(Ok(()), sync_folder) } else { Ok(()) }
    }
}

fn is_whole(file: &Path, bytes: &[u8]) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.len() == bytes.len() as u64)
}

/// Makes a folder for the owner only. False if there is one already.
fn make(folder: &Path) -> Result<bool, Error> {
    if folder.is_dir() {
        return Ok(false);
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::writing("make", folder, error)),
        _ => Ok(true),
    }
}

/// Makes names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(|error| Error::writing("sync", folder, error))
}

#[async_trait]
impl Blobs for LocalBlobs {
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError> {
        let bytes = bytes.to_vec();
        blocking(self, move |blobs| blobs.put_blocking(&bytes)).await
    }

    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError> {
        let hash = *hash;
        blocking(self, move |blobs| blobs.get_blocking(&hash)).await
    }
}

async fn blocking<T: Send + 'static>(
    blobs: &LocalBlobs,
    work: impl FnOnce(LocalBlobs) -> Result<T, Error> + Send + 'static,
) -> Result<T, PortError> {
    let worker = blobs.clone();
    match tokio::task::spawn_blocking(move || work(worker)).await {
        Ok(done) => Ok(done?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(Error::Closed { path: blobs.inner.folder.clone() }.into()),
    }
}
