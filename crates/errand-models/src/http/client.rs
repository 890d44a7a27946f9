//! An endpoint: an address, a key, and a connection pool made when first needed.

use super::address;
use super::chat::{self, ChatReader};
use super::classify::{self, Complaint, clean};
use super::dialect::{Broken, Ended, Reader, Step};
use super::responses::{self, ResponsesReader};
use super::retry_after::retry_after_ms;
use super::wire::{self, WireError};
use crate::settings::{Dialect, Secret, Settings, SettingsError, Timeouts};
use errand_core::{ModelError, ModelErrorKind, ModelReply, ModelRequest};
use errand_engine::ports::DeltaSink;
use futures::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, Url};
use serde_json::Value;
use sse_stream::SseByteStream;
use std::error::Error;
use std::fmt::Display;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};

/// Most bytes read of an error's body.
const ERROR_BYTES_MAX: u64 = 8 << 10;

/// How long the end of the HTTP answer is waited for after the end of the reply: long enough for one that is already
/// here, so that the connection can be used again.
const TAIL_WAIT: Duration = Duration::from_millis(20);

/// Whose endpoint it is; decides details of the dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndpointKind {
    /// OpenAI itself.
    OpenAi,
    /// Somebody else's.
    Other,
}

/// An address with everything needed to call it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    base: Url,
    host: String,
    key: Option<Secret>,
    authorization: Option<HeaderValue>,
    kind: EndpointKind,
    dialect: Dialect,
    reasoning_summaries: bool,
    timeouts: Timeouts,
    reply_bytes_max: u64,
    client: OnceLock<Result<Client, String>>,
}

impl Endpoint {
    /// Checks address and key. `key_name` is what a person has to set again if the key cannot be sent.
    pub(crate) fn new(
        base: &str,
        key: Option<&Secret>,
        key_name: &'static str,
        settings: &Settings,
    ) -> Result<Self, SettingsError> {
        let base = address::base_url(base)?;
        let authorization = key.map(|key| address::authorization(key, key_name)).transpose()?;
        let kind = match base.host_str() {
            Some("api.openai.com") => EndpointKind::OpenAi,
            _ => EndpointKind::Other,
        };
        Ok(Self {
            host: address::host_label(&base),
            base,
            key: key.cloned(),
            authorization,
            kind,
            dialect: settings.dialect,
            reasoning_summaries: settings.reasoning_summaries,
            timeouts: settings.timeouts,
            reply_bytes_max: settings.reply_bytes_max,
            client: OnceLock::new(),
        })
    }

    /// The host's name, in lower case.
    pub(crate) fn host_name(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Host and port, for messages.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// True if requests carry a key.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// True if it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        address::is_loopback(&self.base)
    }

    /// One try at `request`, for the model the endpoint knows as `model`.
    pub(crate) async fn call(
        &self,
        request: &ModelRequest,
        model: &str,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let (path, body, reader) = self.prepare(request, model)?;
        let first_token_at = Instant::now() + self.timeouts.first_token;
        let send = self.post(path, body)?.send();
        let response = timeout_at(first_token_at, send)
            .await
            .map_err(|_| self.silent("first token", self.timeouts.first_token))?
            .map_err(|error| self.not_sent(&error))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            return Err(self.refused(status, response).await);
        }
        let result = match is_json(&response) {
            true => timeout_at(first_token_at, self.read_whole(response, reader, deltas)).await,
            false => Ok(self.read_stream(response, reader, first_token_at, deltas).await),
        };
        result.unwrap_or_else(|_| Err(self.silent("whole answer", self.timeouts.first_token)))
    }

    /// Names of the models offered, in the endpoint's order; for finding out whether a local server is there.
    pub(crate) async fn models(&self, wait: Duration) -> Result<Vec<String>, ModelError> {
        let request = self.request(reqwest::Method::GET, "models")?;
        let ask = async {
            let response = request.send().await.map_err(|error| self.not_sent(&error))?;
            let status = response.status().as_u16();
            if !response.status().is_success() {
                return Err(self.refused(status, response).await);
            }
            let body = wire::collect(response, 1 << 20).await.map_err(|error| self.broke_off(&error))?;
            let body: Value = serde_json::from_slice(&body).map_err(|_| self.garbled("it is not JSON"))?;
            let models = body.get("data").and_then(Value::as_array).into_iter().flatten();
            Ok(models.filter_map(|model| model.get("id")?.as_str()).map(str::to_owned).collect())
        };
        timeout(wait, ask).await.map_err(|_| self.silent("list of models", wait))?
    }

    fn prepare(&self, request: &ModelRequest, model: &str) -> Result<(&'static str, Value, Box<dyn Reader>), ModelError> {
        let responses = match self.dialect {
            Dialect::Auto => self.kind == EndpointKind::OpenAi,
            Dialect::Chat => false,
            Dialect::Responses => true,
        };
        let body = if responses {
            responses::body(request, model, self.reasoning_summaries)
        } else if self.kind == EndpointKind::OpenAi || self.host_name().ends_with(".azure.com") {
            chat::body(request, model, "max_completion_tokens")
        } else {
            chat::body(request, model, "max_tokens")
        };
        let body = body.map_err(|tool| {
            let message = format!("the parameters of tool `{tool}` are not JSON; mend its manifest");
            failure(ModelErrorKind::BadRequest, message, false)
        })?;
        Ok(match responses {
            true => ("responses", body, Box::new(ResponsesReader::new(request, model))),
            false => ("chat/completions", body, Box::new(ChatReader::new(request, model))),
        })
    }

    fn post(&self, path: &str, body: Value) -> Result<reqwest::RequestBuilder, ModelError> {
        let request = self.request(reqwest::Method::POST, path)?;
        Ok(request
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json")
            .body(body.to_string()))
    }

    fn request(&self, method: reqwest::Method, path: &str) -> Result<reqwest::RequestBuilder, ModelError> {
        let client = self.client.get_or_init(|| address::build_client(&self.base, &self.timeouts));
        let client = client.as_ref().map_err(|reason| {
            failure(ModelErrorKind::Connect, format!("cannot prepare TLS for {}: {reason}", self.host), false)
        })?;
        let request = client.request(method, format!("{}/{path}", self.base.as_str().trim_end_matches('/')));
        Ok(match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        })
    }

    /// Reads events until the reply is whole.
    async fn read_stream(
        &self,
        response: Response,
        mut reader: Box<dyn Reader>,
        first_token_at: Instant,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let framed = wire::is_framed(&response);
        let bytes = wire::bounded(response, self.reply_bytes_max);
        let mut events = std::pin::pin!(SseByteStream::new(bytes));
        let ended = loop {
            let (what, wait, until) = match reader.has_content() {
                false => ("first token", self.timeouts.first_token, first_token_at),
                true => ("next piece", self.timeouts.idle, Instant::now() + self.timeouts.idle),
            };
            let event = timeout_at(until, events.next()).await.map_err(|_| self.silent(what, wait))?;
            let data = match event {
                None => break if framed { Ended::Framed } else { Ended::Open },
                // A connection that breaks after the last event has lost nothing; the reader knows.
                Some(Err(sse_stream::Error::Body(error))) => match error.downcast_ref::<WireError>() {
                    Some(WireError::Broke(_)) => break Ended::Open,
                    _ => return Err(self.garbled(error)),
                },
                Some(Err(error)) => return Err(self.garbled(error)),
                Some(Ok(event)) => event.data.unwrap_or_default(),
            };
            match data.trim() {
                "" => continue,
                "[DONE]" => break Ended::Marked,
                data => {
                    let event: Value = serde_json::from_str(data).map_err(|_| self.garbled("an event is not JSON"))?;
                    let step = reader.event(&event, deltas).map_err(|broken| self.broken(broken))?;
                    if step == Step::Done {
                        break Ended::Marked;
                    }
                }
            }
        };
        if ended == Ended::Marked {
            // Whether the tail comes in time changes nothing but the reuse of the connection.
            let _ = timeout(TAIL_WAIT, events.next()).await;
        }
        reader.finish(ended).map_err(|broken| self.broken(broken))
    }

    /// Reads the answer of a server that does not stream.
    async fn read_whole(
        &self,
        response: Response,
        mut reader: Box<dyn Reader>,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let body = wire::collect(response, self.reply_bytes_max).await.map_err(|error| self.broke_off(&error))?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| self.garbled("it is not the JSON it says it is"))?;
        reader.whole(&body, deltas).map_err(|broken| self.broken(broken))?;
        reader.finish(Ended::Marked).map_err(|broken| self.broken(broken))
    }

    /// The failure behind an answer with an error status.
    async fn refused(&self, status: u16, response: Response) -> ModelError {
        let wait = retry_after_ms(response.headers(), SystemTime::now());
        // What cannot be read in time or is too long to be an error message is left out; the status says enough.
        let body = timeout(self.timeouts.idle, wire::collect(response, ERROR_BYTES_MAX)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        classify::by_status(status, &Complaint::read(&body, self.key.as_ref()), &self.host, wait)
    }

    fn not_sent(&self, error: &reqwest::Error) -> ModelError {
        if error.is_connect() {
            let message = match error.is_timeout() {
                true => format!("no connection to {} within {:?}; check the address", self.host, self.timeouts.connect),
                false => format!("no connection to {}: {}; is it running?", self.host, self.cause(error)),
            };
            return failure(ModelErrorKind::Connect, message, false);
        }
        // The request was under way, so the provider may have it.
        let message = format!("the connection to {} broke off before an answer came: {}", self.host, self.cause(error));
        failure(ModelErrorKind::Garbled, message, true)
    }

    fn silent(&self, what: &str, wait: Duration) -> ModelError {
        failure(ModelErrorKind::TimedOut, format!("{} sent no {what} within {wait:?}", self.host), true)
    }

    fn broke_off(&self, error: &WireError) -> ModelError {
        self.garbled(error)
    }

    fn broken(&self, broken: Broken) -> ModelError {
        match broken {
            Broken::Complaint(complaint) => {
                let complaint = Complaint {
                    code: clean(&complaint.code, self.key.as_ref()),
                    message: clean(&complaint.message, self.key.as_ref()),
                };
                classify::inside_answer(&complaint, &self.host)
            }
            Broken::Garbled(what) => self.garbled(what),
        }
    }

    fn garbled(&self, what: impl Display) -> ModelError {
        failure(ModelErrorKind::Garbled, format!("the answer of {} cannot be used: {what}", self.host), true)
    }

    /// The innermost cause, which is the one that tells a person something.
    fn cause(&self, error: &reqwest::Error) -> String {
        let mut cause: &dyn Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        clean(&cause.to_string(), self.key.as_ref())
    }
}

fn failure(kind: ModelErrorKind, message: String, may_be_charged: bool) -> ModelError {
    ModelError { kind, message, retry_after_ms: None, may_be_charged }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().contains("json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openai_is_spoken_to_in_responses_by_default() {
        let request = ModelRequest {
            cache_key: String::new(),
            output: None,
            model: "m".to_owned(),
            messages: vec![],
            tools: vec![],
            max_output_tokens: 1,
        };
        let path = |base: &str| {
            let endpoint = Endpoint::new(base, None, "KEY", &Settings::default()).unwrap();
            endpoint.prepare(&request, "m").map(|(path, ..)| path).unwrap()
        };
        assert_eq!(path("https://api.openai.com/v1"), "responses");
        assert_eq!(path("https://api.openai.com.evil.example/v1"), "chat/completions");
        assert_eq!(path("http://127.0.0.1:8080/v1"), "chat/completions");
    }
}
