//! The cross-crate tests, in one binary.

mod cli;
#[allow(unreachable_pub, reason = "the suite is also part of the stores' own tests")]
mod conformance;
mod every_write;
mod sim;
