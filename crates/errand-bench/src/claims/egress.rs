//! What the way out of a box costs: a request through the proxy beside one without it, and a stream likewise, in turns.
//!
//! Both ends are threads of this process, and the door is on this machine's loopback in place of a box's, which is the same
//! code of the kernel's.

use super::table::{Goal, Times, row};
use anyhow::{Context, ensure};
use errand_egress::{AllowList, Grant, HostGrant, Proxy, ProxyConfig, Reach, System, Times as Patience};
use errand_sandbox::WayOut;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one stream.
const STREAM_BYTES: usize = 64 << 20;
/// Streams each way; requests are measured in each round.
const STREAMS: usize = 9;

pub(crate) fn measure(rounds: usize) -> anyhow::Result<()> {
    let (answers, streams) = (host(answer)?, host(stream)?);
    let both = [answers, streams].map(|host| host.to_string());
    let hosts = both.iter().map(|host| HostGrant::parse(host).map(HostGrant::plain)).collect::<Result<_, _>>()?;
    let grant = Grant { bytes_max: u64::MAX / 2, ..Grant::new(hosts)? };
    let reach = Reach::new(AllowList::parse(&both)?, Arc::new(System));
    let proxy = Proxy::start(ProxyConfig { reach, times: Patience::default(), tls: None })?;
    let egress = proxy.way_out("bench", grant, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let door = listener.local_addr()?;
    let open = egress.open(listener)?;

    let [mut direct, mut through]: [Times; 2] = Default::default();
    for _ in 0..rounds.max(1) {
        direct.take(|| ask(answers, "/", answers))?;
        through.take(|| ask(door, &format!("http://{answers}/"), answers))?;
    }
    let [mut straight, mut tunnelled]: [Times; 2] = Default::default();
    for _ in 0..STREAMS {
        straight.push(read_all(TcpStream::connect(streams)?)?);
        tunnelled.push(read_all(tunnel(door, streams)?)?);
    }
    drop(open);
    row("request through the proxy / direct, on loopback", &mut through, Some(&mut direct), Goal { p50: None, p99: None });
    row(
        "64 MiB through a tunnel / direct, on loopback",
        &mut tunnelled,
        Some(&mut straight),
        Goal { p50: Some(2.0), p99: None },
    );
    let added = through.quantile(50).zip(direct.quantile(50)).map_or(f64::NAN, |(ours, peer)| ours - peer);
    println!("the proxy adds {added:.3} ms to a request (goal 1 {})", if added <= 1.0 { "met" } else { "missed" });
    Ok(())
}

/// A host that does the same with every connection.
fn host(attend: fn(TcpStream)) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || attend(stream));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) {
    let mut request = [0u8; 4096];
    // Who asks has gone if either fails.
    let _ = stream.read(&mut request);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}

fn stream(mut stream: TcpStream) {
    let piece = vec![0u8; 1 << 20];
    for _ in 0..STREAM_BYTES / piece.len() {
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
}

fn ask(to: SocketAddr, target: &str, host: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    ensure!(said.ends_with(b"hello"), "the host said {:?}", String::from_utf8_lossy(&said));
    Ok(())
}

fn tunnel(door: SocketAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(door)?;
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0u8; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).context("the proxy closed the tunnel")?;
        head.push(byte[0]);
    }
    ensure!(head.starts_with(b"HTTP/1.1 200"), "the proxy said {:?}", String::from_utf8_lossy(&head));
    Ok(stream)
}

/// How long it takes to read a whole stream.
fn read_all(mut stream: TcpStream) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut piece = vec![0u8; 256 << 10];
    let mut whole = 0;
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            count => whole += count,
        }
    }
    ensure!(whole == STREAM_BYTES, "{whole} bytes came of {STREAM_BYTES}");
    Ok(began.elapsed())
}
