//! The half outside: makes, lists, pauses and ends sandboxes, and passes requests on to the inside of one.
//!
//! Control plane and sandboxes are told apart by the header `E2b-Sandbox-Id`, so that one address is enough for both. Who asks
//! the control plane has a key, where one is needed; who speaks with a sandbox has a token of it, which that key was given.

mod control;
mod network;
mod pass;
mod sandbox;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use errand_core::Timestamp;
use errand_egress::{Grant, Proxy, ProxyConfig, Reach, Terms, Times};
use errand_keys::{Gate, Principal, Refusal};
use errand_sandbox::{Engine, Limits, Sessions};
use sandbox::Sandbox;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// How often sandboxes whose time is up are looked for.
const TICK: Duration = Duration::from_millis(500);

/// The header that names the sandbox that a request is for.
const SANDBOX: &str = "e2b-sandbox-id";

/// How sandboxes are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A program that calls [`crate::inside::run`] when it is started with `arguments`: this very one, as a
    /// rule. What it links to must be part of the system.
    pub program: PathBuf,
    /// What leads it there.
    pub arguments: Vec<String>,
    /// What one sandbox may use, all its processes together; the wall time does not count.
    pub limits: Limits,
    /// Most sandboxes at a time, paused ones left out.
    pub running_max: usize,
    /// What sandboxes may reach at most, by which addresses; none for sandboxes without a network. Secrets are not for them.
    pub egress: Option<(Terms, Reach)>,
}

/// All sandboxes of this process. When it is dropped they end; their workspaces stay with the sessions' folder.
pub struct Service {
    engine: Arc<Engine>,
    gate: Gate,
    sessions: Sessions,
    settings: Settings,
    sockets: tempfile::TempDir,
    sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    /// What sandboxes may reach, and the proxy they reach it through; no terms and none where they have no network.
    terms: Terms,
    proxy: Option<Arc<Proxy>>,
}

/// What was asked for cannot be done; told in the form of the SDKs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn not_found(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("sandbox {id} was not found"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, axum::Json(json!({"code": self.status.as_u16(), "message": self.message}))).into_response()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Unavailable { code, reason } => {
                tracing::warn!(code, reason, "API keys cannot be checked");
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, format!("{}: {refusal}", refusal.code()))
    }
}

impl From<errand_sandbox::Error> for Refused {
    fn from(error: errand_sandbox::Error) -> Self {
        use errand_sandbox::Error::{ImageMissing, ImageUnknown};
        if let ImageMissing { name, .. } | ImageUnknown { name, .. } = &error {
            let message = format!(
                "template '{name}' not found: templates are `base`, `code-interpreter-v1` and the images of this host"
            );
            return Self::new(StatusCode::NOT_FOUND, message);
        }
        tracing::warn!(code = error.code(), %error, "a sandbox could not be made or changed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", error.code()))
    }
}

impl Service {
    /// A service for whom `gate` lets in, over the sessions of a folder that nobody else uses. Those there that have the name of a sandbox belong to
    /// a service that has ended, and are removed.
    ///
    /// # Errors
    /// When that fails, or there is no place for its sockets.
    pub fn new(engine: Arc<Engine>, sessions: Sessions, settings: Settings, gate: Gate) -> errand_sandbox::Result<Self> {
        for id in sessions.list()?.into_iter().filter(|id| sandbox::is_id(id)) {
            sessions.destroy(sessions.open(&id)?)?;
        }
        let failed = |error| errand_sandbox::Error::Io {
            action: "making a folder for sockets",
            path: std::env::temp_dir(),
            source: error,
        };
        // Short enough for a socket's address, and of this user alone.
        let sockets = tempfile::Builder::new().prefix("errand-e2b-").tempdir().map_err(failed)?;
        let (terms, proxy) = match settings.egress.clone().filter(|(terms, _)| !terms.is_empty()) {
            Some((terms, reach)) => (terms, Some(started(reach)?)),
            None => (Terms { grant: Grant::none(), secrets: Vec::new() }, None),
        };
        Ok(Self { engine, gate, sessions, settings, sockets, sandboxes: Mutex::default(), terms, proxy })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Sandbox>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sandbox of whoever asks. One of another tenant is as if it were not there.
    fn find(&self, who: &Principal, id: &str) -> Result<Arc<Sandbox>, Refused> {
        self.any(id).filter(|sandbox| sandbox.tenant == who.tenant).ok_or_else(|| Refused::not_found(id))
    }

    /// A sandbox, whosever it is.
    fn any(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.lock().get(id).map(Arc::clone)
    }
}

fn started(reach: Reach) -> errand_sandbox::Result<Arc<Proxy>> {
    let failed = |source| errand_sandbox::Error::Io { action: "starting the proxy of", path: "sandboxes".into(), source };
    Proxy::start(ProxyConfig { reach, times: Times::default(), tls: None }).map_err(failed)
}

/// Serves until the future is dropped; sandboxes end with it.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, service: Service) -> std::io::Result<()> {
    // Answers are short, and somebody waits for each.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router(service)).await
}

/// All routes. Sandboxes end, or pause, when their time is up, for as long as the router is served.
fn router(service: Service) -> Router {
    let service = Arc::new(service);
    let watched = Arc::downgrade(&service);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            let Some(service) = watched.upgrade() else { return };
            service.end_those_out_of_time().await;
        }
    });
    control::routes()
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, "this server has no such route") })
        .layer(from_fn_with_state(Arc::clone(&service), to_sandbox))
        .layer(from_fn_with_state(Arc::clone(&service), admitted))
        .with_state(service)
}

/// Requests that name a sandbox go to its inside.
async fn to_sandbox(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let id = request.headers().get(SANDBOX).map(|id| id.to_str().unwrap_or_default().to_owned());
    match id {
        Some(id) => pass::pass(&service, &id, request).await.unwrap_or_else(IntoResponse::into_response),
        None => next.run(request).await,
    }
}

/// Refuses who may not ask, and notes on the request who does. What goes to a sandbox bears its token in place of a key.
async fn admitted(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is_page = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    // Without keys only programs of this machine may ask; a web page that a person has open never may.
    if is_page || (!service.gate.is_closed() && !names_this_machine(headers)) {
        let message = "only programs may use this server; those without a key under 127.0.0.1 or localhost";
        return Refused::new(StatusCode::FORBIDDEN, message).into_response();
    }
    if !headers.contains_key(SANDBOX) && request.uri().path() != control::HEALTH {
        match service.gate.admit(key(headers).as_deref(), now()).await {
            Ok(who) => drop(request.extensions_mut().insert(who)),
            Err(refusal) => return pass::refused(request, refusal.into()).await,
        }
    }
    next.run(request).await
}

/// The key that came with a request. What is there and cannot be one is a text that is none.
fn key(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all("x-api-key").iter();
    let one = all.next()?.to_str().ok().filter(|_| all.next().is_none());
    Some(one.unwrap_or_default().to_owned())
}

fn now() -> Timestamp {
    Timestamp::from_millis(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_taken() {
        let of = |host: &str| names_this_machine(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        for host in ["localhost", "localhost:1", "127.0.0.1:80", "[::1]:80", "127.9.9.9"] {
            assert!(of(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "10.0.0.1:80", "127.0.0.1.example.com"] {
            assert!(!of(host), "{host}");
        }
    }
}
