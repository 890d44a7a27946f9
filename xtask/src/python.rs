//! `cargo xtask python`: the Python packages that tests speak to Errand with, the emulator of AWS that they run Errand on, and
//! the image that boxes of tests show, in folders beside the build.
//!
//! Virtual environments in the target folder, made by the machine's own Python and filled by its own pip, and made anew
//! when their lists in `tests/python/` change. Tests find them there and say so if they are not. There are two, since the
//! emulator needs other versions of some packages.

use crate::cargo::cargo;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is to be installed: the folder's name, the list's, and the list.
const ENVIRONMENTS: [(&str, &str, &str); 2] = [
    ("python", "requirements.txt", include_str!("../../tests/python/requirements.txt")),
    ("ministack", "ministack.txt", include_str!("../../tests/python/ministack.txt")),
];

#[derive(clap::Args)]
pub(crate) struct Args {}

/// Makes the environments, unless they are there.
///
/// # Errors
/// When Python, its `venv`, or a package is not to be had.
pub(crate) fn run(_: &Args) -> anyhow::Result<()> {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python");
    for (name, list, wanted) in ENVIRONMENTS {
        environment(&target()?.join(name), wanted, |python| {
            let mut pip = Command::new(python);
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"]).arg(lists.join(list));
            let status = pip.status().context("starting pip")?;
            if !status.success() {
                bail!("pip could not install tests/python/{list}: {status}");
            }
            Ok(())
        })?;
    }
    image()
}

/// Makes the image `data` in the target folder, unless it is there: what it is made of is pinned in its lock file.
fn image() -> anyhow::Result<()> {
    let built = cargo()
        .args(["run", "--quiet", "--package", "sandbox-runner", "--", "image", "build", "data", "--images"])
        .arg(target()?.join("images"))
        .status()
        .context("starting cargo")?;
    if !built.success() {
        bail!("the image `data` could not be made: {built}");
    }
    Ok(())
}

/// Makes a virtual environment in `folder` and has `install` fill it, given its Python; unless one stands there that was
/// filled with the same `wanted`. What an earlier try left unfinished is removed first.
///
/// # Errors
/// When Python or its `venv` is not to be had, and what `install` says.
pub(crate) fn environment(
    folder: &Path,
    wanted: &str,
    install: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(folder).status();
    if !made.is_ok_and(|status| status.success()) {
        let _ = std::fs::remove_dir_all(folder);
        bail!("`python3 -m venv` failed: install python3 and python3-venv");
    }
    install(&folder.join("bin/python"))?;
    std::fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

/// Above the profile's folder that this program lies in.
fn target() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("looking for this program")?;
    let target = program.ancestors().nth(2).context("this program lies in no target folder")?;
    Ok(target.to_owned())
}
