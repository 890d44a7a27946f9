//! What a caller is told when something cannot be done: one failure, in the form of the surface it was asked on.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::borrow::Cow;

/// A refusal or a failure. Each code has a page in `docs/errors/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: Cow<'static, str>,
    /// What failed, on what, and what to do.
    pub message: String,
    /// The part of the request that it is about: a path such as `input[0].content`.
    pub param: Option<String>,
}

impl Failure {
    /// A failure with an HTTP status.
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), param: None }
    }

    /// A request that cannot be used as it is.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// About this part of the request, unless a part is named already.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param.get_or_insert_with(|| param.into());
        self
    }

    /// About this part of the request, if the request is what is wrong.
    pub(crate) fn at_if_bad(self, param: &str) -> Self {
        if self.status == 400 { self.at(param) } else { self }
    }

    /// As a surface speaks of it.
    pub(crate) fn body(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::OpenAi => json!({"error": self.object()}),
            Dialect::Problem => {
                let mut body = json!({
                    "type": "about:blank",
                    "title": self.title(),
                    "status": self.status,
                    "detail": self.message,
                    "code": self.code,
                });
                if let Some(param) = &self.param {
                    body["param"] = param.clone().into();
                }
                body
            }
        }
    }

    /// The error object of OpenAI's dialect.
    pub(crate) fn object(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            status if status >= 500 => "server_error",
            _ => "invalid_request_error",
        };
        json!({"message": self.message, "type": kind, "param": self.param, "code": self.code})
    }

    fn title(&self) -> &'static str {
        StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error")
    }
}

/// The form of errors on a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{"error": {message, type, param, code}}`.
    OpenAi,
    /// RFC 9457, `application/problem+json`.
    Problem,
}

impl Dialect {
    /// The one of the surface that a path belongs to. What lies below `/v1` and is not ours was asked for by a client that
    /// takes this for OpenAI's.
    pub(crate) fn of(path: &str) -> Self {
        let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below("/v1") && !below("/v1/runs") { Dialect::OpenAi } else { Dialect::Problem }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Dialect::OpenAi => "application/json",
            Dialect::Problem => "application/problem+json",
        })
    }
}

/// Leaves the failure with the response; [`rendered`] gives it its form once the surface is known.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A response with its failure in the form of the surface, and with one for what no route answered.
pub(crate) fn rendered(response: Response, dialect: Dialect, what: &str) -> Response {
    let failure = match (response.extensions().get::<Failure>(), response.status()) {
        (Some(failure), _) => failure.clone(),
        (None, StatusCode::NOT_FOUND) => {
            Failure::new(404, "route_not_found", format!("there is no {what}; docs/guide/serve.md lists what there is"))
        }
        (None, StatusCode::METHOD_NOT_ALLOWED) => Failure::new(
            405,
            "method_not_allowed",
            format!("{what} does not take this method; docs/guide/serve.md tells which"),
        ),
        (None, _) => return response,
    };
    if failure.status >= 500 {
        tracing::warn!(code = &*failure.code, error = failure.message, "a request failed");
    }
    let (parts, _) = response.into_parts();
    let mut response = (parts.status, failure.body(dialect).to_string()).into_response();
    let headers = response.headers_mut();
    for name in [header::ALLOW, header::CONNECTION, header::WWW_AUTHENTICATE] {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(header::CONTENT_TYPE, dialect.media_type());
    response
}

impl From<errand_engine::Error> for Failure {
    fn from(error: errand_engine::Error) -> Self {
        use errand_engine::Error::*;
        let status = match &error {
            UnknownRun { .. } | NoSuchRecord { .. } => 404,
            EmptyTask | TaskTooLong { .. } | PriceUnknown { .. } | ArgumentsInvalid { .. } => 400,
            NotWaiting { .. } | Ended { .. } | NotPaused { .. } | Rejected(_) => 409,
            Port(_) => 503,
            Record(_) | Log(_) => 500,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<errand_keys::Refusal> for Failure {
    fn from(refusal: errand_keys::Refusal) -> Self {
        let status = match &refusal {
            errand_keys::Refusal::Unavailable { code, reason } => {
                tracing::warn!(code, reason, "API keys cannot be checked");
                503
            }
            _ => 401,
        };
        Self::new(status, refusal.code(), refusal.to_string())
    }
}

impl From<errand_engine::ports::PortError> for Failure {
    fn from(error: errand_engine::ports::PortError) -> Self {
        Self::new(503, error.code(), error.to_string())
    }
}
