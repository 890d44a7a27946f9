//! The kind `graphql`: an operation whose document is fixed and whose variables are arguments.

use super::Setting;
use super::endpoint::Endpoint;
use super::exchange::{self, AnswerForm, Answered, Outgoing, Table};
use super::problem::Problems;
use super::template::{Arguments, Shape};
use super::used::Used;
use crate::arguments::Refused;
use crate::execute::{Checked, Execute, Work};
use crate::secret::Given;
use async_trait::async_trait;
use errand_core::{Class, Outcome, Timestamp};
use errand_engine::ports::ToolReply;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Its part of the manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphqlForm {
    url: String,
    document: String,
    operation: Option<String>,
    variables: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, Given>,
}

/// An operation, ready to be given its variables.
pub(crate) struct Graphql {
    endpoint: Endpoint,
    document: String,
    operation: Option<String>,
    /// `None`: all arguments by their names.
    variables: Option<Shape>,
    headers: Table,
    answer: AnswerForm,
}

impl GraphqlForm {
    /// What repeating it does, if nothing is said: a document without a mutation only looks.
    pub(crate) fn class(&self) -> Class {
        let words = self.document.split(|char: char| !char.is_alphanumeric() && char != '_');
        if words.into_iter().any(|word| word == "mutation") { Class::Effectful } else { Class::Pure }
    }
}

impl Graphql {
    pub(crate) fn new(
        form: &GraphqlForm,
        answer: AnswerForm,
        parameters: &Value,
        setting: &Setting<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut used = Used::new(parameters);
        if form.url.contains(['{', '}']) {
            problems.add("request.url", "it has no placeholders: arguments are variables");
            return None;
        }
        let endpoint = Endpoint::read(&form.url, parameters, &mut used, problems);
        let headers = Table::read(&form.headers, "request.headers", setting, &mut used, problems);
        headers.check_headers(problems);
        let variables = match form.variables.as_ref().map(|value| Shape::read(value, "request.variables")) {
            None => None,
            Some(Ok(shape)) => {
                shape.parameters().iter().for_each(|name| used.take(name, "request.variables", problems));
                used.finish(problems);
                Some(shape)
            }
            Some(Err((at, problem))) => {
                problems.add(&at, problem);
                None
            }
        };
        let (document, operation) = (form.document.clone(), form.operation.clone());
        Some(Self { endpoint: endpoint?, document, operation, variables, headers, answer })
    }

    fn body(&self, arguments: &Arguments) -> Value {
        let variables = match &self.variables {
            Some(shape) => shape.fill(arguments).unwrap_or_default(),
            None => Value::Object(arguments.clone()),
        };
        let mut body = json!({ "query": self.document, "variables": variables });
        if let Some(operation) = &self.operation {
            body["operationName"] = operation.as_str().into();
        }
        body
    }

    /// Errors of a GraphQL server come with status 200, and with what could be had all the same.
    fn outcome(&self, answered: &Answered, bytes_max: usize) -> Outcome {
        let answer = serde_json::from_str::<Value>(&answered.text).ok().filter(Value::is_object);
        let Some(answer) = answer else { return exchange::outcome(answered, &self.answer, bytes_max) };
        let messages: Vec<&str> = answer["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|error| error["message"].as_str().unwrap_or("an error without a message"))
            .take(10)
            .collect();
        if !messages.is_empty() {
            let data = if answer["data"].is_null() { String::new() } else { format!("\ndata: {}", answer["data"]) };
            let text = self.answer.bounded(&format!("{}{data}", messages.join("; ")), bytes_max);
            return Outcome::error("graphql_errors", text);
        }
        if !(200..300).contains(&answered.status) {
            return exchange::outcome(answered, &self.answer, bytes_max);
        }
        match self.answer.select(&answer["data"]) {
            Ok(data) => Outcome::Ok { text: self.answer.bounded(&data.to_string(), bytes_max) },
            Err(problem) => Outcome::Ok {
                text: self.answer.bounded(&format!("{problem}; the answer is:\n{}", answered.text), bytes_max),
            },
        }
    }
}

#[async_trait]
impl Execute for Graphql {
    fn check(&self, _: &str, arguments: &Value, _: Timestamp) -> Result<Checked, Refused> {
        if let Some(arguments) = arguments.as_object() {
            exchange::headers(&self.headers.open(arguments))?;
        }
        Ok(Checked::default())
    }

    async fn run(&self, work: Work<'_>) -> ToolReply {
        let none = Arguments::new();
        let arguments = work.arguments.as_object().unwrap_or(&none);
        let headers = match self.headers.filled(arguments) {
            Ok(headers) => headers,
            Err(missing) => return ToolReply::free(Outcome::error("tool_secret_missing", missing.to_string())),
        };
        let filled = self.endpoint.fill(arguments, &[]).and_then(|url| Ok((url, exchange::headers(&headers)?)));
        let (url, headers) = match filled {
            Ok(filled) => filled,
            Err(refused) => return ToolReply::free(Outcome::error(refused.code(), refused.to_string())),
        };
        let body = Some((self.body(arguments).to_string().into_bytes(), "application/json".to_owned()));
        let response = match exchange::send(&work, Outgoing { method: Method::POST, url, headers, body }).await {
            Ok(response) => response,
            Err(reply) => return reply,
        };
        let bytes_max = work.bounds().observation_bytes;
        ToolReply::free(match exchange::read(response, work.job.spec.class).await {
            Ok(answered) => self.outcome(&answered, bytes_max),
            Err(outcome) => outcome,
        })
    }
}
