//! Sandboxes for clients that were written for E2B: the stock `e2b` and `e2b-code-interpreter` SDKs.
//!
//! Two halves that speak HTTP with each other over a Unix socket:
//! - [`inside`] runs in the box, as the user's code does, and is trusted no more: processes, files, watches, code contexts.
//! - [`outside`] makes, lists, pauses and ends sandboxes, checks tokens, and passes requests on to the inside of one.
//!
//! The wire is the one that the SDKs `e2b` 2.63.0 and `e2b-code-interpreter` 2.11.5 speak (read and recorded 2026-11-21):
//! plain JSON over HTTP/1.1, and the Connect protocol with its JSON encoding
//! (<https://connectrpc.com/docs/protocol/>) for processes and files.

pub mod inside;
pub mod outside;
