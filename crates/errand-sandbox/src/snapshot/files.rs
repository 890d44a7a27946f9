//! Reading files straight from a snapshot: nothing is restored for it, and only the chunks that are asked for are fetched.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::ChunkStore;
use super::manifest::{Chunk, Manifest, Node, hex};
use crate::entry::{Entry, EntryKind, EntryPage, FileRange, Paging};
use crate::error::{Error, Result};
use crate::path::{checked, checked_file, split};

/// The files of a manifest, for reading. What works on a live workspace works here in the same way.
#[derive(Clone, Copy)]
pub struct FilesOf<'a> {
    manifest: &'a Manifest,
    store: &'a dyn ChunkStore,
}

impl std::fmt::Debug for FilesOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilesOf").field("entries", &self.manifest.entries.len()).finish_non_exhaustive()
    }
}

impl<'a> FilesOf<'a> {
    /// The files that the manifest lists, whose chunks lie in the store.
    pub fn new(manifest: &'a Manifest, store: &'a dyn ChunkStore) -> Self {
        FilesOf { manifest, store }
    }

    /// What lies in a folder (and with `recursive` beneath it), in pages sorted by path: at most `most` entries (1 to
    /// [`crate::PAGE_ENTRIES_MAX`]) whose paths come after `after`.
    ///
    /// # Errors
    /// [`Error::PathRefused`], [`Error::NotFound`], [`Error::NotPlain`] for what is no folder.
    pub fn list_page(&self, folder: &str, recursive: bool, after: Option<&str>, most: usize) -> Result<EntryPage> {
        let folder = checked(folder)?;
        if !folder.is_empty() {
            match self.node(&folder)? {
                Node::Folder => {}
                Node::File { .. } => return Err(Error::NotPlain { path: folder, kind: "a file" }),
                Node::Link { .. } => return Err(Error::NotPlain { path: folder, kind: "a symbolic link" }),
            }
        }
        let beneath = if folder.is_empty() { folder } else { folder + "/" };
        let mut paging = Paging::new(after, most);
        let start = after.filter(|after| *after > beneath.as_str()).unwrap_or(&beneath);
        let entries = self.manifest.entries.range(start.to_owned()..);
        for (path, node) in entries.take_while(|(path, _)| path.starts_with(&beneath)) {
            let shown = recursive || !path[beneath.len()..].contains('/');
            if shown && paging.wants(path) {
                paging.add(entry(path, node));
            } else if shown && after.is_none_or(|after| path.as_str() > after) {
                // In order, so there is nothing on this page any longer.
                break;
            }
        }
        Ok(paging.page())
    }

    /// What lies at a path; none if nothing does.
    ///
    /// # Errors
    /// [`Error::PathRefused`], [`Error::NotPlain`] when a folder on the way is none.
    pub fn stat(&self, path: &str) -> Result<Option<Entry>> {
        let path = checked_file(path)?;
        self.way_to(&path)?;
        Ok(self.manifest.get(&path).map(|node| entry(&path, node)))
    }

    /// Reads up to `length` bytes of a file from `offset`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotPlain`], [`Error::Chunk`] that names file and chunk if one is missing or damaged,
    /// [`Error::Store`]. Other chunks and files can be read all the same.
    pub fn read_file(&self, path: &str, offset: u64, length: u64) -> Result<FileRange> {
        let mut bytes = Vec::new();
        let size = self.copy(path, offset, length, &mut bytes)?.0;
        Ok(FileRange { bytes, size })
    }

    /// Copies up to `length` bytes of a file from `offset` to a writer, chunk by chunk. Gives how many there were.
    ///
    /// # Errors
    /// As [`FilesOf::read_file`]; [`Error::Io`] when the writer fails.
    pub fn copy_out(&self, path: &str, offset: u64, length: u64, to: &mut dyn Write) -> Result<u64> {
        Ok(self.copy(path, offset, length, to)?.1)
    }

    /// Gives the size of the file and how many bytes were copied.
    fn copy(&self, path: &str, offset: u64, length: u64, to: &mut dyn Write) -> Result<(u64, u64)> {
        let path = checked_file(path)?;
        let (size, chunks) = match self.node(&path)? {
            Node::File { size, chunks, .. } => (*size, chunks),
            Node::Folder => return Err(Error::NotPlain { path, kind: "a folder" }),
            Node::Link { .. } => return Err(Error::NotPlain { path, kind: "a symbolic link" }),
        };
        let end = offset.saturating_add(length).min(size);
        let (mut at, mut copied) = (0, 0);
        for chunk in chunks {
            let (begins, ends) = (at, at + u64::from(chunk.bytes));
            at = ends;
            if ends <= offset || begins >= end {
                continue;
            }
            let bytes = fetch(self.store, chunk, &path)?;
            let place = |position: u64| usize::try_from(position - begins).unwrap_or(bytes.len()).min(bytes.len());
            let wanted = &bytes[place(offset.max(begins))..place(end.min(ends))];
            to.write_all(wanted).map_err(|source| Error::Io {
                action: "handing out a file",
                path: path.clone().into(),
                source,
            })?;
            copied += wanted.len() as u64;
        }
        Ok((size, copied))
    }

    fn node(&self, path: &str) -> Result<&'a Node> {
        self.way_to(path)?;
        self.manifest.get(path).ok_or_else(|| Error::NotFound { path: path.into() })
    }

    /// Refuses a path over something that is no folder, as a live workspace does.
    fn way_to(&self, path: &str) -> Result<()> {
        let mut folder = split(path).0;
        while !folder.is_empty() {
            match self.manifest.get(folder) {
                Some(Node::Folder) => return Ok(()),
                Some(Node::Link { .. }) => return Err(Error::NotPlain { path: path.into(), kind: "a symbolic link" }),
                Some(Node::File { .. }) => {
                    return Err(Error::NotPlain { path: path.into(), kind: "something that is no folder" });
                }
                None => folder = split(folder).0,
            }
        }
        Ok(())
    }
}

fn entry(path: &str, node: &Node) -> Entry {
    let (kind, size, mode, target) = match node {
        Node::File { size, executable, .. } => (EntryKind::File, *size, if *executable { 0o755 } else { 0o644 }, None),
        Node::Folder => (EntryKind::Folder, 0, 0o755, None),
        Node::Link { target } => (EntryKind::Link, 0, 0, Some(target.clone())),
    };
    Entry { path: path.into(), kind, size, mode, modified_ms: None, target }
}

/// A chunk from the store, checked.
pub(super) fn fetch(store: &dyn ChunkStore, chunk: &Chunk, path: &str) -> Result<Vec<u8>> {
    let wrong = |problem| Error::Chunk { hash: hex(&chunk.hash), path: path.into(), problem };
    let bytes = store.get(&chunk.hash).map_err(|source| Error::Store { action: "read a chunk", source })?;
    let bytes = bytes.ok_or_else(|| wrong("missing"))?;
    if bytes.len() as u64 != u64::from(chunk.bytes) || Sha256::digest(&bytes)[..] != chunk.hash {
        return Err(wrong("damaged"));
    }
    Ok(bytes)
}
