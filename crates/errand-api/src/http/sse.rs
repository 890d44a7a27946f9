//! Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html> (checked 2026-11-21).
//!
//! Each event is one chunk of the body. Some readers forget an event that is cut at the border of a chunk.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use std::convert::Infallible;

/// One event. `id`: its number, if a reader can ask for what comes after it.
pub(crate) fn event(name: &str, id: Option<u64>, data: &str) -> Bytes {
    let mut text = String::with_capacity(name.len() + data.len() + 40);
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("event: {name}\n"));
    for line in data.split('\n') {
        text.push_str(&format!("data: {line}\n"));
    }
    text.push('\n');
    text.into()
}

/// What shows that a stream is alive.
pub(crate) fn comment(text: &str) -> Bytes {
    format!(": {text}\n\n").into()
}

/// The last line of a stream of OpenAI's dialect.
pub(crate) fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// A response that goes on as long as `events` does.
pub(crate) fn response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures::StreamExt;
    let mut response = Body::from_stream(events.map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    // Proxies in between must not gather events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
