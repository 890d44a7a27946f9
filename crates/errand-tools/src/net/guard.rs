//! Where a request may go: the check of a URL, and of the addresses its host resolves to.

use super::error::Error;
use errand_egress::{AllowList, Lookup, Reach, Unreachable};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;
use std::sync::Arc;
use url::{Host, Url};

/// Longest URL taken, in bytes.
const URL_BYTES_MAX: usize = 8192;

/// Ports of other protocols, which a request might be made to speak: "bad ports" of the Fetch standard, section 2.9
/// (<https://fetch.spec.whatwg.org/#port-blocking>, checked 2026-11-21).
const PORTS_REFUSED: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540,
    548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
    6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Decides where a request may go.
pub(crate) struct Guard {
    reach: Reach,
}

impl Guard {
    pub(super) fn new(allow: AllowList, lookup: Arc<dyn Lookup>) -> Self {
        Self { reach: Reach::new(allow, lookup) }
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
        if PORTS_REFUSED.contains(&port) && !self.reach.allowed().port(&host, port) {
            let reason = "the port belongs to another protocol than HTTP".to_owned();
            return Err(Error::AddressRefused { target: format!("{host}:{port}"), reason });
        }
        match host {
            Host::Ipv4(v4) => self.reach.address(v4.into(), port, false),
            Host::Ipv6(v6) => self.reach.address(v6.into(), port, false),
            Host::Domain(_) => return Ok(()),
        }
        .map_err(|reason| Error::AddressRefused { target: format!("{host}:{port}"), reason: reason.to_owned() })
    }

    /// The addresses of `host` that may be spoken to.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        self.reach.resolve(host, port).await.map_err(|unreachable| match unreachable {
            Unreachable::NotFound(problem) => Error::HostNotFound { host: host.to_owned(), problem },
            Unreachable::Refused(kind) => Error::AddressRefused {
                target: format!("{host}:{port}"),
                reason: format!("of the address behind the name: {kind}"),
            },
        })
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
