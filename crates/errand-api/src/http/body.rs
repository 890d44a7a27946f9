//! Bodies of requests: bounded in length and in time, JSON, UTF-8, not too deep.

use crate::{Api, Failure};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use serde_json::Value;

/// The JSON of a body, and its bytes.
pub(crate) async fn json(api: &Api, headers: &HeaderMap, body: Body) -> Result<(Value, Vec<u8>), Failure> {
    is_json(headers)?;
    let bytes = read(api, headers, body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::bad("body_empty", "the body is empty: send a JSON object"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        Failure::bad("json_invalid", format!("the body is not UTF-8 text: the byte at {} fits nothing", error.valid_up_to()))
    })?;
    let value = serde_json::from_str(text)
        .map_err(|error| Failure::bad("json_invalid", format!("the body cannot be read as JSON: {error}")))?;
    Ok((value, bytes))
}

/// The same, where no body at all stands for an empty object.
pub(crate) async fn json_or_nothing(api: &Api, headers: &HeaderMap, body: Body) -> Result<Value, Failure> {
    let bytes = read(api, headers, body).await?;
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    Ok(json(api, headers, Body::from(bytes)).await?.0)
}

fn is_json(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json") {
        return Ok(());
    }
    let given: String = given.chars().take(80).collect();
    let message = format!("the body is said to be `{given}`: send JSON, with the header `content-type: application/json`");
    Err(Failure::new(415, "content_type_unsupported", message))
}

async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Failure> {
    let limits = &api.limits;
    let too_large = || {
        Failure::new(
            413,
            "body_too_large",
            format!("the body is longer than the {} bytes that are taken", limits.body_bytes),
        )
    };
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > limits.body_bytes) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(told.unwrap_or(0)).unwrap_or(0).min(1 << 20));
    let mut pieces = body.into_data_stream();
    let all = tokio::time::Instant::now() + limits.body;
    loop {
        let until = all.min(tokio::time::Instant::now() + limits.body_idle);
        let next = tokio::time::timeout_at(until, pieces.next()).await.map_err(|_| {
            let (all, idle) = (limits.body.as_secs(), limits.body_idle.as_secs());
            let message = format!("the body did not arrive within {all} s, or nothing of it for {idle} s");
            Failure::new(408, "body_too_slow", message)
        })?;
        let Some(piece) = next else { return Ok(bytes) };
        let piece = piece.map_err(|error| Failure::bad("body_broken", format!("the body broke off: {error}")))?;
        if (bytes.len() + piece.len()) as u64 > limits.body_bytes {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
}
