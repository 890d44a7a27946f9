//! A request of a manifest on its way: secrets put in, sent through the guarded client, the answer shown.

use super::Setting;
use super::problem::Problems;
use super::template::{Arguments, Template};
use super::used::Used;
use crate::arguments::Refused;
use crate::execute::Work;
use crate::net::{Failure, IDEMPOTENCY_KEY, Request, Response};
use crate::secret::{Given, Masks, Missing, Vault};
use crate::text;
use crate::web::gateway_lost;
use errand_core::{Class, Outcome};
use errand_engine::ports::ToolReply;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Headers that are the client's.
const OWN: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];

/// A value: from the arguments, or a secret.
#[derive(Debug, Clone)]
enum Part {
    Text(Template),
    Secret { secret: String, prefix: String },
}

/// Names with values, some of them secret.
pub(crate) struct Table {
    parts: Vec<(String, Part)>,
    vault: Arc<dyn Vault>,
    masks: Arc<Masks>,
}

impl Table {
    pub(crate) fn read(
        table: &BTreeMap<String, Given>,
        at: &str,
        setting: &Setting<'_>,
        used: &mut Used<'_>,
        problems: &mut Problems,
    ) -> Self {
        let mut parts = Vec::new();
        for (name, given) in table {
            let part = match given {
                Given::Literal(text) => used.template(text, &format!("{at}.{name}"), problems).map(Part::Text),
                Given::Secret { secret, prefix } => Some(Part::Secret { secret: secret.clone(), prefix: prefix.clone() }),
                Given::Variable { .. } => None,
            };
            parts.extend(part.map(|part| (name.clone(), part)));
        }
        Self { parts, vault: Arc::clone(setting.vault), masks: Arc::clone(setting.masks) }
    }

    /// Sees that the names can be those of headers.
    pub(crate) fn check_headers(&self, problems: &mut Problems) {
        for (name, _) in &self.parts {
            if OWN.contains(&&*name.to_ascii_lowercase()) {
                problems.add(&format!("request.headers.{name}"), "this header is the client's own: leave it out");
            }
        }
    }

    /// The values that are no secrets.
    pub(crate) fn open(&self, arguments: &Arguments) -> Vec<(String, String)> {
        let open = self.parts.iter().filter_map(|(name, part)| match part {
            Part::Text(template) => Some((name.clone(), template.clone())),
            Part::Secret { .. } => None,
        });
        super::endpoint::pairs(&open.collect::<Vec<_>>(), arguments)
    }

    /// All values.
    pub(crate) fn filled(&self, arguments: &Arguments) -> Result<Vec<(String, String)>, Missing> {
        let mut pairs = Vec::new();
        for (name, part) in &self.parts {
            match part {
                Part::Text(template) => {
                    pairs.extend(super::endpoint::pairs(&[(name.clone(), template.clone())], arguments));
                }
                Part::Secret { secret, prefix } => {
                    let secret = self.masks.take(&*self.vault, secret)?;
                    pairs.push((name.clone(), format!("{prefix}{}", secret.expose())));
                }
            }
        }
        Ok(pairs)
    }
}

/// Headers out of names and values.
pub(crate) fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let unusable = || {
            Refused::invalid(format!(
                "what is given for the header {name} cannot stand in one: leave out line breaks and the like"
            ))
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        headers.append(key, HeaderValue::from_str(value).map_err(|_| unusable())?);
    }
    Ok(headers)
}

/// A request, all but its address checked.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    /// What is sent, and what it is.
    pub(crate) body: Option<(Vec<u8>, String)>,
}

/// Sends a request. The error is the call's reply already.
pub(crate) async fn send(work: &Work<'_>, outgoing: Outgoing) -> Result<Response, ToolReply> {
    let Outgoing { method, url, mut headers, body } = outgoing;
    let network = &work.services.network;
    let url = network.url(&url).map_err(|error| ToolReply::free(error.outcome()))?;
    let class = work.job.spec.class;
    let key = IDEMPOTENCY_KEY;
    if class != Class::Pure
        && !headers.contains_key(&key)
        && let Ok(value) = HeaderValue::from_str(&work.job.call.idempotency_key())
    {
        headers.insert(key, value);
    }
    if let Some((_, kind)) = &body
        && !headers.contains_key(CONTENT_TYPE)
        && let Ok(kind) = HeaderValue::from_str(kind)
    {
        headers.insert(CONTENT_TYPE, kind);
    }
    let body = body.map(|(bytes, _)| bytes.into());
    let changes = class == Class::Effectful;
    let request = Request { body, reuse: !changes, changes, ..Request::new(method, url, headers) };
    let time = Duration::from_millis(work.job.timeout_ms);
    let time = time.saturating_sub(Duration::from_millis(200).min(time / 10));
    network.send(request, work.job.now, time).await.map_err(|failure| {
        // What repeats without harm is no unknown: the model may simply ask again.
        ToolReply::free(if changes { failure.outcome() } else { failure.error.outcome() })
    })
}

/// How an answer is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerForm {
    select: Option<Select>,
    bytes_max: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Select {
    One(String),
    Named(BTreeMap<String, String>),
}

impl AnswerForm {
    /// What is selected of a JSON answer; all of it if nothing is said.
    pub(crate) fn select(&self, answer: &Value) -> Result<Value, String> {
        let one = |pointer: &str| {
            let found = answer.pointer(pointer).cloned();
            found.ok_or_else(|| format!("the answer has nothing at {pointer:?}"))
        };
        match &self.select {
            None => Ok(answer.clone()),
            Some(Select::One(pointer)) => one(pointer),
            Some(Select::Named(named)) => {
                let each = named.iter().map(|(name, pointer)| (name.clone(), one(pointer).unwrap_or(Value::Null)));
                Ok(Value::Object(each.collect()))
            }
        }
    }

    pub(crate) fn bounded(&self, shown: &str, observation_bytes: usize) -> String {
        text::bounded(shown, self.bytes_max.unwrap_or(usize::MAX).min(observation_bytes), "")
    }

    fn selects(&self) -> bool {
        self.select.is_some()
    }
}

/// An answer that was read.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// Whether that was all of it.
    pub(crate) whole: bool,
}

/// Reads the answer to the end, or to the bound. What came of an effectful call is unknown where it breaks off, or where
/// only a gateway answered.
pub(crate) async fn read(response: Response, class: Class) -> Result<Answered, Outcome> {
    let status = response.status.as_u16();
    let is_effectful = class == Class::Effectful;
    if is_effectful && gateway_lost(response.status) {
        let reason = format!("the server answered with status {status}: a gateway lost the server behind it");
        return Err(Outcome::Unknown { reason });
    }
    match response.body.read(ANSWER_BYTES_MAX).await {
        Ok(read) => Ok(Answered { status, text: String::from_utf8_lossy(&read.bytes).into_owned(), whole: read.whole }),
        Err(error) if is_effectful => Err(Failure { error, sent: true }.outcome()),
        Err(error) => {
            Err(Outcome::error(error.code(), format!("the server answered with status {status}, and then: {error}")))
        }
    }
}

/// The outcome of a call, by what was answered.
pub(crate) fn outcome(answered: &Answered, form: &AnswerForm, observation_bytes: usize) -> Outcome {
    if !(200..300).contains(&answered.status) {
        let body = answered.text.trim();
        let shown = if body.is_empty() { String::new() } else { format!(":\n{body}") };
        let text = form.bounded(&format!("the server answered with status {}{shown}", answered.status), observation_bytes);
        return Outcome::error("http_status", text);
    }
    if !form.selects() {
        let body =
            if answered.text.is_empty() { "the server answered nothing, and that it is done" } else { &answered.text };
        return Outcome::Ok { text: form.bounded(body, observation_bytes) };
    }
    let cut = if answered.whole { "" } else { " (it is too long to be read whole)" };
    let selected = serde_json::from_str::<Value>(&answered.text)
        .map_err(|error| format!("the answer is no JSON{cut}: {error}"))
        .and_then(|answer| form.select(&answer));
    match selected {
        Ok(value) => Outcome::Ok { text: form.bounded(&super::template::text(&value), observation_bytes) },
        Err(problem) => {
            // What was asked for is done, whatever the answer looks like.
            let text = format!("{problem}; the answer is:\n{}", answered.text);
            Outcome::Ok { text: form.bounded(&text, observation_bytes) }
        }
    }
}
