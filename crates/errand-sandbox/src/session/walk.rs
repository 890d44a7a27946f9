//! Walking and removing what a box left behind, without trusting any of it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, fchmod, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::paths::{DEPTH_MAX, file_kind, open_beneath, open_dir, refused};
use crate::error::{Error, Result};

/// A folder with more names than any workspace may hold is not read to its end.
const NAMES_MAX: usize = 500_000;

/// One thing found in a workspace.
pub(crate) struct Found<'a> {
    /// Path from where the walk began; `None` when a name in it is not text.
    pub(crate) path: Option<&'a str>,
    /// For messages: the path with U+FFFD for what is not text.
    pub(crate) shown: String,
    /// The folder it lies in, and its name there.
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Never of a link's target.
    pub(crate) stat: Stat,
}

/// Calls `visit` for everything beneath `start` (parents before children), until it fails.
///
/// What disappears meanwhile is left out. Folders beyond [`DEPTH_MAX`] are an error.
pub(crate) fn walk(root: BorrowedFd<'_>, start: &str, visit: &mut dyn FnMut(Found<'_>) -> Result<()>) -> Result<()> {
    let mut folders = vec![OsString::from(start)];
    let mut folders_inside = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut below = |found: Found<'_>| {
            let inner = (file_kind(&found.stat) == "a folder").then(|| join(&folder, found.name));
            visit(found)?;
            match inner {
                Some(path) if path.as_bytes().split(|byte| *byte == b'/').count() > DEPTH_MAX || path.len() > 4000 => {
                    let max = DEPTH_MAX as u64;
                    Err(Error::WorkspaceTooLarge { what: "depth of folders", value: max + 1, max })
                }
                inner => {
                    folders_inside.extend(inner);
                    Ok(())
                }
            }
        };
        match one_folder(root, &folder, &mut below) {
            // Gone, or swapped for a link, since its parent was read.
            Err(Error::NotFound { .. } | Error::NotPlain { .. }) if folder != start => {}
            other => other?,
        }
        folders.append(&mut folders_inside);
    }
    Ok(())
}

/// Calls `visit` for everything in one folder.
pub(crate) fn one_folder(
    root: BorrowedFd<'_>,
    folder: &OsStr,
    visit: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    let dir = open_unlocked(root, folder)?;
    let names = some_names(dir.as_fd(), NAMES_MAX).map_err(|e| Error::io("reading a folder", folder, e))?;
    if names.len() > NAMES_MAX {
        let (value, max) = (names.len() as u64, NAMES_MAX as u64);
        return Err(Error::WorkspaceTooLarge { what: "number of names in a folder", value, max });
    }
    for name in names {
        let path = join(folder, &name);
        let stat = match stat_unlocked(&dir, &name) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|e| Error::io("examining a file", &path, e))?,
        };
        let shown = path.to_string_lossy().into_owned();
        visit(Found { path: path.to_str(), shown, dir: dir.as_fd(), name: &name, stat })?;
    }
    Ok(())
}

/// Opens a folder; as an ordinary user also one that the box's code has locked, by unlocking it: hiding files must not
/// hide them from quotas and snapshots.
fn open_unlocked(root: BorrowedFd<'_>, folder: &OsStr) -> Result<OwnedFd> {
    match open_dir(root, folder) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            let handle = open_beneath(root, folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .map_err(|e| refused(&folder.to_string_lossy(), "opening a folder", e))?;
            unlock(handle.as_fd(), Mode::RWXU).map_err(|e| Error::io("unlocking a folder", folder, e))?;
            open_dir(root, folder)
        }
        other => other,
    }
}

/// Examines what has a name in a folder; a folder that may be read and not searched is unlocked like the others.
fn stat_unlocked(dir: &OwnedFd, name: &CStr) -> std::result::Result<Stat, Errno> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::ACCESS) => {
            fchmod(dir, Mode::RWXU)?;
            statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        }
        other => other,
    }
}

/// Changes the mode of what a path-only descriptor is of.
pub(crate) fn unlock(handle: BorrowedFd<'_>, mode: Mode) -> std::result::Result<(), Errno> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle)), mode)
}

fn join(folder: &OsStr, name: &CStr) -> OsString {
    let mut path = folder.to_os_string();
    if !path.is_empty() {
        path.push("/");
    }
    path.push(OsStr::from_bytes(name.to_bytes()));
    path
}

/// The names in a folder but `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> std::result::Result<Vec<CString>, Errno> {
    some_names(dir, usize::MAX)
}

/// The first names in a folder, one more than `most` if there are more.
fn some_names(dir: BorrowedFd<'_>, most: usize) -> std::result::Result<Vec<CString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if found.len() > most {
            break;
        }
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push(entry.file_name().to_owned());
        }
    }
    Ok(found)
}

/// Removes `name` in `parent` with everything in it, however deep, using two descriptors.
///
/// Each sub-folder is first moved up beside the top, so no path grows and nothing recurses.
pub(crate) fn remove_all(parent: BorrowedFd<'_>, name: &CStr) -> std::result::Result<(), Errno> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if file_kind(&stat) != "a folder" {
        return gone(unlinkat(parent, name, AtFlags::empty()));
    }
    let mut folders = vec![name.to_owned()];
    while let Some(folder) = folders.pop() {
        let Some(dir) = open_to_empty(parent, &folder)? else { continue };
        for entry in names(dir.as_fd())? {
            match unlinkat(&dir, entry.as_c_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    // Moving a folder changes its `..`, so its owner must be allowed to write to it.
                    drop(open_to_empty(dir.as_fd(), &entry)?);
                    let moved = fresh_name();
                    match renameat(&dir, entry.as_c_str(), parent, moved.as_c_str()) {
                        Ok(()) => folders.push(moved),
                        Err(Errno::NOENT) => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        drop(dir);
        gone(unlinkat(parent, folder.as_c_str(), AtFlags::REMOVEDIR))?;
    }
    Ok(())
}

/// Prefix of the names given to folders that are being removed.
pub(crate) const REMOVING_PREFIX: &str = ".errand-removing-";

fn fresh_name() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("{REMOVING_PREFIX}{}-{number}", std::process::id())).expect("digits and letters hold no NUL")
}

/// Opens a folder whose content is to go, giving its owner the right to do so first.
fn open_to_empty(parent: BorrowedFd<'_>, name: &CStr) -> std::result::Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let dir = match open() {
        Err(Errno::ACCESS) => {
            let path_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(parent, name, path_flags, Mode::empty())?;
            unlock(handle.as_fd(), Mode::RWXU)?;
            open()?
        }
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    fchmod(&dir, Mode::RWXU)?;
    Ok(Some(dir))
}

fn gone(result: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn thousands_of_folders_deep_are_removed_and_refused_by_a_walk() {
        let dir = tempfile::tempdir().unwrap();
        let top = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        mkdirat(&top, "w", Mode::RWXU).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::openat(&top, "w", flags, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        let error = walk(top.as_fd(), "w", &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.code(), "sandbox_workspace_too_large");
        remove_all(top.as_fd(), c"w").unwrap();
        assert_eq!(names(top.as_fd()).unwrap(), Vec::<CString>::new());
    }

    #[test]
    fn removing_does_not_follow_links_and_opens_locked_folders() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        std::fs::create_dir_all(dir.path().join("w/locked/inner")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("w/link")).unwrap();
        let locked = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        std::fs::set_permissions(dir.path().join("w/locked"), locked).unwrap();
        let top = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        remove_all(top.as_fd(), c"w").unwrap();
        assert!(!dir.path().join("w").exists());
        assert!(outside.join("kept").exists());
    }
}
