//! The interpreters of this host that a box can use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::Interpreter;

const NAMES: [&str; 4] = ["python3", "node", "bash", "sh"];
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// Finds them: the system's first; a Python or Node from elsewhere (`search` is the value of `PATH`) only when the system
/// has none.
pub(crate) fn find(search: Option<&std::ffi::OsStr>) -> Vec<Interpreter> {
    NAMES.iter().filter_map(|name| of_system(name).or_else(|| elsewhere(name, search?))).collect()
}

fn of_system(name: &str) -> Option<Interpreter> {
    let mut paths = SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    let path = paths.find(|path| path.canonicalize().is_ok_and(|real| is_system(&real)))?;
    Some(Interpreter { name: name.into(), path, prefix: None })
}

fn is_system(real: &Path) -> bool {
    ["/usr", "/bin", "/lib", "/nix/store"].iter().any(|top| real.starts_with(top))
}

/// Asks the interpreter itself where it and its library lie, because what `PATH` names may be a shim.
fn elsewhere(name: &str, search: &std::ffi::OsStr) -> Option<Interpreter> {
    let question: &[&str] = match name {
        "python3" => &["-I", "-c", "import sys; print(sys.executable); print(sys.base_prefix)"],
        "node" => &["-p", "process.execPath + '\\n' + require('path').dirname(require('path').dirname(process.execPath))"],
        _ => return None,
    };
    std::env::split_paths(search).filter(|folder| folder.is_absolute()).find_map(|folder| {
        let program = folder.join(name);
        let answer = program.is_file().then(|| ask(&program, question))??;
        let (path, prefix) = answer.split_once('\n')?;
        let (path, prefix) = (PathBuf::from(path).canonicalize().ok()?, PathBuf::from(prefix).canonicalize().ok()?);
        (path.starts_with(&prefix) && is_narrow(&prefix)).then(|| Interpreter {
            name: name.into(),
            path,
            prefix: Some(prefix),
        })
    })
}

fn ask(program: &Path, question: &[&str]) -> Option<String> {
    let output = Command::new(program).args(question).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_string())
}

/// Whether showing this folder shows an interpreter and not somebody's home: it has a `bin` and a `lib`, and lies deep enough.
fn is_narrow(prefix: &Path) -> bool {
    prefix.components().count() > 3 && prefix.join("bin").is_dir() && prefix.join("lib").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_homes_are_never_shown() {
        let found = find(None);
        assert!(found.iter().any(|one| one.name == "sh" && one.prefix.is_none()), "{found:?}");
        assert!(!is_narrow(Path::new("/")));
        assert!(!is_narrow(Path::new("/home/someone")));
        assert!(!is_narrow(Path::new("/usr")));
    }
}
