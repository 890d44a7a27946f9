//! Which hosts and addresses are reached: every writing of what is not granted, and what names lead to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::upstream::{HELLO, http};
use crate::{Names, Setup, status};

#[test]
fn what_is_granted_is_reached_and_nothing_else() {
    let (port, told) = http(HELLO);
    let world = Setup::to(port).world();
    // The control: the same host in other writings.
    for host in ["a.example", "A.Example", "a.example."] {
        let answer = world.get(&format!("http://{host}:{port}/x"));
        assert!(answer.ends_with("hello"), "{host}: {answer}");
        assert!(told.recv().unwrap().contains(&format!("host: a.example:{port}\r\n")), "{host}");
    }
    for host in [
        "b.example",
        "evil.a.example",
        "a.example.evil.example",
        "xn--example-7fg.example",
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "169.254.169.254",
        "0xA9FEA9FE",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
    ] {
        let answer = world.get(&format!("http://{host}:{port}/"));
        assert_eq!(status(&answer), "403 egress_denied", "{host}: {answer}");
        assert!(answer.contains("errand-error: egress_denied") && answer.contains("--allow-host"), "{answer}");
        let (_, head) = world.tunnel(&format!("{host}:{port}"));
        assert_eq!(status(&head), "403 egress_denied", "{host}");
    }
    let elsewhere = world.get(&format!("http://a.example:{}/", port ^ 1));
    assert!(status(&elsewhere) == "403 egress_denied" && elsewhere.contains("other ports"), "{elsewhere}");
    assert_eq!(world.egress.usage().allowed, 3);
    assert!(told.try_recv().is_err(), "the host heard of a refused request");
}

#[test]
fn a_login_before_the_host_does_not_change_whom_it_is_for() {
    let (port, told) = http(HELLO);
    let world = Setup::to(port).world();
    let evil = format!("GET http://a.example:{port}@b.example:{port}/ HTTP/1.1\r\nHost: b.example:{port}\r\n\r\n");
    assert!(status(&world.ask(evil)).starts_with("400 "));
    let (_, head) = world.tunnel(&format!("a.example@b.example:{port}"));
    assert!(status(&head).starts_with("400 "), "{head}");
    assert!(told.try_recv().is_err());
}

/// Granted names are no way to addresses that are not public.
#[test]
fn names_that_lead_inside_are_refused() {
    let (port, _told) = http(HELLO);
    let names = Names::default()
        .with("a.example", "127.0.0.1")
        .with("private.example", "10.0.0.1")
        .with("loop.example", "127.0.0.2")
        .with("metadata.example", "169.254.169.254")
        .with("mapped.example", "::ffff:169.254.169.254")
        .with("nat64.example", "64:ff9b::a00:1")
        .with("sixtofour.example", "2002:a00:1::1")
        .with("cgnat.example", "100.64.0.1")
        .with("multicast.example", "224.0.0.1")
        .with("zero.example", "0.0.0.0")
        .with_turns("empty.example", &[&[]]);
    let hosts: Vec<String> =
        ["a", "private", "loop", "metadata", "mapped", "nat64", "sixtofour", "cgnat", "multicast", "zero"]
            .map(|name| format!("{name}.example:{port}"))
            .into();
    let mut granted: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let more = [format!("empty.example:{port}"), format!("none.example:{port}"), "169.254.169.254:80".to_owned()];
    granted.extend(more.iter().map(String::as_str));
    let world = Setup { names: Arc::new(names), ..Setup::to(port) }.granting(&granted).world();
    assert!(world.get(&format!("http://a.example:{port}/")).ends_with("hello"), "the control");
    for host in &hosts[1..] {
        let answer = world.get(&format!("http://{host}/"));
        assert_eq!(status(&answer), "403 egress_denied", "{host}");
        assert!(answer.contains("allow_addresses") && !answer.contains("10.0.0.1"), "{answer}");
        assert_eq!(status(&world.tunnel(host).1), "403 egress_denied", "{host}");
    }
    // Granting an address to a session is not allowing it: that is for whoever runs this.
    assert_eq!(status(&world.get("http://169.254.169.254/latest")), "403 egress_denied");
    assert_eq!(status(&world.get(&format!("http://empty.example:{port}/"))), "502 egress_unreachable");
    assert_eq!(status(&world.get(&format!("http://none.example:{port}/"))), "502 egress_unreachable");
}

#[test]
fn an_answer_of_the_resolver_that_changes_leads_nowhere_new() {
    let (port, _told) = http(HELLO);
    // Rebinding: good once, then inside. And a mix, of which only the good one may be taken.
    let names = Names::default()
        .with_turns("a.example", &[&["127.0.0.1"], &["10.0.0.1"]])
        .with_turns("b.example", &[&["10.0.0.1"], &["127.0.0.1"]])
        .with_turns("mixed.example", &[&["10.0.0.1", "127.0.0.1"]]);
    let names = Arc::new(names);
    let granted = [format!("a.example:{port}"), format!("b.example:{port}"), format!("mixed.example:{port}")];
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    let world = Setup { names: Arc::clone(&names), ..Setup::to(port) }.granting(&granted).world();
    for _ in 0..3 {
        assert!(world.get(&format!("http://a.example:{port}/")).ends_with("hello"));
        assert_eq!(status(&world.get(&format!("http://b.example:{port}/"))), "403 egress_denied");
    }
    assert_eq!(names.asked.load(Ordering::SeqCst), 2, "one answer holds");
    assert!(world.get(&format!("http://mixed.example:{port}/")).ends_with("hello"));
}

#[test]
fn what_is_not_granted_is_not_even_looked_up() {
    let (port, _told) = http(HELLO);
    let setup = Setup::to(port);
    let names = Arc::clone(&setup.names);
    let world = setup.world();
    world.get(&format!("http://secret-data.evil.example:{port}/"));
    world.tunnel(&format!("more.evil.example:{port}"));
    assert_eq!(names.asked.load(Ordering::SeqCst), 0);
    world.get(&format!("http://a.example:{port}/"));
    assert_eq!(names.asked.load(Ordering::SeqCst), 1, "the control");
}

#[test]
fn a_redirect_is_the_clients_to_follow_and_checked_again() {
    let (port, _told) = http("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n");
    let world = Setup::to(port).world();
    let answer = world.get(&format!("http://a.example:{port}/"));
    assert!(status(&answer).starts_with("302 ") && answer.contains("location: http://169.254.169.254"), "{answer}");
    assert_eq!(status(&world.get("http://169.254.169.254/latest")), "403 egress_denied");
}
