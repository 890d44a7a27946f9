//! Requests on their way to the inside of a sandbox, and what comes back.

use super::sandbox::Sandbox;
use super::{Refused, Service};
use crate::inside::{CODE_PORT, ENVD_PORT, MESSAGE_BYTES_MAX};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use errand_keys::Principal;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Headers that belong to one connection, and those that the inside must not see.
const LEFT_OUT: [&str; 13] = [
    "authorization",
    "connection",
    "cookie",
    "e2b-traffic-access-token",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-access-token",
    "x-api-key",
];

/// Of a request that is refused so much is read, in bytes: a client that is still sending would not hear why.
const READ_OF_REFUSED: usize = 16 << 20;

/// Passes a request on to the sandbox `id`, if it bears its token.
pub(super) async fn pass(service: &Service, id: &str, request: Request) -> Result<Response, Refused> {
    if let Err(refused) = admit(service, id, request.headers(), request.uri().path()).await {
        return Ok(self::refused(request, refused).await);
    }
    let lost = |_| Refused::new(StatusCode::BAD_GATEWAY, "the connection to the sandbox ended before its answer");
    send(&service.socket(id), inward(request)).await.map_err(lost).map(outward)
}

/// The refusal of a request, once enough of it was read.
pub(super) async fn refused(request: Request, refused: Refused) -> Response {
    let _ = axum::body::to_bytes(request.into_body(), READ_OF_REFUSED).await;
    refused.into_response()
}

/// Refuses what is not for a sandbox that runs, or does not bear its token.
async fn admit(service: &Service, id: &str, headers: &HeaderMap, path: &str) -> Result<(), Refused> {
    // A sandbox that is gone is told of by the proxy in front of it, as the SDKs know it.
    let gone = || Refused::new(StatusCode::BAD_GATEWAY, format!("The sandbox {id} was not found"));
    let sandbox = service.any(id).ok_or_else(gone)?;
    let holder = check(&sandbox, headers)?;
    // Its key may have been revoked since.
    service.gate.readmit(&holder, super::now()).await?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if path != "/files" && length.is_some_and(|length| length > MESSAGE_BYTES_MAX) {
        let message = format!("the body has over {MESSAGE_BYTES_MAX} bytes: send data as a file");
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    if sandbox.is_alive().await { Ok(()) } else { Err(gone()) }
}

/// Who bears a token. Refuses whoever bears none, or wants another port.
fn check(sandbox: &Sandbox, headers: &HeaderMap) -> Result<Principal, Refused> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let port = text("e2b-sandbox-port").unwrap_or(ENVD_PORT);
    let holder = sandbox.holder(text("x-access-token"), text("e2b-traffic-access-token"), port == CODE_PORT);
    let unknown = || Refused::new(StatusCode::UNAUTHORIZED, "the access token is not that of this sandbox");
    let holder = holder.ok_or_else(unknown)?;
    if !matches!(port, ENVD_PORT | CODE_PORT) {
        let message = format!("The sandbox is running but its {port} port is not open: this server passes no ports on");
        return Err(Refused::new(StatusCode::BAD_GATEWAY, message));
    }
    Ok(holder)
}

/// Whether the inside answers in time.
pub(super) async fn is_healthy(socket: &Path, wait: Duration) -> bool {
    let asked = async {
        let request = Request::builder().uri("/health").header(header::HOST, "sandbox").body(Body::empty()).ok()?;
        send(socket, request).await.ok()
    };
    timeout(wait, asked).await.ok().flatten().is_some_and(|response| response.status().is_success())
}

async fn send(socket: &Path, request: Request) -> Result<Response, Lost> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or with whoever waited for it.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(Body::new))
}

/// The connection was lost, or what came was no HTTP.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

fn inward(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    clean(&mut parts.headers);
    parts.headers.insert(header::HOST, HeaderValue::from_static("sandbox"));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if let Ok(path) = path.parse() {
        parts.uri = path;
    }
    parts.extensions.clear();
    Request::from_parts(parts, body)
}

fn outward(mut response: Response) -> Response {
    clean(response.headers_mut());
    response.headers_mut().remove(header::SET_COOKIE);
    response
}

fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    LEFT_OUT.iter().for_each(|name| drop(headers.remove(*name)));
}
