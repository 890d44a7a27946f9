//! Secrets over TLS that the proxy speaks itself: the host sees them, the box never does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use errand_egress::{Pattern, Secret};
use errand_sandbox::{DOOR, WayOut};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::upstream::host;
use crate::{Setup, status};

/// A certificate for `a.example` that it signed itself, and its key: for tests alone.
const CERTIFICATE: &[u8] = include_bytes!("../fixtures/a.example.crt.der");
const KEY: &[u8] = include_bytes!("../fixtures/a.example.key.der");
/// Another for the same name.
const OTHER: &[u8] = include_bytes!("../fixtures/other.crt.der");
const VALUE: &str = "sk-not-for-boxes-0123456789";

/// A host that speaks TLS as `a.example`, sends the head of the request back as its body, and tells it; and what trusts it.
fn https(more: &'static str) -> (u16, Receiver<String>, Arc<rustls::ClientConfig>) {
    let certificate = CertificateDer::from(CERTIFICATE);
    let key = PrivateKeyDer::try_from(KEY).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (tell, told) = channel();
    let server = Arc::new(server);
    let port = host(move |stream: TcpStream| {
        let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&server)).unwrap(), stream);
        let (mut head, mut byte) = (Vec::new(), [0u8; 1]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nX-Echo: {VALUE}\r\n{more}Content-Length: {}\r\n\r\n{head}", head.len());
        // In pieces that cut the secret.
        for piece in answer.as_bytes().chunks(7) {
            let _ = stream.write_all(piece);
            let _ = stream.flush();
        }
        let _ = tell.send(head);
    });
    (port, told, trusting(CERTIFICATE))
}

fn trusting(certificate: &'static [u8]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(client.with_root_certificates(roots).with_no_client_auth())
}

fn setup(port: u16, tls: Arc<rustls::ClientConfig>, sees: &str) -> Setup {
    let secret = Secret::new("API_KEY", VALUE, vec![Pattern::parse(sees).unwrap()]).unwrap();
    Setup { tls: Some(tls), secrets: vec![secret], ..Setup::to(port) }
}

#[test]
fn the_host_sees_the_secret_and_the_box_never_does_though_the_host_echoes_it() {
    let (port, told, tls) = https("");
    let world = setup(port, tls, "a.example").world();
    let variables = world.egress.environment(DOOR);
    let (_, placeholder) = variables.iter().find(|(name, _)| name == "API_KEY").unwrap().clone();
    assert!(placeholder.starts_with("errand-secret-") && !placeholder.contains(VALUE));
    let a = format!("a.example:{port}");
    let request = |scheme: &str| {
        format!(
            "GET {scheme}://{a}/ HTTP/1.1\r\nHost: {a}\r\nAuthorization: Bearer {placeholder}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        )
    };
    let answer = world.ask(request("https"));
    assert_eq!(status(&answer), "200 OK", "{answer}");
    let seen = told.recv().unwrap();
    assert!(seen.contains(&format!("authorization: Bearer {VALUE}\r\n")), "{seen}");
    assert!(seen.contains("accept-encoding: identity\r\n"), "{seen}");
    assert!(!answer.contains(VALUE) && answer.contains(&format!("x-echo: {placeholder}")), "{answer}");
    assert!(answer.contains(&format!("authorization: Bearer {placeholder}")), "{answer}");
    assert!(!format!("{:?}", world.egress).contains(VALUE));
}

#[test]
fn no_other_host_and_nothing_unencrypted_sees_it() {
    let (port, told, tls) = https("");
    let world = setup(port, tls, "other.example").world();
    let variables = world.egress.environment(DOOR);
    let (_, placeholder) = variables.iter().find(|(name, _)| name == "API_KEY").unwrap();
    let a = format!("a.example:{port}");
    let request = format!("GET https://{a}/ HTTP/1.1\r\nHost: {a}\r\nX-Key: {placeholder}\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&world.ask(request)), "200 OK");
    assert!(told.recv().unwrap().contains(placeholder), "a host that may not see it sees the placeholder");

    let (port, told) = crate::upstream::http(crate::upstream::HELLO);
    let (_, _, tls) = https("");
    let world = setup(port, tls, "a.example").world();
    let variables = world.egress.environment(DOOR);
    let (_, placeholder) = variables.iter().find(|(name, _)| name == "API_KEY").unwrap();
    let a = format!("a.example:{port}");
    world.ask(format!("GET http://{a}/ HTTP/1.1\r\nHost: {a}\r\nX-Key: {placeholder}\r\nConnection: close\r\n\r\n"));
    assert!(told.recv().unwrap().contains(placeholder), "without TLS it is not swapped");
}

/// A host may keep what it was sent, and tell it to whoever asks next.
#[test]
fn it_is_hidden_also_where_the_request_held_none() {
    let (port, told, tls) = https("");
    let world = setup(port, tls, "a.example").world();
    let variables = world.egress.environment(DOOR);
    let (_, placeholder) = variables.iter().find(|(name, _)| name == "API_KEY").unwrap();
    let a = format!("a.example:{port}");
    let answer = world.ask(format!("GET https://{a}/{VALUE} HTTP/1.1\r\nHost: {a}\r\nConnection: close\r\n\r\n"));
    assert!(told.recv().unwrap().starts_with(&format!("GET /{VALUE} ")), "the control");
    assert_eq!(status(&answer), "200 OK", "{answer}");
    assert!(!answer.contains(VALUE) && answer.contains(&format!("x-echo: {placeholder}")), "{answer}");
    assert!(answer.contains(&format!("GET /{placeholder} ")), "{answer}");
}

#[test]
fn an_answer_in_which_it_could_not_be_hidden_is_refused() {
    let (port, _told, tls) = https("Content-Encoding: gzip\r\n");
    let world = setup(port, tls, "a.example").world();
    let variables = world.egress.environment(DOOR);
    let (_, placeholder) = variables.iter().find(|(name, _)| name == "API_KEY").unwrap();
    let a = format!("a.example:{port}");
    let with =
        world.ask(format!("GET https://{a}/ HTTP/1.1\r\nHost: {a}\r\nX-Key: {placeholder}\r\nConnection: close\r\n\r\n"));
    assert_eq!(status(&with), "502 egress_unreachable");
    let without = world.ask(format!("GET https://{a}/ HTTP/1.1\r\nHost: {a}\r\nConnection: close\r\n\r\n"));
    assert_eq!(status(&without), "200 OK", "the control");
}

#[test]
fn a_host_that_cannot_prove_who_it_is_hears_nothing() {
    let (port, told, _) = https("");
    let world = setup(port, trusting(OTHER), "a.example").world();
    let answer = world.get(&format!("https://a.example:{port}/"));
    assert_eq!(status(&answer), "502 egress_unreachable", "{answer}");
    assert!(told.recv().is_ok_and(|head| head.is_empty()));
}
