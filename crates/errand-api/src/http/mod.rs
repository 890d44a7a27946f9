//! HTTP/1.1 around the routes: connections, bounds, who may ask at all, the form of errors.

pub(crate) mod around;
pub(crate) mod body;
mod server;
pub(crate) mod sse;

pub use server::serve;
