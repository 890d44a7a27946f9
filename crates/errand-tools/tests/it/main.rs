//! Tools on real workspaces and, where this host can make them, in real boxes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says why it is skipped")]

mod arguments;
mod charts;
mod code;
mod exported;
mod files;
mod imported;
mod support;
mod turns;
