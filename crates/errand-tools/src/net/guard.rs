//! Where a request may go: the check of a URL, and of the addresses its host resolves to.

use super::address::{canonical, is_metadata, not_public};
use super::allow::AllowList;
use super::error::Error;
use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use url::{Host, Url};

/// Longest URL taken, in bytes.
const URL_BYTES_MAX: usize = 8192;
/// Addresses of one name that are looked at.
const ANSWERS_MAX: usize = 64;

/// Ports of other protocols, which a request might be made to speak: "bad ports" of the Fetch standard, section 2.9
/// (<https://fetch.spec.whatwg.org/#port-blocking>, checked 2026-11-21).
const PORTS_REFUSED: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540,
    548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
    6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Finds the addresses of a name.
#[async_trait]
pub(crate) trait Lookup: Send + Sync {
    /// All addresses of `host`.
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The resolver of this machine.
pub(crate) struct System;

#[async_trait]
impl Lookup for System {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Decides where a request may go.
pub(crate) struct Guard {
    allow: AllowList,
    lookup: Arc<dyn Lookup>,
}

impl Guard {
    pub(super) fn new(allow: AllowList, lookup: Arc<dyn Lookup>) -> Self {
        Self { allow, lookup }
    }

    /// Reads a URL that a model or a server wrote, and checks what can be checked without asking for the host's address.
    /// The fragment is dropped.
    pub(super) fn url(&self, text: &str) -> Result<Url, Error> {
        if text.len() > URL_BYTES_MAX {
            return Err(invalid(format!("it has {} bytes, at most {URL_BYTES_MAX} are taken", text.len())));
        }
        let mut url =
            Url::parse(text.trim()).map_err(|error| invalid(format!("{error}; give one such as https://host/path")))?;
        url.set_fragment(None);
        self.check(&url)?;
        Ok(url)
    }

    /// Checks scheme, user info, port, and the address if the host is one.
    pub(super) fn check(&self, url: &Url) -> Result<(), Error> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("its scheme is {:?}, only http and https are spoken", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it holds a login; leave it out and give a header in its place".to_owned()));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(invalid("it names no host".to_owned()));
        };
        if PORTS_REFUSED.contains(&port) && !self.allow.port(&host, port) {
            let reason = "the port belongs to another protocol than HTTP".to_owned();
            return Err(Error::AddressRefused { target: format!("{host}:{port}"), reason });
        }
        match host {
            Host::Ipv4(v4) => self.address(v4.into(), port, false),
            Host::Ipv6(v6) => self.address(v6.into(), port, false),
            Host::Domain(_) => return Ok(()),
        }
        .map_err(|reason| Error::AddressRefused { target: format!("{host}:{port}"), reason: reason.to_owned() })
    }

    /// Whether an address may be spoken to. `name_allowed`: a name that was allowed led there.
    fn address(&self, address: IpAddr, port: u16, name_allowed: bool) -> Result<(), &'static str> {
        if self.allow.written(address, port) {
            return Ok(());
        }
        if is_metadata(address) {
            return Err("it is a cloud's metadata address");
        }
        match not_public(address) {
            Some(reason) if !name_allowed && !self.allow.in_range(address) => Err(reason),
            _ => Ok(()),
        }
    }

    /// The addresses of `host` that may be spoken to.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let not_found = |problem: String| Error::HostNotFound { host: host.to_owned(), problem };
        let found = self.lookup.lookup(host).await.map_err(|error| not_found(error.to_string()))?;
        if found.is_empty() {
            return Err(not_found("it has no address".to_owned()));
        }
        let name_allowed = self.allow.name(host, port);
        let (mut good, mut refused) = (Vec::new(), "");
        for address in found.into_iter().take(ANSWERS_MAX) {
            match self.address(address, port, name_allowed) {
                Ok(()) => good.push(SocketAddr::new(canonical(address), port)),
                Err(reason) => refused = reason,
            }
        }
        if good.is_empty() {
            // Not which address: that would tell what the inside of a network looks like.
            let reason = format!("of the address behind the name: {refused}");
            return Err(Error::AddressRefused { target: format!("{host}:{port}"), reason });
        }
        Ok(good)
    }
}

fn invalid(problem: String) -> Error {
    Error::UrlInvalid { problem }
}

/// The resolver of the connections to one origin. What it hands on was checked, and is what is connected to: nothing asks
/// again in between.
pub(super) struct Guarded {
    pub(super) guard: Arc<Guard>,
    pub(super) port: u16,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, port) = (Arc::clone(&self.guard), self.port);
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str(), port).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
