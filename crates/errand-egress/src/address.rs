//! Which addresses are on the public internet. Everything else is refused unless somebody allowed it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses at which clouds hand out credentials or control their machines. None is ever allowed by a range or by a
/// name, only by being written out. From the vendors' documentation (checked 2026-11-21): AWS, Google, Azure, OpenStack
/// and most others use 169.254.169.254; the rest are named.
const METADATA: [IpAddr; 11] = [
    v4(169, 254, 169, 254),
    // AWS: credentials of ECS tasks and of EKS pods.
    v4(169, 254, 170, 2),
    v4(169, 254, 170, 23),
    // Scaleway.
    v4(169, 254, 42, 42),
    // Alibaba Cloud.
    v4(100, 100, 100, 200),
    // Oracle Cloud, classic.
    v4(192, 0, 0, 192),
    // Azure's wire server, which is in a public range.
    v4(168, 63, 129, 16),
    // AWS over IPv6: EC2 and EKS.
    v6(0xfd00, 0x0ec2, 0x0254),
    v6(0xfd00, 0x0ec2, 0x0023),
    // Google over IPv6.
    v6(0xfd20, 0x00ce, 0x0254),
    // Scaleway over IPv6.
    v6(0xfd00, 0x0042, 0x0042),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(first: u16, second: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, last))
}

/// The address that is really spoken to: an IPv4-mapped one is its IPv4 address.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether it is a cloud's metadata address, also when it is wrapped in an IPv6 one.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    let address = canonical(address);
    METADATA.contains(&address)
        || matches!(address, IpAddr::V6(v6) if embedded(v6).is_some_and(|inner| METADATA.contains(&IpAddr::V4(inner))))
}

/// Why an address is not one of the public internet; none if it is.
pub(crate) fn not_public(address: IpAddr) -> Option<&'static str> {
    if is_metadata(address) {
        return Some("it is a cloud's metadata address");
    }
    match canonical(address) {
        IpAddr::V4(v4) => not_public_v4(v4),
        IpAddr::V6(v6) => not_public_v6(v6),
    }
}

/// By the IANA registry of special-purpose IPv4 addresses (RFC 6890; checked 2026-11-21).
fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (0, ..) => "it means this host (0.0.0.0/8)",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "it is private",
        (100, 64..=127, _) => "it is shared by a carrier (100.64.0.0/10)",
        (127, ..) => "it is this machine",
        (169, 254, _) => "it is link-local",
        (192, 0, 0) => "it is set aside for protocols (192.0.0.0/24)",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "it is for documentation",
        (192, 88, 99) => "it is an old 6to4 relay (192.88.99.0/24)",
        (198, 18..=19, _) => "it is for benchmarks",
        (224..=239, ..) => "it is multicast",
        (240.., ..) => "it is reserved",
        _ => return None,
    })
}

/// By the IANA registry of special-purpose IPv6 addresses (checked 2026-11-21): public is what lies in 2000::/3, but for
/// what is taken out of it, and what only wraps a public IPv4 address.
fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(inner) = embedded(address) {
        return not_public_v4(inner).map(|_| "it wraps an IPv4 address that is not public");
    }
    let [a, b, ..] = address.segments();
    Some(match (a, b) {
        (0, _) if address.is_loopback() => "it is this machine",
        (0, _) if address.is_unspecified() => "it means this host",
        (0xfc00..=0xfdff, _) => "it is private (fc00::/7)",
        (0xfe80..=0xfebf, _) => "it is link-local",
        (0xfec0..=0xfeff, _) => "it is site-local",
        (0xff00.., _) => "it is multicast",
        (0x2001, 0x0db8) | (0x3fff, 0..=0x0fff) => "it is for documentation",
        // Teredo, benchmarks, ORCHID, AMT: none is a web server.
        (0x2001, 0..=0x01ff) => "it is set aside for protocols (2001::/23)",
        (0x2000..=0x3fff, _) => return None,
        _ => "it is outside of the public range 2000::/3",
    })
}

/// The IPv4 address within an IPv6 one, where packets to the second may end at the first: NAT64 (RFC 6052), 6to4
/// (RFC 3056), ISATAP (RFC 5214).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        [0x2000..=0x3fff, _, _, _, 0 | 0x0200, 0x5efe, high, low] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> bool {
        not_public(text.parse().unwrap()).is_some()
    }

    #[test]
    fn what_is_not_public_is_refused() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.255.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "3fff::1",
            "2600:1::5efe:10.0.0.1",
            "2600:1::200:5efe:192.168.0.1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "4000::1",
            "1::1",
        ] {
            assert!(refused(text), "{text}");
        }
    }

    #[test]
    fn what_is_public_is_not() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(!refused(text), "{text}");
        }
    }

    #[test]
    fn metadata_is_known_in_every_wrapping() {
        for text in ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::"] {
            assert!(is_metadata(text.parse().unwrap()), "{text}");
        }
        assert!(!is_metadata("169.254.169.253".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_wrapped_address_is_never_freer_than_the_one_within(bits: u32, prefix in 0_usize..4) {
            let inner = Ipv4Addr::from_bits(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let outer = match prefix {
                0 => inner.to_ipv6_mapped(),
                1 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                2 => Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5),
                _ => inner.to_ipv6_compatible(),
            };
            if not_public(IpAddr::V4(inner)).is_some() {
                prop_assert!(not_public(IpAddr::V6(outer)).is_some(), "{inner} {outer}");
            }
        }
    }
}
