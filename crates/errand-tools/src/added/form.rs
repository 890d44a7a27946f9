//! The files as types, once they fit `schemas/tools/added.schema.json`.

use super::command::CommandForm;
use super::exchange::AnswerForm;
use super::graphql::GraphqlForm;
use super::http::HttpForm;
use super::problem::Found;
use crate::mcp::McpForm;
use errand_core::{Approval, Class, Tier};
use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What every manifest must look like.
const SCHEMA: &str = include_str!("../../../../schemas/tools/added.schema.json");
/// At most so many problems of one file are told of.
const PROBLEMS_MAX: usize = 20;

/// A manifest.
pub(crate) enum Form {
    /// Of one tool.
    Tool {
        /// Its name.
        name: String,
        /// What all kinds have.
        head: Box<Head>,
        /// The schema of its arguments.
        parameters: Option<Map<String, Value>>,
        /// What is its own.
        kind: Box<Kind>,
    },
    /// Of a server that brings many.
    Server {
        /// What goes before the names of its tools.
        name: String,
        /// How it is reached, and which tools are wanted.
        form: Box<McpForm>,
    },
}

/// What all kinds of tools have.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) description: String,
    pub(crate) class: Option<Class>,
    pub(crate) approval: Option<Approval>,
    pub(crate) timeout_s: Option<f64>,
    pub(crate) cache_ttl_s: Option<u32>,
    pub(crate) taint_out: Option<Vec<String>>,
    pub(crate) min_tier: Option<Tier>,
}

/// What differs from kind to kind.
pub(crate) enum Kind {
    Http(HttpForm, AnswerForm),
    Graphql(GraphqlForm, AnswerForm),
    Command(CommandForm),
}

const KINDS: [&str; 4] = ["http", "graphql", "command", "mcp"];

impl Kind {
    /// Time a call may take if nothing is said, in milliseconds.
    pub(crate) fn timeout_ms(&self) -> u64 {
        match self {
            Kind::Http(..) | Kind::Graphql(..) => 30_000,
            Kind::Command(_) => 35_000,
        }
    }

    /// Whether a person is asked if nothing is said.
    pub(crate) fn approval(&self) -> Approval {
        match self {
            Kind::Http(..) | Kind::Graphql(..) => Approval::Effectful,
            Kind::Command(_) => Approval::Never,
        }
    }

    /// What a result is tainted with if nothing is said.
    pub(crate) fn taint_out(&self) -> Vec<String> {
        match self {
            Kind::Http(..) | Kind::Graphql(..) => vec!["web".to_owned()],
            Kind::Command(_) => Vec::new(),
        }
    }
}

impl Form {
    /// Checks a file against the schema of its kind, and reads it.
    pub(crate) fn read(value: &Value) -> Result<Self, Vec<Found>> {
        let kinds = KINDS.join(", ");
        let kind = value.get("kind").and_then(Value::as_str).filter(|kind| KINDS.contains(kind));
        let Some(kind) = kind else {
            return Err(vec![Found::broken("kind", format!("it must say its kind: one of {kinds}"))]);
        };
        fits(kind, value)?;
        let name = value["name"].as_str().unwrap_or_default().to_owned();
        if kind == "mcp" {
            return Ok(Form::Server { name, form: Box::new(typed("", value.clone())?) });
        }
        let part = |key: &str| value.get(key).cloned().unwrap_or_default();
        let answer = || match value.get("answer") {
            Some(answer) => typed("answer", answer.clone()),
            None => Ok(AnswerForm::default()),
        };
        let kind = match kind {
            "http" => Kind::Http(typed("request", part("request"))?, answer()?),
            "graphql" => Kind::Graphql(typed("request", part("request"))?, answer()?),
            "command" => Kind::Command(typed("command", part("command"))?),
            other => return Err(vec![Found::broken("kind", format!("{other:?} is none of {kinds}"))]),
        };
        let parameters = value.get("parameters").and_then(Value::as_object).cloned();
        Ok(Form::Tool { name, head: Box::new(typed("", value.clone())?), parameters, kind: Box::new(kind) })
    }
}

fn typed<T: serde::de::DeserializeOwned>(at: &str, value: Value) -> Result<T, Vec<Found>> {
    serde_json::from_value(value).map_err(|error| vec![Found::broken(at, error.to_string())])
}

fn fits(kind: &str, value: &Value) -> Result<(), Vec<Found>> {
    let broken = |problem: String| vec![Found::broken("", format!("the schema of manifests is broken: {problem}"))];
    let all: Value = serde_json::from_str(SCHEMA).map_err(|error| broken(error.to_string()))?;
    let schema = json!({ "$schema": all["$schema"], "$ref": format!("#/$defs/{kind}"), "$defs": all["$defs"] });
    let validator = jsonschema::validator_for(&schema).map_err(|error| broken(error.to_string()))?;
    let found: Vec<Found> =
        validator.iter_errors(value).take(PROBLEMS_MAX).map(|error| described(&error, &schema)).collect();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn described(error: &ValidationError<'_>, schema: &Value) -> Found {
    let at = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
    let problem = match error.kind() {
        ValidationErrorKind::Required { property } => format!("{property} is missing"),
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!(
                "{} not known here: see docs/guide/tools.md",
                unexpected.join(", ") + if unexpected.len() == 1 { " is" } else { " are" }
            )
        }
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::OneOfMultipleValid { .. } => {
            let path = error.schema_path().to_string();
            let wanted = path.strip_suffix("/oneOf").and_then(|path| schema.pointer(path)?.get("description")?.as_str());
            format!("it has none of the forms that are possible: {}", wanted.unwrap_or("see docs/guide/tools.md"))
        }
        _ => error.to_string().chars().take(300).collect(),
    };
    Found::broken(&at, problem)
}
