//! Heads of sandbox sessions in the data folder: `heads/NAME`. Any process of this user may write them: a lock on the folder
//! makes comparing and replacing one step.

use crate::Error;
use crate::blobs::sync_folder;
use async_trait::async_trait;
use errand_engine::ports::{self, PortError};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The heads of a data folder.
#[derive(Debug, Clone)]
pub struct LocalHeads {
    folder: PathBuf,
}

impl LocalHeads {
    /// Those of the data folder `data`. Nothing is made until one is written.
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join("heads") }
    }

    /// Where one lies; an error for a name that is none: it must not lead anywhere else.
    fn at(&self, name: &str) -> Result<PathBuf, Error> {
        if ports::is_head_name(name) { Ok(self.folder.join(name)) } else { Err(self.no_name()) }
    }

    fn no_name(&self) -> Error {
        let refused = std::io::Error::new(ErrorKind::InvalidInput, "a head has no such name");
        Error::reading("name", &self.folder, refused)
    }

    fn read_blocking(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.at(name)?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::reading("open", &path, error))?,
        };
        let mut bytes = Vec::new();
        let most = ports::HEAD_BYTES_MAX as u64;
        file.take(most).read_to_end(&mut bytes).map_err(|error| Error::reading("read", &path, error))?;
        Ok(Some(bytes))
    }

    /// What `change` does with the file if it holds exactly `expected`; false if it does not.
    fn if_holds(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        change: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<bool, Error> {
        let path = self.at(name)?;
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |error| Error::writing(action, &path, error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed("make", &self.folder))?;
        let lock = self.folder.join(".lock");
        // Held until it is dropped; a process that dies lets go of it.
        let lock_file = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock);
        let locked = lock_file.and_then(|file| file.lock().map(|()| file)).map_err(failed("lock", &lock))?;
        if self.read_blocking(name)?.as_deref() != expected {
            return Ok(false);
        }
        change(&path).map_err(failed("write", &path))?;
        sync_folder(&self.folder)?;
        drop(locked);
        Ok(true)
    }

    fn replace_blocking(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, Error> {
        if bytes.len() > ports::HEAD_BYTES_MAX {
            let refused = std::io::Error::new(ErrorKind::InvalidInput, "a head has no more than 64 KiB");
            return Err(Error::writing("write", &self.at(name)?, refused));
        }
        let temporary = self.folder.join(".new");
        self.if_holds(name, expected, |path| {
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })
    }

    fn list_blocking(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        if !ports::is_head_part(kind) {
            return Err(self.no_name());
        }
        let failed = |error| Error::reading("list", &self.folder, error);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let of_kind = name.to_str().filter(|name| name.split_once('.').is_some_and(|(of, _)| of == kind));
            names.extend(of_kind.filter(|name| after.is_none_or(|after| *name > after)).map(str::to_owned));
        }
        names.sort_unstable();
        let mut found = Vec::new();
        for name in names {
            if found.len() >= limit {
                break;
            }
            // One that went meanwhile is none.
            found.extend(self.read_blocking(&name)?.map(|bytes| (name, bytes)));
        }
        Ok(found)
    }
}

#[async_trait]
impl ports::Heads for LocalHeads {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError> {
        let (heads, name) = (self.clone(), name.to_owned());
        blocking(move || heads.read_blocking(&name)).await
    }

    async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError> {
        let (heads, name) = (self.clone(), name.to_owned());
        let (expected, bytes) = (expected.map(<[u8]>::to_vec), bytes.to_vec());
        blocking(move || heads.replace_blocking(&name, expected.as_deref(), &bytes)).await
    }

    async fn remove(&self, name: &str, expected: &[u8]) -> Result<bool, PortError> {
        let (heads, name, expected) = (self.clone(), name.to_owned(), expected.to_vec());
        blocking(move || heads.if_holds(&name, Some(&expected), |path| fs::remove_file(path))).await
    }

    async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, PortError> {
        let (heads, kind, after) = (self.clone(), kind.to_owned(), after.map(str::to_owned));
        blocking(move || heads.list_blocking(&kind, after.as_deref(), limit)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(PortError::Retry { message: "the process is shutting down".to_owned() }),
    }
}
