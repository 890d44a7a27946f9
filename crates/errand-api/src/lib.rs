//! What programs see of runs, and the HTTP routes on which they ask for them: the same on a laptop and elsewhere.
//!
//! Reading order: [`Api`] (the ports behind the routes), [`Catalog`] (what names in a request stand for), [`Feed`] (what
//! happens just now), `routes` (the list), `responses` (OpenAI's Responses: a response is a run), `runs` (Errand's own
//! surface), [`events`] (records → numbered public events), `http` (connections, bounds, who may ask), [`Failure`] (one
//! failure in the form of each surface).
//!
//! Absent on purpose: adapters, settings, the command line; where keys are kept: whoever serves this hands in the gate. Tests:
//! beside the code, and `tests/it/serve*` over a socket and with the stock SDK.

mod api;
mod catalog;
mod error;
pub mod events;
mod feed;
mod fields;
mod http;
mod models;
mod query;
mod responses;
mod routes;
mod runs;
mod standing;
pub mod text;

pub use api::{Api, Limits, Parts, Stop};
pub use catalog::{Catalog, Listed};
pub use error::Failure;
pub use feed::{Feed, Listener, Partial, Pulse};
pub use http::serve;
pub use routes::router;
pub use standing::{Standing, standing};
