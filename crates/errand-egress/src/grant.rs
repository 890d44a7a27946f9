//! What a session may speak to: a pure decision.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::address::canonical;
use crate::host::{HostGrant, Pattern};
use crate::refusal::Refusal;
use crate::target::{Place, Target};

/// Hosts of one grant at most.
const HOSTS_MAX: usize = 256;
/// Bytes both ways where nobody says otherwise: 1 GiB.
pub const BYTES_DEFAULT: u64 = 1 << 30;

/// What a session may speak to. Nothing else can be reached from its boxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The hosts.
    pub hosts: Vec<HostGrant>,
    /// Bytes that may pass, both ways together, over the life of the session.
    pub bytes_max: u64,
    /// When it ends, in seconds since 1970; none for as long as the session lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
    /// Addresses that are not connected to, whatever name leads there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Pattern>,
}

/// A grant that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} cannot be granted: {problem}; give HOST, HOST:PORT, *.SUFFIX or *.SUFFIX:PORT, and what it is limited to behind it"
)]
pub struct GrantError {
    /// As given, its beginning.
    pub given: String,
    /// What is wrong.
    pub problem: String,
}

impl GrantError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "egress_grant_invalid"
    }

    pub(crate) fn new(given: &str, problem: impl Into<String>) -> Self {
        Self { given: given.chars().take(80).collect(), problem: problem.into() }
    }
}

/// What a box wants to do with a host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish<'a> {
    /// A tunnel, whose inside is not seen.
    Tunnel,
    /// One request, which is.
    Request(&'a Method),
}

impl Grant {
    /// These hosts, with the usual bounds.
    ///
    /// # Errors
    /// [`GrantError`] when there are too many.
    pub fn new(hosts: Vec<HostGrant>) -> Result<Grant, GrantError> {
        Grant { hosts, bytes_max: BYTES_DEFAULT, ends_at: None, deny: Vec::new() }.checked()
    }

    /// Nothing.
    pub fn none() -> Grant {
        Grant { hosts: Vec::new(), bytes_max: 0, ends_at: None, deny: Vec::new() }
    }

    /// The same, checked: for one that was read from somewhere.
    ///
    /// # Errors
    /// [`GrantError`] when it is too large.
    pub fn checked(self) -> Result<Grant, GrantError> {
        if self.hosts.len() > HOSTS_MAX {
            return Err(GrantError::new("the list", format!("there are {} hosts, at most {HOSTS_MAX}", self.hosts.len())));
        }
        if self.deny.len() > HOSTS_MAX {
            let count = self.deny.len();
            return Err(GrantError::new("the list", format!("{count} ranges are denied, at most {HOSTS_MAX} can be")));
        }
        match self.hosts.iter().find(|host| host.is_too_large()) {
            Some(host) => Err(GrantError::new(&host.to_string(), "it has no port, or too many ports or methods")),
            None => Ok(self),
        }
    }

    /// Ends it so long from now.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Grant {
        Grant { ends_at: Some(now().saturating_add(time.as_secs())), ..self }
    }

    /// What is left of its time; none if it has no end.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.ends_at.map(|end| Duration::from_secs(end.saturating_sub(now())))
    }

    /// Whether this address is one of those that are not connected to.
    pub(crate) fn denies(&self, address: IpAddr) -> bool {
        let place = Place::Address(canonical(address));
        self.deny.iter().any(|range| range.means(&place))
    }

    /// Whether the wish is granted; tells whether a tunnel may carry anything.
    pub(crate) fn decide(&self, target: &Target, wish: Wish<'_>) -> Result<bool, Refusal> {
        let of_host: Vec<&HostGrant> = self.hosts.iter().filter(|one| one.host().means(&target.host)).collect();
        if of_host.is_empty() {
            return Err(Refusal::HostNotGranted(target.clone()));
        }
        let of_port: Vec<&HostGrant> = of_host.into_iter().filter(|one| one.ports().contains(&target.port)).collect();
        if of_port.is_empty() {
            return Err(Refusal::PortNotGranted(target.clone()));
        }
        let granted: Vec<&HostGrant> = of_port.into_iter().filter(|one| one.grants(wish)).collect();
        match (granted.is_empty(), wish) {
            (false, _) => Ok(granted.iter().any(|one| one.is_plain())),
            (true, Wish::Tunnel) => Err(Refusal::MethodsHidden(target.clone())),
            (true, Wish::Request(method)) => Err(Refusal::MethodNotGranted(target.clone(), method.clone())),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |time| time.as_secs())
}

#[cfg(test)]
#[path = "grant_tests.rs"]
mod tests;
