//! The Connect protocol with JSON, as far as the SDKs use it.
//! <https://connectrpc.com/docs/protocol/> (read 2026-11-21).

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;

const END_OF_STREAM: u8 = 2;

/// What went wrong, by one of the protocol's codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) message: String,
}

/// The codes that are used, and their HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Unimplemented,
    DeadlineExceeded,
    Internal,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Code::InvalidArgument => "invalid_argument",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Unimplemented => "unimplemented",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::Internal => "internal",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists => StatusCode::CONFLICT,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn unimplemented(what: &str) -> Self {
        Self::new(Code::Unimplemented, format!("{what} is not supported by this server"))
    }

    fn json(&self) -> Value {
        json!({"code": self.code.name(), "message": self.message})
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.code.status(), axum::Json(self.json())).into_response()
    }
}

/// The message of a call with one.
pub(super) fn unary<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Failure> {
    expect(headers, "application/json")?;
    decoded(body)
}

/// The first message of a stream of the client's.
pub(super) fn enveloped<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Failure> {
    expect(headers, "application/connect+json")?;
    decoded(messages(body)?.first().copied().unwrap_or_default())
}

/// All messages of a stream that has come to its end.
pub(super) fn messages(body: &[u8]) -> Result<Vec<&[u8]>, Failure> {
    let garbled = || Failure::new(Code::InvalidArgument, "the stream is not made of whole messages");
    let (mut found, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (head, after) = rest.split_first_chunk::<5>().ok_or_else(garbled)?;
        let [flags, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let (message, after) = after.split_at_checked(length).ok_or_else(garbled)?;
        if flags & !END_OF_STREAM != 0 {
            return Err(Failure::new(Code::Unimplemented, "compressed messages are not taken"));
        }
        if flags & END_OF_STREAM == 0 {
            found.push(message);
        }
        rest = after;
    }
    Ok(found)
}

fn expect(headers: &HeaderMap, wanted: &str) -> Result<(), Failure> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if found.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    Err(Failure::new(Code::InvalidArgument, format!("the content type must be {wanted}")))
}

pub(super) fn decoded<T: DeserializeOwned>(message: &[u8]) -> Result<T, Failure> {
    let message = if message.is_empty() { b"{}" } else { message };
    serde_json::from_slice(message).map_err(|error| Failure::new(Code::InvalidArgument, format!("not as expected: {error}")))
}

/// How long the client gives the call, by its header.
pub(super) fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("connect-timeout-ms")?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

/// A stream of messages, with its end: how it went.
pub(super) fn stream(messages: impl Stream<Item = Result<Value, Failure>> + Send + 'static) -> Response {
    let frames = messages.map(|message| match message {
        Ok(message) => framed(0, &message),
        Err(failure) => framed(END_OF_STREAM, &json!({"error": failure.json()})),
    });
    // A failure is the last item; else an empty end follows.
    let ended = frames.chain(futures::stream::once(async { framed(END_OF_STREAM, &json!({})) }));
    let mut is_over = false;
    let bytes = ended.take_while(move |frame| {
        let take = !is_over;
        is_over |= frame.first() == Some(&END_OF_STREAM);
        std::future::ready(take)
    });
    let body = Body::from_stream(bytes.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/connect+json")], body).into_response()
}

fn framed(flags: u8, message: &Value) -> Bytes {
    let text = message.to_string();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&[flags][..], &length.to_be_bytes(), text.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_apart_and_broken_ones_refused() {
        let two = [framed(0, &json!({"a": 1})), framed(0, &json!({})), framed(END_OF_STREAM, &json!({}))].concat();
        assert_eq!(messages(&two).unwrap(), [&br#"{"a":1}"#[..], b"{}"]);
        assert!(messages(&two[..two.len() - 1]).is_err());
        assert!(messages(b"\0\xff\xff\xff\xff").is_err());
        assert_eq!(messages(b"\x01\0\0\0\0").unwrap_err().code, Code::Unimplemented);
    }
}
