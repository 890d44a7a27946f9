//! Real boxes: what is granted is reached through the door, and from inside there is no other way, of any protocol.

use std::sync::{Arc, LazyLock};

use errand_egress::{Egress, Lookup, Usage};
use errand_sandbox::{
    Cell, CellEnd, Engine, EngineConfig, Error, Exec, ExecOutcome, Language, Limits, Session, Sessions, WayOut,
};

use crate::Setup;
use crate::upstream::{HELLO, echo, http};

static ENGINE: LazyLock<Result<Arc<Engine>, Error>> =
    LazyLock::new(|| Engine::start(&EngineConfig::default()).map(Arc::new));

/// A session with a way out.
pub(crate) struct Boxed {
    pub(crate) engine: &'static Arc<Engine>,
    pub(crate) session: Arc<Session>,
    pub(crate) egress: Arc<Egress>,
    _root: tempfile::TempDir,
}

/// None, after saying why, where this host makes no boxes or has no Python for them.
pub(crate) fn boxed(setup: Setup) -> Option<Boxed> {
    let names = Arc::clone(&setup.names);
    boxed_by(setup, names)
}

/// The same, with names by this resolver.
pub(crate) fn boxed_by(setup: Setup, names: Arc<dyn Lookup>) -> Option<Boxed> {
    let engine = match &*ENGINE {
        Ok(engine) => engine,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    if !engine.interpreters().iter().any(|one| one.name == "python3") {
        println!("skipped: this host has no python3 that a box can use");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let mut session = Sessions::at(root.path().join("sessions")).unwrap().create("test").unwrap();
    let egress = setup.egress_by(names);
    session.set_way_out(Arc::clone(&egress) as Arc<dyn WayOut>);
    Some(Boxed { engine, session: Arc::new(session), egress, _root: root })
}

impl Boxed {
    pub(crate) fn run(&self, exec: Exec) -> ExecOutcome {
        self.engine.run(&self.session, exec).unwrap()
    }

    fn prints(&self, code: &str) -> String {
        let mut exec = Exec::python(code);
        exec.limits.wall = std::time::Duration::from_secs(150);
        let outcome = self.run(exec);
        assert!(outcome.success(), "{}\n{}", outcome.stdout.text(), outcome.stderr.text());
        outcome.stdout.text()
    }

    fn usage(&self) -> Usage {
        self.egress.usage()
    }
}

#[test]
fn ordinary_clients_in_a_box_reach_what_is_granted_and_hear_why_of_the_rest() {
    let (port, told) = http(HELLO);
    let Some(boxed) = boxed(Setup::to(port)) else { return };
    let code = format!(
        r#"
import urllib.request, urllib.error
print(urllib.request.urlopen("http://a.example:{port}/x").read().decode())
try:
    urllib.request.urlopen("http://b.example:{port}/x")
except urllib.error.HTTPError as refused:
    print(refused.code, refused.reason, refused.read().decode())
try:
    urllib.request.urlopen("https://b.example:{port}/x")
except OSError as refused:
    print(refused)
"#
    );
    let outcome = boxed.run(Exec::python(code));
    assert!(outcome.success() && outcome.had_way_out, "{}", outcome.stderr.text());
    let said = outcome.stdout.text();
    assert!(said.starts_with("hello\n403 egress_denied egress_denied: b.example"), "{said}");
    assert!(said.contains("403 egress_denied>") && said.contains("--allow-host"), "{said}");
    assert!(told.recv().unwrap().contains("GET /x HTTP/1.1"));
    assert_eq!((boxed.usage().allowed, boxed.usage().refused), (1, 2));
}

#[test]
fn a_kernel_has_the_way_out_of_its_session_and_no_box_has_that_of_another() {
    let (port, _told) = http(HELLO);
    let Some(boxed) = boxed(Setup::to(port)) else { return };
    let mut kernel = boxed.engine.kernel(&boxed.session, Language::Python, &Limits::default()).unwrap();
    let ask = format!("import urllib.request\nurllib.request.urlopen('http://a.example:{port}/').read()");
    let outcome = kernel.run(Cell::new(ask.clone())).unwrap();
    assert_eq!((outcome.end, outcome.value.as_deref()), (CellEnd::Done, Some("b'hello'")));
    assert!(kernel.session().has_way_out());
    // A second session, at the same time, without one.
    let root = tempfile::tempdir().unwrap();
    let other = Arc::new(Sessions::at(root.path().join("sessions")).unwrap().create("other").unwrap());
    let bare = "import socket, os\nprint([name for name in os.environ if 'proxy' in name.lower()])\n\
                s = socket.socket(); print(s.connect_ex(('127.0.0.1', 3128)) != 0)";
    let outcome = boxed.engine.run(&other, Exec::python(bare)).unwrap();
    assert_eq!(outcome.stdout.text(), "[]\nTrue\n");
    assert!(!outcome.had_way_out && !other.has_way_out());
}

/// Everything but the door, by every protocol that a socket can be had for.
#[test]
fn there_is_no_other_way_out() {
    let (port, _told) = http(HELLO);
    let listening = echo();
    let Some(boxed) = boxed(Setup::to(port)) else { return };
    let code = format!(
        r#"
import socket, struct
def attempt(name, work):
    try:
        print(name, "REACHED", work())
    except OSError as error:
        print(name, "no")
def tcp(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(2); s.connect((host, port)); return s
def udp(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(0.3); s.sendto(b"x" * 30, (host, port)); return s.recv(10)
def raw(kind, protocol):
    return socket.socket(socket.AF_INET, kind, protocol)
attempt("host loopback", lambda: tcp("127.0.0.1", {listening}))
attempt("host loopback 6", lambda: tcp("::1", {listening}, socket.AF_INET6))
attempt("metadata", lambda: tcp("169.254.169.254", 80))
attempt("public", lambda: tcp("1.1.1.1", 443))
attempt("quic", lambda: udp("1.1.1.1", 443))
attempt("dns", lambda: udp("8.8.8.8", 53))
attempt("dns of loopback", lambda: udp("127.0.0.53", 53))
attempt("name", lambda: socket.getaddrinfo("a.example", 80))
attempt("icmp", lambda: raw(socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("ping", lambda: udp_ping())
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("sctp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).connect(("127.0.0.1", {listening})))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("the door's port by udp", lambda: udp("127.0.0.1", 3128))
def taking():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 3128)); s.listen(); return s
attempt("taking the door", taking)
print("interfaces", sorted(name for _, name in socket.if_nameindex()) if False else open("/proc/net/dev").read().count(":"))
print("door", tcp("127.0.0.1", 3128).getpeername())
"#
    )
    .replace("lambda: udp_ping()", "lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).sendto(b'x'*16, ('8.8.8.8', 1))");
    let said = boxed.prints(&code);
    assert!(!said.contains("REACHED"), "{said}");
    assert_eq!(said.matches(" no\n").count(), 16, "{said}");
    assert!(said.contains("interfaces 1\n") && said.contains("door ('127.0.0.1', 3128)"), "{said}");
    assert_eq!(boxed.usage().allowed, 0);
}

/// A relay that code starts in its box speaks for the same box, and is asked the same questions.
#[test]
fn a_relay_in_the_box_gains_nothing() {
    let (port, _told) = http(HELLO);
    let Some(boxed) = boxed(Setup::to(port)) else { return };
    let code = format!(
        r#"
import socket, threading
def relay(listener):
    while True:
        a, _ = listener.accept()
        b = socket.create_connection(("127.0.0.1", 3128))
        def pump(x, y):
            while (data := x.recv(4096)): y.sendall(data)
            y.shutdown(socket.SHUT_WR)
        threading.Thread(target=pump, args=(a, b), daemon=True).start()
        threading.Thread(target=pump, args=(b, a), daemon=True).start()
listener = socket.create_server(("127.0.0.1", 9999))
threading.Thread(target=relay, args=(listener,), daemon=True).start()
def ask(host):
    s = socket.create_connection(("127.0.0.1", 9999))
    s.sendall(f"GET http://{{host}}:{port}/ HTTP/1.1\r\nHost: {{host}}:{port}\r\nConnection: close\r\n\r\n".encode())
    said = b""
    while (data := s.recv(4096)): said += data
    print(host, said.split(b"\r\n")[0].decode())
    s.close()
ask("a.example"); ask("b.example")
"#
    );
    assert_eq!(boxed.prints(&code), "a.example HTTP/1.1 200 OK\nb.example HTTP/1.1 403 egress_denied\n");
}

#[test]
fn what_a_call_leaves_open_ends_with_its_box() {
    let (gone, going) = std::sync::mpsc::channel();
    let port = crate::upstream::host(move |mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        let _ = gone.send(());
    });
    let Some(boxed) = boxed(Setup::plain_to(port)) else { return };
    let code = format!(
        r#"
import os, socket, time
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(b"CONNECT a.example:{port} HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n")
print(s.recv(100).split(b"\r\n")[0].decode(), flush=True)
if os.fork() == 0:
    os.setsid()
    while True: s.sendall(b"x" * 100); time.sleep(0.01)
"#
    );
    assert_eq!(boxed.prints(&code), "HTTP/1.1 200 OK\n");
    going.recv_timeout(crate::PATIENCE).unwrap();
    let outcome = boxed.run(Exec::new(["true"]));
    assert!(outcome.success(), "the session goes on: {outcome:?}");
}

#[test]
fn a_flood_from_a_box_leaves_the_neighbour_alone() {
    let (port, _told) = http(HELLO);
    let Some(boxed) = boxed(Setup::to(port)) else { return };
    let code = r#"
import socket
held, opened, failed = [], 0, 0
for _ in range(10000):
    s = socket.socket(); s.settimeout(3)
    try:
        s.connect(("127.0.0.1", 3128)); s.sendall(b"CONNECT b.example:1 HTTP/1.1\r\nHost: b.example:1\r\n\r\n"); opened += 1
    except OSError:
        failed += 1
    held.append(s)
    if len(held) > 200: held.pop(0).close()
print(opened + failed)
"#;
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| boxed.prints(code));
        // The neighbour is another box of the same session: it shares all but the connections under way.
        let begun = std::time::Instant::now();
        let ask = format!("import urllib.request\nprint(urllib.request.urlopen('http://a.example:{port}/').read())");
        assert_eq!(boxed.prints(&ask), "b'hello'\n");
        assert!(begun.elapsed() < crate::PATIENCE);
        flood.join().unwrap()
    });
    assert_eq!(flood, "10000\n");
}
