//! Paths from outside, and the only ways this process opens something in a workspace.
//!
//! Nothing here follows a link: the kernel resolves beneath the workspace or refuses (`openat2`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Folders deeper than this are neither made nor walked.
pub(crate) const DEPTH_MAX: usize = 100;
const PATH_BYTES_MAX: usize = 4000;
const NAME_BYTES_MAX: usize = 255;

/// A relative path without `.`, `..` or empty parts; empty means the workspace itself.
///
/// `/workspace/x` is taken as `x`, because that is how code in the box calls it.
pub(crate) fn checked(path: &str) -> Result<String> {
    let refuse = |reason| Err(Error::PathRefused { path: path.chars().take(200).collect(), reason });
    if path.len() > PATH_BYTES_MAX {
        return refuse("it is longer than 4000 bytes");
    }
    if path.contains('\0') {
        return refuse("it contains a NUL byte");
    }
    let inside = match path.strip_prefix("/workspace") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
        _ => path,
    };
    if inside.starts_with('/') {
        return refuse("it is absolute");
    }
    let mut parts = Vec::new();
    for part in inside.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("it climbs with `..`"),
            _ if part.len() > NAME_BYTES_MAX => return refuse("a name in it is longer than 255 bytes"),
            _ => parts.push(part),
        }
    }
    if parts.len() > DEPTH_MAX {
        return refuse("it is deeper than 100 folders");
    }
    Ok(parts.join("/"))
}

/// As [`checked`], and not the workspace itself.
pub(crate) fn checked_file(path: &str) -> Result<String> {
    let clean = checked(path)?;
    if clean.is_empty() {
        return Err(Error::PathRefused { path: path.into(), reason: "it names the workspace itself" });
    }
    Ok(clean)
}

/// Folder part and name of a checked path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Opens beneath `root` without following any link, and never across a mount.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: impl AsRef<OsStr>,
    flags: OFlags,
    mode: Mode,
) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let path = if path.as_ref().is_empty() { OsStr::new(".") } else { path.as_ref() };
    openat2(root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode, resolve)
}

/// Opens a folder to read or to make things in it.
pub(crate) fn open_dir(root: BorrowedFd<'_>, path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    let path = path.as_ref();
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(|e| refused(&path.to_string_lossy(), "opening a folder", e))
}

/// Opens a plain file for reading; anything else (FIFO, device, socket, folder, link) is refused.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &str) -> Result<(OwnedFd, Stat)> {
    // NONBLOCK: a planted FIFO must not hold this process.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(root, path, flags, Mode::empty()).map_err(|e| refused(path, "opening a file", e))?;
    let stat = fstat(fd.as_fd()).map_err(|e| Error::io("examining a file", path, e))?;
    match file_kind(&stat) {
        "a file" => Ok((fd, stat)),
        kind => Err(Error::NotPlain { path: path.into(), kind }),
    }
}

/// In words, what a stat is of.
pub(crate) fn file_kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of unknown kind",
    }
}

/// The error for a refused open.
pub(crate) fn refused(path: &str, action: &'static str, errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOENT => return Error::NotFound { path: path.into() },
        // With `O_DIRECTORY` the kernel answers this for a link, too.
        Errno::NOTDIR => "something that is no folder",
        Errno::LOOP => "a symbolic link",
        Errno::XDEV => "another file system or the outside",
        Errno::NXIO => "a FIFO or socket",
        Errno::ISDIR => "a folder",
        _ => return Error::io(action, path, errno),
    };
    Error::NotPlain { path: path.into(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (given, want) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("/workspace/a", "a"), ("/workspace", ""), (".", "")] {
            assert_eq!(checked(given).unwrap(), want, "{given}");
        }
        for given in ["/etc/passwd", "../a", "a/../../b", "a\0b", "/workspaces/a", "/workspace/../etc"] {
            assert_eq!(checked(given).unwrap_err().code(), "sandbox_path_refused", "{given}");
        }
        assert!(checked(&"a/".repeat(101)).is_err());
        assert!(checked(&"a".repeat(256)).is_err());
        assert!(checked_file("").is_err());
    }
}
