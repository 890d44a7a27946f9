//! Tools that speak HTTP, over [`crate::net::Network`].

mod charset;
mod download;
pub(crate) mod fetch;
pub(crate) mod graphql;
mod head;
pub(crate) mod http;
mod markdown;
mod schema;
pub(crate) mod search;

pub(crate) use charset::decode;
pub(crate) use download::{Download, save};
pub(crate) use head::ContentType;
pub(crate) use http::gateway_lost;
