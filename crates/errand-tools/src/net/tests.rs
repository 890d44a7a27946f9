//! The client against real connections on loopback.

use super::server::{Answer, Server, Then};
use super::*;
use async_trait::async_trait;
use errand_core::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TIME: Duration = Duration::from_secs(20);

/// Every name is this machine.
struct Loopback;

#[async_trait]
impl Lookup for Loopback {
    async fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }
}

fn network(allow: &[&str]) -> Network {
    Network::with_lookup(allow, Arc::new(Loopback)).unwrap()
}

async fn get(network: &Network, url: &str, bytes_max: usize) -> Result<(u16, Read), Failure> {
    let request = Request::get(network.url(url)?);
    let response = network.send(request, NOW, TIME).await?;
    Ok((response.status.as_u16(), response.body.read(bytes_max).await?))
}

async fn code(server: &Server, bytes_max: usize) -> &'static str {
    get(&network(&[&server.address]), &server.url("/"), bytes_max).await.unwrap_err().error.code()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_is_not_allowed() {
    let server = Server::saying(Answer::ok("text/plain", "secret")).await;
    let port = server.address.rsplit(':').next().unwrap();
    let closed = network(&[]);
    for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "rebound.example", "localhost"] {
        let failure = get(&closed, &format!("http://{host}:{port}/"), 100).await.unwrap_err();
        assert_eq!((failure.error.code(), failure.sent), ("address_refused", false), "{host}");
    }
    assert_eq!(server.requests().len(), 0);
    for allow in [server.address.as_str(), "127.0.0.0/8", "127.0.0.1"] {
        assert_eq!(get(&network(&[allow]), &server.url("/"), 100).await.unwrap().1.bytes, b"secret", "{allow}");
    }
    let named = network(&[&format!("inner.example:{port}")]);
    assert_eq!(get(&named, &format!("http://inner.example:{port}/"), 100).await.unwrap().1.bytes, b"secret");
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let inner = Server::saying(Answer::ok("text/plain", "secret")).await;
    let port = inner.address.rsplit(':').next().unwrap().to_owned();
    for to in
        [format!("http://127.0.0.1:{port}/"), format!("http://inner.example:{port}/"), format!("http://0x7f.1:{port}/")]
    {
        let outer = Server::saying(Answer::redirect(302, &to)).await;
        assert_eq!(code(&outer, 100).await, "address_refused", "{to}");
    }
    assert_eq!(inner.requests().len(), 0);
    for (to, code_wanted) in [
        ("http://169.254.169.254/latest/", "address_refused"),
        ("ftp://a.example/", "redirect_refused"),
        ("http://u:p@127.0.0.1/", "url_invalid"),
    ] {
        assert_eq!(code(&Server::saying(Answer::redirect(301, to)).await, 100).await, code_wanted, "{to}");
    }
}

#[tokio::test]
async fn redirects_end() {
    let circle =
        Server::start(|_, request| Answer::redirect(302, if request.starts_with("GET /a") { "/b" } else { "/a" })).await;
    assert_eq!(code(&circle, 100).await, "redirect_refused");
    assert_eq!(circle.requests().len(), 3);
    let endless = Server::start(|number, _| Answer::redirect(302, &format!("/{number}"))).await;
    assert_eq!(code(&endless, 100).await, "redirect_refused");
    assert_eq!(endless.requests().len(), 11);
    let short = Server::start(|number, _| {
        if number < 10 { Answer::redirect(307, &format!("/{number}")) } else { Answer::ok("text/plain", "end") }
    })
    .await;
    assert_eq!(get(&network(&[&short.address]), &short.url("/"), 100).await.unwrap().1.bytes, b"end");
}

#[tokio::test]
async fn a_key_does_not_travel_to_another_origin() {
    let other = Server::saying(Answer::ok("text/plain", "")).await;
    let to = other.url("/next");
    let first = Server::start(move |_, _| Answer::redirect(307, &to)).await;
    let network = network(&["127.0.0.0/8"]);
    let mut request =
        Request { method: Method::POST, body: Some("body".into()), ..Request::get(network.url(&first.url("/")).unwrap()) };
    request.headers.insert("authorization", "Bearer k".parse().unwrap());
    request.headers.insert("x-api-key", "k".parse().unwrap());
    request.headers.insert("content-type", "text/plain".parse().unwrap());
    request.headers.insert(IDEMPOTENCY_KEY, "once".parse().unwrap());
    network.send(request, NOW, TIME).await.unwrap();
    assert!(first.requests()[0].contains("authorization: Bearer k"));
    let second = &other.requests()[0];
    assert!(
        second.starts_with("POST /next ") && second.ends_with("\r\n\r\nbody") && second.contains("idempotency-key: once"),
        "{second}"
    );
    assert!(!second.contains("authorization") && !second.contains("x-api-key") && !second.contains("cookie"), "{second}");
}

#[tokio::test]
async fn a_post_becomes_a_get_without_its_body() {
    let server =
        Server::start(|number, _| if number == 0 { Answer::redirect(303, "/done") } else { Answer::ok("text/plain", "") })
            .await;
    let network = network(&[&server.address]);
    let mut request =
        Request { method: Method::POST, body: Some("body".into()), ..Request::get(network.url(&server.url("/")).unwrap()) };
    request.headers.insert("content-type", "text/plain".parse().unwrap());
    network.send(request, NOW, TIME).await.unwrap();
    let second = &server.requests()[1];
    assert!(
        second.starts_with("GET /done ") && second.ends_with("\r\n\r\n") && !second.contains("content-type"),
        "{second}"
    );
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_cap() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1073741824\r\n\r\n";
    let server = Server::saying(Answer::raw(head).then(Then::Repeat(vec![b'x'; 1 << 16], 1 << 14))).await;
    let (_, read) = get(&network(&[&server.address]), &server.url("/"), 1 << 20).await.unwrap();
    assert_eq!((read.bytes.len(), read.whole), (1 << 20, false));
}

#[tokio::test]
async fn a_compressed_body_is_counted_after_decompression() {
    let bomb = gzip(&vec![0; 64 << 20]);
    let server = Server::saying(Answer::new("200 OK", "content-encoding: gzip\r\n", &bomb)).await;
    let (_, read) = get(&network(&[&server.address]), &server.url("/"), 1 << 20).await.unwrap();
    assert_eq!((read.bytes.len(), read.whole), (1 << 20, false));
    let small = Server::saying(Answer::new("200 OK", "content-encoding: gzip\r\n", gzip(b"hello"))).await;
    let (_, read) = get(&network(&[&small.address]), &small.url("/"), 5).await.unwrap();
    assert_eq!((read.bytes.as_slice(), read.whole), (&b"hello"[..], true));
    assert!(small.requests()[0].contains("gzip"));
}

#[tokio::test]
async fn broken_answers_are_told_apart() {
    for (answer, wanted) in [
        (Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!"), "response_broken"),
        (Answer::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n"), "response_broken"),
        (Answer::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), "response_broken"),
        (Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"), "response_broken"),
        (Answer::raw("SSH-2.0-OpenSSH_9.9\r\n"), "response_broken"),
        (Answer::raw(""), "response_broken"),
        (Answer::raw("HTTP/1.1 200 OK\r\nx-a"), "response_broken"),
        (Answer::new("200 OK", "content-encoding: gzip\r\n", "this is not gzip"), "response_broken"),
        (Answer::new("200 OK", "content-encoding: gzip\r\n", &gzip(&[7; 9000])[..40]), "response_broken"),
        (Answer::new("200 OK", "content-encoding: zstd\r\n", "(\u{b5}/\u{fd}"), "response_broken"),
        (Answer::new("200 OK", &format!("x-long: {}\r\n", "x".repeat(66_000)), ""), "response_broken"),
        (Answer::new("200 OK", &format!("x-long: {}\r\n", "x".repeat(1 << 20)), ""), "response_broken"),
        (Answer::new("200 OK", &"x: y\r\n".repeat(5000), ""), "response_broken"),
    ] {
        let shown = String::from_utf8_lossy(&answer.bytes[..answer.bytes.len().min(80)]).into_owned();
        assert_eq!(code(&Server::saying(answer).await, 1 << 20).await, wanted, "{shown}");
    }
    // More than was announced is not read; nothing at all is a body too.
    let longer = Server::saying(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfive!")).await;
    assert_eq!(get(&network(&[&longer.address]), &longer.url("/"), 100).await.unwrap().1.bytes, b"five");
    let unframed = Server::saying(Answer::raw("HTTP/1.0 200 OK\r\n\r\nuntil the end")).await;
    assert_eq!(get(&network(&[&unframed.address]), &unframed.url("/"), 100).await.unwrap().1.bytes, b"until the end");
}

#[tokio::test]
async fn silence_ends_a_body() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!";
    let server = Server::saying(Answer::raw(head).then(Then::Hold)).await;
    let mut network = network(&[&server.address]);
    network.idle = Duration::from_millis(50);
    let failure = get(&network, &server.url("/"), 100).await.unwrap_err();
    assert_eq!(failure.error.code(), "timed_out");
    assert!(failure.to_string().contains("sent nothing more"), "{failure}");
    // Who knows that it may take longer says so: then only the time of the call ends it.
    let request = Request { silence: Some(TIME), ..Request::get(network.url(&server.url("/")).unwrap()) };
    let response = network.send(request, NOW, Duration::from_millis(200)).await.unwrap();
    let error = response.body.read(100).await.unwrap_err();
    assert!(error.to_string().contains("did not end its answer"), "{error}");
}

#[tokio::test]
async fn a_call_ends_with_its_time() {
    let mute = Server::saying(Answer::raw("").then(Then::Hold)).await;
    let network = network(&[&mute.address]);
    for (method, sent) in [(Method::GET, false), (Method::POST, true)] {
        let request = Request { method, ..Request::get(network.url(&mute.url("/")).unwrap()) };
        let failure = network.send(request, NOW, Duration::from_millis(50)).await.err().unwrap();
        assert_eq!((failure.error.code(), failure.sent), ("timed_out", sent));
    }
    let dripping = Server::saying(Answer::raw("HTTP/1.1 200 OK\r\n\r\n").then(Then::Repeat(b"x".to_vec(), u64::MAX))).await;
    let network = super::tests::network(&[&dripping.address]);
    let response =
        network.send(Request::get(network.url(&dripping.url("/")).unwrap()), NOW, Duration::from_millis(50)).await.unwrap();
    assert_eq!(response.body.read(usize::MAX).await.unwrap_err().code(), "timed_out");
}

#[tokio::test]
async fn what_may_have_taken_hold_is_told_apart_from_what_cannot_have() {
    let post = async |network: &Network, url: &str| {
        let request = Request { method: Method::POST, ..Request::get(network.url(url).unwrap()) };
        let failure = network.send(request, NOW, TIME).await.err().unwrap();
        (failure.error.code(), failure.sent)
    };
    let dies = Server::saying(Answer::raw("")).await;
    assert_eq!(post(&network(&[&dies.address]), &dies.url("/")).await, ("response_broken", true));
    assert_eq!(dies.requests().len(), 1, "it is not sent a second time");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(post(&network(&[&free]), &format!("http://{free}/")).await, ("connect_failed", false));
    assert_eq!(post(&network(&[&free]), "http://inner.example/").await, ("address_refused", false));
    let moved = Server::saying(Answer::redirect(303, "http://10.0.0.1/")).await;
    assert_eq!(post(&network(&[&moved.address]), &moved.url("/")).await, ("address_refused", true));
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_alone() {
    let server = Server::start(|number, _| match number {
        0 | 4 | 6 => Answer::new("503 Busy", "", "x"),
        1 => Answer::raw(""),
        2 => Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!"),
        3 | 5 => Answer::new("500 Broken", "", "x"),
        _ => Answer::ok("text/plain", "well"),
    })
    .await;
    let network = network(&[&server.address]);
    let at = async |seconds: u64| {
        let request = Request::get(network.url(&server.url("/")).unwrap());
        let response = network.send(request, NOW.plus(seconds * 1000), TIME).await?;
        Ok::<_, Failure>(response.body.read(100).await?)
    };
    for _ in 0..5 {
        let _ = at(0).await;
    }
    let failure = at(29).await.unwrap_err();
    assert_eq!((failure.error.code(), server.requests().len()), ("endpoint_unavailable", 5));
    assert!(failure.to_string().contains("2027-01-15T08:00:30Z"), "{failure}");
    at(30).await.unwrap();
    assert_eq!(at(31).await.unwrap_err().error.code(), "endpoint_unavailable");
    at(90).await.unwrap();
    assert_eq!(at(209).await.unwrap_err().error.code(), "endpoint_unavailable");
    assert_eq!(at(210).await.unwrap().bytes, b"well");
    assert_eq!(at(210).await.unwrap().bytes, b"well");
}
