//! The kind `http`: a request that a manifest describes and arguments fill in.

use super::Setting;
use super::endpoint::{Endpoint, pairs};
use super::exchange::{self, AnswerForm, Outgoing, Table};
use super::problem::Problems;
use super::template::{Arguments, Shape, Template, percent};
use super::used::Used;
use crate::arguments::Refused;
use crate::execute::{Checked, Execute, Work};
use crate::secret::Given;
use async_trait::async_trait;
use errand_core::{Class, Outcome, Timestamp};
use errand_engine::ports::ToolReply;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Its part of the manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpForm {
    method: Option<String>,
    url: String,
    #[serde(default)]
    query: BTreeMap<String, Given>,
    #[serde(default)]
    headers: BTreeMap<String, Given>,
    body: Option<BodyForm>,
}

/// What is sent; one of the three.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyForm {
    json: Option<Value>,
    form: Option<BTreeMap<String, String>>,
    text: Option<String>,
    content_type: Option<String>,
}

enum Body {
    Json(Shape),
    Form(Vec<(String, Template)>),
    Text(Template, String),
}

/// A request, ready to be filled in.
pub(crate) struct Http {
    method: Method,
    endpoint: Endpoint,
    query: Table,
    headers: Table,
    body: Option<Body>,
    answer: AnswerForm,
}

impl HttpForm {
    /// What repeating it does, if nothing is said.
    pub(crate) fn class(&self) -> Class {
        match self.method.as_deref() {
            None | Some("GET" | "HEAD") => Class::Pure,
            Some(_) => Class::Effectful,
        }
    }
}

impl Http {
    pub(crate) fn new(
        form: &HttpForm,
        answer: AnswerForm,
        parameters: &Value,
        setting: &Setting<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut used = Used::new(parameters);
        let method = form.method.as_deref().unwrap_or("GET");
        let endpoint = Endpoint::read(&form.url, parameters, &mut used, problems);
        let query = Table::read(&form.query, "request.query", setting, &mut used, problems);
        let headers = Table::read(&form.headers, "request.headers", setting, &mut used, problems);
        headers.check_headers(problems);
        let body = form.body.clone().and_then(|body| read_body(body, &mut used, problems));
        if body.is_some() && matches!(method, "GET" | "HEAD") {
            problems.add("request.body", format!("{method} sends nothing: name another method, or leave the body out"));
        }
        used.finish(problems);
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        Some(Self { method, endpoint: endpoint?, query, headers, body, answer })
    }

    fn body(&self, arguments: &Arguments) -> Option<(Vec<u8>, String)> {
        Some(match self.body.as_ref()? {
            Body::Json(shape) => {
                (shape.fill(arguments).unwrap_or_default().to_string().into_bytes(), "application/json".to_owned())
            }
            Body::Form(table) => {
                let fields = pairs(table, arguments);
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{}={}", percent(name), percent(value))).collect();
                (fields.join("&").into_bytes(), "application/x-www-form-urlencoded".to_owned())
            }
            Body::Text(template, kind) => (template.plain(arguments).into_bytes(), kind.clone()),
        })
    }
}

fn read_body(form: BodyForm, used: &mut Used<'_>, problems: &mut Problems) -> Option<Body> {
    if let Some(value) = &form.json {
        return match Shape::read(value, "request.body.json") {
            Ok(shape) => {
                shape.parameters().iter().for_each(|name| used.take(name, "request.body.json", problems));
                Some(Body::Json(shape))
            }
            Err((at, problem)) => {
                problems.add(&at, problem);
                None
            }
        };
    }
    if let Some(fields) = &form.form {
        let mut table = Vec::new();
        for (name, text) in fields {
            let template = used.template(text, &format!("request.body.form.{name}"), problems)?;
            table.push((name.clone(), template));
        }
        return Some(Body::Form(table));
    }
    let kind = form.content_type.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
    Some(Body::Text(used.template(form.text.as_deref().unwrap_or_default(), "request.body.text", problems)?, kind))
}

#[async_trait]
impl Execute for Http {
    fn check(&self, _: &str, arguments: &Value, _: Timestamp) -> Result<Checked, Refused> {
        if let Some(arguments) = arguments.as_object() {
            self.endpoint.fill(arguments, &self.query.open(arguments))?;
            exchange::headers(&self.headers.open(arguments))?;
        }
        Ok(Checked::default())
    }

    async fn run(&self, work: Work<'_>) -> ToolReply {
        let none = Arguments::new();
        let arguments = work.arguments.as_object().unwrap_or(&none);
        let refused = |refused: Refused| ToolReply::free(Outcome::error(refused.code(), refused.to_string()));
        let pairs = self.query.filled(arguments).and_then(|query| Ok((query, self.headers.filled(arguments)?)));
        let (query, headers) = match pairs {
            Ok(pairs) => pairs,
            Err(missing) => return ToolReply::free(Outcome::error("tool_secret_missing", missing.to_string())),
        };
        let filled = self.endpoint.fill(arguments, &query).and_then(|url| Ok((url, exchange::headers(&headers)?)));
        let (url, headers) = match filled {
            Ok(filled) => filled,
            Err(problem) => return refused(problem),
        };
        let outgoing = Outgoing { method: self.method.clone(), url, headers, body: self.body(arguments) };
        let response = match exchange::send(&work, outgoing).await {
            Ok(response) => response,
            Err(reply) => return reply,
        };
        let bytes_max = work.bounds().observation_bytes;
        ToolReply::free(match exchange::read(response, work.job.spec.class).await {
            Ok(answered) => exchange::outcome(&answered, &self.answer, bytes_max),
            Err(outcome) => outcome,
        })
    }
}
