//! Tools that speak HTTP, over [`crate::net::Network`].

mod charset;
mod download;
mod head;
pub(crate) mod http;

pub(crate) use charset::decode;
pub(crate) use download::{Download, save};
pub(crate) use head::ContentType;
