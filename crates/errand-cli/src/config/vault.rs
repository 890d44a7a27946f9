//! Secrets of tools, and variables for the user's own servers.

use super::{Config, Environment, Process};
use errand_tools::{Secret, Vault};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Longest secret, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// Secrets as `ERRAND_SECRET_` variables, then as files.
pub(crate) struct Keys<E = Process> {
    files: BTreeMap<String, PathBuf>,
    environment: E,
}

impl Keys {
    /// Of this process and its settings.
    pub(crate) fn new(config: &Config) -> Self {
        Self { files: config.secret_files.clone(), environment: Process }
    }
}

impl<E: Environment + Send + Sync> Vault for Keys<E> {
    fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        if let Some(text) = self.environment.text(&format!("ERRAND_SECRET_{name}")) {
            return Ok(Some(Secret::new(text.trim())));
        }
        self.files.get(name).map(|path| read(path).map(Secret::new)).transpose()
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.environment.path(name).map(PathBuf::into_os_string)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let told = |problem: String| format!("the file {}: {problem}", crate::text::path(path));
    let metadata = std::fs::metadata(path).map_err(|error| told(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(told(format!("it must be a plain file of at most {BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    match text.trim() {
        "" => Err(told("it is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Environment for Fake {
        fn text(&self, name: &str) -> Option<String> {
            (name == "ERRAND_SECRET_A").then(|| "from the environment\n".to_owned())
        }

        fn path(&self, name: &str) -> Option<PathBuf> {
            (name == "PATH").then(|| "/bin".into())
        }
    }

    #[test]
    fn variables_go_before_files_and_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            (name.to_owned(), path)
        };
        let large = "x".repeat(usize::try_from(BYTES_MAX).unwrap() + 1);
        let mut files = BTreeMap::from([file("A", "a"), file("B", " b \n"), file("EMPTY", "\n"), file("LARGE", &large)]);
        files.insert("GONE".to_owned(), folder.path().join("gone"));
        let keys = Keys { files, environment: Fake };
        assert_eq!(keys.secret("A").unwrap(), Some(Secret::new("from the environment")));
        assert_eq!(keys.secret("B").unwrap(), Some(Secret::new("b")));
        assert_eq!(keys.secret("C").unwrap(), None);
        for name in ["EMPTY", "LARGE", "GONE"] {
            assert!(keys.secret(name).unwrap_err().contains("the file"), "{name}");
        }
        assert_eq!(keys.variable("PATH"), Some("/bin".into()));
    }
}
