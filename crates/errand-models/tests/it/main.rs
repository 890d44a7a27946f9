//! The crate from outside: endpoints against a small server on loopback, and scripts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking; helpers outside test functions are not exempt")]

mod chat;
mod choose;
mod dialects;
mod exchange;
mod failures;
mod lists;
mod requests;
mod responses;
mod scripted;
mod server;
mod support;
