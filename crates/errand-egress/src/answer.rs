//! One request from a box: what it asks for, and what it is answered.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, Version};

use crate::budget::Pulse;
use crate::refusal::Refusal;
use crate::state::State;
use crate::target::Target;
use crate::tunnel::Tunnel;
use crate::{forward, tunnel};

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Where a request leaves the tunnel that its connection becomes.
#[derive(Clone, Default)]
pub(crate) struct Handover(Arc<Mutex<Option<Tunnel>>>);

impl Handover {
    pub(crate) fn put(&self, tunnel: Tunnel) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    pub(crate) fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Answers a request; a refusal says why and what to do.
pub(crate) async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    pulse: Arc<Pulse>,
    handover: Handover,
) -> Result<Response<Body>, Infallible> {
    let is_tunnel = request.method() == Method::CONNECT;
    let how = if is_tunnel { "tunnel" } else { "request" };
    let answered = if is_tunnel {
        tunnel::begin(request, &state, pulse, &handover).await.map(|()| Response::new(empty()))
    } else {
        forward::forward(request, &state, pulse).await
    };
    Ok(answered.unwrap_or_else(|refusal| {
        state.refuse(&refusal, how);
        told(&refusal)
    }))
}

/// The Host header agrees with where the request goes: at most one, and exactly one since HTTP/1.1.
pub(crate) fn check_host(request: &Request<Incoming>, target: &Target, usual_port: Option<u16>) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Refusal::Malformed("it has no Host header")),
        (Some(_), Some(_)) => Err(Refusal::Malformed("it has two Host headers")),
        (Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes()).ok();
            let named = authority.and_then(|authority| Target::of(&authority, usual_port).ok());
            if named.as_ref() == Some(target) { Ok(()) } else { Err(Refusal::HostDisagrees(target.clone())) }
        }
    }
}

fn empty() -> Body {
    Full::default().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A refusal as an answer; many clients show the words beside the status and nothing else.
fn told(refusal: &Refusal) -> Response<Body> {
    let text = format!("{}: {refusal}\n", refusal.code());
    let mut response = Response::new(Full::from(text).map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("errand-error", HeaderValue::from_static(refusal.code()));
    // What follows on this connection would be for whoever it was meant for, or is the rest of something broken.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response.extensions_mut().insert(ReasonPhrase::from_static(refusal.code().as_bytes()));
    response
}
