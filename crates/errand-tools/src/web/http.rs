//! The tool `http`: one request as the model wrote it.

use super::head::looks_like_text;
use super::{ContentType, Download, decode, save};
use crate::arguments::Refused;
use crate::execute::Work;
use crate::net::{Failure, IDEMPOTENCY_KEY, Request, Response};
use crate::text;
use errand_core::{Class, Outcome};
use errand_engine::ports::ToolReply;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use std::fmt::Write;
use std::time::Duration;

/// Most of a body that is taken, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Longest value of a header that is shown.
const HEADER_CHARS_MAX: usize = 300;
/// Bytes kept back from what is shown for all but the body.
const FRAME_BYTES: usize = 3072;

/// Headers that belong to the connection, not to the request: a model that sets them could smuggle a second request in, or
/// ask for an encoding nobody reads. Those of proxies are refused by their prefix.
const FORBIDDEN: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers of an answer that a model can use.
const SHOWN: [&str; 14] = [
    "content-type",
    "content-language",
    "content-range",
    "content-disposition",
    "location",
    "allow",
    "retry-after",
    "etag",
    "last-modified",
    "link",
    "www-authenticate",
    "x-request-id",
    "x-total-count",
    "server-timing",
];

/// Arguments of `http`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<Pair>,
    #[serde(default)]
    query: Vec<Pair>,
    body: Option<String>,
    json: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    name: String,
    value: String,
}

impl Http {
    /// What no schema says.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        self.method()?;
        headers(&self.headers)?;
        if self.body.is_some() && self.json.is_some() {
            return Err(Refused::invalid("give either `body` or `json`"));
        }
        if let Some(json) = &self.json {
            crate::arguments::parse(json).map_err(|error| Refused::invalid(format!("`json` is not JSON: {error}")))?;
        }
        Ok(())
    }

    /// GET, HEAD and OPTIONS change nothing.
    pub(crate) fn class(&self) -> Class {
        if self.method().is_ok_and(|method| method.is_safe()) { Class::Pure } else { Class::Effectful }
    }

    /// Sends it.
    pub(crate) async fn run(self, work: &Work<'_>) -> ToolReply {
        let network = &work.services.network;
        let request = match self.request(work) {
            Ok(request) => request,
            Err(reply) => return *reply,
        };
        let (method, asked) = (request.method.clone(), request.url.clone());
        let time = Duration::from_millis(work.job.timeout_ms);
        let response = match network.send(request, work.job.now, time).await {
            Ok(response) => response,
            Err(failure) => return ToolReply::free(failure.outcome()),
        };
        let moved = (response.url != asked).then(|| response.url.to_string());
        self.answer(work, &method, moved, response).await
    }

    fn method(&self) -> Result<Method, Refused> {
        Method::from_bytes(self.method.as_bytes()).map_err(|_| Refused::invalid("`method` is no HTTP method"))
    }

    fn request(&self, work: &Work<'_>) -> Result<Request, Box<ToolReply>> {
        let refuse = |refused: Refused| Box::new(ToolReply::free(Outcome::error(refused.code(), refused.to_string())));
        let mut url = work.services.network.url(&self.url).map_err(|error| Box::new(ToolReply::free(error.outcome())))?;
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query.iter().map(|pair| (&pair.name, &pair.value)));
        }
        let (method, mut headers) = (self.method().map_err(refuse)?, headers(&self.headers).map_err(refuse)?);
        if self.json.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self.body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        if !method.is_safe() {
            key(&mut headers, work);
        }
        let body = self.json.as_ref().or(self.body.as_ref()).map(|body| body.clone().into());
        Ok(Request { body, ..Request::new(method, url, headers) })
    }

    async fn answer(&self, work: &Work<'_>, method: &Method, moved: Option<String>, response: Response) -> ToolReply {
        let Response { url, status, headers, body } = response;
        let head = head(status, &headers, moved.as_deref());
        let unknown = |why: &str| ToolReply::free(Outcome::Unknown { reason: format!("it answered {status}: {why}") });
        if !method.is_safe() && gateway_lost(status) {
            return unknown("a gateway lost the server behind it");
        }
        let read = match body.read(BODY_BYTES_MAX).await {
            Ok(read) => read,
            Err(error) => return ToolReply::free(Failure { error, sent: !method.is_safe() }.outcome()),
        };
        let content_type = ContentType::of(&headers);
        let cut = if read.whole { "" } else { "\n[the body is longer than 32 MiB and was cut there]" };
        let room = work.bounds().observation_bytes.saturating_sub(FRAME_BYTES);
        let is_text = read.bytes.is_empty()
            || ((content_type.is_text() || content_type.is_html() || content_type.is_unsaid())
                && looks_like_text(&read.bytes));
        let shown = if is_text { decode(&read.bytes, content_type.charset.as_deref()) } else { String::new() };
        if is_text && shown.len() <= room {
            let text = if shown.is_empty() { format!("{head}\n[no body]") } else { format!("{head}\n\n{shown}{cut}") };
            return ToolReply::free(ended(status, text));
        }
        let beginning = if is_text { format!("\n\n{}", text::head(&shown, room)) } else { String::new() };
        let shown = format!(
            "{head}\n[the body is in {{file}}{}]{cut}{beginning}",
            if is_text { ", its beginning follows" } else { "" }
        );
        let reply = save(work, Download { url, content_type, bytes: read.bytes, shown }).await;
        match reply.outcome {
            Outcome::Ok { text } => ToolReply { outcome: ended(status, text), ..reply },
            // It was answered; that the body could not be kept does not undo it.
            Outcome::Error { code, text } if !method.is_safe() && status.is_success() => {
                let text = format!("{head}\n[the body could not be kept: {code}: {text}]");
                ToolReply { outcome: Outcome::Ok { text }, ..reply }
            }
            _ => reply,
        }
    }
}

/// Headers as the model wrote them, but for those that are not its own to set.
pub(super) fn headers(given: &[Pair]) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    for Pair { name, value } in given {
        let shown: String = name.chars().take(40).collect();
        let known = HeaderName::from_bytes(name.as_bytes());
        let known = known.map_err(|_| Refused::invalid(format!("{shown:?} is no name of a header")))?;
        if FORBIDDEN.contains(&known.as_str()) || known.as_str().starts_with("proxy-") {
            return Err(Refused::invalid(format!("the header `{known}` is set by the client: leave it out")));
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| Refused::invalid(format!("the value of header `{known}` holds characters it cannot")))?;
        headers.append(known, value);
    }
    Ok(headers)
}

/// The server in between does not know what the one behind it did.
pub(crate) fn gateway_lost(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

/// The key under which the server can know the request again, unless the model gave one.
pub(super) fn key(headers: &mut HeaderMap, work: &Work<'_>) {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return;
    }
    if let Ok(key) = HeaderValue::from_str(&work.job.call.idempotency_key()) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
}

fn ended(status: StatusCode, text: String) -> Outcome {
    if status.is_client_error() || status.is_server_error() {
        return Outcome::error("http_status", text);
    }
    Outcome::Ok { text }
}

/// The status and the headers worth showing.
fn head(status: StatusCode, headers: &HeaderMap, moved: Option<&str>) -> String {
    let mut text = format!("HTTP {status}");
    if let Some(url) = moved {
        let _ = write!(text, "\nredirected to: {}", text::head(url, 500));
    }
    for (name, value) in headers {
        let name = name.as_str();
        if SHOWN.contains(&name) || name.starts_with("ratelimit") || name.starts_with("x-ratelimit") {
            let value = String::from_utf8_lossy(value.as_bytes());
            let line = format!("\n{name}: {}", text::head(&value, HEADER_CHARS_MAX));
            if text.len() + line.len() < FRAME_BYTES - 512 {
                text.push_str(&line);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(arguments: serde_json::Value) -> Result<Class, String> {
        let http: Http = serde_json::from_value(arguments).unwrap();
        http.check().map(|()| http.class()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn the_method_decides_the_class() {
        for (method, class) in [
            ("GET", Class::Pure),
            ("HEAD", Class::Pure),
            ("OPTIONS", Class::Pure),
            ("POST", Class::Effectful),
            ("PUT", Class::Effectful),
            ("PATCH", Class::Effectful),
            ("DELETE", Class::Effectful),
        ] {
            assert_eq!(check(json!({"method": method, "url": "https://a.example"})), Ok(class), "{method}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        let with = |name: &str, value: &str| {
            check(json!({"method": "GET", "url": "x", "headers": [{"name": name, "value": value}]}))
        };
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Proxy-Authorization",
            "TE",
            "Expect",
            "Upgrade",
            "Accept-Encoding",
        ] {
            assert!(with(name, "x").unwrap_err().contains("leave it out"), "{name}");
        }
        assert!(with("a b", "x").is_err() && with("", "x").is_err() && with("x-a", "a\r\nhost: b").is_err());
        assert!(with("Authorization", "Bearer x").is_ok());
    }

    #[test]
    fn there_is_one_body_and_json_is_json() {
        assert!(check(json!({"method": "POST", "url": "x", "body": "a", "json": "{}"})).is_err());
        assert!(check(json!({"method": "POST", "url": "x", "json": "{"})).is_err());
        assert!(check(json!({"method": "POST", "url": "x", "json": "[1]"})).is_ok());
    }
}
