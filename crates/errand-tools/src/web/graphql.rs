//! The tool `graphql`: one operation, or a look at what there is.

use super::http::{Pair, gateway_lost, headers, key};
use super::{ContentType, Download, save};
use crate::arguments::Refused;
use crate::execute::Work;
use crate::net::{Failure, Request, Response};
use crate::text;
use apollo_parser::Parser;
use apollo_parser::cst::{Definition, OperationDefinition};
use errand_core::{Class, Outcome};
use errand_engine::ports::ToolReply;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Most of an answer that is taken, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Deepest nesting of a document.
const DEPTH_MAX: usize = 200;
/// Most tokens of a document.
const TOKENS_MAX: usize = 50_000;
/// Errors of an answer that are shown.
const ERRORS_MAX: usize = 10;
/// Bytes kept back from what is shown for all but the data.
const FRAME_BYTES: usize = 1024;

/// Arguments of `graphql`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphQl {
    url: String,
    query: Option<String>,
    variables: Option<String>,
    operation: Option<String>,
    #[serde(default)]
    headers: Vec<Pair>,
    #[serde(default)]
    introspect: bool,
}

impl GraphQl {
    /// What no schema says.
    pub(crate) fn check(&self) -> Result<Class, Refused> {
        headers(&self.headers)?;
        self.variables()?;
        match (&self.query, self.introspect) {
            (None, true) => Ok(Class::Pure),
            (Some(query), false) => class(query, self.operation.as_deref()),
            _ => Err(Refused::invalid("give either `query` or `introspect` true")),
        }
    }

    /// Sends it.
    pub(crate) async fn run(self, work: &Work<'_>) -> ToolReply {
        let (class, request) = match self.request(work) {
            Ok(request) => request,
            Err(outcome) => return ToolReply::free(outcome),
        };
        let time = Duration::from_millis(work.job.timeout_ms);
        match work.services.network.send(request, work.job.now, time).await {
            Ok(response) => self.answer(work, class, response).await,
            Err(failure) => ToolReply::free(outcome(failure, class)),
        }
    }

    fn variables(&self) -> Result<Value, Refused> {
        let Some(variables) = &self.variables else { return Ok(json!({})) };
        let value = crate::arguments::parse(variables);
        let value = value.map_err(|error| Refused::invalid(format!("`variables` is not JSON: {error}")))?;
        if !value.is_object() {
            return Err(Refused::invalid("`variables` is no JSON object"));
        }
        Ok(value)
    }

    fn request(&self, work: &Work<'_>) -> Result<(Class, Request), Outcome> {
        let refuse = |refused: Refused| Outcome::error(refused.code(), refused.to_string());
        let class = self.check().map_err(refuse)?;
        let url = work.services.network.url(&self.url).map_err(|error| error.outcome())?;
        let mut headers = headers(&self.headers).map_err(refuse)?;
        let accept = HeaderValue::from_static("application/graphql-response+json, application/json;q=0.9");
        headers.insert(ACCEPT, accept);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if class == Class::Effectful {
            key(&mut headers, work);
        }
        let mut body = match &self.query {
            Some(query) => json!({"query": query, "variables": self.variables().map_err(refuse)?}),
            None => json!({"query": super::schema::QUERY}),
        };
        if let Some(operation) = &self.operation {
            body["operationName"] = json!(operation);
        }
        let body = Some(body.to_string().into());
        Ok((class, Request { body, ..Request::new(Method::POST, url, headers) }))
    }

    async fn answer(&self, work: &Work<'_>, class: Class, response: Response) -> ToolReply {
        let Response { url, status, headers, body } = response;
        if class == Class::Effectful && gateway_lost(status) {
            let reason = format!("it answered {status}: a gateway lost the server behind it");
            return ToolReply::free(Outcome::Unknown { reason });
        }
        let read = match body.read(BODY_BYTES_MAX).await {
            Ok(read) => read,
            Err(error) => return ToolReply::free(outcome(Failure { error, sent: true }, class)),
        };
        let answer = serde_json::from_slice::<Value>(&read.bytes).ok().filter(|_| read.whole);
        let Some(Value::Object(answer)) = answer else {
            return ToolReply::free(no_graphql(status, &headers, &read.bytes));
        };
        let errors = answer.get("errors").and_then(Value::as_array).filter(|errors| !errors.is_empty());
        let data = answer.get("data").filter(|data| !data.is_null());
        match (errors, data) {
            (Some(errors), data) => ToolReply::free(Outcome::error("graphql_errors", told(errors, data))),
            (None, Some(data)) if self.introspect => {
                let text = super::schema::summary(data);
                show(work, url, text, "text/plain").await
            }
            (None, Some(data)) => {
                let text = serde_json::to_string_pretty(data).unwrap_or_default();
                show(work, url, text, "application/json").await
            }
            (None, None) => ToolReply::free(no_graphql(status, &headers, &read.bytes)),
        }
    }
}

/// A query changes nothing, though it is sent with POST.
fn outcome(failure: Failure, class: Class) -> Outcome {
    Failure { sent: failure.sent && class == Class::Effectful, ..failure }.outcome()
}

/// The text, or a file with it if it is too long.
async fn show(work: &Work<'_>, url: url::Url, text: String, media: &str) -> ToolReply {
    let room = work.bounds().observation_bytes.saturating_sub(FRAME_BYTES);
    if text.len() <= room {
        return ToolReply::free(Outcome::Ok { text });
    }
    let shown = format!("[all of it is in {{file}}, its beginning follows]\n{}", text::head(&text, room));
    save(work, Download { url, content_type: ContentType::parse(media), bytes: text.into_bytes(), shown }).await
}

fn told(errors: &[Value], data: Option<&Value>) -> String {
    let mut text = "the server answered with errors:".to_owned();
    for error in errors.iter().take(ERRORS_MAX) {
        let message = error["message"].as_str().unwrap_or("(no message)");
        let _ = write!(text, "\n- {}", text::head(message, 1000));
        if let Some(path) = error["path"].as_array() {
            let path: Vec<String> = path.iter().map(|part| part.as_str().map_or(part.to_string(), str::to_owned)).collect();
            let _ = write!(text, " (at {})", text::head(&path.join("."), 200));
        }
        if let (Some(line), Some(column)) =
            (error["locations"][0]["line"].as_u64(), error["locations"][0]["column"].as_u64())
        {
            let _ = write!(text, " (line {line}, column {column})");
        }
        if let Some(code) = error["extensions"]["code"].as_str() {
            let _ = write!(text, " [{}]", text::head(code, 100));
        }
    }
    if errors.len() > ERRORS_MAX {
        let _ = write!(text, "\nand {} more", errors.len() - ERRORS_MAX);
    }
    if let Some(data) = data {
        let data = serde_json::to_string_pretty(data).unwrap_or_default();
        let _ = write!(text, "\nwhat could be answered:\n{data}");
    }
    text
}

fn no_graphql(status: StatusCode, headers: &HeaderMap, bytes: &[u8]) -> Outcome {
    let content_type = ContentType::of(headers);
    let beginning = super::decode(&bytes[..bytes.len().min(1000)], content_type.charset.as_deref());
    if status.is_client_error() || status.is_server_error() {
        return Outcome::error("http_status", format!("HTTP {status}\n{beginning}"));
    }
    let text = format!("the answer is no GraphQL ({status}, {}): check the endpoint\n{beginning}", content_type.media);
    Outcome::error("response_broken", text)
}

/// What the chosen operation of a document does.
fn class(query: &str, name: Option<&str>) -> Result<Class, Refused> {
    let tree = Parser::new(query).recursion_limit(DEPTH_MAX).token_limit(TOKENS_MAX).parse();
    if let Some(error) = tree.errors().next() {
        let before = query.get(..error.index()).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        return Err(Refused::invalid(format!(
            "`query` is not GraphQL at line {line}: {}",
            text::head(error.message(), 300)
        )));
    }
    let mut operations: Vec<OperationDefinition> = Vec::new();
    for definition in tree.document().definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(_) => {}
            _ => return Err(Refused::invalid("`query` defines types; send an operation")),
        }
    }
    let named = |operation: &OperationDefinition| operation.name().map(|name| name.text().to_string());
    let chosen = match name {
        Some(name) => operations.iter().filter(|operation| named(operation).as_deref() == Some(name)).collect::<Vec<_>>(),
        None => operations.iter().collect(),
    };
    let [operation] = chosen.as_slice() else {
        let problem = match (name, operations.len()) {
            (Some(name), _) => format!("`query` has {} operations called {name:?}", chosen.len()),
            (None, 0) => "`query` holds no operation".to_owned(),
            (None, count) => format!("`query` holds {count} operations: name one with `operation`"),
        };
        return Err(Refused::invalid(problem));
    };
    match operation.operation_type() {
        Some(kind) if kind.subscription_token().is_some() => {
            Err(Refused::invalid("subscriptions are not followed: ask with a query"))
        }
        Some(kind) if kind.mutation_token().is_some() => Ok(Class::Effectful),
        _ => Ok(Class::Pure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_operation_decides_the_class() {
        for (query, name, wanted) in [
            ("{ a }", None, Some(Class::Pure)),
            ("query Q($x: Int) { a(x: $x) { ...F } } fragment F on T { b }", None, Some(Class::Pure)),
            ("mutation { a }", None, Some(Class::Effectful)),
            ("mutation M { a } query Q { b }", Some("Q"), Some(Class::Pure)),
            ("mutation M { a } query Q { b }", Some("M"), Some(Class::Effectful)),
            ("# query\nmutation M { query: a }", None, Some(Class::Effectful)),
            ("mutation M { a } query Q { b }", None, None),
            ("mutation M { a } query M { b }", Some("M"), None),
            ("query Q { b }", Some("X"), None),
            ("subscription { a }", None, None),
            ("subscription S { a } query Q { b }", Some("S"), None),
            ("type T { a: Int }", None, None),
            ("fragment F on T { b }", None, None),
            ("{ a", None, None),
            ("", None, None),
            ("query { a } }", None, None),
        ] {
            assert_eq!(class(query, name).ok(), wanted, "{query} {name:?}");
        }
    }

    #[test]
    fn documents_without_an_end_are_refused() {
        assert!(class(&"{a".repeat(100_000), None).is_err());
        assert!(class(&format!("{{ a(x: {}) }}", "[".repeat(100_000)), None).is_err());
        assert!(class(&format!("{{ {} }}", "a ".repeat(60_000)), None).is_err());
        assert!(class(&"{a".repeat(100), None).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn errors_are_told_with_their_place() {
        let errors = json!([{"message": "no field x", "locations": [{"line": 2, "column": 3}], "path": ["a", 0], "extensions": {"code": "BAD"}}, {}]);
        let text = told(errors.as_array().unwrap(), Some(&json!({"b": 1})));
        assert!(text.contains("- no field x (at a.0) (line 2, column 3) [BAD]\n- (no message)"), "{text}");
        assert!(text.contains("\"b\": 1"), "{text}");
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(query in "[{}()a-c$:!@\"#\\[\\] \\n.]{0,80}|\\PC{0,80}", name in prop::option::of("[a-c]{0,2}")) {
            let _ = class(&query, name.as_deref());
        }
    }
}
