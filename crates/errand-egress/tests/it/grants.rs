//! Grants of everything, grants with exceptions, and grants that are replaced while connections stand.

use std::io::{Read, Write};
use std::sync::Arc;

use errand_egress::{Grant, HostGrant, Pattern};

use crate::upstream::{HELLO, echo, http};
use crate::{Names, Setup, status};

/// All that is public, and this machine's loopback only where it is an exception.
#[test]
fn everything_public_is_not_everything() {
    let (port, _told) = http(HELLO);
    let everything = format!("*:{port}");
    let names = Names::default()
        .with("a.example", "127.0.0.1")
        .with("inside.example", "10.0.0.7")
        .with("cloud.example", "169.254.169.254");
    let setup = Setup { names: Arc::new(names), ..Setup::to(port).granting(&[&everything]) };
    let world = setup.world();
    assert_eq!(status(&world.get(&format!("http://a.example:{port}/"))), "200 OK");
    assert_eq!(status(&world.get(&format!("http://127.0.0.1:{port}/"))), "200 OK");
    for host in [
        "inside.example",
        "cloud.example",
        "10.0.0.7",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "0xa000007",
        "[fd00::1]",
    ] {
        let answer = world.get(&format!("http://{host}:{port}/"));
        assert_eq!(status(&answer), "403 egress_denied", "{host}: {answer}");
        assert_eq!(status(&world.tunnel(&format!("{host}:{port}")).1), "403 egress_denied", "{host}");
    }
    assert_eq!(status(&world.get("http://a.example:1/")), "403 egress_denied", "another port");
}

#[test]
fn an_address_that_is_denied_is_not_connected_to_whatever_name_leads_there() {
    let (port, _told) = http(HELLO);
    let setup = Setup::to(port).granting(&[&format!("a.example:{port}"), &format!("127.0.0.0/8:{port}")]);
    let deny = vec![Pattern::parse("127.0.0.0/30").unwrap()];
    let world = Setup { grant: Grant { deny, ..setup.grant.clone() }, ..setup }.world();
    for host in ["a.example", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433"] {
        let answer = world.get(&format!("http://{host}:{port}/"));
        assert!(status(&answer) == "403 egress_denied" && answer.contains("was denied"), "{host}: {answer}");
    }
    let (port, _told) = http(HELLO);
    let setup = Setup::to(port);
    let deny = vec![Pattern::parse("127.0.1.0/24").unwrap()];
    let world = Setup { grant: Grant { deny, ..setup.grant.clone() }, ..setup }.world();
    assert_eq!(status(&world.get(&format!("http://a.example:{port}/"))), "200 OK", "the control");
}

#[test]
fn a_range_means_addresses_that_are_written_out_and_no_name_is_looked_up_for_it() {
    let (port, _told) = http(HELLO);
    let setup = Setup::to(port).granting(&[&format!("127.0.0.0/8:{port}")]);
    let names = Arc::clone(&setup.names);
    let world = setup.world();
    assert_eq!(status(&world.get(&format!("http://127.0.0.1:{port}/"))), "200 OK");
    assert_eq!(status(&world.get(&format!("http://a.example:{port}/"))), "403 egress_denied");
    assert_eq!(names.asked.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn when_a_grant_is_replaced_what_stood_by_it_ends_and_what_comes_is_decided_anew() {
    let port = echo();
    let world = Setup::plain_to(port).world();
    let authority = format!("a.example:{port}");
    let (mut tunnel, answer) = world.tunnel(&authority);
    assert_eq!(status(&answer), "200 OK");
    tunnel.write_all(b"x").unwrap();
    assert_eq!(tunnel.read(&mut [0]).unwrap(), 1);
    // One whose request is not even whole yet is decided by what comes after.
    let mut half = world.connect();
    half.write_all(format!("CONNECT {authority} HTTP/1.1\r\n").as_bytes()).unwrap();
    let before = world.egress.usage();
    world.egress.replace(Grant::none());
    assert!(matches!(tunnel.read(&mut [0]), Ok(0) | Err(_)), "it ended");
    let mut rest = Vec::new();
    let _ = half.write_all(format!("Host: {authority}\r\n\r\n").as_bytes());
    let _ = half.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    assert_eq!(status(&world.tunnel(&authority).1), "403 egress_denied");
    world.egress.replace(Grant::new(vec![HostGrant::parse(&authority).unwrap().plain()]).unwrap());
    assert_eq!(status(&world.tunnel(&authority).1), "200 OK");
    let after = world.egress.usage();
    assert!(
        after.bytes_up >= before.bytes_up && after.allowed == before.allowed + 1,
        "what passed stays counted: {after:?}"
    );
}

/// HTTP/2 by prior knowledge would carry many hosts over one connection; a proxy within a tunnel would hide where it goes.
#[test]
fn neither_http_2_nor_a_proxy_within_a_tunnel_gets_around_the_grant() {
    let (port, _told) = http(HELLO);
    let world = Setup::to(port).world();
    let answer = world.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(!answer.contains("200"), "{answer}");
    let (mut tunnel, answer) = world.tunnel(&format!("a.example:{port}"));
    assert_eq!(status(&answer), "200 OK");
    tunnel.write_all(b"CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n").unwrap();
    let mut told = Vec::new();
    let _ = tunnel.read_to_end(&mut told);
    assert!(!String::from_utf8_lossy(&told).contains("200"), "{told:?}");
    let refusals = world.egress.usage().last_refusals;
    assert!(refusals.iter().any(|(_, text)| text.contains("no TLS handshake")), "{refusals:?}");
}
