//! Exceptions from the guard: addresses beside the public ones that tools may speak to.

use crate::address::{canonical, is_metadata};
use ipnet::IpNet;
use std::net::IpAddr;
use url::Host;

/// At most so many exceptions.
const ENTRIES_MAX: usize = 1000;

/// The exceptions of a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Name { host: String, port: Option<u16> },
    Address { address: IpAddr, port: Option<u16> },
    Range(IpNet),
}

/// An exception that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no address to allow: {problem}; give a host, an IP address, either with :PORT, or a range such as 10.1.0.0/16"
)]
pub struct AllowError {
    /// As given, its beginning.
    pub given: String,
    /// What is wrong.
    pub problem: String,
}

impl AllowError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "config_invalid"
    }
}

impl AllowList {
    /// Reads `host`, `host:port`, `IP`, `IP:port` and CIDR ranges.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, AllowError> {
        if entries.len() > ENTRIES_MAX {
            let problem = format!("there are {} of them, at most {ENTRIES_MAX} are taken", entries.len());
            return Err(AllowError { given: "the list".to_owned(), problem });
        }
        entries.iter().map(|entry| Entry::parse(entry.as_ref().trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the name was allowed, so that what it resolves to need not be public.
    pub fn name(&self, name: &str, port: u16) -> bool {
        let name = name.trim_end_matches('.');
        self.0.iter().any(|entry| match entry {
            Entry::Name { host, port: at } => host == name && at.is_none_or(|at| at == port),
            _ => false,
        })
    }

    /// Whether the address was written out.
    pub fn written(&self, address: IpAddr, port: u16) -> bool {
        let address = canonical(address);
        self.0.iter().any(|entry| match entry {
            Entry::Address { address: known, port: at } => *known == address && at.is_none_or(|at| at == port),
            _ => false,
        })
    }

    /// Whether the address lies in an allowed range. A metadata address lies in none.
    pub fn in_range(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        !is_metadata(address) && self.0.iter().any(|entry| matches!(entry, Entry::Range(range) if range.contains(&address)))
    }

    /// Whether this very port of this host was allowed.
    pub fn port(&self, host: &Host<&str>, port: u16) -> bool {
        self.0.iter().any(|entry| match (entry, host) {
            (Entry::Name { host, port: Some(at) }, Host::Domain(name)) => host == name.trim_end_matches('.') && *at == port,
            (Entry::Address { address, port: Some(at) }, Host::Ipv4(v4)) => *address == IpAddr::V4(*v4) && *at == port,
            (Entry::Address { address, port: Some(at) }, Host::Ipv6(v6)) => {
                *address == canonical((*v6).into()) && *at == port
            }
            _ => false,
        })
    }
}

impl Entry {
    fn parse(given: &str) -> Result<Self, AllowError> {
        let refuse = |problem: String| AllowError { given: given.chars().take(80).collect(), problem };
        if given.is_empty() {
            return Err(refuse("it is empty".to_owned()));
        }
        if given.contains("://") {
            return Err(refuse("a scheme does not belong there".to_owned()));
        }
        if let Ok(address) = given.parse::<IpAddr>() {
            return Ok(Entry::Address { address: canonical(address), port: None });
        }
        if given.contains('/') {
            let range: IpNet = given.parse().map_err(|_| refuse("it is no CIDR range".to_owned()))?;
            return Ok(Entry::Range(range.trunc()));
        }
        let (host, port) = split_port(given).map_err(refuse)?;
        Ok(match Host::parse(host).map_err(|error| refuse(error.to_string()))? {
            Host::Domain(name) if name.contains('*') => {
                return Err(refuse("a name stands for itself only, without *".to_owned()));
            }
            Host::Domain(name) => Entry::Name { host: name.trim_end_matches('.').to_owned(), port },
            Host::Ipv4(v4) => Entry::Address { address: v4.into(), port },
            Host::Ipv6(v6) => Entry::Address { address: canonical(v6.into()), port },
        })
    }
}

fn split_port(given: &str) -> Result<(&str, Option<u16>), String> {
    let after_brackets = given.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = given[after_brackets..].rfind(':').map(|at| at + after_brackets) else { return Ok((given, None)) };
    match given[colon + 1..].parse() {
        Ok(0) | Err(_) => Err("what follows the colon is no port".to_owned()),
        Ok(port) => Ok((&given[..colon], Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_allows_what_it_says_and_no_more() {
        let list = AllowList::parse(&[
            "intra.example:8080",
            "Wiki.Example.",
            "10.1.2.3:9200",
            "10.2.0.0/16",
            "[fd00::1]:80",
            "fd01::/16",
        ])
        .unwrap();
        assert!(list.name("intra.example", 8080) && !list.name("intra.example", 80) && !list.name("x.intra.example", 8080));
        assert!(list.name("wiki.example", 1) && list.name("wiki.example.", 2));
        assert!(list.written(ip("10.1.2.3"), 9200) && list.written(ip("::ffff:10.1.2.3"), 9200));
        assert!(!list.written(ip("10.1.2.3"), 9201) && !list.written(ip("10.1.2.4"), 9200));
        assert!(list.in_range(ip("10.2.255.1")) && !list.in_range(ip("10.3.0.1")) && list.in_range(ip("fd01::9")));
        assert!(list.written(ip("fd00::1"), 80) && !list.written(ip("fd00::1"), 81));
    }

    #[test]
    fn no_range_covers_a_metadata_address() {
        let all = AllowList::parse(&["0.0.0.0/0", "::/0"]).unwrap();
        assert!(all.in_range(ip("127.0.0.1")) && all.in_range(ip("fd00::1")));
        for address in
            ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "64:ff9b::a9fe:a9fe"]
        {
            assert!(!all.in_range(ip(address)), "{address}");
        }
        assert!(AllowList::parse(&["169.254.169.254"]).unwrap().written(ip("169.254.169.254"), 80));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for given in ["", "http://a", "a:0", "a:99999", "a:b", "10.0.0.0/33", "*.example", "a b", "[::1", "::1:"] {
            assert!(AllowList::parse(&[given]).is_err(), "{given}");
        }
        assert!(AllowList::parse(&vec!["a"; 1001]).is_err());
    }

    proptest! {
        #[test]
        fn no_entry_makes_it_panic(entry in "\\PC{0,40}") {
            let _ = AllowList::parse(&[entry]);
        }
    }
}
