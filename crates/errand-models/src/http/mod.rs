//! One try at an OpenAI-compatible endpoint: send, gather the stream, tell failures apart.

mod address;
mod calls;
mod chat;
mod classify;
mod client;
mod dialect;
mod responses;
mod retry_after;
mod wire;

pub(crate) use client::Endpoint;
