//! Answers that must have a form: JSON that fits a schema.

use crate::arguments::{self, Refused};
use serde_json::Value;

/// Longest schema taken, in bytes.
const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// A schema that answers cannot be held to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is too long, no JSON object, no schema, refers to other documents, or costs too much to check against.
    #[error("the output schema cannot be used: {problem}; give a JSON Schema, an object with `type` and `properties`")]
    Unusable {
        /// What is wrong with it.
        problem: String,
    },
}

impl SchemaError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            SchemaError::Unusable { .. } => "output_schema_invalid",
        }
    }
}

/// Checks a schema before a run is held to it.
///
/// # Errors
/// [`SchemaError::Unusable`].
pub fn check_schema(schema: &str) -> Result<(), SchemaError> {
    compile(schema).map(drop).map_err(|problem| SchemaError::Unusable { problem })
}

/// Checks an answer. The error is for the model.
pub(crate) fn check(schema: &str, answer: &str) -> Result<(), String> {
    let (schema, validator) = compile(schema)?;
    let fits = arguments::parse(answer.trim()).and_then(|value| arguments::validate(&validator, &schema, &value));
    fits.map_err(|refused| match refused {
        Refused::NotJson { line, column, problem } => format!("it is not JSON at line {line}, column {column}: {problem}"),
        Refused::Invalid { problems } => problems.join("; "),
        other => other.to_string(),
    })
}

/// Schemas that refer to other documents, or are too large once their references are replaced, do not compile: nothing is
/// fetched, and nothing takes for ever.
fn compile(schema: &str) -> Result<(Value, jsonschema::Validator), String> {
    if schema.len() > SCHEMA_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {SCHEMA_BYTES_MAX} are taken", schema.len()));
    }
    let value = arguments::parse(schema).map_err(|refused| refused.to_string())?;
    if !value.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    let validator = crate::schema::compile_any(&value)?;
    Ok((value, validator))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERSON: &str = r#"{"type":"object","additionalProperties":false,"required":["name"],
        "properties":{"name":{"type":"string"},"age":{"type":"integer"}}}"#;

    #[test]
    fn answers_are_held_to_the_schema() {
        assert_eq!(check(PERSON, " {\"name\": \"Ada\", \"age\": 36}\n"), Ok(()));
        assert!(check(PERSON, "Her name is Ada.").unwrap_err().contains("not JSON at line 1"));
        assert!(check(PERSON, "{\"age\": \"old\"}").unwrap_err().contains("name"));
        assert!(check(PERSON, "```json\n{\"name\": \"Ada\"}\n```").is_err());
    }

    #[test]
    fn schemas_need_not_be_those_of_objects_and_may_refer_to_themselves() {
        let list = r##"{"type":"array","items":{"$ref":"#/$defs/node"},"$defs":{"node":{"type":"object","required":["v"],
            "properties":{"v":{"type":"integer"},"next":{"$ref":"#/$defs/node"}}}}}"##;
        assert_eq!(check(list, r#"[{"v":1,"next":{"v":2}}]"#), Ok(()));
        assert!(check(list, r#"[{"next":{"v":2}}]"#).is_err());
        assert!(check(list, "{}").is_err());
    }

    #[test]
    fn schemas_that_would_take_for_ever_are_refused() {
        let defs: Vec<String> = (0..40)
            .map(|level| {
                let next = format!("{{\"$ref\":\"#/$defs/d{}\"}}", level + 1);
                format!("\"d{level}\":{{\"allOf\":[{next},{next}]}}")
            })
            .collect();
        let doubling = format!("{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d40\":{{}}}}}}", defs.join(","));
        let error = check_schema(&doubling).unwrap_err().to_string();
        assert!(error.contains("too large once its references are replaced"), "{error}");
        assert!(check(r#"{"pattern":"^(a+)+$"}"#, &format!("\"{}!\"", "a".repeat(50_000))).is_err());
        assert!(check_schema(r#"{"pattern":"(?=a)b"}"#).is_err());
    }

    #[test]
    fn schemas_that_cannot_be_used_are_refused() {
        for schema in ["", "[]", "{\"type\": 7}", "{\"$ref\": \"https://example.com/schema.json\"}", "{\"a\": 1, \"a\": 2}"]
        {
            let error = check_schema(schema).unwrap_err();
            assert_eq!(error.code(), "output_schema_invalid", "{schema}");
        }
        assert!(check_schema(&format!("{{\"description\": \"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX))).is_err());
    }
}
