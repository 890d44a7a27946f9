//! CONNECT: whom the TLS inside is meant for, what is not TLS, and what tunnels carry.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use errand_egress::{Grant, HostGrant, Times};

use crate::upstream::{echo, host};
use crate::{PATIENCE, Setup, World, ask_tunnel, status};

/// A real beginning of TLS that names this host, or none.
pub(crate) fn client_hello(name: &str, names_host: bool) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = names_host;
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// What comes back from the host that echoes, or what the proxy says instead.
fn carried(world: &World, authority: &str, bytes: &[u8]) -> Vec<u8> {
    let (mut stream, head) = world.tunnel(authority);
    assert!(status(&head).starts_with("200 "), "{head}");
    // The proxy may have closed it already.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back);
    back
}

const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

#[test]
fn the_name_in_the_handshake_must_be_that_of_the_tunnel() {
    let port = echo();
    let world = Setup::to(port).world();
    let authority = format!("a.example:{port}");
    for name in ["a.example", "A.EXAMPLE"] {
        let hello = client_hello(name, true);
        assert_eq!(carried(&world, &authority, &hello), hello, "the control: {name}");
    }
    for (name, names_host) in [("b.example", true), ("evil.a.example", true), ("a.example", false), ("127.0.0.1", true)] {
        assert_eq!(carried(&world, &authority, &client_hello(name, names_host)), ALERT, "{name}");
    }
    let usage = world.egress.usage();
    assert_eq!(usage.refused, 4);
    assert!(
        usage.last_refusals.iter().all(|(code, text)| code == "egress_denied" && text.contains("a.example")),
        "{usage:?}"
    );
}

#[test]
fn a_hello_in_pieces_is_read_and_one_that_never_ends_is_not_waited_for() {
    let port = echo();
    let times = Times { head: std::time::Duration::from_millis(300), ..Times::default() };
    let world = Setup { times, ..Setup::to(port) }.world();
    let hello = client_hello("a.example", true);
    let (mut stream, _) = world.tunnel(&format!("a.example:{port}"));
    stream.set_nodelay(true).unwrap();
    for byte in &hello {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, hello);
    let (mut slow, _) = world.tunnel(&format!("a.example:{port}"));
    slow.write_all(&hello[..20]).unwrap();
    let mut back = Vec::new();
    let _ = slow.read_to_end(&mut back);
    assert_eq!(back, ALERT);
}

/// A relay in the box that speaks CONNECT once more, plain HTTP, SSH, or TLS that says it is longer than any.
#[test]
fn what_is_no_tls_goes_through_no_tunnel_unless_it_is_granted() {
    let port = echo();
    let authority = format!("a.example:{port}");
    let nested = format!("CONNECT b.example:{port} HTTP/1.1\r\nHost: b.example:{port}\r\n\r\n");
    let huge: Vec<u8> = [&[22, 3, 1, 0x3f, 0xff, 1, 0xff, 0xff, 0xff][..], &[0; 100_000]].concat();
    let others: [&[u8]; 6] =
        [nested.as_bytes(), b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", &[22, 9, 9, 9, 9, 9], &huge, b""];
    let world = Setup::to(port).world();
    for bytes in others {
        let back = carried(&world, &authority, bytes);
        // A connection that is reset may lose the alert; nothing of the host's comes back in either case.
        assert!(back == ALERT || back.is_empty(), "{bytes:?}: {back:?}");
    }
    assert_eq!(world.egress.usage().refused, 6);
    assert_eq!(world.egress.usage().bytes_up, 0);
    // The control: where plain text is granted it passes, to this host alone.
    let world = Setup::plain_to(port).world();
    for bytes in &others[..3] {
        assert_eq!(carried(&world, &authority, bytes), *bytes);
    }
}

#[test]
fn tunnels_that_would_hide_a_method_are_refused() {
    let port = echo();
    let host = HostGrant::parse(&format!("a.example:{port}")).unwrap().only(&["GET".into()]).unwrap();
    let world = Setup { grant: Grant::new(vec![host]).unwrap(), ..Setup::to(port) }.world();
    let (_, head) = world.tunnel(&format!("a.example:{port}"));
    assert_eq!(status(&head), "403 egress_denied");
    assert!(
        world
            .ask(format!("PUT http://a.example:{port}/ HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n"))
            .contains("other methods")
    );
}

#[test]
fn connect_is_taken_in_its_one_form_only() {
    let port = echo();
    let world = Setup::to(port).world();
    let a = format!("a.example:{port}");
    assert!(status(&world.tunnel(&a).1).starts_with("200 "), "the control");
    for request in [
        "CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n".to_owned(),
        format!("CONNECT {a} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {a} HTTP/1.1\r\nHost: b.example:{port}\r\n\r\n"),
        format!("CONNECT {a} HTTP/1.1\r\nHost: {a}\r\nHost: {a}\r\n\r\n"),
        format!("CONNECT {a} HTTP/1.1\r\nHost: {a}\r\nContent-Length: 5\r\n\r\nhello"),
        format!("CONNECT {a} HTTP/1.1\r\nHost: {a}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("CONNECT http://{a}/ HTTP/1.1\r\nHost: {a}\r\n\r\n"),
    ] {
        let answer = world.ask(&request);
        assert!(["400 ", "403 "].iter().any(|code| status(&answer).starts_with(code)), "{request}: {answer}");
    }
    assert_eq!(world.egress.usage().allowed, 1);
}

/// A WebSocket: it is upgraded inside of the tunnel, and then both sides speak when they like.
#[test]
fn a_websocket_goes_through_a_tunnel() {
    let port = host(|mut stream| {
        let request = crate::head(&mut stream);
        assert!(request.contains("Upgrade: websocket"), "{request}");
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").unwrap();
        let mut frame = [0u8; 9];
        for _ in 0..3 {
            stream.write_all(b"\x81\x04push").unwrap();
            stream.read_exact(&mut frame).unwrap();
            stream.write_all(&frame).unwrap();
        }
    });
    let world = Setup::plain_to(port).world();
    let (mut stream, _) = world.tunnel(&format!("a.example:{port}"));
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").unwrap();
    assert!(crate::head(&mut stream).contains("101 Switching"));
    for _ in 0..3 {
        let mut push = [0u8; 6];
        stream.read_exact(&mut push).unwrap();
        assert_eq!(&push, b"\x81\x04push");
        stream.write_all(b"\x81\x83maskabc").unwrap();
        let mut back = [0u8; 9];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"\x81\x83maskabc");
    }
    // Outside of a tunnel the proxy upgrades nothing: the host is asked an ordinary question.
    let (port, told) = crate::upstream::http(crate::upstream::HELLO);
    let world = Setup::to(port).world();
    let request = format!(
        "GET http://a.example:{port}/ HTTP/1.1\r\nHost: a.example:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
    let mut stream = world.connect();
    stream.write_all(request.as_bytes()).unwrap();
    assert!(status(&crate::head(&mut stream)).starts_with("200 "));
    assert!(!told.recv().unwrap().to_ascii_lowercase().contains("upgrade"));
}

#[test]
fn half_of_a_tunnel_may_be_closed() {
    // The host answers only once it has heard everything.
    let port = host(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).unwrap();
    });
    let world = Setup::plain_to(port).world();
    let back = carried(&world, &format!("a.example:{port}"), &[7; 100_000]);
    assert_eq!(String::from_utf8(back).unwrap(), "100000 bytes");
    // And the other half: the host is done at once, and still listens.
    let (heard, hearing) = std::sync::mpsc::channel();
    let port = host(move |mut stream| {
        stream.write_all(b"done").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        heard.send(all.len()).unwrap();
    });
    let world = Setup::plain_to(port).world();
    let (mut stream, _) = world.tunnel(&format!("a.example:{port}"));
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"done");
    stream.write_all(&[7; 100_000]).unwrap();
    drop(stream);
    assert_eq!(hearing.recv_timeout(PATIENCE).unwrap(), 100_000);
}

#[test]
fn a_host_that_resets_ends_the_tunnel() {
    let port = host(|mut stream| {
        let mut byte = [0u8; 1];
        stream.read_exact(&mut byte).unwrap();
        // What it has not read makes the close a reset.
    });
    let world = Setup::plain_to(port).world();
    let (mut stream, _) = world.tunnel(&format!("a.example:{port}"));
    let _ = stream.write_all(&[7; 1000]);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    // Nobody listens there any longer: the tunnel is not even begun.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let world = Setup::plain_to(port).world();
    let mut stream: TcpStream = world.connect();
    assert_eq!(status(&ask_tunnel(&mut stream, &format!("a.example:{port}"))), "502 egress_unreachable");
}
