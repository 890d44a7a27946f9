//! The last step of an image: no bit that it should not have, and a digest over all of it.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::lock::hex;
use crate::error::{Error, Result};

const FILES_MAX: u64 = 300_000;
const BYTES_MAX: u64 = 16 << 30;

/// What a sealed folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// SHA-256 over paths, modes and contents, in hex.
    pub(crate) digest: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Makes everything in `tree` readable by the users of boxes and writable by nobody else, and takes its digest. When files
/// were
/// made does not count.
pub(crate) fn seal(tree: &Path) -> Result<Sealed> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |e| Error::io("sealing an image", path, e)
    };
    let mut files = Vec::new();
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).map_err(io(&folder))?;
        for entry in fs::read_dir(&folder).map_err(io(&folder))? {
            let path = entry.map_err(io(&folder))?.path();
            let meta = fs::symlink_metadata(&path).map_err(io(&path))?;
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file() {
                files.push((path, meta.mode() & 0o111 != 0));
            } else {
                let reason =
                    format!("{} is neither a file nor a folder", path.strip_prefix(tree).unwrap_or(&path).display());
                return Err(Error::ImageFailed { reason });
            }
            if files.len() as u64 + folders.len() as u64 > FILES_MAX {
                return Err(Error::ImageFailed { reason: format!("it has more than {FILES_MAX} files") });
            }
        }
    }
    files.sort();
    digest(tree, &files)
}

fn digest(tree: &Path, files: &[(PathBuf, bool)]) -> Result<Sealed> {
    let mut whole = Sha256::new();
    let mut bytes = 0;
    for (path, executable) in files {
        let io = |e: std::io::Error| Error::io("sealing an image", path, e);
        let mode = if *executable { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io)?;
        let (hash, length) = of_file(path).map_err(io)?;
        bytes += length;
        if bytes > BYTES_MAX {
            return Err(Error::ImageFailed { reason: format!("it is larger than {} GiB", BYTES_MAX >> 30) });
        }
        whole.update(path.strip_prefix(tree).unwrap_or(path).as_os_str().as_bytes());
        whole.update(format!("\0{mode:o} {length} {hash}\n"));
    }
    Ok(Sealed { digest: hex(whole), files: files.len() as u64, bytes })
}

fn of_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { return Ok((hex(hash), length)) };
        hash.update(piece);
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_names_modes_and_contents_and_nothing_else() {
        let sealed = |script: &str| {
            let root = tempfile::tempdir().unwrap();
            let done = std::process::Command::new("sh").args(["-c", script]).current_dir(root.path()).status().unwrap();
            assert!(done.success());
            seal(root.path())
        };
        let base = sealed("mkdir a; printf x >a/b; printf y >c").unwrap();
        assert_eq!((base.files, base.bytes), (2, 2));
        assert_eq!(sealed("mkdir -m 700 a; printf y >c; printf x >a/b; chmod 600 c; touch -d 2001-01-01 c").unwrap(), base);
        for other in [
            "mkdir a; printf x >a/b; printf z >c",
            "printf x >b; printf y >c",
            "mkdir a; printf x >a/b; printf y >c; chmod +x c",
        ] {
            assert_ne!(sealed(other).unwrap().digest, base.digest, "{other}");
        }
        assert_eq!(sealed("ln -s /etc/passwd x").unwrap_err().code(), "sandbox_image_failed");
        assert_eq!(sealed("mkfifo x").unwrap_err().code(), "sandbox_image_failed");
    }
}
