//! A host that may be spoken to, how it is written, and whether one such leave lies within another.

use std::fmt;

use hyper::Method;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::grant::{GrantError, Wish};
use crate::target::Place;

/// Ports and methods of one host at most.
const EACH_MAX: usize = 64;
/// The ports where none is given: those of HTTP, with TLS and without.
const USUAL: [u16; 2] = [443, 80];
/// The word for tunnels that may carry anything.
const PLAIN: &str = "plain";

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
    /// Addresses that are written out, in this range.
    Range(IpNet),
    /// Every name and every address.
    All,
}

impl HostGrant {
    /// Reads `HOST`, `HOST:PORT`, `*.SUFFIX`, `*`, an address or a range of them, the usual ports being 443 and 80; behind it
    /// the methods that are meant, in capitals, and `plain` where tunnels may carry anything: `a.example:443 GET HEAD`.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn parse(given: &str) -> Result<HostGrant, GrantError> {
        let mut words = given.split_whitespace();
        let place = words.next().unwrap_or_default();
        if place.contains("://") || place.contains('@') {
            return Err(GrantError::new(given, "a scheme or a login does not belong there"));
        }
        let (host, port) = split_port(place).ok_or_else(|| GrantError::new(given, "what follows the colon is no port"))?;
        let host = Pattern::parse(host).map_err(|problem| GrantError::new(given, problem))?;
        let (plain, methods): (Vec<&str>, Vec<&str>) = words.partition(|word| *word == PLAIN);
        if methods.iter().any(|word| word.contains(|c: char| c.is_ascii_lowercase())) {
            return Err(GrantError::new(given, "behind the host stand methods, in capitals, or `plain`"));
        }
        let methods: Vec<String> = methods.into_iter().map(str::to_owned).collect();
        let ports = port.map_or(USUAL.to_vec(), |port| vec![port]);
        HostGrant { ports, plain: !plain.is_empty(), ..HostGrant::of(host) }.only(&methods)
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

    /// These hosts with the usual ports.
    pub fn of(host: Pattern) -> HostGrant {
        HostGrant { host, ports: USUAL.to_vec(), plain: false, methods: Vec::new() }
    }

    /// The same with this port alone.
    pub(crate) fn at(self, port: u16) -> HostGrant {
        HostGrant { ports: vec![port], ..self }
    }

    /// Which hosts.
    pub fn host(&self) -> &Pattern {
        &self.host
    }

    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.ports.is_empty() || self.ports.len() > EACH_MAX || self.methods.len() > EACH_MAX
    }

    pub(crate) fn grants(&self, wish: Wish<'_>) -> bool {
        match wish {
            Wish::Tunnel => self.methods.is_empty(),
            Wish::Request(method) => self.methods.is_empty() || self.methods.iter().any(|one| one == method.as_str()),
        }
    }

    /// What of this leave `wish` asks for: its hosts, with what it does not speak of as it is here. None if it asks for more.
    pub(crate) fn narrowed(&self, wish: &HostGrant) -> Option<HostGrant> {
        if !self.host.covers(&wish.host) || wish.plain && !self.plain {
            return None;
        }
        let ports = if wish.ports == USUAL { self.ports.clone() } else { wish.ports.clone() };
        let methods = if wish.methods.is_empty() { self.methods.clone() } else { wish.methods.clone() };
        let narrowed = HostGrant { host: wish.host.clone(), ports, plain: self.plain, methods };
        self.covers(&narrowed).then_some(narrowed)
    }

    /// Whether everything that `other` allows is allowed here.
    pub(crate) fn covers(&self, other: &HostGrant) -> bool {
        let methods = self.methods.is_empty()
            || !other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method));
        let ports = other.ports.iter().all(|port| self.ports.contains(port));
        self.host.covers(&other.host) && ports && methods && (self.plain || !other.plain)
    }

    /// The same leave, one for each way of writing it down.
    pub(crate) fn lines(&self) -> Vec<HostGrant> {
        if self.ports == USUAL {
            return vec![self.clone()];
        }
        self.ports.iter().map(|port| self.clone().at(*port)).collect()
    }
}

/// As [`HostGrant::parse`] reads it, if it has one port or the usual ones.
impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        if self.ports != USUAL {
            let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
            write!(f, ":{}", ports.join(","))?;
        }
        self.methods.iter().try_for_each(|method| write!(f, " {method}"))?;
        if self.plain { write!(f, " {PLAIN}") } else { Ok(()) }
    }
}

/// The host, and the port if there is one; none where what should be a port is not.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    if place.parse::<std::net::Ipv6Addr>().is_ok() || place.parse::<IpNet>().is_ok() {
        return Some((place, None));
    }
    let after_brackets = place.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = place[after_brackets..].find(':').map(|at| at + after_brackets) else { return Some((place, None)) };
    match place[colon + 1..].parse::<u16>() {
        Ok(port) if port > 0 => Some((&place[..colon], Some(port))),
        _ => None,
    }
}

impl Pattern {
    /// Reads a host, `*.SUFFIX`, an address, a range of addresses, or `*` for everything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text == "*" {
            return Ok(Pattern(Meaning::All));
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return match Place::parse(suffix)? {
                Place::Name(name) if name.contains('.') && !name.contains('*') => Ok(Pattern(Meaning::Below(name))),
                _ => Err("a suffix has at least two labels, as *.example.com has".to_owned()),
            };
        }
        if text.contains('/') {
            let bare = text.replace(['[', ']'], "");
            let range: IpNet = bare.parse().map_err(|_| "it is no range of addresses".to_owned())?;
            let one = range.prefix_len() == range.max_prefix_len();
            let address = crate::address::canonical(range.addr());
            return Ok(Pattern(if one { Meaning::One(Place::Address(address)) } else { Meaning::Range(range.trunc()) }));
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

    /// Every name and every address.
    pub fn all() -> Pattern {
        Pattern(Meaning::All)
    }

    /// Whether this is everything.
    pub fn is_all(&self) -> bool {
        self.0 == Meaning::All
    }

    /// Whether it means addresses alone.
    pub fn is_address(&self) -> bool {
        matches!(self.0, Meaning::Range(_) | Meaning::One(Place::Address(_)))
    }

    pub(crate) fn means(&self, place: &Place) -> bool {
        match (&self.0, place) {
            (Meaning::All, _) => true,
            (Meaning::One(one), place) => one == place,
            (Meaning::Below(suffix), Place::Name(name)) => is_below(name, suffix),
            (Meaning::Range(range), Place::Address(address)) => range.contains(address),
            (Meaning::Below(_), Place::Address(_)) | (Meaning::Range(_), Place::Name(_)) => false,
        }
    }

    /// Whether every host of `other` is one of these.
    pub(crate) fn covers(&self, other: &Pattern) -> bool {
        match (&self.0, &other.0) {
            (Meaning::All, _) => true,
            (_, Meaning::One(place)) => self.means(place),
            (Meaning::Below(suffix), Meaning::Below(other)) => suffix == other || is_below(other, suffix),
            (Meaning::Range(range), Meaning::Range(other)) => range.contains(other),
            _ => false,
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Meaning::One(place) => place.fmt(f),
            Meaning::Below(suffix) => write!(f, "*.{suffix}"),
            Meaning::Range(IpNet::V6(range)) => write!(f, "[{}]/{}", range.addr(), range.prefix_len()),
            Meaning::Range(range) => range.fmt(f),
            Meaning::All => f.write_str("*"),
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
