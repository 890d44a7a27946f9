//! The engine's blobs and heads as the sandbox's stores. The ones wait asynchronously, the others block.

use super::Error;
use errand_core::Hash;
use errand_engine::ports::{Blobs, Heads};
#[cfg(target_os = "linux")]
use errand_sandbox::HeadStore;
use errand_sandbox::{ChunkStore, Manifest};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Blobs, to be used on a thread that may block.
#[derive(Clone)]
pub(crate) struct Chunks {
    blobs: Arc<dyn Blobs>,
    runtime: Handle,
}

impl Chunks {
    /// Must be called within a runtime; used outside of its asynchronous threads.
    pub(crate) fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, runtime: Handle::current() }
    }

    /// Keeps a manifest.
    pub(crate) fn put_manifest(&self, manifest: &Manifest) -> Result<Hash, Error> {
        let bytes = manifest.to_bytes();
        self.runtime.block_on(self.blobs.put(&bytes)).map_err(|error| {
            let hash = Hash::of(&bytes).to_string();
            Error::Blob { hash, problem: error.to_string() }
        })
    }

    /// The manifest with this digest.
    pub(crate) fn manifest(&self, hash: &Hash) -> Result<Manifest, Error> {
        self.runtime.block_on(manifest(&*self.blobs, hash))
    }
}

/// The manifest with this digest.
pub(super) async fn manifest(blobs: &dyn Blobs, hash: &Hash) -> Result<Manifest, Error> {
    Ok(Manifest::from_bytes(&blob(blobs, hash).await?)?)
}

/// The bytes with this digest.
pub(super) async fn blob(blobs: &dyn Blobs, hash: &Hash) -> Result<Vec<u8>, Error> {
    let problem = |problem: String| Error::Blob { hash: hash.to_string(), problem };
    blobs.get(hash).await.map_err(|error| problem(error.to_string()))?.ok_or_else(|| problem("it is missing".to_owned()))
}

impl ChunkStore for Chunks {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        self.runtime.block_on(self.blobs.put(bytes)).map(|hash| hash.0).map_err(std::io::Error::other)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        self.runtime.block_on(self.blobs.get(&Hash(*hash))).map_err(std::io::Error::other)
    }
}

/// What keeps sessions that are no run's: their chunks in blobs, their heads beside. To be used on a thread that may block.
#[derive(Clone)]
pub struct SessionStore {
    chunks: Chunks,
    heads: Arc<dyn Heads>,
}

impl SessionStore {
    /// Must be called within a runtime; used outside of its asynchronous threads.
    pub fn new(blobs: Arc<dyn Blobs>, heads: Arc<dyn Heads>) -> Self {
        Self { chunks: Chunks::new(blobs), heads }
    }
}

impl ChunkStore for SessionStore {
    fn put(&self, bytes: &[u8]) -> std::io::Result<[u8; 32]> {
        self.chunks.put(bytes)
    }

    fn get(&self, hash: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        self.chunks.get(hash)
    }
}

#[cfg(target_os = "linux")]
impl HeadStore for SessionStore {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.chunks.runtime.block_on(self.heads.read(name)).map_err(std::io::Error::other)
    }

    fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> std::io::Result<bool> {
        self.chunks.runtime.block_on(self.heads.replace(name, expected, bytes)).map_err(std::io::Error::other)
    }
}
