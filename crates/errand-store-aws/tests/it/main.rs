//! The adapters on an emulator of AWS.

#![allow(clippy::unwrap_used, reason = "a test that meets what it did not expect should panic")]

#[path = "../../../../tests/it/conformance.rs"]
#[allow(unreachable_pub, dead_code, reason = "the suite is public where it is at home")]
mod conformance;
mod emulator;
mod engine;
mod faults;
mod proxy;
mod queue;
mod sim;
mod store;
mod suite;
mod world;
