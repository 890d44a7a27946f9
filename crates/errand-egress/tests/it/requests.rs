//! Requests with a whole URL: what the host sees of them, and requests that could be read in two ways.

use std::io::{Read, Write};

use crate::upstream::{HELLO, host, http};
use crate::{Setup, status};

#[test]
fn a_request_is_made_anew_without_what_concerns_the_connection() {
    let (port, told) = http(HELLO);
    let world = Setup::to(port).world();
    let request = format!(
        "POST http://A.EXAMPLE:{port}/p?q=1#f HTTP/1.1\r\nHost: a.example:{port}\r\nX-Own: 1\r\nX-Hop: 1\r\nContent-Length: 4\r\n\
         Connection: close, X-Hop\r\nProxy-Connection: close\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\n\r\nbody"
    );
    let answer = world.ask(request);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    let seen = told.recv().unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("post /p?q=1 http/1.1\r\n") && seen.ends_with("\r\n\r\nbody"), "{seen}");
    assert!(seen.contains("x-own: 1\r\n") && seen.contains("content-length: 4\r\n"), "{seen}");
    for hop in ["x-hop", "proxy-", "te: ", "via", "forwarded"] {
        assert!(!seen.contains(&format!("\r\n{hop}")), "{hop}: {seen}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_or_reaches_the_host_in_one() {
    let (port, told) = http(HELLO);
    let world = Setup::to(port).world();
    let a = format!("a.example:{port}");
    let smuggled = format!("GET http://{a}/smuggled HTTP/1.1\r\nHost: {a}\r\n\r\n");
    let refused = [
        format!("GET http://{a}/ HTTP/1.1\r\n\r\n"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost: b.example:{port}\r\n\r\n"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost: {a}\r\nHost: b.example:{port}\r\n\r\n"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost: {a}\r\nHost: {a}\r\n\r\n"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost: {a}, b.example\r\n\r\n"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost : {a}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {a}\r\n\r\n"),
        format!("GET ftp://{a}/ HTTP/1.1\r\nHost: {a}\r\n\r\n"),
        format!("POST http://{a}/ HTTP/1.1\r\nHost: {a}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody!"),
        format!("POST http://{a}/ HTTP/1.1\r\nHost: {a}\r\nContent-Length: 4, 5\r\n\r\nbody!"),
        format!("POST http://{a}/ HTTP/1.1\r\nHost: {a}\r\nContent-Length: +4\r\n\r\nbody"),
        format!("POST http://{a}/ HTTP/1.1\r\nHost: {a}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("GET http://{a}/ HTTP/1.1\r\nHost: {a}\r\nX: a\r\n b\r\n\r\n"),
        format!("GET http://{a}/ HTTP/9.9\r\nHost: {a}\r\n\r\n"),
        "\u{0}\u{1}garbage\r\n\r\n".to_owned(),
    ];
    for request in &refused {
        let answer = world.ask(request);
        // What hyper itself refuses it closes, with 400 where it can say so.
        assert!(answer.is_empty() || status(&answer).starts_with('4'), "{request}: {answer}");
    }
    assert_eq!(world.egress.usage().allowed, 0, "{:?}", world.egress.usage());
    assert!(told.try_recv().is_err());
    // Both lengths at once: whichever counts, the host sees one request, framed in one way.
    let both = format!(
        "POST http://{a}/ HTTP/1.1\r\nHost: {a}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    world.ask(&both);
    for seen in told.try_iter() {
        let seen = seen.to_ascii_lowercase();
        assert!(!(seen.contains("content-length") && seen.contains("transfer-encoding")), "{seen}");
        assert!(!seen.contains("smuggled"), "{seen}");
    }
    assert!(world.get(&format!("http://{a}/")).ends_with("hello"), "the control");
}

#[test]
fn a_body_of_unknown_length_is_framed_anew() {
    let (port, told) = http(HELLO);
    let world = Setup::to(port).world();
    let request = format!(
        "POST http://a.example:{port}/ HTTP/1.1\r\nHost: a.example:{port}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    );
    assert!(world.ask(request).ends_with("hello"));
    let seen = told.recv().unwrap();
    assert!(seen.contains("abc") && seen.contains("de") && !seen.contains("ext=1") && !seen.contains("X-Trailer"), "{seen}");
}

#[test]
fn huge_heads_and_too_many_headers_are_refused_both_ways() {
    let (port, told) = http(HELLO);
    let world = Setup::to(port).world();
    let a = format!("a.example:{port}");
    let long = "x".repeat(300_000);
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    for header in [format!("X: {long}\r\n"), many, format!("X: {}\r\n", "y".repeat(10 << 20))] {
        let mut stream = world.connect();
        // The proxy may close before it has read all.
        let _ = stream.write_all(format!("GET http://{a}/ HTTP/1.1\r\nHost: {a}\r\n{header}\r\n").as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || status(&answer).starts_with("431 ") || status(&answer).starts_with("400 "),
            "{answer:.200}"
        );
    }
    assert!(told.try_recv().is_err());
    assert!(world.get(&format!("http://{a}/")).ends_with("hello"), "the control");
    let (port, _told) = http(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 5\r\n\r\nhello", "y".repeat(1 << 20)));
    let world = Setup::to(port).world();
    assert_eq!(status(&world.get(&format!("http://a.example:{port}/"))), "502 egress_unreachable");
}

#[test]
fn answers_without_a_body_keep_their_length_and_broken_ones_are_told() {
    for (method, said, expected) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "200 OK"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", "304 Not Modified"),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", "200 OK"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "502 egress_unreachable"),
        ("GET", "nonsense", "502 egress_unreachable"),
        ("GET", "", "502 egress_unreachable"),
        ("GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "502 egress_unreachable"),
    ] {
        let (port, _told) = http(said);
        let world = Setup::to(port).world();
        let a = format!("a.example:{port}");
        let answer = world.ask(format!("{method} http://{a}/ HTTP/1.1\r\nHost: {a}\r\nConnection: close\r\n\r\n"));
        assert_eq!(status(&answer), expected, "{said}: {answer}");
        if said.contains("12345") {
            assert!(answer.contains("content-length: 12345"), "{answer}");
        }
        if said.contains("to the end") {
            assert!(answer.contains("to the end"), "{answer}");
        }
    }
}

#[test]
fn several_requests_on_one_connection_are_each_decided() {
    let (port, _told) = http(HELLO);
    let world = Setup::to(port).world();
    let mut stream = world.connect();
    for _ in 0..3 {
        stream
            .write_all(format!("GET http://a.example:{port}/ HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n").as_bytes())
            .unwrap();
        let head = crate::head(&mut stream);
        assert_eq!(status(&head), "200 OK");
        let mut body = [0u8; 5];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"hello");
    }
    stream.write_all(format!("GET http://b.example:{port}/ HTTP/1.1\r\nHost: b.example:{port}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(status(&crate::head(&mut stream)), "403 egress_denied");
}

#[test]
fn whoever_goes_in_the_middle_of_an_answer_ends_it_at_the_host() {
    let (gone, going) = std::sync::mpsc::channel();
    let port = host(move |mut stream| {
        crate::head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"5\r\nhello\r\n").is_ok() {}
        gone.send(()).unwrap();
    });
    let world = Setup::to(port).world();
    let mut stream = world.connect();
    stream.write_all(format!("GET http://a.example:{port}/ HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(status(&crate::head(&mut stream)), "200 OK");
    drop(stream);
    going.recv_timeout(crate::PATIENCE).unwrap();
    assert!(world.egress.usage().bytes_down > 0);
}
