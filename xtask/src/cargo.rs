//! Starts cargo as a shell would, from inside `cargo run`.

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
