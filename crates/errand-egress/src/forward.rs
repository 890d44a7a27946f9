//! A request with a whole URL in its request line: read, checked, and made again.
//!
//! Nothing of its framing is passed on: hyper reads the body by its own rules and frames it anew, so that what was checked is
//! what the host sees. The proxy speaks TLS itself where the URL says `https`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::answer::{Body, check_host};
use crate::budget::Pulse;
use crate::grant::Wish;
use crate::refusal::Refusal;
use crate::secret::{self, Scrub};
use crate::state::State;
use crate::stream::{Counted, is_used_up};
use crate::target::{Place, Target};

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// What concerns one connection alone (RFC 9110, section 7.6.1), and what would break the framing.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CONTENT_LENGTH,
    EXPECT,
];

/// Sends a request on, and gives its answer.
pub(crate) async fn forward(
    mut request: Request<Incoming>,
    state: &Arc<State>,
    pulse: Arc<Pulse>,
) -> Result<Response<Body>, Refusal> {
    let (target, is_tls) = check(&request)?;
    state.decide(&target, Wish::Request(request.method()))?;
    let (known, is_used) = make_anew(&mut request, &target, is_tls, state)?;
    let stream = Counted::outside(state.connect(&target).await?, pulse, Arc::clone(&state.budget));
    state.let_through(&target, if is_tls { "https request" } else { "http request" });
    let connection = if is_tls {
        let stream = secured(stream, &target, state).await?;
        start(stream, &target).await?
    } else {
        start(stream, &target).await?
    };
    let Connection { mut sender, driver } = connection;
    let answered = sender.send_request(request).await.map_err(|error| broken(&target, &error))?;
    let (mut head, body) = answered.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Broken(target, "it changes the protocol, which nobody asked for".to_owned()));
    }
    let length = head.headers.get(CONTENT_LENGTH).cloned();
    strip(&mut head.headers);
    // The host frames an answer without a body, to HEAD for one, by its length alone.
    if let Some(length) = length.filter(|_| body.is_end_stream()) {
        head.headers.insert(CONTENT_LENGTH, length);
    }
    let scrub = if known.is_empty() {
        None
    } else {
        let encoding = head.headers.get(CONTENT_ENCODING);
        if is_used && encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let why = "it is compressed, so a secret in it could not be hidden".to_owned();
            return Err(Refusal::Broken(target, why));
        }
        // Also where this request held none: the host may have kept it from one before.
        secret::hide(&mut head.headers, &known);
        Some(Scrub::new(&known))
    };
    head.version = Version::HTTP_11;
    let relayed = Relayed { inner: body, scrub, state: Arc::clone(state), _driver: driver };
    Ok(Response::from_parts(head, relayed.boxed_unsync()))
}

/// What a request asks for, if it is written in one way only.
fn check(request: &Request<Incoming>) -> Result<(Target, bool), Refusal> {
    let uri = request.uri();
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Refusal::Malformed(
            "this is a proxy: send CONNECT, or the whole URL in the request line, as clients do that heed HTTP_PROXY",
        ));
    };
    let is_tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(Refusal::Malformed("only http and https are spoken")),
    };
    let usual_port = Some(if is_tls { 443 } else { 80 });
    let target = Target::of(authority, usual_port).map_err(Refusal::Malformed)?;
    check_host(request, &target, usual_port)?;
    let headers = request.headers();
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(Refusal::Malformed("it has two Content-Length headers"));
    }
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::Malformed("it has both Content-Length and Transfer-Encoding"));
    }
    Ok((target, is_tls))
}

/// Turns it into what the host is to see; gives the secrets that the host may see, and whether one is in it.
fn make_anew<'a>(
    request: &mut Request<Incoming>,
    target: &Target,
    is_tls: bool,
    state: &'a State,
) -> Result<(Vec<&'a secret::Secret>, bool), Refusal> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::try_from(path).map_err(|_| Refusal::Malformed("its path is none"))?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    strip(headers);
    let usual = if is_tls { 443 } else { 80 };
    let host = if target.port == usual { target.host.to_string() } else { target.to_string() };
    let host = HeaderValue::from_str(&host).map_err(|_| Refusal::Malformed("its host cannot stand in a header"))?;
    headers.insert(HOST, host);
    let known = secret::known(&target.host, &state.secrets);
    // What is not encrypted is read on the way.
    let is_used = is_tls && secret::swap(headers, &known);
    if !known.is_empty() {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    Ok((known, is_used))
}

/// Removes what concerns one connection alone, and what its `Connection` header says does.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A box that has these removed would have the host see less than was checked.
        .filter(|name| *name != HOST)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

async fn secured<S>(stream: S, target: &Target, state: &State) -> Result<tokio_rustls::client::TlsStream<S>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |problem: String| Refusal::NoConnection(target.clone(), problem);
    let name = match &target.host {
        Place::Name(name) => ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?,
        Place::Address(address) => ServerName::from(*address),
    };
    let connector = tokio_rustls::TlsConnector::from(state.common.tls().map_err(failed)?);
    let handshake = timeout(state.common.times.connect, connector.connect(name, stream));
    handshake.await.map_err(|_| failed("TLS took too long".to_owned()))?.map_err(|error| failed(format!("TLS: {error}")))
}

struct Connection {
    sender: http1::SendRequest<Incoming>,
    driver: Driver,
}

/// Ends the connection to a host with the answer that came over it.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn start<S>(stream: S, target: &Target) -> Result<Connection, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(target, &error))?;
    // How it ends is seen by whoever waits for the answer.
    let driver = Driver(tokio::spawn(async move { drop(connection.await) }).abort_handle());
    Ok(Connection { sender, driver })
}

fn broken(target: &Target, error: &hyper::Error) -> Refusal {
    if is_used_up(error) { Refusal::BudgetUsed } else { Refusal::Broken(target.clone(), error.to_string()) }
}

/// The body of an answer on its way into the box.
struct Relayed {
    inner: Incoming,
    scrub: Option<Scrub>,
    state: Arc<State>,
    _driver: Driver,
}

impl HttpBody for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    if is_used_up(&error) {
                        self.state.refuse(&Refusal::BudgetUsed, "request");
                    }
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let rest = self.scrub.take().map(|mut scrub| scrub.rest()).filter(|rest| !rest.is_empty());
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))));
                }
            };
            // Trailers are rare, and could hold what headers may not.
            let Ok(data) = frame.into_data() else { continue };
            let data = match &mut self.scrub {
                Some(scrub) => scrub.piece(&data),
                None => data,
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.scrub.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.scrub.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}
