//! The cross-crate tests, in one binary.

mod cli;
mod conformance;
mod every_write;
mod sim;
