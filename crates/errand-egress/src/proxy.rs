//! The proxy of a runner, and the way out that it gives to a session.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use errand_sandbox::{OpenDoor, WayOut};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::answer::{self, Handover};
use crate::budget::Pulse;
use crate::grant::Grant;
use crate::reach::Reach;
use crate::secret::Secret;
use crate::state::{Permit, State, Usage};
use crate::stream::Counted;

/// Connections of one session at most.
const CONNECTIONS_EACH: usize = 100;
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header lines of a request at most.
const HEADERS_MAX: usize = 100;
/// Threads that look names up.
const LOOKUP_THREADS: usize = 64;

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Times {
    /// The head of a request, or the beginning of TLS in a tunnel.
    pub head: Duration,
    /// Finding a name, connecting to one address, or TLS with a host: each.
    pub connect: Duration,
    /// Silence of a connection.
    pub idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { head: Duration::from_secs(15), connect: Duration::from_secs(10), idle: Duration::from_secs(300) }
    }
}

/// How a proxy is made.
#[derive(Debug)]
pub struct ProxyConfig {
    /// Which addresses it may connect to.
    pub reach: Reach,
    /// How long things may take.
    pub times: Times,
    /// How it speaks TLS where it does so itself; none takes the roots of this machine.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) reach: Reach,
    pub(crate) times: Times,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) connections_each: usize,
}

impl Common {
    /// For TLS with a host. The roots are read when they are first needed.
    pub(crate) fn tls(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        use rustls_platform_verifier::BuilderVerifierExt as _;
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(|error| error.to_string())?
            .with_no_client_auth();
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(tls))))
    }
}

/// The proxy of a runner: threads of its own, so that boxes keep nobody else waiting. Dropping the last handle ends all
/// connections.
#[derive(Debug)]
pub struct Proxy {
    runtime: Option<Runtime>,
    common: Arc<Common>,
}

impl Proxy {
    /// Starts its threads.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn start(config: ProxyConfig) -> std::io::Result<Arc<Proxy>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(LOOKUP_THREADS)
            .thread_name("errand-egress")
            .enable_all()
            .build()?;
        let all = connections_max();
        let tls = OnceLock::new();
        if let Some(given) = config.tls {
            let _ = tls.set(given);
        }
        let common = Common {
            reach: config.reach,
            times: config.times,
            tls,
            connections: Arc::new(Semaphore::new(all)),
            // No session takes more than a quarter of all.
            connections_each: CONNECTIONS_EACH.min(all / 4).max(1),
        };
        Ok(Arc::new(Proxy { runtime: Some(runtime), common: Arc::new(common) }))
    }

    /// A way out for the boxes of a session. What it uses counts for as long as this value lives.
    pub fn way_out(self: &Arc<Self>, session: &str, grant: Grant, secrets: Vec<Secret>) -> Arc<Egress> {
        let state = State::new(session, Arc::clone(&self.common), grant, secrets);
        Arc::new(Egress { proxy: Arc::clone(self), state: Arc::new(state) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it is not allowed on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// As many as there are descriptors for: two each, and the rest of the process needs some.
fn connections_max() -> usize {
    #[cfg(unix)]
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    #[cfg(not(unix))]
    let files = 1 << 12;
    usize::try_from(files / 4).unwrap_or(usize::MAX).clamp(8, 4096)
}

/// The way out of a session.
#[derive(Debug)]
pub struct Egress {
    proxy: Arc<Proxy>,
    state: Arc<State>,
}

impl Egress {
    /// How much has been used.
    pub fn usage(&self) -> Usage {
        self.state.usage()
    }

    /// Puts another grant in place of the one it was made with. Connections that were made under that one end. The bytes
    /// that may pass, and those that passed, stay as they are.
    pub fn replace(&self, grant: Grant) {
        self.state.replace(grant);
    }
}

/// A door that is attended to until this is dropped.
struct Attended {
    accepting: AbortHandle,
    /// It runs on the threads of this.
    _proxy: Arc<Proxy>,
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl WayOut for Egress {
    fn environment(&self, door: SocketAddr) -> Vec<(String, String)> {
        let url = format!("http://{door}");
        let own = "localhost,127.0.0.1,::1";
        let mut all = Vec::new();
        for (upper, lower, value) in [
            ("HTTP_PROXY", "http_proxy", url.as_str()),
            ("HTTPS_PROXY", "https_proxy", &url),
            ("ALL_PROXY", "all_proxy", &url),
            ("NO_PROXY", "no_proxy", own),
        ] {
            all.extend([(upper.to_owned(), value.to_owned()), (lower.to_owned(), value.to_owned())]);
        }
        // Node's own `fetch` asks for it; pip and npm take the variables above, and need not ask for news of themselves.
        for (name, value) in
            [("NODE_USE_ENV_PROXY", "1"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1"), ("npm_config_update_notifier", "false")]
        {
            all.push((name.to_owned(), value.to_owned()));
        }
        all.extend(self.state.secrets.iter().map(Secret::variable));
        all
    }

    fn open(&self, listener: TcpListener) -> std::io::Result<OpenDoor> {
        listener.set_nonblocking(true)?;
        let runtime = self.proxy.runtime.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let accepting = runtime.spawn(attend(listener, Arc::clone(&self.state))).abort_handle();
        Ok(Box::new(Attended { accepting, _proxy: Arc::clone(&self.proxy) }))
    }
}

/// Takes in connections, as many as the session may have; the others wait in the box.
async fn attend(listener: tokio::net::TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Some(permit) = state.admit().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&state), permit))),
            // No descriptor is left, or the connection was gone again.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One connection from a box, until it is over, silent for too long, or the grant's time is.
async fn connection(stream: TcpStream, state: Arc<State>, _permit: Permit) {
    let pulse = Arc::new(Pulse::new());
    let idle = state.common.times.idle;
    let mut changes = state.changes();
    let left = state.grant().time_left().unwrap_or(Duration::MAX);
    tokio::select! {
        () = converse(stream, Arc::clone(&state), Arc::clone(&pulse)) => {}
        () = silence(&pulse, idle) => tracing::info!(session = state.session, "egress connection was silent for too long"),
        _ = changes.changed() => tracing::info!(session = state.session, "egress connection ended as its grant was replaced"),
        () = tokio::time::sleep(left) => tracing::info!(session = state.session, "egress connection ended with the grant"),
    }
}

async fn silence(pulse: &Pulse, idle: Duration) {
    loop {
        match idle.checked_sub(pulse.silence()) {
            Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
            _ => return,
        }
    }
}

async fn converse(stream: TcpStream, state: Arc<State>, pulse: Arc<Pulse>) {
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    let handover = Handover::default();
    let service = service_fn(|request| answer::answer(request, Arc::clone(&state), Arc::clone(&pulse), handover.clone()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .header_read_timeout(state.common.times.head)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Counted::inside(stream, Arc::clone(&pulse))), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(session = state.session, %error, "egress connection ended early");
    }
    if let Some(tunnel) = handover.take() {
        tunnel.run(&state).await;
    }
}
