//! Tools that speak HTTP, over [`crate::net::Network`].

mod charset;
mod download;
pub(crate) mod fetch;
mod head;
pub(crate) mod http;
mod markdown;

pub(crate) use charset::decode;
pub(crate) use download::{Download, save};
pub(crate) use head::ContentType;
