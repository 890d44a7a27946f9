//! What a schema does not like, in words that a model can act on.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

/// The place, what is wrong there, and what would be right.
pub(super) fn describe(error: &ValidationError<'_>, schema: &Value) -> String {
    let place = match error.instance_path().to_string() {
        path if path.is_empty() => "the arguments".to_owned(),
        path => format!("`{}`", path.trim_start_matches('/').replace('/', ".")),
    };
    format!("{place}: {}", complaint(error, schema))
}

fn complaint(error: &ValidationError<'_>, schema: &Value) -> String {
    match error.kind() {
        Kind::Required { property } => format!("{property} is missing"),
        Kind::AdditionalProperties { unexpected } => {
            format!("{} not known; there are {}", are(unexpected), properties(error, schema).join(", "))
        }
        Kind::Type { kind } => format!("must be {}, is {}", wanted(kind), of(error.instance())),
        Kind::Enum { options } => format!("must be one of {options}, is {}", of(error.instance())),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => {
            format!("has {} characters, at most {limit} are allowed", characters(error.instance()))
        }
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("has too many items, at most {limit} are allowed"),
        Kind::Minimum { limit } => format!("must be at least {limit}, is {}", of(error.instance())),
        Kind::Maximum { limit } => format!("must be at most {limit}, is {}", of(error.instance())),
        Kind::Pattern { pattern } => format!("must match the pattern {pattern:?}, is {}", of(error.instance())),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            format!("fits none of the forms allowed, is {}", of(error.instance()))
        }
        // The text may quote the whole value; a model needs only its beginning.
        _ => shortened(&error.to_string()),
    }
}

/// The names the object at the error's place may have, read from the schema that refused it.
fn properties(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    let path = error.schema_path().to_string();
    let object = path.strip_suffix("/additionalProperties").and_then(|parent| schema.pointer(parent));
    let names = object.and_then(|object| object["properties"].as_object());
    names.map(|names| names.keys().cloned().collect()).unwrap_or_default()
}

fn are(names: &[String]) -> String {
    let list = names.iter().take(5).map(|name| shortened(&format!("{name:?}"))).collect::<Vec<_>>().join(", ");
    if names.len() == 1 { format!("{list} is") } else { format!("{list} are") }
}

fn wanted(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => kind.to_string(),
        TypeKind::Multiple(kinds) => kinds.iter().map(|kind| kind.to_string()).collect::<Vec<_>>().join(" or "),
    }
}

fn of(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::String(text) => shortened(&format!("the string {text:?}")),
        other => other.to_string(),
    }
}

fn characters(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.chars().count())
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 120 {
        return text.to_owned();
    }
    text.chars().take(119).chain(['…']).collect()
}
