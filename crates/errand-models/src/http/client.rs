//! An endpoint: an address, a key, and a connection pool made when first needed.

use super::classify::{self, Complaint, clean};
use super::dialect::{Ask, Broken, Dialect, Framing, Offer};
use super::manner::Manner;
use super::pictures::Pictures;
use super::retry_after::retry_after_ms;
use super::{address, dialect_of, forms, receive, wire};
use crate::settings::{self, Secret, Settings, SettingsError, Timeouts};
use errand_core::{ModelError, ModelErrorKind, ModelReply, ModelRequest};
use errand_engine::ports::{Blobs, DeltaSink};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};

/// Most bytes read of an error's body.
const ERROR_BYTES_MAX: u64 = 8 << 10;
/// Most bytes read of a list of models, or of what is told about one: OpenRouter's list has more than 1 MiB.
const LIST_BYTES_MAX: u64 = 8 << 20;
/// Most models that are remembered.
const MODELS_MAX: usize = 256;

/// An address with everything needed to call it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    base: Url,
    host: String,
    key: Option<Secret>,
    key_header: Option<(&'static str, HeaderValue)>,
    dialect: &'static dyn Dialect,
    manner: Manner,
    /// Set once the endpoint has said that it knows forms of an answer in the older way only.
    has_older_form: AtomicBool,
    /// Version of Azure's classic API, in which a deployment is part of the path.
    api_version: Option<String>,
    timeouts: Timeouts,
    reply_bytes_max: u64,
    client: OnceLock<Result<Client, String>>,
    models: Mutex<BTreeMap<String, Offer>>,
    /// The path that was called last, and its address: taking an address apart costs as much as a digest.
    called: Mutex<(String, Option<Url>)>,
}

impl Endpoint {
    /// Checks address and key. The key comes with what a person has to set again if it cannot be sent.
    pub(crate) fn new(
        base: &str,
        key: Option<(&'static str, &Secret)>,
        dialect: settings::Dialect,
        settings: &Settings,
    ) -> Result<Self, SettingsError> {
        let base = address::base_url(base)?;
        let dialect = dialect_of(dialect, base.host_str() == Some("api.openai.com"));
        let (name, before) = dialect.key_header();
        let header = |(variable, key)| Ok((name, address::key_value(before, key, variable)?));
        Ok(Self {
            manner: Manner::of(&base, settings),
            has_older_form: AtomicBool::new(false),
            base: dialect.base(base.clone()),
            host: address::host_label(&base),
            key: key.map(|(_, key)| key.clone()),
            key_header: key.map(header).transpose()?,
            dialect,
            api_version: None,
            timeouts: settings.timeouts,
            reply_bytes_max: settings.reply_bytes_max,
            client: OnceLock::new(),
            models: Mutex::default(),
            called: Mutex::default(),
        })
    }

    /// The resource of Azure OpenAI that the settings name, if they name one
    /// (<https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle>, checked 2026-11-21).
    pub(crate) fn azure(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let Some(given) = &settings.azure.endpoint else { return Ok(None) };
        let root = given.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/openai");
        let version = settings.azure.api_version.clone();
        let (base, dialect) = match (&version, settings.dialect) {
            (Some(_), _) => (format!("{root}/openai"), settings::Dialect::Chat),
            (None, settings::Dialect::Responses) => (format!("{root}/openai/v1"), settings::Dialect::Responses),
            (None, _) => (format!("{root}/openai/v1"), settings::Dialect::Chat),
        };
        let mut endpoint = Self::new(&base, None, dialect, settings)?;
        if let Some((variable, key)) = settings.key(&[settings::AZURE_KEY]) {
            endpoint.key_header = Some(("api-key", address::key_value("", key, variable)?));
            endpoint.key = Some(key.clone());
        }
        endpoint.manner.house = super::manner::House::Azure;
        endpoint.api_version = version;
        Ok(Some(endpoint))
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

    /// Tokens of context that every model has here, where that is so.
    pub(crate) fn context_tokens(&self) -> Option<u64> {
        self.dialect.context_tokens(&self.manner)
    }

    /// Most input tokens that one image is counted as, where nothing more is known of the model.
    pub(crate) fn image_tokens(&self) -> u64 {
        self.dialect.image_tokens()
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(super) fn reply_bytes_max(&self) -> u64 {
        self.reply_bytes_max
    }

    pub(super) fn framing(&self) -> Framing {
        self.dialect.framing()
    }

    /// One try at `request`, for the model the endpoint knows as `model`. A form that is refused as such is asked for
    /// again in the older way, and from then on.
    pub(crate) async fn call(
        &self,
        request: &ModelRequest,
        model: &str,
        blobs: Option<&dyn Blobs>,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let mut manner = self.manner.clone();
        manner.has_older_form = self.has_older_form.load(Ordering::Relaxed);
        match self.call_so(&manner, request, model, blobs, deltas).await {
            Err(error) if request.output.is_some() && manner.is_refusal_of_form(&error) => {
                self.has_older_form.store(true, Ordering::Relaxed);
                manner.has_older_form = true;
                self.call_so(&manner, request, model, blobs, deltas).await
            }
            done => done,
        }
    }

    async fn call_so(
        &self,
        manner: &Manner,
        request: &ModelRequest,
        model: &str,
        blobs: Option<&dyn Blobs>,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let until = Instant::now() + self.timeouts.first_token;
        self.check_images(request)?;
        let pictures = Pictures::of(request, blobs).await?;
        let about = self.about(model, until).await?;
        let (body, reader) = {
            // What is remembered of a request by its origin holds the form too.
            let form = if manner.has_older_form { " json_object" } else { "" };
            let origin = format!("{} {} {model}{form}", self.dialect.name(), self.host);
            let ask = Ask { request, model, origin, pictures: &pictures, manner, about };
            let body = self.dialect.bytes(&ask);
            let body = body.map_err(|unfit| failure(ModelErrorKind::BadRequest, unfit.to_string(), false))?;
            (body, self.dialect.reader(&ask))
        };
        drop(pictures);
        let send = self.request(Method::POST, &self.path(model))?.header(CONTENT_TYPE, "application/json").body(body).send();
        let response = timeout_at(until, send)
            .await
            .map_err(|_| self.silent("first token", self.timeouts.first_token))?
            .map_err(|error| self.not_sent(&error))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            return Err(self.refused(status, response).await);
        }
        receive::reply(self, response, reader, until, deltas).await
    }

    /// The models on offer, in the endpoint's order.
    pub(crate) async fn offers(&self, wait: Duration) -> Result<Vec<Offer>, ModelError> {
        let request = self.request(Method::GET, self.dialect.list_path())?;
        let list = timeout(wait, self.json(request)).await.map_err(|_| self.silent("list of models", wait))??;
        Ok(self.dialect.offers(&list))
    }

    /// What the endpoint tells about one model, if its dialect has a question for that.
    pub(crate) async fn offer(&self, model: &str, wait: Duration) -> Result<Option<Offer>, ModelError> {
        self.about(model, Instant::now() + wait).await
    }

    /// Asked once for each model.
    async fn about(&self, model: &str, until: Instant) -> Result<Option<Offer>, ModelError> {
        let Some((path, body)) = self.dialect.question(model) else { return Ok(None) };
        if let Some(known) = self.models.lock().unwrap_or_else(PoisonError::into_inner).get(model) {
            return Ok(Some(known.clone()));
        }
        let request = self.request(Method::POST, path)?.header(CONTENT_TYPE, "application/json").body(body.to_string());
        let answer = timeout_at(until, self.json(request)).await;
        // Nothing was asked of the model itself yet, so nothing can be charged.
        let answer = answer.unwrap_or_else(|_| Err(self.silent("word about the model", self.timeouts.first_token)));
        let answer = answer.map_err(|error| ModelError { may_be_charged: false, ..error })?;
        let offer = self.dialect.answer(model, &answer);
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(offer) = offer.clone().filter(|_| models.len() < MODELS_MAX) {
            models.insert(model.to_owned(), offer);
        }
        Ok(offer)
    }

    fn check_images(&self, request: &ModelRequest) -> Result<(), ModelError> {
        let mut images = request.messages.iter().flat_map(|message| message.images());
        match images.find(|image| !self.dialect.takes(&image.media_type)) {
            Some(image) => {
                let message =
                    format!("{} takes no images of type {}; show it as PNG", self.host, clean(&image.media_type, None));
                Err(failure(ModelErrorKind::BadRequest, message, false))
            }
            None => Ok(()),
        }
    }

    fn path(&self, model: &str) -> String {
        let path = self.dialect.path(model);
        match &self.api_version {
            Some(version) => {
                format!("deployments/{}/{path}?api-version={}", forms::segment(model), forms::segment(version))
            }
            None => path,
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ModelError> {
        let client = self.client.get_or_init(|| address::build_client(&self.base, &self.timeouts));
        let client = client.as_ref().map_err(|reason| {
            failure(ModelErrorKind::Connect, format!("cannot prepare TLS for {}: {reason}", self.host), false)
        })?;
        let mut request = client.request(method, self.url(path)?);
        for (name, value) in self.dialect.headers() {
            request = request.header(*name, *value);
        }
        if let Some((name, value)) = &self.key_header {
            request = request.header(*name, value.clone());
        }
        Ok(request.header(ACCEPT, "text/event-stream, application/x-ndjson, application/json"))
    }

    fn url(&self, path: &str) -> Result<Url, ModelError> {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        if called.0 != path || called.1.is_none() {
            let url = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
            *called = (path.to_owned(), Url::parse(&url).ok());
        }
        called.1.clone().ok_or_else(|| {
            failure(ModelErrorKind::BadRequest, format!("{} has no address for `{}`", self.host, clean(path, None)), false)
        })
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, ModelError> {
        let response = request.send().await.map_err(|error| self.not_sent(&error))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            return Err(self.refused(status, response).await);
        }
        let body = wire::collect(response, LIST_BYTES_MAX).await.map_err(|error| self.garbled(error))?;
        serde_json::from_slice(&body).map_err(|_| self.garbled("it is not JSON"))
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

    pub(super) fn silent(&self, what: &str, wait: Duration) -> ModelError {
        failure(ModelErrorKind::TimedOut, format!("{} sent no {what} within {wait:?}", self.host), true)
    }

    pub(super) fn broken(&self, broken: Broken) -> ModelError {
        match broken {
            Broken::Complaint(complaint) => classify::inside_answer(&complaint.cleaned(self.key.as_ref()), &self.host),
            Broken::Garbled(what) => self.garbled(what),
        }
    }

    pub(super) fn garbled(&self, what: impl Display) -> ModelError {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Azure;

    fn at(endpoint: &Endpoint, model: &str) -> String {
        format!("{}/{}", endpoint.base.as_str().trim_end_matches('/'), endpoint.path(model))
    }

    #[test]
    fn each_dialect_finds_its_address_from_what_people_give() {
        use settings::Dialect::*;
        for (base, dialect, expected) in [
            ("https://api.openai.com/v1", Auto, "https://api.openai.com/v1/responses"),
            ("https://api.openai.com.evil.example/v1", Auto, "https://api.openai.com.evil.example/v1/chat/completions"),
            ("http://127.0.0.1:8080/v1/", Auto, "http://127.0.0.1:8080/v1/chat/completions"),
            ("https://api.anthropic.com", Anthropic, "https://api.anthropic.com/v1/messages"),
            ("https://gateway.example/a/v1", Anthropic, "https://gateway.example/a/v1/messages"),
            ("http://127.0.0.1:11434/v1", Ollama, "http://127.0.0.1:11434/api/chat"),
            ("http://127.0.0.1:11434/", Ollama, "http://127.0.0.1:11434/api/chat"),
            ("https://h.example/ollama/v1/", Ollama, "https://h.example/ollama/api/chat"),
            ("https://g.example", Gemini, "https://g.example/v1beta/models/m%2F1:streamGenerateContent?alt=sse"),
            ("https://g.example/v1alpha", Gemini, "https://g.example/v1alpha/models/m%2F1:streamGenerateContent?alt=sse"),
        ] {
            let endpoint = Endpoint::new(base, None, dialect, &Settings::default()).unwrap();
            assert_eq!(at(&endpoint, "m/1"), expected);
        }
    }

    #[test]
    fn azure_is_found_in_both_of_its_apis() {
        for (endpoint, version, expected) in [
            ("https://r.openai.azure.com/", None, "https://r.openai.azure.com/openai/v1/chat/completions"),
            ("https://r.openai.azure.com/openai/v1/", None, "https://r.openai.azure.com/openai/v1/chat/completions"),
            (
                "https://r.openai.azure.com",
                Some("2024-10-21"),
                "https://r.openai.azure.com/openai/deployments/m%2F1/chat/completions?api-version=2024-10-21",
            ),
        ] {
            let azure =
                Azure { endpoint: Some(endpoint.to_owned()), api_version: version.map(str::to_owned), deployment: None };
            let keys = BTreeMap::from([(settings::AZURE_KEY, Secret::new("k"))]);
            let endpoint = Endpoint::azure(&Settings { azure, keys, ..Settings::default() }).unwrap().unwrap();
            assert_eq!(at(&endpoint, "m/1"), expected);
            assert_eq!(endpoint.key_header.as_ref().map(|(name, _)| *name), Some("api-key"));
        }
    }
}
