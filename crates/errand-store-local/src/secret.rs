//! `keys.secret`: the secret of a data folder under which its API keys are hashed. 32 random bytes as 64 hexadecimal digits,
//! for the owner only. It is made when it is first needed, and never changed: every key would be worth nothing.

use crate::blobs::sync_folder;
use crate::{Error, folder};
use errand_core::Hash;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How its objects in `heads/` begin: with them there and no secret, it was lost.
const KEYS: &str = "key.";
/// More than it ever has.
const BYTES_MAX: u64 = 256;

/// The secret of the data folder `data`. Blocks for a moment. Any process of this user may ask for it, and make it.
///
/// # Errors
/// When it cannot be read or made, others than its owner may read it, or it is gone though there are keys.
pub fn key_secret(data: &Path) -> Result<[u8; 32], Error> {
    let path = data.join("keys.secret");
    match read(&path)? {
        Some(secret) => Ok(secret),
        None => {
            make(data, &path)?;
            // Of two that make it at a time the first counts for both.
            read(&path)?.ok_or_else(|| Error::KeySecretMissing { path })
        }
    }
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, Error> {
    let failed = |error| Error::reading("read", path, error);
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::KeySecretOpen { path: path.to_owned(), mode: mode & 0o777 });
    }
    let mut text = String::new();
    let damaged = || Error::KeySecretDamaged { path: path.to_owned() };
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => damaged(),
        _ => failed(error),
    })?;
    let bytes: Hash = text.trim_end().parse().map_err(|_| damaged())?;
    Ok(Some(bytes.0))
}

fn make(data: &Path, path: &Path) -> Result<(), Error> {
    folder::make(data)?;
    if has_keys(data)? {
        return Err(Error::KeySecretMissing { path: path.to_owned() });
    }
    let failed = |error: std::io::Error| Error::writing("write", path, error);
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| failed(std::io::Error::other(error)))?;
    // For the owner only, and in place when it is whole. Its name begins with a dot: it is nothing of a stranger's.
    let mut file = tempfile::Builder::new().prefix(".keys.secret").tempfile_in(data).map_err(failed)?;
    file.write_all(format!("{}\n", Hash(bytes)).as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(data),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error.error)),
    }
}

fn has_keys(data: &Path) -> Result<bool, Error> {
    let heads: PathBuf = data.join("heads");
    let entries = match fs::read_dir(&heads) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.map_err(|error| Error::reading("list", &heads, error))?,
    };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(KEYS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<[u8; 32], Error>) -> &'static str {
        result.map_or_else(|error| error.code(), |_| "ok")
    }

    #[test]
    fn it_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("new/data");
        let all: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| key_secret(&data).unwrap())).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "whoever asks is told the same");
        assert_ne!(all[0], [0; 32]);
        assert_eq!(fs::metadata(data.join("keys.secret")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing is left beside it");
        assert_ne!(key_secret(&folder.path().join("other")).unwrap(), all[0]);
    }

    #[test]
    fn what_is_wrong_with_it_is_told_and_nothing_is_made_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        key_secret(data).unwrap();
        let path = data.join("keys.secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(code(key_secret(data)), "key_secret_open");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in [&b""[..], b"abc", &[b'0'; 63], &[0xff; 64], &[b'0'; 300]] {
            fs::write(&path, text).unwrap();
            assert_eq!(code(key_secret(data)), "key_secret_damaged", "{text:?}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(data.join("heads")).unwrap();
        fs::write(data.join("heads/session.a"), "{}").unwrap();
        fs::write(data.join("heads/key.0123456789abcdef"), "{}").unwrap();
        assert_eq!(code(key_secret(data)), "key_secret_missing");
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        assert_eq!(code(key_secret(folder.path())), "data_not_errand");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
