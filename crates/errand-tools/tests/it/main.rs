//! Tools on real workspaces and, where this host can make them, in real boxes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking; helpers outside test functions are not exempt")]

mod arguments;
mod charts;
mod code;
mod exported;
mod files;
mod imported;
mod support;
mod turns;
