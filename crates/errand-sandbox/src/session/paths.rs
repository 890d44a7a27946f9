//! The only ways this process opens something in a workspace.
//!
//! Nothing here follows a link: the kernel resolves beneath the workspace or refuses (`openat2`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};
pub(crate) use crate::path::{DEPTH_MAX, checked, checked_file, split};

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
    open_file_in(root, OsStr::new(path), path)
}

/// As [`open_file`], by its name in a folder; `path` is for messages.
pub(crate) fn open_file_in(dir: BorrowedFd<'_>, name: &OsStr, path: &str) -> Result<(OwnedFd, Stat)> {
    // NONBLOCK: a planted FIFO must not hold this process.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(dir, name, flags, Mode::empty()).map_err(|e| refused(path, "opening a file", e))?;
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
