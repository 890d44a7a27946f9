//! Hosts on loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::PATIENCE;

/// A host that does the same with every connection, each on a thread of its own; gives its port.
pub(crate) fn host(attend: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let attend = attend.clone();
            thread::spawn(move || attend(stream));
        }
    });
    port
}

/// A host that sends everything back.
pub(crate) fn echo() -> u16 {
    host(|mut stream| {
        let mut back = stream.try_clone().unwrap();
        // Whoever asks may go away at any time.
        let _ = std::io::copy(&mut stream, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    })
}

/// A host that answers each request with `answer` and tells what it was asked: the head, and the body by its Content-Length.
pub(crate) fn http(answer: impl Into<String>) -> (u16, Receiver<String>) {
    let (tell, told) = channel();
    let answer = answer.into();
    let port = host(move |mut stream| {
        let mut seen = Vec::new();
        let mut piece = [0u8; 4096];
        while !is_whole(&seen) {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => seen.extend_from_slice(&piece[..count]),
            }
        }
        let _ = tell.send(String::from_utf8_lossy(&seen).into_owned());
        let _ = stream.write_all(answer.as_bytes());
    });
    (port, told)
}

fn is_whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
