//! Reading and writing a workspace from outside, link-free and atomic.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, mkdirat, readlinkat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::owner::Owner;
use super::paths::{checked, checked_file, file_kind, open_beneath, open_dir, open_file, refused, split};
use super::{Session, walk};
#[cfg(doc)]
use crate::entry::PAGE_ENTRIES_MAX;
use crate::entry::{Entry, EntryKind, EntryPage, FileRange, Hit, Paging};
use crate::error::{Error, Result};

/// A file searched is read up to this; larger ones are searched in their beginning.
const SEARCH_BYTES_MAX: u64 = 8 << 20;
const HIT_CHARS_MAX: usize = 400;

impl Session {
    /// Writes a whole file, making its folders: into a temporary file that then takes the name, so a reader sees the
    /// old or the new bytes. Whatever had the name (also a link) is replaced, unless it is a folder.
    ///
    /// # Errors
    /// [`Error::PathRefused`], [`Error::NotPlain`] or [`Error::Io`].
    pub fn put_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.put_reader(path, &mut &bytes[..], bytes.len() as u64).map(|_| ())
    }

    /// As [`Session::put_file`], from a reader of at most `bytes_max` bytes. Gives the number of bytes.
    ///
    /// # Errors
    /// Also [`Error::WorkspaceTooLarge`] when the reader has more; nothing is changed then.
    pub fn put_reader(&self, path: &str, reader: &mut dyn Read, bytes_max: u64) -> Result<u64> {
        let path = checked_file(path)?;
        let (folder, name) = split(&path);
        let dir = self.make_folders(folder)?;
        let (mut file, temporary) = self.temporary_in(&dir, &path)?;
        let written = copy_bounded(reader, &mut file, bytes_max, &path)
            .and_then(|count| self.take_name(&dir, &temporary, name, &path).map(|()| count));
        if written.is_err() {
            // The first error is the one to tell; a leftover temporary file does no harm.
            let _ = unlinkat(&dir, temporary.as_str(), AtFlags::empty());
        }
        written
    }

    /// Reads up to `length` bytes of a plain file from `offset`.
    ///
    /// # Errors
    /// [`Error::PathRefused`], [`Error::NotFound`], [`Error::NotPlain`] (a link, FIFO, device or folder) or [`Error::Io`].
    pub fn read_file(&self, path: &str, offset: u64, length: u64) -> Result<FileRange> {
        let path = checked_file(path)?;
        let (fd, stat) = open_file(self.dir(), &path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut file = File::from(fd);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset.min(size)))
            .and_then(|_| file.take(length).read_to_end(&mut bytes))
            .map_err(|e| Error::io("reading a file", &path, e))?;
        Ok(FileRange { bytes, size })
    }

    /// What lies in a folder (and with `recursive` beneath it), sorted by path, at most `entries_max`.
    ///
    /// # Errors
    /// [`Error::NotFound`] and the like; [`Error::WorkspaceTooLarge`] beyond `entries_max`.
    pub fn list(&self, folder: &str, recursive: bool, entries_max: usize) -> Result<Vec<Entry>> {
        let folder = checked(folder)?;
        let mut entries = Vec::new();
        let mut visit = |found: walk::Found<'_>| {
            if entries.len() >= entries_max {
                let (value, max) = (entries.len() as u64 + 1, entries_max as u64);
                return Err(Error::WorkspaceTooLarge { what: "number of listed files", value, max });
            }
            entries.push(entry_at(&found));
            Ok(())
        };
        if recursive {
            walk::walk(self.dir(), &folder, &mut visit)?;
        } else {
            walk::one_folder(self.dir(), std::ffi::OsStr::new(&folder), &mut visit)?;
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// As [`Session::list`], in pages: at most `most` entries (1 to [`PAGE_ENTRIES_MAX`]) whose paths come after `after`.
    /// What changes between two pages may be on neither or on the later one; nothing else is lost or doubled.
    ///
    /// # Errors
    /// As [`Session::list`].
    pub fn list_page(&self, folder: &str, recursive: bool, after: Option<&str>, most: usize) -> Result<EntryPage> {
        let folder = checked(folder)?;
        let mut paging = Paging::new(after, most);
        let mut visit = |found: walk::Found<'_>| {
            if paging.wants(&found.shown) {
                paging.add(entry_at(&found));
            }
            Ok(())
        };
        if recursive {
            walk::walk(self.dir(), &folder, &mut visit)?;
        } else {
            walk::one_folder(self.dir(), std::ffi::OsStr::new(&folder), &mut visit)?;
        }
        Ok(paging.page())
    }

    /// Copies up to `length` bytes of a plain file from `offset` to a writer, piece by piece. Gives how many there were.
    ///
    /// # Errors
    /// As [`Session::read_file`]; [`Error::Io`] also when the writer fails.
    pub fn copy_out(&self, path: &str, offset: u64, length: u64, to: &mut dyn Write) -> Result<u64> {
        let path = checked_file(path)?;
        let (fd, stat) = open_file(self.dir(), &path)?;
        let mut file = File::from(fd);
        let copied = file.seek(SeekFrom::Start(offset.min(stat.st_size.unsigned_abs())));
        let copied = copied.and_then(|_| std::io::copy(&mut file.take(length), to));
        copied.map_err(|e| Error::io("handing out a file", &path, e))
    }

    /// Gives what lies at `from` the path `to`, whose folders are made; a link is moved as it is. What lies at `to` is replaced
    /// only if `replace` says so, and then in one step.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`] without `replace`, [`Error::PathRefused`] for a folder into itself or onto one
    /// that is not empty, [`Error::NotPlain`], [`Error::Io`].
    pub fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        let (from, to) = (checked_file(from)?, checked_file(to)?);
        if to.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
            return Err(Error::PathRefused { path: to, reason: "it lies in what is to be moved" });
        }
        let (from_folder, from_name) = split(&from);
        let (to_folder, to_name) = split(&to);
        let from_dir = open_dir(self.dir(), from_folder)?;
        statat(&from_dir, from_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| refused(&from, "examining a file", e))?;
        let to_dir = self.make_folders(to_folder)?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(&from_dir, from_name, &to_dir, to_name, flags) {
            Err(Errno::EXIST) if !replace => Err(Error::Exists { path: to }),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                Err(Error::PathRefused { path: to, reason: "a folder that is not empty lies there" })
            }
            Err(e) => Err(refused(&from, "renaming a file", e)),
            Ok(()) => Ok(()),
        }
    }

    /// What lies at a path; none if nothing does.
    ///
    /// # Errors
    /// [`Error::PathRefused`], [`Error::NotPlain`] when a folder on the way is a link, or [`Error::Io`].
    pub fn stat(&self, path: &str) -> Result<Option<Entry>> {
        let path = checked_file(path)?;
        let (folder, name) = split(&path);
        let dir = match open_dir(self.dir(), folder) {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(entry(
                dir.as_fd(),
                &std::ffi::CString::new(name).expect("a checked path holds no NUL"),
                path,
                &stat,
            ))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io("examining a file", path, e)),
        }
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// [`Error::PathRefused`], [`Error::NotPlain`] or [`Error::Io`].
    pub fn mkdirs(&self, path: &str) -> Result<()> {
        self.make_folders(&checked(path)?).map(|_| ())
    }

    /// Removes a file, or a folder with everything in it. A link goes itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nothing is there, and as above.
    pub fn remove(&self, path: &str) -> Result<()> {
        let path = checked_file(path)?;
        if self.stat(&path)?.is_none() {
            return Err(Error::NotFound { path });
        }
        let (folder, name) = split(&path);
        let dir = open_dir(self.dir(), folder)?;
        let c_name = std::ffi::CString::new(name).expect("a checked path holds no NUL");
        walk::remove_all(dir.as_fd(), &c_name).map_err(|e| Error::io("removing", &path, e))
    }

    /// Lines that contain `needle`, in the text files beneath a folder, in the order of their paths.
    ///
    /// # Errors
    /// [`Error::NotFound`] and the like for the folder; files that cannot be read are passed over.
    pub fn search(&self, needle: &str, folder: &str, hits_max: usize) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        if needle.is_empty() {
            return Ok(hits);
        }
        for entry in self.list(folder, true, 500_000)? {
            if entry.kind != EntryKind::File {
                continue;
            }
            let Ok(range) = self.read_file(&entry.path, 0, SEARCH_BYTES_MAX) else { continue };
            if range.bytes.contains(&0) {
                continue;
            }
            for (index, line) in String::from_utf8_lossy(&range.bytes).lines().enumerate() {
                if line.contains(needle) {
                    let text = line.chars().take(HIT_CHARS_MAX).collect();
                    hits.push(Hit { path: entry.path.clone(), line: index as u64 + 1, text });
                    if hits.len() >= hits_max {
                        return Ok(hits);
                    }
                }
            }
        }
        Ok(hits)
    }

    /// Opens a folder, making those that are missing; links on the way are refused.
    pub(crate) fn make_folders(&self, folder: &str) -> Result<OwnedFd> {
        let mut dir = open_dir(self.dir(), "")?;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            let made = match mkdirat(&dir, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(e) => return Err(refused(folder, "making a folder", e)),
            };
            let next = open_beneath(dir.as_fd(), part, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                .map_err(|e| refused(folder, "opening a folder", e))?;
            if made {
                give(&next, self.owner()).map_err(|e| Error::io("changing the owner", folder, e))?;
            }
            dir = next;
        }
        Ok(dir)
    }

    /// A new file in `dir` that belongs to the box's user.
    pub(crate) fn temporary_in(&self, dir: &OwnedFd, path: &str) -> Result<(File, String)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(".errand-new-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = open_beneath(dir.as_fd(), &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| refused(path, "making a file", e))?;
        give(&fd, self.owner()).map_err(|e| Error::io("changing the owner", path, e))?;
        fchmod(&fd, Mode::from_raw_mode(0o644)).map_err(|e| Error::io("changing the mode", path, e))?;
        Ok((File::from(fd), name))
    }

    fn take_name(&self, dir: &OwnedFd, temporary: &str, name: &str, path: &str) -> Result<()> {
        renameat(dir, temporary, dir, name).map_err(|e| refused(path, "renaming a file", e))
    }
}

/// Gives a file made from outside to the box's user.
pub(crate) fn give(fd: impl AsFd, owner: &Owner) -> std::result::Result<(), Errno> {
    if !owner.needs_chown() {
        return Ok(());
    }
    let (uid, gid) = ids(owner);
    fchown(fd, Some(uid), Some(gid))
}

pub(crate) fn ids(owner: &Owner) -> (Uid, Gid) {
    (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
}

fn entry_at(found: &walk::Found<'_>) -> Entry {
    entry(found.dir, found.name, found.path.map_or_else(|| found.shown.clone(), str::to_string), &found.stat)
}

fn entry(dir: BorrowedFd<'_>, name: &CStr, path: String, stat: &rustix::fs::Stat) -> Entry {
    let kind = match file_kind(stat) {
        "a file" => EntryKind::File,
        "a folder" => EntryKind::Folder,
        "a symbolic link" => EntryKind::Link,
        _ => EntryKind::Other,
    };
    let size = if kind == EntryKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    let target = (kind == EntryKind::Link).then(|| readlinkat(dir, name, Vec::new()).ok()).flatten();
    let target = target.map(|text| text.to_string_lossy().into_owned());
    let mode = if kind == EntryKind::Link { 0 } else { stat.st_mode & 0o7777 };
    let modified_ms = stat.st_mtime.checked_mul(1000).map(|ms| ms.saturating_add((stat.st_mtime_nsec / 1_000_000) as i64));
    Entry { path, kind, size, mode, modified_ms, target }
}

fn copy_bounded(reader: &mut dyn Read, file: &mut File, max: u64, path: &str) -> Result<u64> {
    let io = |e| Error::io("writing a file", path, e);
    let count = std::io::copy(&mut reader.take(max.saturating_add(1)), file).map_err(io)?;
    if count > max {
        return Err(Error::WorkspaceTooLarge { what: "size of a file", value: count, max });
    }
    file.flush().map_err(io)?;
    Ok(count)
}

#[cfg(test)]
mod tests;
