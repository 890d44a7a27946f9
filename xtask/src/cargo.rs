//! Starts cargo as a shell would, from inside `cargo run`.

use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Variables that cargo sets for the package it runs. Build scripts of dependencies (ring's for one) ask to be run
/// again when these change, so a nested cargo that inherited them would rebuild what the developer's shell has built.
const OWN_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_NAME"];

/// A cargo command free of what cargo told us about `xtask` itself.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    #[expect(clippy::disallowed_methods, reason = "removes variables by prefix; no setting is read")]
    let inherited = std::env::vars_os();
    for (name, _) in inherited {
        if name.to_str().is_some_and(about_own_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Programs that a build has made.
pub(crate) struct Built(Vec<PathBuf>);

impl Built {
    /// Where the program `name` lies.
    pub(crate) fn find(&self, name: &str) -> anyhow::Result<PathBuf> {
        let found = self.0.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
        found.cloned().with_context(|| format!("cargo built no `{name}`"))
    }
}

/// `cargo build` with these arguments.
pub(crate) fn build(arguments: &[&str]) -> anyhow::Result<Built> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let mut command = cargo();
    command.arg("build").args(arguments).args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the programs cannot be built");
    let mut built = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        built.extend(serde_json::from_slice::<Message>(line)?.executable);
    }
    Ok(Built(built))
}

/// Whether `cargo NAME` can be started.
pub(crate) fn has_subcommand(name: &str) -> bool {
    let status = cargo().args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn about_own_package(variable: &str) -> bool {
    OWN_PACKAGE.iter().any(|prefix| variable.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_this_package_is_removed() {
        assert!(about_own_package("CARGO_PKG_NAME"));
        assert!(about_own_package("CARGO_MANIFEST_DIR"));
        assert!(!about_own_package("CARGO_TARGET_DIR"));
        assert!(!about_own_package("CARGO_HOME"));
        assert!(!about_own_package("CARGO_INCREMENTAL"));
    }

    #[test]
    fn a_subcommand_that_is_not_installed_is_absent() {
        assert!(has_subcommand("fmt"));
        assert!(!has_subcommand("no-such-subcommand"));
    }
}
