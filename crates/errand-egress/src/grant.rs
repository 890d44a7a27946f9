//! What a session may speak to: a pure decision.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::target::{Place, Target};

/// Hosts of one grant at most.
const HOSTS_MAX: usize = 256;
/// Ports and methods of one host at most.
const EACH_MAX: usize = 64;
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
}

/// A host that may be spoken to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostGrant {
    host: Pattern,
    ports: Vec<u16>,
    /// Whether a tunnel there may carry anything, not TLS alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    plain: bool,
    /// The methods; none is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
}

/// The hosts that a grant means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Meaning);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    One(Place),
    /// Every name that ends with a dot and this.
    Below(String),
}

/// A grant that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} cannot be granted: {problem}; give HOST, HOST:PORT, *.SUFFIX or *.SUFFIX:PORT")]
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

    fn new(given: &str, problem: impl Into<String>) -> Self {
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
        Grant { hosts, bytes_max: BYTES_DEFAULT, ends_at: None }.checked()
    }

    /// The same, checked: for one that was read from somewhere.
    ///
    /// # Errors
    /// [`GrantError`] when it is too large.
    pub fn checked(self) -> Result<Grant, GrantError> {
        if self.hosts.len() > HOSTS_MAX {
            return Err(GrantError::new("the list", format!("there are {} hosts, at most {HOSTS_MAX}", self.hosts.len())));
        }
        let too_large =
            |host: &HostGrant| host.ports.is_empty() || host.ports.len() > EACH_MAX || host.methods.len() > EACH_MAX;
        if let Some(host) = self.hosts.iter().find(|host| too_large(host)) {
            return Err(GrantError::new(
                &host.host.to_string(),
                format!("it has no port, or more than {EACH_MAX} ports or methods"),
            ));
        }
        Ok(self)
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

    /// Whether the wish is granted; tells whether a tunnel may carry anything.
    pub(crate) fn decide(&self, target: &Target, wish: Wish<'_>) -> Result<bool, Refusal> {
        let of_host: Vec<&HostGrant> = self.hosts.iter().filter(|one| one.host.means(&target.host)).collect();
        if of_host.is_empty() {
            return Err(Refusal::HostNotGranted(target.clone()));
        }
        let of_port: Vec<&HostGrant> = of_host.into_iter().filter(|one| one.ports.contains(&target.port)).collect();
        if of_port.is_empty() {
            return Err(Refusal::PortNotGranted(target.clone()));
        }
        let granted: Vec<&HostGrant> = of_port.into_iter().filter(|one| one.grants(wish)).collect();
        match (granted.is_empty(), wish) {
            (false, _) => Ok(granted.iter().any(|one| one.plain)),
            (true, Wish::Tunnel) => Err(Refusal::MethodsHidden(target.clone())),
            (true, Wish::Request(method)) => Err(Refusal::MethodNotGranted(target.clone(), method.clone())),
        }
    }
}

impl HostGrant {
    /// Reads `HOST`, `HOST:PORT`, `*.SUFFIX` or `*.SUFFIX:PORT`; without a port the usual ones, 443 and 80.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn parse(given: &str) -> Result<HostGrant, GrantError> {
        let given = given.trim();
        if given.contains("://") || given.contains('@') {
            return Err(GrantError::new(given, "a scheme or a login does not belong there"));
        }
        let after_brackets = given.rfind(']').map_or(0, |at| at + 1);
        let colon = given[after_brackets..]
            .find(':')
            .map(|at| at + after_brackets)
            .filter(|_| given.parse::<std::net::Ipv6Addr>().is_err());
        let (host, ports) = match colon {
            None => (given, vec![443, 80]),
            Some(colon) => match given[colon + 1..].parse::<u16>() {
                Ok(port) if port > 0 => (&given[..colon], vec![port]),
                _ => return Err(GrantError::new(given, "what follows the colon is no port")),
            },
        };
        let host = Pattern::parse(host).map_err(|problem| GrantError::new(given, problem))?;
        Ok(HostGrant { host, ports, plain: false, methods: Vec::new() })
    }

    /// Lets tunnels there carry anything, not TLS alone: the proxy then sees nothing of what is said.
    #[must_use]
    pub fn plain(self) -> HostGrant {
        HostGrant { plain: true, ..self }
    }

    /// Grants these methods only. Tunnels, which would hide the method, are then refused.
    ///
    /// # Errors
    /// [`GrantError`] for what is no method.
    pub fn only(self, methods: &[String]) -> Result<HostGrant, GrantError> {
        let read = |name: &String| {
            let name = name.to_ascii_uppercase();
            let known = Method::from_bytes(name.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
            known.map(|_| name.clone()).ok_or_else(|| GrantError::new(&name, "it is no method"))
        };
        Ok(HostGrant { methods: methods.iter().map(read).collect::<Result<_, _>>()?, ..self })
    }

    fn grants(&self, wish: Wish<'_>) -> bool {
        match wish {
            Wish::Tunnel => self.methods.is_empty(),
            Wish::Request(method) => self.methods.is_empty() || self.methods.iter().any(|one| one == method.as_str()),
        }
    }
}

impl Pattern {
    /// Reads a host or `*.SUFFIX`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if let Some(suffix) = text.strip_prefix("*.") {
            return match Place::parse(suffix)? {
                Place::Name(name) if name.contains('.') && !name.contains('*') => Ok(Pattern(Meaning::Below(name))),
                _ => Err("a suffix has at least two labels, as *.example.com has".to_owned()),
            };
        }
        if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
            return Ok(Pattern(Meaning::One(Place::Address(crate::address::canonical(address.into())))));
        }
        match Place::parse(text)? {
            Place::Name(name) if name.contains('*') => {
                Err("a star stands for whole labels at the beginning only".to_owned())
            }
            place => Ok(Pattern(Meaning::One(place))),
        }
    }

    pub(crate) fn means(&self, place: &Place) -> bool {
        match (&self.0, place) {
            (Meaning::One(one), place) => one == place,
            (Meaning::Below(suffix), Place::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Meaning::Below(_), Place::Address(_)) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Meaning::One(place) => place.fmt(f),
            Meaning::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Pattern::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |time| time.as_secs())
}

#[cfg(test)]
#[path = "grant_tests.rs"]
mod tests;
