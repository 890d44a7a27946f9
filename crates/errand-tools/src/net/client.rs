//! The client: requests out, redirects followed by hand.

use super::body::{Body, Times};
use super::breaker::{Breakers, Pass};
use super::error::{Error, Failure};
use super::guard::{Guard, Guarded};
use super::redirect;
use bytes::Bytes;
use errand_core::Timestamp;
use errand_egress::{AllowError, AllowList, Lookup, System};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::Url;

/// Time for finding the address, connecting and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence within a body.
const IDLE: Duration = Duration::from_secs(30);
/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 10;
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Origins whose connections are kept.
const ORIGINS_MAX: usize = 32;

/// The way out, shared by all tools.
pub struct Network {
    guard: Arc<Guard>,
    breakers: Breakers,
    tls: OnceLock<Result<rustls::ClientConfig, String>>,
    /// Clients that keep connections, the last used first.
    kept: Mutex<Vec<(String, reqwest::Client)>>,
    /// Longest silence within a body.
    pub(super) idle: Duration,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method.
    pub(crate) method: Method,
    /// Where to; from [`Network::url`].
    pub(crate) url: Url,
    /// Headers besides those of the client.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Option<Bytes>,
    /// Whether a connection of an earlier request may be used. The server may be about to close it, and then it is not
    /// known whether it took the request: not for what must not be lost or doubled.
    pub(crate) reuse: bool,
    /// Whether it may change something although its method says that it does not.
    pub(crate) changes: bool,
    /// Longest silence within the body of the answer; none for the usual one.
    pub(crate) silence: Option<Duration>,
}

/// The head of an answer, and its body to be read.
pub(crate) struct Response {
    /// Where it came from in the end.
    pub(crate) url: Url,
    /// Status.
    pub(crate) status: StatusCode,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Body,
}

impl Request {
    /// One without a body, on a connection of its own.
    pub(crate) fn new(method: Method, url: Url, headers: HeaderMap) -> Self {
        Self { method, url, headers, body: None, reuse: false, changes: false, silence: None }
    }

    /// A GET without headers.
    #[cfg(test)]
    pub(crate) fn get(url: Url) -> Self {
        Self::new(Method::GET, url, HeaderMap::new())
    }

    fn may_change(&self) -> bool {
        self.changes || !self.method.is_safe()
    }
}

impl Network {
    /// With exceptions from the guard: hosts, `host:port`, IP addresses, `IP:port`, CIDR ranges.
    ///
    /// # Errors
    /// [`AllowError`] names the entry that cannot be read.
    pub fn new<S: AsRef<str>>(allow_addresses: &[S]) -> Result<Self, AllowError> {
        Self::with_lookup(allow_addresses, Arc::new(System))
    }

    /// With a resolver of one's own.
    pub(crate) fn with_lookup<S: AsRef<str>>(allow: &[S], lookup: Arc<dyn Lookup>) -> Result<Self, AllowError> {
        let guard = Arc::new(Guard::new(AllowList::parse(allow)?, lookup));
        Ok(Self { guard, breakers: Breakers::default(), tls: OnceLock::new(), kept: Mutex::default(), idle: IDLE })
    }

    /// Reads a URL that a model wrote.
    ///
    /// # Errors
    /// [`Error::UrlInvalid`], [`Error::AddressRefused`].
    pub(crate) fn url(&self, text: &str) -> Result<Url, Error> {
        self.guard.url(text)
    }

    /// Sends a request and follows redirects. All of it, and reading the body, may take `timeout`.
    ///
    /// # Errors
    /// A [`Failure`] says also whether a request that may change something can have been received.
    pub(crate) async fn send(&self, request: Request, now: Timestamp, timeout: Duration) -> Result<Response, Failure> {
        let deadline = Instant::now() + timeout;
        let mut hop = Hop { request, sent: false, seen: HashSet::new() };
        loop {
            let endpoint = hop.request.url.origin().ascii_serialization();
            let pass = self.guard.check(&hop.request.url).and_then(|()| self.breakers.admit(&endpoint, now));
            let pass = pass.map_err(|error| hop.failure(error))?;
            let answer = self.exchange(&hop.request, deadline, timeout).await;
            let inner = match answer {
                Ok(inner) => inner,
                Err(failure) => {
                    // A refusal of the guard tells nothing about the endpoint.
                    if !matches!(failure.error, Error::AddressRefused { .. }) {
                        pass.failed();
                    }
                    return Err(Failure { sent: failure.sent || hop.sent, ..failure });
                }
            };
            hop.sent |= hop.request.may_change();
            if let Err(problem) = head_fits(inner.headers()) {
                pass.failed();
                return Err(hop.failure(Error::ResponseBroken { endpoint, problem }));
            }
            if !redirect::is_redirect(inner.status(), inner.headers()) {
                let times = Times { deadline, timeout, idle: hop.request.silence.unwrap_or(self.idle) };
                return Ok(response(hop.request, inner, endpoint, times, pass));
            }
            pass.succeeded();
            hop = hop.follow(&inner, &endpoint)?;
        }
    }

    async fn exchange(&self, request: &Request, deadline: Instant, timeout: Duration) -> Result<reqwest::Response, Failure> {
        let endpoint = request.url.origin().ascii_serialization();
        let client = self.client(&endpoint, &request.url, request.reuse)?;
        let mut built = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if !request.headers.contains_key(ACCEPT) {
            built = built.header(ACCEPT, HeaderValue::from_static("*/*"));
        }
        if let Some(body) = &request.body {
            built = built.body(body.clone());
        }
        let seconds = timeout.as_secs();
        match timeout_at(deadline, built.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failure(&error, endpoint, request.may_change())),
            Err(_) => {
                let error = Error::TimedOut { endpoint, what: "did not answer", seconds };
                Err(Failure { error, sent: request.may_change() })
            }
        }
    }

    /// A client for one origin: its resolver knows the port. One that keeps no connection is made anew each time.
    fn client(&self, origin: &str, url: &Url, keep: bool) -> Result<reqwest::Client, Error> {
        if !keep {
            return self.build(url, 0);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(known, _)| known == origin).map(|at| kept.remove(at));
        let entry = match known {
            Some(entry) => entry,
            None => (origin.to_owned(), self.build(url, 4)?),
        };
        let client = entry.1.clone();
        kept.insert(0, entry);
        kept.truncate(ORIGINS_MAX);
        Ok(client)
    }

    fn build(&self, url: &Url, idle_max: usize) -> Result<reqwest::Client, Error> {
        let endpoint = || url.origin().ascii_serialization();
        let tls = match url.scheme() {
            "https" => self.tls.get_or_init(verified).clone(),
            _ => tls().map(|tls| tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()),
        };
        let tls = tls.map_err(|problem| Error::ConnectFailed { endpoint: endpoint(), problem })?;
        let port = url.port_or_known_default().unwrap_or_default();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Guarded { guard: Arc::clone(&self.guard), port }))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(idle_max)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("errand/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::ConnectFailed { endpoint: endpoint(), problem: deepest(&error) })
    }
}

/// One request of a chain of redirects.
struct Hop {
    request: Request,
    /// Whether a request that may change something was answered.
    sent: bool,
    seen: HashSet<(Method, Url)>,
}

impl Hop {
    fn failure(&self, error: Error) -> Failure {
        Failure { error, sent: self.sent }
    }

    /// The request to make next.
    fn follow(mut self, answer: &reqwest::Response, endpoint: &str) -> Result<Self, Failure> {
        let refuse = |hop: &Self, problem: &str| {
            hop.failure(Error::RedirectRefused { endpoint: endpoint.to_owned(), problem: problem.to_owned() })
        };
        let from = self.request.url.clone();
        self.seen.insert((self.request.method.clone(), from.clone()));
        let location = answer.headers().get(LOCATION).map_or(&[][..], HeaderValue::as_bytes);
        let to = redirect::target(&from, location).map_err(|problem| refuse(&self, problem))?;
        let (method, with_body) = redirect::method(answer.status(), &self.request.method);
        if self.seen.contains(&(method.clone(), to.clone())) {
            return Err(refuse(&self, "it leads in a circle"));
        }
        if self.seen.len() > REDIRECTS_MAX {
            return Err(refuse(&self, &format!("it is one after {REDIRECTS_MAX} others")));
        }
        redirect::headers(&mut self.request.headers, &from, &to, with_body);
        if !with_body {
            self.request.body = None;
        }
        (self.request.method, self.request.url) = (method, to);
        Ok(self)
    }
}

fn response(request: Request, inner: reqwest::Response, endpoint: String, times: Times, pass: Pass) -> Response {
    let pass = if inner.status().is_server_error() {
        pass.failed();
        None
    } else {
        Some(pass)
    };
    let headers = inner.headers().clone();
    let encoding = headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let encoding = encoding.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    // Without a body there is nothing to decompress.
    let encoding = encoding.filter(|_| request.method != Method::HEAD && inner.content_length() != Some(0));
    let status = inner.status();
    Response { url: request.url, status, headers, body: Body { inner, endpoint, times, pass, encoding } }
}

fn head_fits(headers: &HeaderMap) -> Result<(), String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > HEAD_BYTES_MAX {
        return Err(format!("its head has {bytes} bytes, at most {HEAD_BYTES_MAX} are taken"));
    }
    Ok(())
}

/// What became of a request that got no answer.
fn failure(error: &reqwest::Error, endpoint: String, may_change: bool) -> Failure {
    if let Some(own) = own(error) {
        return own.clone().into();
    }
    let problem = deepest(error);
    if error.is_connect() {
        return match error.is_timeout() {
            true => Error::TimedOut { endpoint, what: "let nobody connect", seconds: CONNECT.as_secs() },
            false => Error::ConnectFailed { endpoint, problem },
        }
        .into();
    }
    if error.is_builder() {
        return Error::UrlInvalid { problem }.into();
    }
    Failure { error: Error::ResponseBroken { endpoint, problem }, sent: may_change }
}

/// The guard's word, if it was the guard.
fn own(error: &reqwest::Error) -> Option<&Error> {
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own);
        }
        below = error.source();
    }
    None
}

/// The innermost reason: the outer ones repeat the URL.
pub(super) fn deepest(error: &reqwest::Error) -> String {
    let mut text = "it failed".to_owned();
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        text = error.to_string();
        below = error.source();
    }
    text
}

type WantsVerifier = rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>;

fn tls() -> Result<WantsVerifier, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|e| e.to_string())
}

/// TLS with the certificates of this system.
fn verified() -> Result<rustls::ClientConfig, String> {
    use rustls_platform_verifier::BuilderVerifierExt as _;
    Ok(tls()?.with_platform_verifier().map_err(|error| error.to_string())?.with_no_client_auth())
}
