use super::*;
use proptest::prelude::*;

fn grant(hosts: &[&str]) -> Grant {
    Grant::new(hosts.iter().map(|host| HostGrant::parse(host).unwrap()).collect()).unwrap()
}

fn decide(grant: &Grant, target: &str, method: Option<&str>) -> &'static str {
    let target = Target::of(&target.parse().unwrap(), None).unwrap();
    let method = method.map(|method| Method::from_bytes(method.as_bytes()).unwrap());
    match grant.decide(&target, method.as_ref().map_or(Wish::Tunnel, Wish::Request)) {
        Ok(true) => "plain",
        Ok(false) => "ok",
        Err(Refusal::HostNotGranted(_)) => "host",
        Err(Refusal::PortNotGranted(_)) => "port",
        Err(Refusal::MethodsHidden(_)) => "hidden",
        Err(Refusal::MethodNotGranted(..)) => "method",
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn exactly_what_is_granted_is_granted() {
    let grant = grant(&["a.example", "*.b.example:8443", "10.0.0.1:80", "[::1]:80"]);
    for (target, expected) in [
        ("a.example:443", "ok"),
        ("a.example:80", "ok"),
        ("A.EXAMPLE.:443", "ok"),
        ("a.example:22", "port"),
        ("x.a.example:443", "host"),
        ("xa.example:443", "host"),
        ("a.example.evil:443", "host"),
        ("evil:443", "host"),
        ("x.b.example:8443", "ok"),
        ("y.x.b.example:8443", "ok"),
        ("b.example:8443", "host"),
        ("xb.example:8443", "host"),
        ("x.b.example:443", "port"),
        ("0xa.1:80", "ok"),
        ("10.0.0.2:80", "host"),
        ("[0::1]:80", "ok"),
        ("\u{430}.example:443", "host"),
    ] {
        let Ok(authority) = target.parse::<hyper::http::uri::Authority>() else { continue };
        assert_eq!(decide(&grant, authority.as_str(), None), expected, "{target}");
    }
}

#[test]
fn methods_are_not_granted_where_a_tunnel_would_hide_them() {
    let only = HostGrant::parse("a.example").unwrap().only(&["get".into(), "HEAD".into()]).unwrap();
    let narrow = Grant::new(vec![only.clone()]).unwrap();
    assert_eq!(decide(&narrow, "a.example:443", Some("GET")), "ok");
    assert_eq!(decide(&narrow, "a.example:443", Some("POST")), "method");
    assert_eq!(decide(&narrow, "a.example:443", None), "hidden");
    let plain = Grant::new(vec![only, HostGrant::parse("a.example:443").unwrap().plain()]).unwrap();
    assert_eq!(decide(&plain, "a.example:443", None), "plain");
}

#[test]
fn what_cannot_be_granted_is_told() {
    for given in [
        "",
        "*.",
        "*.com",
        "a.*.example",
        "*a.example",
        "http://a.example",
        "u@a.example",
        "a:0",
        "a:x",
        "a:70000",
        "*.10.0.0.1",
        "a b",
        "a PLAIN x",
        "10.0.0.0/33",
        "10.0.0.0/8:0",
    ] {
        assert!(HostGrant::parse(given).is_err(), "{given}");
    }
    assert!(HostGrant::parse("a.example").unwrap().only(&["G T".into()]).is_err());
    assert!(HostGrant::parse("a.example").unwrap().only(&["connect".into()]).is_err());
    assert!(Grant::new(vec![HostGrant::parse("a.example").unwrap(); 257]).is_err());
}

#[test]
fn a_grant_survives_being_written_down() {
    let grant = Grant::new(vec![
        HostGrant::parse("*.a.example:8443").unwrap().plain(),
        HostGrant::parse("::1").unwrap().only(&["GET".into()]).unwrap(),
    ])
    .unwrap()
    .lasting(Duration::from_secs(60));
    let text = serde_json::to_string(&grant).unwrap();
    assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), grant, "{text}");
    assert!(serde_json::from_str::<Grant>(&text.replace("*.a.example", "a.*")).is_err());
    assert!(serde_json::from_str::<Grant>(&text.replace("bytes_max", "bytes")).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        let _ = HostGrant::parse(&text);
    }

    #[test]
    fn a_suffix_means_only_what_is_below_it(name in "[a-z.]{1,20}") {
        if let Ok(place) = Place::parse(&name) {
            let means = Pattern::parse("*.b.example").unwrap().means(&place);
            prop_assert_eq!(means, place.to_string().ends_with(".b.example"));
        }
    }
}
