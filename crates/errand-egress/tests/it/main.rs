//! The proxy with real sockets on loopback, and real boxes that try to get past it. Names are a fake resolver's; nothing is
//! sent beyond this machine, except by `registries`, to the package registries that this machine is set up for.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says why it is skipped")]

mod boxes;
mod endurance;
mod grants;
mod names;
mod registries;
mod requests;
mod secrets;
mod tunnels;
mod upstream;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use errand_egress::{AllowList, Egress, Grant, HostGrant, Lookup, Proxy, ProxyConfig, Reach, Secret, Times};
use errand_sandbox::{OpenDoor, WayOut};

/// No test waits longer for bytes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A resolver that gives its answers in turn, the last for ever.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<Vec<(String, Vec<Vec<IpAddr>>)>>,
    pub(crate) asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Lookup for Names {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut known = self.known.lock().unwrap();
        let found = known.iter_mut().find(|(name, _)| name == host);
        let (_, answers) = found.ok_or_else(|| std::io::Error::other("no such name"))?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

impl Names {
    /// One answer of one address.
    pub(crate) fn with(self, name: &str, address: &str) -> Names {
        self.with_turns(name, &[&[address]])
    }

    /// Answers in turn.
    pub(crate) fn with_turns(self, name: &str, turns: &[&[&str]]) -> Names {
        let read = |turn: &&[&str]| turn.iter().map(|address| address.parse().unwrap()).collect();
        self.known.lock().unwrap().push((name.to_owned(), turns.iter().map(read).collect()));
        self
    }
}

/// What a test sets up.
pub(crate) struct Setup {
    pub(crate) grant: Grant,
    pub(crate) allow: Vec<String>,
    pub(crate) names: Arc<Names>,
    pub(crate) times: Times,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// A proxy, and a door on this machine's loopback in place of one in a box.
pub(crate) struct World {
    pub(crate) egress: Arc<Egress>,
    pub(crate) door: SocketAddr,
    pub(crate) open: Option<OpenDoor>,
}

impl Setup {
    /// `a.example` and `b.example` lead to loopback, which is an exception for this port; `a.example` is granted with it.
    pub(crate) fn to(port: u16) -> Setup {
        Setup {
            grant: Grant::new(vec![HostGrant::parse(&format!("a.example:{port}")).unwrap()]).unwrap(),
            allow: vec![format!("127.0.0.1:{port}")],
            names: Arc::new(Names::default().with("a.example", "127.0.0.1").with("b.example", "127.0.0.1")),
            times: Times::default(),
            secrets: Vec::new(),
            tls: None,
        }
    }

    /// The same, with tunnels that may carry anything.
    pub(crate) fn plain_to(port: u16) -> Setup {
        let grant = Grant::new(vec![HostGrant::parse(&format!("a.example:{port}")).unwrap().plain()]).unwrap();
        Setup { grant, ..Setup::to(port) }
    }

    pub(crate) fn granting(self, hosts: &[&str]) -> Setup {
        let hosts = hosts.iter().map(|host| HostGrant::parse(host).unwrap()).collect();
        Setup { grant: Grant::new(hosts).unwrap(), ..self }
    }

    pub(crate) fn egress(self) -> Arc<Egress> {
        let names = Arc::clone(&self.names);
        self.egress_by(names)
    }

    /// With names by this resolver.
    pub(crate) fn egress_by(self, names: Arc<dyn Lookup>) -> Arc<Egress> {
        let reach = Reach::new(AllowList::parse(&self.allow).unwrap(), names);
        let proxy = Proxy::start(ProxyConfig { reach, times: self.times, tls: self.tls }).unwrap();
        proxy.way_out("test", self.grant, self.secrets)
    }

    pub(crate) fn world(self) -> World {
        let egress = self.egress();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = listener.local_addr().unwrap();
        let open = Some(egress.open(listener).unwrap());
        World { egress, door, open }
    }
}

impl World {
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.door)
    }

    /// Sends these bytes and reads until the proxy closes.
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        let mut answer = Vec::new();
        // A connection that is reset ends the answer as well.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status and the code of a refused GET of a URL.
    pub(crate) fn get(&self, url: &str) -> String {
        let authority = url.split('/').nth(2).unwrap_or_default();
        self.ask(format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"))
    }

    /// Asks for a tunnel; gives the stream and the status line.
    pub(crate) fn tunnel(&self, authority: &str) -> (TcpStream, String) {
        let mut stream = self.connect();
        let status = ask_tunnel(&mut stream, authority);
        (stream, status)
    }
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks for a tunnel over a stream; gives the head of the answer.
pub(crate) fn ask_tunnel(stream: &mut TcpStream, authority: &str) -> String {
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).unwrap();
    head(stream)
}

/// Reads up to the empty line.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0u8; 1]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// `403 egress_denied`, say.
pub(crate) fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default().strip_prefix("HTTP/1.1 ").unwrap_or(answer)
}
