//! W: the network and what leaks on the way.

use libc::{
    AF_INET, AF_INET6, AF_UNIX, EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOENT, EPERM,
    SOCK_DGRAM, SOCK_RAW, SOCK_STREAM,
};

use super::inside::{Attempted, Expect, Spec, open, read_into};
use crate::engine::sys::{self, call, check};

const UNREACHABLE: Expect = Expect::Refused(&[ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT]);
const NO_FAMILY: Expect = Expect::Refused(&[EAFNOSUPPORT]);

macro_rules! family {
    ($id:literal, $what:literal, $family:expr, $kind:expr) => {
        Spec { id: $id, what: $what, expect: NO_FAMILY, attempt: |_| socket($family, $kind, 0).map(i64::from) }
    };
}

pub(crate) const CHECKS: &[Spec] = &[
    Spec {
        id: "W01",
        what: "connect to the host's loopback",
        expect: Expect::Refused(&[ECONNREFUSED]),
        attempt: |baits| loopback(baits.port),
    },
    Spec {
        id: "W02",
        what: "reach the metadata service",
        expect: UNREACHABLE,
        attempt: |_| v4([169, 254, 169, 254], 80, SOCK_STREAM),
    },
    Spec {
        id: "W02-public",
        what: "reach a public address",
        expect: UNREACHABLE,
        attempt: |_| v4([192, 0, 2, 1], 443, SOCK_STREAM),
    },
    Spec { id: "W02-v6", what: "reach a public IPv6 address", expect: UNREACHABLE, attempt: |_| v6() },
    Spec {
        id: "W03",
        what: "network interfaces in use beside loopback",
        expect: Expect::Value(0),
        attempt: |_| interfaces(),
    },
    Spec {
        id: "W04",
        what: "raw socket",
        expect: Expect::Refused(&[EPERM, EACCES]),
        attempt: |_| socket(AF_INET, SOCK_RAW, libc::IPPROTO_ICMP).map(i64::from),
    },
    family!("W04-packet", "packet socket", libc::AF_PACKET, SOCK_RAW),
    family!("W05", "kernel crypto socket", libc::AF_ALG, libc::SOCK_SEQPACKET),
    family!("W05-vsock", "hypervisor socket", libc::AF_VSOCK, SOCK_STREAM),
    family!("W05-tipc", "TIPC socket", libc::AF_TIPC, SOCK_STREAM),
    family!("W05-netlink", "netlink socket", libc::AF_NETLINK, SOCK_RAW),
    family!("W05-bluetooth", "Bluetooth socket", libc::AF_BLUETOOTH, SOCK_STREAM),
    family!("W05-xdp", "XDP socket", libc::AF_XDP, SOCK_RAW),
    Spec {
        id: "W06",
        what: "connect to an abstract socket of the host",
        expect: Expect::Refused(&[ECONNREFUSED]),
        attempt: |baits| abstract_socket(&baits.socket),
    },
    Spec { id: "W07", what: "ask a name server", expect: UNREACHABLE, attempt: |_| v4([192, 0, 2, 53], 53, SOCK_DGRAM) },
    Spec {
        id: "W08",
        what: "bytes in /etc/resolv.conf",
        expect: Expect::Value(0),
        attempt: |_| {
            let mut buffer = [0u8; 64];
            read_into(c"/etc/resolv.conf", &mut buffer).map(|text| text.len() as i64)
        },
    },
    Spec {
        id: "W10",
        what: "environment of process 1",
        expect: Expect::Refused(&[EACCES, EPERM, ENOENT]),
        attempt: |_| open(c"/proc/1/environ", libc::O_RDONLY),
    },
];

fn socket(family: i32, kind: i32, protocol: i32) -> Result<i32, sys::Errno> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    check(call!(libc::SYS_socket, family, kind, protocol)).map(|fd| fd as i32)
}

fn connect(fd: i32, address: &[u8]) -> Attempted {
    let result = check(call!(libc::SYS_connect, fd, address.as_ptr(), address.len()));
    sys::close(fd);
    result
}

/// Waits for the answer, which on loopback comes at once; elsewhere a connection that is begun is a failure already.
fn loopback(port: u16) -> Attempted {
    let fd = socket(AF_INET, SOCK_STREAM, 0)?;
    check(call!(libc::SYS_fcntl, fd, libc::F_SETFL, 0))?;
    connect_v4(fd, [127, 0, 0, 1], port)
}

fn v4(address: [u8; 4], port: u16, kind: i32) -> Attempted {
    connect_v4(socket(AF_INET, kind, 0)?, address, port)
}

fn connect_v4(fd: i32, address: [u8; 4], port: u16) -> Attempted {
    // `struct sockaddr_in`: family, port and address in network order, 8 bytes of nothing.
    let [low, high] = (AF_INET as u16).to_ne_bytes();
    let [port_high, port_low] = port.to_be_bytes();
    let [a, b, c, d] = address;
    connect(fd, &[low, high, port_high, port_low, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn v6() -> Attempted {
    let fd = socket(AF_INET6, SOCK_STREAM, 0)?;
    // `struct sockaddr_in6`: family, port 443, flow, 2001:db8::1, scope.
    let [low, high] = (AF_INET6 as u16).to_ne_bytes();
    let head = [low, high, 1, 187, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8];
    let mut address = [0u8; 28];
    for (place, byte) in address.iter_mut().zip(head) {
        *place = byte;
    }
    if let Some(last) = address.get_mut(23) {
        *last = 1;
    }
    connect(fd, &address)
}

fn abstract_socket(name: &[u8]) -> Attempted {
    let fd = socket(AF_UNIX, SOCK_STREAM, 0)?;
    let mut address = [0u8; 110];
    let family = (AF_UNIX as u16).to_ne_bytes();
    let bytes = family.iter().chain([0u8].iter()).chain(name.iter());
    let mut length = 0;
    for (place, byte) in address.iter_mut().zip(bytes) {
        *place = *byte;
        length += 1;
    }
    connect(fd, address.get(..length).unwrap_or(&[]))
}

/// Some kernels give every namespace idle tunnel devices; only what is up counts.
fn interfaces() -> Attempted {
    let mut buffer = [0u8; 4096];
    let text = read_into(c"/proc/net/dev", &mut buffer)?;
    let fd = socket(AF_INET, SOCK_DGRAM, 0)?;
    let mut up = 0;
    for line in text.split(|byte| *byte == b'\n').skip(2) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or(&[]).trim_ascii();
        if !name.is_empty() && name != b"lo" && is_up(fd, name) {
            up += 1;
        }
    }
    sys::close(fd);
    Ok(up)
}

fn is_up(fd: i32, name: &[u8]) -> bool {
    let mut request = [0u8; 40];
    for (place, byte) in request.iter_mut().take(15).zip(name) {
        *place = *byte;
    }
    let asked = check(call!(libc::SYS_ioctl, fd, libc::SIOCGIFFLAGS, request.as_mut_ptr()));
    asked.is_err() || request.get(16).is_none_or(|flags| i32::from(*flags) & libc::IFF_UP != 0)
}
