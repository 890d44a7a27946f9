//! From what a provider answered to the kind of failure the core decides by.

use crate::settings::Secret;
use errand_core::{ModelError, ModelErrorKind};
use serde_json::Value;

/// Most characters of a provider's own words in a message. They are for a person, and long ones tend to quote the
/// prompt.
const DETAIL_CHARS: usize = 300;

/// How providers say that a conversation is too long, where they have no code for it: OpenAI and compatible servers,
/// Anthropic, Gemini, Ollama.
const CONTEXT_FULL: [&str; 8] = [
    "maximum context length",
    "context window",
    "context length",
    "context size",
    "prompt is too long",
    "exceed context limit",
    "exceeds the maximum number of tokens",
    "input token count",
];

/// What a provider said about a failure, with no key in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// `error.code` or, where there is none, `error.type`.
    pub(crate) code: String,
    /// Its words.
    pub(crate) message: String,
    /// The wait it asks for inside the body (Gemini), in milliseconds.
    pub(crate) retry_after_ms: Option<u64>,
}

impl Complaint {
    /// Reads the forms in use: `{"error": {"message", "type", "code"}}` (OpenAI, Anthropic and most others), the same with
    /// `status` and `details` (Gemini), `{"error": "…"}` (Ollama), `{"message": "…"}`, `{"detail": "…"}`, and a list
    /// holding one of these. Anything else, such as a
    /// proxy's page, leaves the complaint empty: it says nothing to act on and may quote the request.
    pub(crate) fn read(body: &Value, key: Option<&Secret>) -> Self {
        let body = body.get(0).unwrap_or(body);
        let inner = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        let text = |name: &str| match inner.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let named = |name: &str| Some(text(name)).filter(|code| !code.is_empty() && code.parse::<u16>().is_err());
        let code = named("code").or_else(|| named("type")).or_else(|| named("status")).unwrap_or_default();
        let message = match inner {
            Value::String(text) => text.clone(),
            _ => Some(text("message")).filter(|message| !message.is_empty()).unwrap_or_else(|| text("detail")),
        };
        let details = || inner.get("details").and_then(Value::as_array).into_iter().flatten();
        // A quota of the day is not over in a minute, so it is told apart from a rate.
        let per_day = details().any(|detail| detail.to_string().contains("PerDay"));
        let code = if per_day { "insufficient_quota".to_owned() } else { code };
        let retry_after_ms = details().find_map(|detail| seconds(detail.get("retryDelay")?.as_str()?));
        Self { code: clean(&code, key), message: clean(&message, key), retry_after_ms }
    }

    /// The same without the key.
    pub(crate) fn cleaned(self, key: Option<&Secret>) -> Self {
        Self { code: clean(&self.code, key), message: clean(&self.message, key), ..self }
    }

    fn mentions(&self, needles: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        needles.iter().any(|needle| message.contains(needle))
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }

    /// The kind that the complaint itself tells, whatever the status.
    fn kind(&self) -> Option<ModelErrorKind> {
        use ModelErrorKind::*;
        if self.has_code(&["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"])
            || self.mentions(&["credit balance is too low"])
        {
            Some(QuotaExhausted)
        } else if self.has_code(&["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"])
            || self.mentions(&CONTEXT_FULL)
        {
            Some(ContextFull)
        } else if self.has_code(&["invalid_api_key", "account_deactivated", "authentication_error", "permission_error"])
            || self.mentions(&["api key not valid", "api key expired"])
        {
            Some(Auth)
        } else if self.has_code(&["model_not_found", "model_not_available", "DeploymentNotFound"]) {
            Some(UnknownModel)
        } else if self.has_code(&["rate_limit_exceeded", "rate_limit_error", "slow_down", "RESOURCE_EXHAUSTED"]) {
            Some(RateLimited)
        } else if self.has_code(&["timeout_error", "DEADLINE_EXCEEDED"]) {
            Some(TimedOut)
        } else if self.has_code(&[
            "server_error",
            "overloaded_error",
            "api_error",
            "vector_store_timeout",
            "UNAVAILABLE",
            "INTERNAL",
        ]) {
            Some(Unavailable)
        } else {
            None
        }
    }
}

/// A duration as Google writes it, such as `37s` or `0.5s`, in milliseconds.
fn seconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0).ceil() as u64)
}

/// Takes keys out of a provider's words and shortens them. Besides the key sent, anything that looks like a key of OpenAI,
/// Anthropic (`sk-`) or Google (`AIza`) goes, for providers quote keys in parts.
pub(crate) fn clean(text: &str, key: Option<&Secret>) -> String {
    let text = match key.map(Secret::expose).filter(|key| !key.is_empty()) {
        Some(key) => text.replace(key, "[key]"),
        None => text.to_owned(),
    };
    let words: Vec<&str> = text.split_whitespace().map(|word| if looks_like_key(word) { "[key]" } else { word }).collect();
    let text = words.join(" ");
    match text.char_indices().nth(DETAIL_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn looks_like_key(word: &str) -> bool {
    word.contains("sk-") || word.contains("AIza")
}

/// The failure behind an answer with an error status.
///
/// `may_be_charged`: a refused request (3xx, 4xx, and 503 or 529, which say that no work was taken on) costs nothing.
/// After 500, 502, 504 and the like nobody outside can tell whether the model had run when things broke, so they
/// count as possibly charged. 408 is a time-out in receiving the request, before any work.
pub(crate) fn by_status(status: u16, complaint: &Complaint, host: &str, retry_after_ms: Option<u64>) -> ModelError {
    use ModelErrorKind::*;
    let kind = match (status, complaint.kind()) {
        (401 | 403, Some(QuotaExhausted)) => QuotaExhausted,
        (401 | 403 | 407, _) => Auth,
        (402, _) => QuotaExhausted,
        (429, Some(QuotaExhausted)) => QuotaExhausted,
        (429, _) => RateLimited,
        (404, Some(kind)) => kind,
        (404, None) if complaint.mentions(&["model"]) => UnknownModel,
        (504 | 524, _) => TimedOut,
        (408, _) => TimedOut,
        // A conflict or "too early" passes: the published SDKs of OpenAI repeat these too.
        (409 | 425, _) => Unavailable,
        (500.., _) => Unavailable,
        (400 | 413 | 422, Some(kind)) => kind,
        _ => BadRequest,
    };
    let may_be_charged = status >= 500 && !matches!(status, 501 | 503 | 529);
    let what = match complaint.has_code(&["content_filter"]) {
        true => format!("the content filter of {host} refused the request (HTTP {status}); word the task differently"),
        false => describe(kind, status, host),
    };
    let retry_after_ms = retry_after_ms.or(complaint.retry_after_ms);
    ModelError { kind, message: with_words(what, complaint), retry_after_ms, may_be_charged }
}

/// The failure behind an error that came inside an answer with status 200. Work had begun, so it may be charged.
pub(crate) fn inside_answer(complaint: &Complaint, host: &str) -> ModelError {
    let kind = complaint.kind().unwrap_or(match complaint.code.as_str() {
        "invalid_request_error" | "invalid_prompt" | "content_filter" | "INVALID_ARGUMENT" => ModelErrorKind::BadRequest,
        _ => ModelErrorKind::Unavailable,
    });
    let what = format!("{host} broke off its answer with an error");
    ModelError { kind, message: with_words(what, complaint), retry_after_ms: complaint.retry_after_ms, may_be_charged: true }
}

fn describe(kind: ModelErrorKind, status: u16, host: &str) -> String {
    use ModelErrorKind::*;
    match kind {
        Auth => format!("{host} refused the key (HTTP {status}); check the key and what it may be used for"),
        UnknownModel => format!("{host} does not know the model (HTTP {status}); check its name"),
        ContextFull => format!("the conversation is longer than the model at {host} takes (HTTP {status})"),
        QuotaExhausted => format!("the account at {host} has no money or quota left (HTTP {status}); top it up"),
        RateLimited => format!("{host} asks to slow down (HTTP {status})"),
        Unavailable => format!("{host} is overloaded or broken (HTTP {status})"),
        TimedOut => format!("{host} gave up waiting (HTTP {status})"),
        BadRequest if (300..400).contains(&status) => {
            format!("{host} redirects elsewhere (HTTP {status}), which is not followed with a key; check the base URL")
        }
        BadRequest if status == 404 => format!("{host} has nothing at this address (HTTP 404); check the base URL"),
        BadRequest | Connect | Garbled => format!("{host} refused the request (HTTP {status})"),
    }
}

fn with_words(what: String, complaint: &Complaint) -> String {
    match (complaint.code.as_str(), complaint.message.as_str()) {
        ("", "") => what,
        (code, "") => format!("{what}: {code}"),
        ("", message) => format!("{what}: {message}"),
        (code, message) => format!("{what}: {code}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(status: u16, body: Value, kind: ModelErrorKind, may_be_charged: bool) {
        let complaint = Complaint::read(&body, None);
        let error = by_status(status, &complaint, "host", None);
        assert_eq!((error.kind, error.may_be_charged), (kind, may_be_charged), "{status} {body}: {}", error.message);
    }

    fn openai(code: &str, message: &str) -> Value {
        json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}})
    }

    #[test]
    fn tells_failures_apart() {
        use ModelErrorKind::*;
        check(401, openai("invalid_api_key", "Incorrect API key provided"), Auth, false);
        check(403, Value::Null, Auth, false);
        check(400, json!([{"error": {"code": 400, "message": "API key not valid.", "status": "X"}}]), Auth, false);
        check(404, openai("model_not_found", "The model `gpt-0` does not exist"), UnknownModel, false);
        check(404, json!({"error": {"message": "model \"x\" not found, try pulling it first"}}), UnknownModel, false);
        check(404, Value::Null, BadRequest, false);
        check(429, openai("insufficient_quota", "You exceeded your current quota"), QuotaExhausted, false);
        check(429, openai("rate_limit_exceeded", "Rate limit reached"), RateLimited, false);
        check(402, Value::Null, QuotaExhausted, false);
        check(400, openai("context_length_exceeded", "too long"), ContextFull, false);
        check(400, json!({"error": "this model's maximum context length is 4096"}), ContextFull, false);
        check(400, json!({"error": {"type": "exceed_context_size_error", "code": 400}}), ContextFull, false);
        check(400, openai("", "bad"), BadRequest, false);
        check(302, Value::Null, BadRequest, false);
        check(408, Value::Null, TimedOut, false);
        check(500, Value::Null, Unavailable, true);
        check(502, Value::Null, Unavailable, true);
        check(503, Value::Null, Unavailable, false);
        check(504, Value::Null, TimedOut, true);
        check(529, json!({"error": {"type": "overloaded_error"}}), Unavailable, false);
        let anthropic = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
        check(
            400,
            anthropic("invalid_request_error", "prompt is too long: 200251 tokens > 200000 maximum"),
            ContextFull,
            false,
        );
        check(400, anthropic("invalid_request_error", "Your credit balance is too low to access it"), QuotaExhausted, false);
        check(401, anthropic("authentication_error", "invalid x-api-key"), Auth, false);
        check(404, anthropic("not_found_error", "model: claude-0"), UnknownModel, false);
        check(413, anthropic("request_too_large", "Request exceeds the maximum size"), BadRequest, false);
        let gemini = |status: &str, message: &str| json!({"error": {"code": 400, "message": message, "status": status}});
        check(400, gemini("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"), ContextFull, false);
        check(404, gemini("NOT_FOUND", "models/gemini-0 is not found for API version v1beta"), UnknownModel, false);
        check(503, gemini("UNAVAILABLE", "The model is overloaded."), Unavailable, false);
        check(404, json!({"error": "model 'x' not found"}), UnknownModel, false);
        check(404, openai("DeploymentNotFound", "The API deployment does not exist"), UnknownModel, false);
        check(400, openai("content_filter", "The response was filtered"), BadRequest, false);
    }

    #[test]
    fn a_wait_in_the_body_counts_and_a_quota_of_the_day_is_no_rate() {
        let body = |quota: &str| {
            json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota",
                "details": [{"violations": [{"quotaId": quota}]}, {"retryDelay": "36.5s"}]}})
        };
        let error = |quota| by_status(429, &Complaint::read(&body(quota), None), "host", None);
        let minute = error("GenerateRequestsPerMinutePerProjectPerModel");
        assert_eq!((minute.kind, minute.retry_after_ms), (ModelErrorKind::RateLimited, Some(36_500)));
        assert_eq!(error("GenerateRequestsPerDayPerProjectPerModel").kind, ModelErrorKind::QuotaExhausted);
    }

    #[test]
    fn keys_are_taken_out_and_long_words_shortened() {
        let key = Secret::new("topsecret");
        let body = json!({"error": {"message": format!("bad key topsecret or 'sk-proj-abc***xyz'. {}", "x".repeat(900))}});
        let complaint = Complaint::read(&body, Some(&key));
        assert!(complaint.message.starts_with("bad key [key] or [key] xxx"), "{}", complaint.message);
        assert!(complaint.message.chars().count() <= DETAIL_CHARS + 1);
    }
}
