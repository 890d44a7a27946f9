//! The cross-crate tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that meets what it did not expect should panic")]

mod cases;
mod cli;
#[allow(unreachable_pub, dead_code, reason = "the suite is also part of the stores' own tests")]
mod conformance;
mod every_write;
mod serve;
mod sim;
