//! Bounds: bytes, time, connections, silence; and ends of every kind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use errand_egress::{Grant, Times};

use crate::upstream::{HELLO, echo, host, http};
use crate::{PATIENCE, Setup, connect, status};

/// A host that sends zeros as long as somebody takes them.
fn flood() -> u16 {
    host(|mut stream| while stream.write_all(&[0; 65536]).is_ok() {})
}

#[test]
fn bytes_are_counted_while_they_stream_and_never_exceed_what_was_granted() {
    for bytes_max in [0, 1, 1000, 300_000] {
        let port = flood();
        let setup = Setup::plain_to(port);
        let world = Setup { grant: Grant { bytes_max, ..setup.grant.clone() }, ..setup }.world();
        let (mut stream, head) = world.tunnel(&format!("a.example:{port}"));
        if bytes_max == 0 {
            assert_eq!(status(&head), "403 egress_used_up");
            continue;
        }
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.len() as u64 <= bytes_max, "{} of {bytes_max}", all.len());
        let usage = world.egress.usage();
        assert_eq!(usage.bytes_down, bytes_max, "{usage:?}");
        let (_, head) = world.tunnel(&format!("a.example:{port}"));
        assert_eq!(status(&head), "403 egress_used_up", "and nothing more after it");
        assert_eq!(usage.last_refusals[0].0, "egress_used_up");
    }
    // Upwards as well, and in requests; and one budget for all connections.
    let (port, _told) = http(HELLO);
    let setup = Setup::to(port);
    let world = Setup { grant: Grant { bytes_max: 1000, ..setup.grant.clone() }, ..setup }.world();
    let a = format!("a.example:{port}");
    assert!(world.get(&format!("http://{a}/")).ends_with("hello"), "the control");
    let body = "x".repeat(100_000);
    world
        .ask(format!("POST http://{a}/ HTTP/1.1\r\nHost: {a}\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n{body}"));
    let usage = world.egress.usage();
    assert!(usage.bytes_up + usage.bytes_down <= 1000, "{usage:?}");
    assert_eq!(status(&world.get(&format!("http://{a}/"))), "403 egress_used_up");
}

#[test]
fn when_the_time_is_over_tunnels_end_and_no_more_begin() {
    let port = echo();
    let setup = Setup::plain_to(port);
    let grant = setup.grant.clone().lasting(Duration::from_secs(2));
    let world = Setup { grant, ..setup }.world();
    let (mut stream, head) = world.tunnel(&format!("a.example:{port}"));
    assert!(status(&head).starts_with("200 "), "{head}");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let ended = Instant::now();
    loop {
        let (_, head) = world.tunnel(&format!("a.example:{port}"));
        if status(&head) == "403 egress_used_up" || head.is_empty() {
            break;
        }
        assert!(ended.elapsed() < PATIENCE);
    }
}

#[test]
fn the_silent_and_the_slow_are_ended() {
    let port = echo();
    let times = Times { head: Duration::from_millis(300), idle: Duration::from_millis(500), ..Times::default() };
    let world = Setup { times, ..Setup::plain_to(port) }.world();
    let closes = |stream: &mut TcpStream| {
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        begun.elapsed()
    };
    let mut nothing = world.connect();
    let mut half = world.connect();
    half.write_all(b"GET http://a.exa").unwrap();
    let (mut silent, _) = world.tunnel(&format!("a.example:{port}"));
    for stream in [&mut nothing, &mut half, &mut silent] {
        assert!(closes(stream) < PATIENCE / 2);
    }
    // The control: one that speaks now and then stays longer than any of these times.
    let (mut busy, _) = world.tunnel(&format!("a.example:{port}"));
    let begun = Instant::now();
    busy.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while begun.elapsed() < Duration::from_millis(900) {
        busy.write_all(b"x").unwrap();
        let mut byte = [0u8; 1];
        busy.read_exact(&mut byte).unwrap();
        // Waits for what does not come.
        let _ = busy.read(&mut byte);
    }
}

#[test]
fn ten_thousand_connections_are_taken_a_few_at_a_time_and_keep_no_neighbour_waiting() {
    let port = echo();
    let setup = Setup::plain_to(port);
    let reach = errand_egress::Reach::new(errand_egress::AllowList::parse(&setup.allow).unwrap(), setup.names);
    let proxy =
        errand_egress::Proxy::start(errand_egress::ProxyConfig { reach, times: Times::default(), tls: None }).unwrap();
    let world = |name: &str| {
        use errand_sandbox::WayOut;
        let egress = proxy.way_out(name, setup.grant.clone(), Vec::new());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let door = listener.local_addr().unwrap();
        let open = Some(egress.open(listener).unwrap());
        crate::World { egress, door, open }
    };
    let (hostile, neighbour) = (world("hostile"), world("neighbour"));
    let door = hostile.door;
    // As many as this process may hold at a time, again and again; each asks and is then left open.
    let flood = std::thread::spawn(move || {
        let mut held = std::collections::VecDeque::new();
        let mut answered = 0;
        for _ in 0..10_000 {
            let Ok(mut stream) = TcpStream::connect_timeout(&door, Duration::from_secs(5)) else { continue };
            let _ = stream.write_all(b"CONNECT b.example:1 HTTP/1.1\r\nHost: b.example:1\r\n\r\n");
            held.push_back(stream);
            if held.len() > 100 {
                let mut old = held.pop_front().unwrap();
                old.set_read_timeout(Some(PATIENCE)).unwrap();
                answered += usize::from(crate::head(&mut old).contains("403"));
            }
        }
        answered
    });
    let mut slowest = Duration::ZERO;
    let mut rounds = 0;
    while !flood.is_finished() {
        let begun = Instant::now();
        let (mut stream, head) = neighbour.tunnel(&format!("a.example:{port}"));
        assert!(status(&head).starts_with("200 "), "{head}");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0u8; 1]).unwrap();
        slowest = slowest.max(begun.elapsed());
        rounds += 1;
    }
    let answered = flood.join().unwrap();
    assert!(answered > 9_000, "{answered}");
    assert!(rounds > 10 && slowest < Duration::from_secs(2), "{rounds} rounds, the slowest {slowest:?}");
}

#[test]
fn more_than_a_session_may_have_wait_until_one_ends() {
    let port = echo();
    let world = Setup::plain_to(port).world();
    let mut tunnels: Vec<TcpStream> = Vec::new();
    loop {
        let mut stream = world.connect();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let head = crate::ask_tunnel(&mut stream, &format!("a.example:{port}"));
        if head.is_empty() {
            // It waits. Once another ends it is served.
            assert!((8..=100).contains(&tunnels.len()), "{}", tunnels.len());
            tunnels.pop();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(status(&crate::head(&mut stream)).starts_with("200 "));
            return;
        }
        tunnels.push(stream);
        assert!(tunnels.len() <= 100, "as many as anybody likes");
    }
}

#[test]
fn when_the_box_or_the_proxy_is_gone_everything_of_it_ends() {
    for whole in [false, true] {
        let (gone, going) = std::sync::mpsc::channel();
        let port = host(move |mut stream| {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
            let _ = gone.send(());
        });
        let mut world = Setup::plain_to(port).world();
        let (mut stream, _) = world.tunnel(&format!("a.example:{port}"));
        let mut idle = world.connect();
        let door = world.door;
        world.open = None;
        if whole {
            drop(world);
        }
        going.recv_timeout(PATIENCE).unwrap();
        for stream in [&mut stream, &mut idle] {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        // The door is closed: nothing weaker takes its place.
        let begun = Instant::now();
        while TcpStream::connect(door).is_ok() {
            assert!(begun.elapsed() < PATIENCE);
        }
    }
    // The control: an open one goes on.
    let port = echo();
    let world = Setup::plain_to(port).world();
    let (mut stream, _) = world.tunnel(&format!("a.example:{port}"));
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0u8; 1]).unwrap();
    drop(connect(world.door));
}
