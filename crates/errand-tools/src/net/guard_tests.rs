use super::*;
use async_trait::async_trait;
use proptest::prelude::*;
use std::net::IpAddr;

/// Names and what they resolve to; a name may resolve to something else each time.
struct Fake(Vec<(&'static str, Vec<&'static str>)>);

#[async_trait]
impl Lookup for Fake {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let known = self.0.iter().find(|(name, _)| *name == host);
        let (_, addresses) = known.ok_or_else(|| std::io::Error::other("no such name"))?;
        Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}

fn guard(allow: &[&str]) -> Guard {
    let names = vec![
        ("public.example", vec!["93.184.216.34", "2606:2800:220:1::1"]),
        ("mixed.example", vec!["127.0.0.1", "93.184.216.34", "10.0.0.1"]),
        ("private.example", vec!["10.0.0.1"]),
        ("meta.example", vec!["169.254.169.254"]),
        ("mapped.example", vec!["::ffff:10.0.0.1"]),
        ("empty.example", vec![]),
    ];
    Guard::new(AllowList::parse(allow).unwrap(), Arc::new(Fake(names)))
}

fn code(guard: &Guard, url: &str) -> &'static str {
    guard.url(url).map_or_else(|error| error.code(), |_| "ok")
}

#[test]
fn only_http_without_a_login_is_spoken() {
    let guard = guard(&[]);
    for url in [
        "ftp://a.example",
        "file:///etc/passwd",
        "gopher://a",
        "data:text/plain,a",
        "a",
        "",
        "http://",
        "https://u@a.example",
        "http://u:p@a.example",
        "javascript:1",
    ] {
        assert_eq!(code(&guard, url), "url_invalid", "{url}");
    }
    assert_eq!(code(&guard, &format!("http://a.example/{}", "x".repeat(9000))), "url_invalid");
    assert_eq!(guard.url(" https://A.example:443/x?y=1#z ").unwrap().as_str(), "https://a.example/x?y=1");
}

#[test]
fn a_login_is_not_repeated() {
    let error = guard(&[]).url("http://user:secret@a.example").unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn literal_addresses_are_checked_in_every_writing() {
    let guard = guard(&[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "127.0.0.1.",
        "0",
        "[::1]",
        "[::ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "169.254.169.254",
        "2852039166",
        "0xA9FEA9FE",
        "[fd00:ec2::254]",
        "[64:ff9b::a9fe:a9fe]",
        "100.100.100.200",
        "10.1.2.3",
    ] {
        assert_eq!(code(&guard, &format!("http://{host}/latest")), "address_refused", "{host}");
    }
    for host in ["1.1.1.1", "[2606:4700:4700::1111]", "16843009", "a.example"] {
        assert_eq!(code(&guard, &format!("http://{host}:8443/")), "ok", "{host}");
    }
}

#[test]
fn ports_of_other_protocols_are_refused_unless_written_out() {
    let free = guard(&[]);
    for port in [22, 25, 6667, 0] {
        assert_eq!(code(&free, &format!("http://a.example:{port}/")), "address_refused", "{port}");
    }
    assert_eq!(code(&guard(&["a.example"]), "http://a.example:22"), "address_refused");
    assert_eq!(code(&guard(&["a.example:22"]), "http://a.example:22"), "ok");
    assert_eq!(code(&guard(&["10.0.0.1:22"]), "http://10.0.0.1:22"), "ok");
}

#[tokio::test]
async fn every_address_of_a_name_is_checked() {
    let found = async |allow: &[&str], host: &str, port: u16| {
        let found = guard(allow).resolve(host, port).await;
        found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>()).map_err(|error| error.code())
    };
    assert_eq!(found(&[], "public.example", 80).await.unwrap(), ["93.184.216.34:80", "[2606:2800:220:1::1]:80"]);
    assert_eq!(found(&[], "mixed.example", 80).await.unwrap(), ["93.184.216.34:80"]);
    for host in ["private.example", "meta.example", "mapped.example"] {
        assert_eq!(found(&[], host, 80).await.unwrap_err(), "address_refused", "{host}");
    }
    for host in ["empty.example", "none.example"] {
        assert_eq!(found(&[], host, 80).await.unwrap_err(), "host_not_found", "{host}");
    }
    assert_eq!(found(&["private.example:8080"], "private.example", 8080).await.unwrap(), ["10.0.0.1:8080"]);
    assert_eq!(found(&["private.example:8080"], "private.example", 80).await.unwrap_err(), "address_refused");
    assert_eq!(found(&["10.0.0.0/8"], "mapped.example", 80).await.unwrap(), ["10.0.0.1:80"]);
    // A name or a range does not open the way to a metadata address; writing the address out does.
    assert_eq!(found(&["meta.example", "169.254.0.0/16"], "meta.example", 80).await.unwrap_err(), "address_refused");
    assert_eq!(found(&["169.254.169.254:80"], "meta.example", 80).await.unwrap(), ["169.254.169.254:80"]);
}

#[tokio::test]
async fn the_address_of_an_inner_name_is_not_told() {
    let error = guard(&[]).resolve("private.example", 80).await.unwrap_err().to_string();
    assert!(error.contains("private.example:80") && !error.contains("10.0.0.1"), "{error}");
}

proptest! {
    #[test]
    fn no_url_makes_it_panic(url in "(https?://)?\\PC{0,60}") {
        let _ = guard(&[]).url(&url);
    }

    #[test]
    fn no_writing_of_a_loopback_address_passes(low in 0_u32..(1 << 24), form in 0_u8..4) {
        let bits = 0x7f00_0000 | low;
        let host = match form {
            0 => format!("{bits}"),
            1 => format!("{bits:#x}"),
            2 => format!("0{bits:o}"),
            _ => std::net::Ipv4Addr::from_bits(bits).to_string(),
        };
        prop_assert_eq!(code(&guard(&[]), &format!("http://{host}/")), "address_refused");
    }
}
