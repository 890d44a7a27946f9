//! What happens around every request: who may ask, a number for it, the form of its errors, and no panic beyond it.

use crate::Api;
use crate::error::{Dialect, Failure, rendered};
use crate::routes::HEALTH;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps a request.
pub(crate) async fn around(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let (dialect, what) = (Dialect::of(request.uri().path()), shown(&request));
    let id = format!("req_{:016x}", api.world.nonce().0);
    let answered = match admitted(&api, &mut request).await {
        // A panic is an error of one request.
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(what, "a request panicked");
            Failure::new(500, "internal", "the server failed to answer; its log tells more").into_response()
        }),
        Err(failure) => failure.into_response(),
    };
    let mut response = rendered(answered, dialect, &what);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("req")));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Method and path, short enough for a message.
fn shown(request: &Request) -> String {
    let path: String = request.uri().path().chars().take(120).collect();
    format!("{} {path}", request.method())
}

/// Refuses who may not ask, and notes on the request who does.
async fn admitted(api: &Api, request: &mut Request) -> Result<(), Failure> {
    // Who must have a key may ask under any name: of a proxy that does TLS, say.
    if !api.gate.is_closed() {
        names_this_machine(request.uri(), request.headers())?;
    }
    is_no_page(request.headers())?;
    if request.uri().path() != HEALTH {
        let given = key(request.headers()).map(str::to_owned);
        let who = api.gate.admit(given.as_deref(), api.now()).await?;
        request.extensions_mut().insert(who);
    }
    Ok(())
}

/// The key that came with a request. What is there and cannot be one is a text that is none.
fn key(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let one = all.next()?.to_str().ok().filter(|_| all.next().is_none());
    Some(one.and_then(errand_keys::bearer).unwrap_or_default())
}

/// Where no key is needed, only programs of this machine may ask: not a web page that somebody made a name point here for.
fn names_this_machine(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut named = hosts.chain(uri.authority().map(|authority| authority.as_str())).peekable();
    if named.peek().is_none() || !named.all(is_loopback) {
        let message = "the Host header names no address of this machine: ask under 127.0.0.1 or localhost";
        return Err(Failure::new(403, "host_refused", message));
    }
    Ok(())
}

/// A web page that a person has open must not ask, by a request of its own.
fn is_no_page(headers: &HeaderMap) -> Result<(), Failure> {
    // Other programs of this machine serve pages too, so a loopback name is not enough: it must be this very server.
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let from_here = |origin: &HeaderValue| {
        let (_, host) = origin.to_str().ok()?.split_once("://")?;
        host.eq_ignore_ascii_case(own).then_some(())
    };
    let cross = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if cross || headers.get_all(header::ORIGIN).iter().any(|origin| from_here(origin).is_none()) {
        let message = "web pages of other origins may not use this server";
        return Err(Failure::new(403, "origin_refused", message));
    }
    Ok(())
}

/// Whether `host`, with or without a port, can only mean this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || is_port(port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(port: &str) -> bool {
    port.strip_prefix(':').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:80", "localhost.:80", "127.0.0.1", "127.8.8.8:8080", "[::1]", "[::1]:8080"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "[::1",
            "127.0.0.1:80x",
            "evil@127.0.0.1",
            "127.0.0.1:",
            "::1",
            "[::1]x",
            "127.1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
