//! The way out to the network: one client that all tools share. Nothing else in this crate opens a connection.
//!
//! - [`Network`]: sends a [`Request`] and follows redirects by hand, so that every hop passes the guard. No proxy and no
//!   setting of the environment, no cookies, HTTP/1.1.
//! - `guard`: where a request may go, by the same rules as the way out of boxes (`errand-egress`). Public addresses, and what the setting `allow_addresses` names;
//!   a name is resolved once, and only addresses that were checked are connected to.
//! - [`Breakers`]: an endpoint that keeps failing is left alone for a while.
//! - `Body`: read in bounded pieces, counted after decompression.
//!
//! Absent on purpose: any knowledge of a tool.

mod body;
mod breaker;
mod client;
mod error;
mod guard;
mod redirect;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use body::Read;
#[allow(unused_imports, reason = "for tools that call something else than a URL")]
pub(crate) use breaker::{Breakers, Pass};
pub use client::Network;
pub(crate) use client::{Request, Response};
pub use errand_egress::AllowError;
#[cfg(test)]
pub(crate) use errand_egress::Lookup;
pub(crate) use error::Failure;
pub(crate) use redirect::IDEMPOTENCY_KEY;
