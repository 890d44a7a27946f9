//! The binary starts and knows itself. That this test exists also makes `cargo test --workspace` build the binary, which
//! `tests/it/cli` drives.

use std::process::Command;

#[test]
fn the_version_is_that_of_the_package() {
    let output = Command::new(env!("CARGO_BIN_EXE_errand")).arg("--version").output().expect("the binary starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("errand {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_the_man_page_come_from_the_same_definitions() {
    for (arguments, expected) in [(&["completions", "bash"][..], "_errand"), (&["man"][..], "errand\\-fork")] {
        let output = Command::new(env!("CARGO_BIN_EXE_errand")).args(arguments).output().expect("the binary starts");
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{arguments:?}");
    }
}
