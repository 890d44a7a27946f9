//! Where a request wants to go, in one writing only.

use std::fmt;
use std::net::IpAddr;

use hyper::http::uri::Authority;
use url::Host;

use crate::address::canonical;

/// A host and a port. Names are in lower case, as ASCII, without a dot at the end; addresses in any writing are addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Place,
    pub(crate) port: u16,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// Reads an authority (`HOST:PORT`); the port may be left out where there is a usual one.
    pub(crate) fn of(authority: &Authority, usual_port: Option<u16>) -> Result<Target, &'static str> {
        if authority.as_str().contains('@') {
            return Err("it holds a login before the host");
        }
        let host = Place::parse(authority.host())?;
        let has_port = authority.as_str()[authority.host().len()..].starts_with(':');
        let port = if has_port { authority.port_u16() } else { usual_port };
        match port {
            Some(port) if port > 0 => Ok(Target { host, port }),
            _ => Err("it has no port"),
        }
    }
}

impl Place {
    /// Reads a host as browsers do.
    pub(crate) fn parse(text: &str) -> Result<Place, &'static str> {
        Ok(match Host::parse(text).map_err(|_| "it is no host")? {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.is_empty() || name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
                    return Err("it is no host");
                }
                Place::Name(name.to_owned())
            }
            Host::Ipv4(address) => Place::Address(address.into()),
            Host::Ipv6(address) => Place::Address(canonical(address.into())),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Name(name) => f.write_str(name),
            Place::Address(IpAddr::V4(address)) => address.fmt(f),
            Place::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<String> {
        Target::of(&text.parse().ok()?, None).ok().map(|target| target.to_string())
    }

    #[test]
    fn one_host_has_one_writing() {
        for (given, expected) in [
            ("A.Example:443", "a.example:443"),
            ("a.example.:443", "a.example:443"),
            ("2130706433:80", "127.0.0.1:80"),
            ("0x7f.1:80", "127.0.0.1:80"),
            ("0177.0.0.1:80", "127.0.0.1:80"),
            ("[::ffff:169.254.169.254]:80", "169.254.169.254:80"),
            ("[0:0::1]:80", "[::1]:80"),
        ] {
            assert_eq!(read(given).as_deref(), Some(expected), "{given}");
        }
        for given in [
            "%61.example:443",
            "a.example",
            "a.example:",
            "a.example:0",
            "a.example:99999",
            "allowed@evil.example:443",
            "a..b:1",
            ":80",
            "..:80",
        ] {
            assert_eq!(read(given), None, "{given}");
        }
    }

    #[test]
    fn a_name_that_looks_like_another_is_another() {
        // The first letter is the Cyrillic one.
        assert_ne!(Place::parse("\u{430}.example").unwrap(), Place::parse("a.example").unwrap());
        assert_eq!(Place::parse("\u{430}.example").unwrap().to_string(), "xn--80a.example");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_reads_the_same(text in "\\PC{0,40}") {
            if let Ok(place) = Place::parse(&text) {
                prop_assert_eq!(Place::parse(&place.to_string()), Ok(place));
            }
        }
    }
}
