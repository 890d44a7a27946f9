//! `sandbox-runner serve`: the stock E2B SDKs, and those who mean it ill.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server, killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-runner"));
    command.arg("serve").arg("--data").arg(folder.join("data")).arg("--images").arg(folder.join("images"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    /// `None` where this host makes no boxes, which is said.
    fn start(folder: &Path, arguments: &[&str]) -> Option<Server> {
        Self::at(folder, "127.0.0.1:0", arguments)
    }

    /// Listening there, and spoken to from this machine.
    fn at(folder: &Path, listen: &str, arguments: &[&str]) -> Option<Server> {
        let mut child = command(folder).args(["--e2b-listen", listen]).args(arguments).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address: Option<SocketAddr> =
            line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let Some(address) = address else {
            let mut problem = String::new();
            child.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
            child.wait().unwrap();
            assert!(problem.contains("sandbox_tier_unavailable"), "{problem}");
            println!("skipped: {problem}");
            return None;
        };
        Some(Server { child, address: SocketAddr::from(([127, 0, 0, 1], address.port())) })
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str("host: localhost\r\n");
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // A server that refuses does not read all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text:?}"));
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn create(&self) -> Value {
        let (status, made) = self.ask("POST", "/v2/sandboxes", &[], br#"{"templateID": "base"}"#);
        assert_eq!(status, 201, "{made}");
        made
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Runs a script with the stock SDKs, where they are there.
fn run_script(name: &str, server: &Server, arguments: &[&str]) {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python").join(name);
    let url = format!("http://{}", server.address);
    let output = Command::new(python).env_clear().arg(script).arg(url).args(arguments).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("cases passed"), "{stdout}\n{stderr}");
}

fn python() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let python = test.ancestors().nth(3).unwrap().join("python/bin/python");
    if !python.is_file() {
        println!("skipped: there is no {}; run `cargo xtask python` first", python.display());
    }
    python.is_file().then_some(python)
}

#[test]
fn the_stock_sdks_work() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(folder.path(), &[]) else { return };
    run_script("e2b_sdk.py", &server, &[]);
}

#[test]
fn the_network_rules_of_the_stock_sdks_hold_within_what_the_server_allows() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let host = format!("localhost:{port}");
    let arguments = ["--egress", &host, "--egress", "*.other.example", "--allow-address", &host];
    let Some(server) = Server::start(folder.path(), &arguments) else { return };
    run_script("e2b_network.py", &server, &[&port]);
}

#[test]
fn nobody_gets_in_without_the_token_of_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(folder.path(), &[]) else { return };
    let [mine, other] = [server.create(), server.create()];
    let list = |headers: &[(&str, &str)]| {
        let kind = ("content-type", "application/json");
        let headers: Vec<_> = headers.iter().copied().chain([kind]).collect();
        server.ask("POST", "/process.Process/List", &headers, b"{}")
    };
    let (id, token) = (text(&mine["sandboxID"]), text(&mine["envdAccessToken"]));
    let own = [("e2b-sandbox-id", id), ("x-access-token", token)];
    assert_eq!(list(&own), (200, json!({"processes": []})));
    assert_eq!(list(&own[..1]).0, 401);
    assert_eq!(list(&[own[0], ("x-access-token", text(&other["envdAccessToken"]))]).0, 401);
    assert_eq!(list(&[own[0], ("x-access-token", "")]).0, 401);
    // The token for code opens code alone.
    let traffic = ("e2b-traffic-access-token", text(&mine["trafficAccessToken"]));
    assert_eq!(list(&[own[0], traffic]).0, 401);
    let contexts = |headers: &[(&str, &str)]| server.ask("GET", "/contexts", headers, b"");
    let code = ("e2b-sandbox-port", "49999");
    assert_eq!(contexts(&[own[0], code, traffic]).0, 200);
    assert_eq!(contexts(&[own[0], code]).0, 401);
    let elsewhere = contexts(&[own[0], own[1], ("e2b-sandbox-port", "8080")]);
    assert!(elsewhere.0 == 502 && text(&elsewhere.1["message"]).contains("port is not open"), "{elsewhere:?}");
    let gone = list(&[("e2b-sandbox-id", "0123"), own[1]]);
    assert!(gone.0 == 502 && text(&gone.1["message"]).contains("was not found"), "{gone:?}");
    // A web page, or a name that somebody made point here.
    for header in [("origin", "http://localhost"), ("sec-fetch-site", "same-site"), ("host", "evil.example")] {
        assert_eq!(server.ask("GET", "/v2/sandboxes", &[header], b"").0, 403, "{header:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(folder.path(), &["--running-max", "1"]) else { return };
    let big = format!("{{\"templateID\": \"base\", \"metadata\": {{\"a\": \"{}\"}}}}", "x".repeat(100_000));
    for (status, body) in [
        (400, &b"{"[..]),
        (400, br#"{"templateID": "base", "timeout": 100000000}"#),
        (400, br#"{"templateID": "base", "timeout": -1}"#),
        (400, br#"{"templateID": "base", "envVars": {"A=B": "c"}}"#),
        (400, br#"{"templateID": "base", "network": {"allowOut": ["a"]}}"#),
        (404, br#"{"templateID": "../../etc"}"#),
        (404, b"{}"),
        (400, big.as_bytes()),
    ] {
        assert_eq!(server.ask("POST", "/v2/sandboxes", &[], body).0, status, "{:.60}", String::from_utf8_lossy(body));
    }
    for (status, method, path) in [
        (404, "GET", "/sandboxes/none"),
        (404, "DELETE", "/sandboxes/none"),
        (404, "POST", "/sandboxes/none/pause"),
        (400, "GET", "/v2/sandboxes?limit=0"),
        (400, "GET", "/v2/sandboxes?nextToken=x"),
        (404, "GET", "/nothing"),
    ] {
        assert_eq!(server.ask(method, path, &[], b"").0, status, "{method} {path}");
    }
    let made = server.create();
    // There is room for one.
    assert_eq!(server.ask("POST", "/v2/sandboxes", &[], br#"{"templateID": "base"}"#).0, 429);
    let to = [("e2b-sandbox-id", text(&made["sandboxID"])), ("x-access-token", text(&made["envdAccessToken"]))];
    let (json, stream) = (("content-type", "application/json"), ("content-type", "application/connect+json"));
    for (status, path, kind, body) in [
        (400, "/process.Process/List", ("content-type", "application/proto"), &b"{}"[..]),
        (400, "/process.Process/List", json, b"{"),
        (400, "/process.Process/Start", stream, b"\0\xff\xff\xff\xff{}"),
        (501, "/process.Process/Start", stream, b"\x01\0\0\0\x02{}"),
        (400, "/process.Process/Connect", stream, b"\0\0\0\0\x02{}"),
        (404, "/process.Process/SendSignal", json, br#"{"process": {"pid": 99}, "signal": "SIGNAL_SIGKILL"}"#),
        (400, "/execute", json, b"{}"),
        (404, "/no/such/call", json, b"{}"),
    ] {
        assert_eq!(server.ask("POST", path, &[to[0], to[1], kind], body).0, status, "{path}");
    }
    let huge = vec![b' '; 9 << 20];
    assert_eq!(server.ask("POST", "/process.Process/List", &[to[0], to[1], json], &huge).0, 413);
    // It is well after all that.
    assert_eq!(server.ask("POST", "/process.Process/List", &[to[0], to[1], json], b"{}").0, 200);
}

#[test]
fn a_sandbox_whose_inside_is_killed_is_gone_and_comes_back_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(folder.path(), &[]) else { return };
    let made = server.create();
    let id = text(&made["sandboxID"]).to_owned();
    let to = [("e2b-sandbox-id", &*id), ("x-access-token", text(&made["envdAccessToken"]))];
    let file = |method, body: &[u8]| {
        let kind = ("content-type", "application/octet-stream");
        server.ask(method, "/files?path=kept.txt", &[to[0], to[1], kind], body)
    };
    assert_eq!(file("POST", b"\"kept\"").0, 200);
    let message = json!({"process": {"cmd": "/bin/sh", "args": ["-c", "kill -9 $PPID"]}}).to_string();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&b"\0"[..], &length, message.as_bytes()].concat();
    server.ask("POST", "/process.Process/Start", &[to[0], to[1], ("content-type", "application/connect+json")], &message);
    let until = Instant::now() + Duration::from_secs(10);
    while file("GET", b"").0 != 502 {
        assert!(Instant::now() < until, "it still answers");
    }
    assert_eq!(server.ask("POST", &format!("/sandboxes/{id}/connect"), &[], b"{}").0, 200);
    assert_eq!(file("GET", b""), (200, json!("kept")));
}

#[test]
fn a_killed_server_leaves_no_process_and_its_successor_clears_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(folder.path(), &[]) else { return };
    server.create();
    let sessions = || std::fs::read_dir(folder.path().join("data")).unwrap().count();
    assert_eq!(sessions(), 1);
    // The box is a child of a thread; all of them are looked through.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let boxes: Vec<String> = lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(!boxes.is_empty());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while boxes.iter().any(|pid| Path::new("/proc").join(pid).exists()) {
        assert!(Instant::now() < until, "boxes {boxes:?} outlive their server");
    }
    let Some(_next) = Server::start(folder.path(), &[]) else { return };
    assert_eq!(sessions(), 0);
}

#[test]
fn without_keys_it_serves_this_machine_alone_and_says_when_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |listen: &str| {
        let output = command(folder.path()).args(["--e2b-listen", listen]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused("0.0.0.0:0").contains("listen_needs_keys"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let problem = refused(&taken.local_addr().unwrap().to_string());
    assert!(problem.contains("port_taken") || problem.contains("sandbox_tier_unavailable"), "{problem}");
}

#[test]
fn what_cannot_be_allowed_is_told_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (["--egress", "http://a.example"], "egress_grant_invalid"),
        (["--egress", "a.example:0"], "egress_grant_invalid"),
        (["--allow-address", "10.0.0.0/99"], "config_invalid"),
    ] {
        let output = command(folder.path()).args(["--e2b-listen", "127.0.0.1:0"]).args(arguments).output().unwrap();
        let problem = String::from_utf8(output.stderr).unwrap();
        let told = problem.contains(code) && problem.contains(arguments[0]);
        assert!(output.status.code() == Some(1) && (told || problem.contains("sandbox_tier_unavailable")), "{problem}");
    }
}

#[test]
fn who_goes_away_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(folder.path(), &[]) else { return };
    let send = |head: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(format!("{head}\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    };
    let eventually = |what: &str, holds: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < until, "{what}");
        }
    };
    let order = br#"{"templateID": "base"}"#;
    let head = format!("POST /v2/sandboxes HTTP/1.1\r\ncontent-length: {}", order.len());
    let asked = send(&head, order);
    let list = || server.ask("GET", "/v2/sandboxes", &[], b"").1.as_array().unwrap().clone();
    eventually("it begins", &|| list().len() == 1);
    drop(asked);
    let id = text(&list()[0]["sandboxID"]).to_owned();
    let (status, made) = server.ask("POST", &format!("/sandboxes/{id}/connect"), &[], b"{}");
    assert_eq!(status, 200, "{made}");
    let token = text(&made["envdAccessToken"]);
    let head = format!(
        "POST /files?path=cut.bin HTTP/1.1\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000000\r\n\
         e2b-sandbox-id: {id}\r\nx-access-token: {token}"
    );
    let upload = send(&head, &[b'x'; 1_000]);
    let workspace = folder.path().join("data").join(&id).join("workspace");
    let files = || std::fs::read_dir(&workspace).unwrap().count();
    eventually("the upload begins", &|| files() == 1);
    drop(upload);
    eventually("an upload that is cut leaves no file", &|| files() == 0);
    assert_eq!(server.ask("DELETE", &format!("/sandboxes/{id}"), &[], b"").0, 204);
    assert!(!workspace.exists());
}

/// Keys of a folder: `(id, key)`.
fn key(folder: &Path, tenant: &str) -> (String, String) {
    use errand_keys::{Keys, RootKey, Wanted};
    let keys = Keys::new(heads(folder), RootKey::new(errand_store_local::key_secret(folder).unwrap()));
    let wanted = Wanted { tenant: tenant.parse().unwrap(), ..Wanted::default() };
    let (issued, info) = wait(keys.create(wanted, now())).unwrap();
    (info.id.to_string(), issued.reveal().to_owned())
}

fn revoke(folder: &Path, id: &str) {
    wait(errand_keys::revoke(&*heads(folder), &id.parse().unwrap(), now())).unwrap();
}

fn heads(folder: &Path) -> std::sync::Arc<errand_store_local::LocalHeads> {
    std::sync::Arc::new(errand_store_local::LocalHeads::of(folder))
}

fn now() -> errand_core::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    errand_core::Timestamp::from_millis(since.as_millis() as u64)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn with_keys_a_tenant_sees_its_own_sandboxes_and_nobody_else_any() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let Some(server) = Server::at(folder.path(), "0.0.0.0:0", &["--keys", keys.to_str().unwrap()]) else { return };
    let [(a, mine), (_, other), (_, same)] = ["a", "b", "a"].map(|tenant| key(&keys, tenant));
    let ask = |method, path: &str, key: Option<&str>, body: &[u8]| {
        let headers: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().chain([("host", "boxes.example.com")]).collect();
        server.ask(method, path, &headers, body)
    };
    let order = br#"{"templateID": "base"}"#;
    for bad in [None, Some(""), Some("none"), Some(&mine[..70])] {
        for (method, path) in [("POST", "/v2/sandboxes"), ("GET", "/v2/sandboxes"), ("GET", "/sandboxes/x"), ("GET", "/x")] {
            let (status, told) = ask(method, path, bad, if method == "POST" { order } else { b"" });
            assert!(status == 401 && text(&told["message"]).starts_with("invalid_api_key: "), "{path} {bad:?}: {told}");
        }
    }
    assert_eq!(ask("GET", "/health", None, b"").0, 204);
    let (status, made) = ask("POST", "/v2/sandboxes", Some(&mine), order);
    assert_eq!(status, 201, "{made}");
    let id = text(&made["sandboxID"]).to_owned();
    // As if it were not there, for another tenant.
    for (method, path) in [
        ("GET", "/sandboxes/ID"),
        ("DELETE", "/sandboxes/ID"),
        ("POST", "/sandboxes/ID/timeout"),
        ("POST", "/sandboxes/ID/refreshes"),
        ("POST", "/sandboxes/ID/pause"),
        ("POST", "/sandboxes/ID/resume"),
        ("POST", "/sandboxes/ID/connect"),
        ("POST", "/v2/sandboxes/ID/connect"),
        ("PUT", "/sandboxes/ID/network"),
        ("GET", "/sandboxes/ID/metrics"),
    ] {
        let of = |id: &str| {
            let (status, told) = ask(method, &path.replace("ID", id), Some(&other), b"{}");
            (status, told.to_string().replace(id, "ID"))
        };
        let found = of(&id);
        assert_eq!((found.0, &found), (404, &of("0123456789abcdef0123")), "{method} {path}");
    }
    let listed = |key: &str| ask("GET", "/v2/sandboxes", Some(key), b"").1.as_array().unwrap().len();
    assert_eq!([listed(&mine), listed(&same), listed(&other)], [1, 1, 0]);
    // Each key has tokens of its own, and they end with it.
    let (status, again) = ask("POST", &format!("/sandboxes/{id}/connect"), Some(&same), b"{}");
    assert_eq!(status, 200);
    let (first, second) = (text(&made["envdAccessToken"]), text(&again["envdAccessToken"]));
    assert_ne!(first, second);
    let inside = |token: &str| {
        let headers = [("e2b-sandbox-id", &*id), ("x-access-token", token), ("content-type", "application/json")];
        server.ask("POST", "/process.Process/List", &headers, b"{}").0
    };
    assert_eq!([inside(first), inside(second)], [200, 200]);
    let (_, holder) = second.rsplit_once('_').unwrap();
    let swapped = format!("{}_{holder}", first.split('_').next().unwrap());
    for forged in [&*swapped, "", "local", &format!("{}_local", first.split('_').next().unwrap()), &mine] {
        assert_eq!(inside(forged), 401, "{forged}");
    }
    revoke(&keys, &a);
    assert_eq!([inside(first), inside(second)], [401, 200]);
    assert_eq!(ask("GET", "/v2/sandboxes", Some(&mine), b"").0, 401);
    assert_eq!(ask("DELETE", &format!("/sandboxes/{id}"), Some(&same), b"").0, 204);
}

#[test]
fn the_stock_sdk_is_let_in_with_a_key_and_told_without() {
    let test = std::env::current_exe().unwrap();
    let python = test.ancestors().nth(3).unwrap().join("python/bin/python");
    if !python.is_file() {
        println!("skipped: there is no {}; run `cargo xtask python` first", python.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let options = ["--keys", keys.to_str().unwrap(), "--require-key"];
    let Some(server) = Server::start(folder.path(), &options) else { return };
    let [(_, good), (_, other), (id, revoked)] = ["a", "b", "a"].map(|tenant| key(&keys, tenant));
    revoke(&keys, &id);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/e2b_keys.py");
    let url = format!("http://{}", server.address);
    let output = Command::new(python).env_clear().arg(script).args([&*url, &good, &other, &revoked]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("cases passed"), "{stdout}\n{stderr}");
}
