//! Tools on real workspaces and, where this host can make them, in real boxes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says why it is skipped")]

mod added;
mod arguments;
mod bad_input;
mod charts;
mod code;
mod egress;
mod exported;
mod fetch;
mod files;
mod graphql;
mod http;
mod human_eval;
mod images;
mod imported;
mod kernels;
mod mcp;
mod office;
mod room;
mod search;
#[path = "../../src/net/server.rs"]
#[allow(dead_code, reason = "the unit tests of the crate use the rest")]
mod server;
mod support;
mod tiers;
mod turns;
mod web;
