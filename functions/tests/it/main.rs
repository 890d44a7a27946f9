//! The functions' programs under a Runtime API of our own, on an emulator of AWS.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it saw")]

#[allow(dead_code, reason = "some of it is for tests of the adapters")]
#[path = "../../../crates/errand-store-aws/tests/it/emulator.rs"]
mod emulator;
mod inside;
mod lambda;
#[allow(dead_code, reason = "some of it is for tests of the adapters")]
#[path = "../../../crates/errand-store-aws/tests/it/proxy.rs"]
mod proxy;
mod start;
mod step;
mod sweep;
mod world;
