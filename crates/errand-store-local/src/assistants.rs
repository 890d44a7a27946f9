//! Assistants in the data folder: `assistants/NAME/VERSION.toml`, each written once. No lock is needed: whoever makes a
//! file first has that version, also among processes.

use crate::Error;
use async_trait::async_trait;
use errand_engine::ports::{self, PortError};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest text kept, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// The assistants of a data folder.
#[derive(Debug, Clone)]
pub struct LocalAssistants {
    folder: PathBuf,
}

impl LocalAssistants {
    /// Those of the data folder `data`. Nothing is made until one is kept.
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join("assistants") }
    }

    /// The folder of one; `None` for a name that is none: it must not lead anywhere else.
    fn at(&self, name: &str) -> Option<PathBuf> {
        let fits =
            !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        fits.then(|| self.folder.join(name))
    }

    fn put_blocking(&self, name: &str, version: u64, text: &str) -> Result<bool, Error> {
        let Some(folder) = self.at(name) else { return Ok(false) };
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |error| Error::writing(action, &path, error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed("make", &folder))?;
        // Written aside and moved into place: a name that is there holds a whole text, whatever dies in between.
        let path = folder.join(format!("{version}.toml"));
        let written = tempfile::Builder::new().prefix(".").tempfile_in(&folder).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            Ok(file)
        });
        match written.map_err(failed("write", &path))?.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(Error::writing("write", &path, error.error)),
        }
        for folder in [&folder, &self.folder] {
            File::open(folder).and_then(|opened| opened.sync_all()).map_err(failed("sync", folder))?;
        }
        Ok(true)
    }

    fn get_blocking(&self, name: &str, version: u64) -> Result<Option<String>, Error> {
        let Some(folder) = self.at(name) else { return Ok(None) };
        let path = folder.join(format!("{version}.toml"));
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text)) {
            Ok(_) if text.len() as u64 > BYTES_MAX => {
                Err(Error::reading("read", &path, std::io::Error::other("it is longer than any assistant")))
            }
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::reading("read", &path, error)),
        }
    }

    fn newest_blocking(&self, name: &str) -> Result<u64, Error> {
        let Some(folder) = self.at(name) else { return Ok(0) };
        let names = entries(&folder)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".toml")?.parse().ok()).max().unwrap_or(0))
    }
}

/// The names in a folder, in order; none if it is not there.
fn entries(folder: &Path) -> Result<Vec<String>, Error> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::reading("list", folder, error)),
    };
    let mut names: Vec<String> = listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// Files this small are read and written at once; it happens when a run begins, not at its steps.
#[async_trait]
impl ports::Assistants for LocalAssistants {
    async fn put(&self, name: &str, version: u64, text: &str) -> Result<bool, PortError> {
        Ok(self.put_blocking(name, version, text)?)
    }

    async fn get(&self, name: &str, version: u64) -> Result<Option<String>, PortError> {
        Ok(self.get_blocking(name, version)?)
    }

    async fn newest(&self, name: &str) -> Result<u64, PortError> {
        Ok(self.newest_blocking(name)?)
    }

    async fn names(&self) -> Result<Vec<String>, PortError> {
        Ok(entries(&self.folder)?)
    }
}
