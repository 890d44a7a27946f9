//! The form of an answer, as far as each vendor can hold a model to it.
//!
//! The engine checks every answer against the whole schema; what a vendor enforces only saves turns.

use super::dialect::Unfit;
use errand_core::OutputSchema;
use serde_json::{Map, Value};

/// The schema as JSON.
pub(crate) fn parsed(output: &OutputSchema) -> Result<Value, Unfit> {
    serde_json::from_str(&output.schema).map_err(|_| Unfit::Schema)
}

/// What a model is told of the form where its vendor cannot enforce it.
pub(crate) fn told(output: &OutputSchema) -> String {
    format!("When you give your final answer, it must be JSON that fits this schema, and nothing else:\n{}", output.schema)
}

/// True if OpenAI takes the schema as `strict`: the root is an object, every object is closed and requires all its
/// properties, and no keyword stands in it that is refused
/// (<https://developers.openai.com/api/docs/guides/structured-outputs>, checked 2026-11-21).
pub(crate) fn is_strict(schema: &Value) -> bool {
    const REFUSED: [&str; 8] =
        ["allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties"];
    let root = schema.get("type").and_then(Value::as_str) == Some("object") && schema.get("anyOf").is_none();
    root && all(schema, &|object| {
        let is_closed =
            !is_object(object) || object.get("additionalProperties") == Some(&Value::Bool(false)) && requires_all(object);
        is_closed && REFUSED.iter().all(|keyword| !object.contains_key(*keyword))
    })
}

/// The schema as Anthropic takes it, or nothing if it cannot be brought to that: every object is closed, and bounds that
/// are refused are left out (<https://platform.claude.com/docs/en/build-with-claude/structured-outputs>, checked
/// 2026-11-21).
pub(crate) fn closed(schema: &Value) -> Option<Value> {
    const LEFT_OUT: [&str; 15] = [
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "format",
        "default",
    ];
    const REFUSED: [&str; 10] = [
        "not",
        "if",
        "then",
        "else",
        "oneOf",
        "dependentRequired",
        "dependentSchemas",
        "patternProperties",
        "propertyNames",
        "prefixItems",
    ];
    let can_be_closed = |object: &Map<String, Value>| {
        let open = object.get("additionalProperties").is_some_and(|value| *value != Value::Bool(false));
        !open && REFUSED.iter().all(|keyword| !object.contains_key(*keyword))
    };
    if !schema.is_object() || !all(schema, &can_be_closed) {
        return None;
    }
    let mut schema = schema.clone();
    change(&mut schema, &|object| {
        object.retain(|keyword, _| !LEFT_OUT.contains(&keyword.as_str()));
        if is_object(object) {
            object.insert("additionalProperties".to_owned(), false.into());
        }
    });
    Some(schema)
}

fn is_object(schema: &Map<String, Value>) -> bool {
    schema.contains_key("properties")
        || match schema.get("type") {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            _ => false,
        }
}

fn requires_all(schema: &Map<String, Value>) -> bool {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_none_or(|properties| properties.keys().all(|name| required.contains(&name.as_str())))
}

/// Keywords that hold schemas by name.
const NAMED: [&str; 3] = ["properties", "$defs", "definitions"];
/// Keywords that hold one schema or a list of them.
const NESTED: [&str; 12] = [
    "items",
    "additionalProperties",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "prefixItems",
    "contains",
    "propertyNames",
];

/// True if `holds` for the schema and all schemas in it.
fn all(schema: &Value, holds: &dyn Fn(&Map<String, Value>) -> bool) -> bool {
    match schema {
        Value::Array(schemas) => schemas.iter().all(|schema| all(schema, holds)),
        Value::Object(object) => {
            let named = NAMED.iter().filter_map(|keyword| object.get(*keyword)?.as_object());
            let nested = NESTED.iter().filter_map(|keyword| object.get(*keyword));
            holds(object) && named.flat_map(Map::values).chain(nested).all(|schema| all(schema, holds))
        }
        _ => true,
    }
}

/// Changes the schema and all schemas in it.
fn change(schema: &mut Value, how: &dyn Fn(&mut Map<String, Value>)) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| change(schema, how)),
        Value::Object(object) => {
            how(object);
            for (keyword, value) in object {
                match value {
                    Value::Object(schemas) if NAMED.contains(&keyword.as_str()) => {
                        schemas.values_mut().for_each(|schema| change(schema, how));
                    }
                    value if NESTED.contains(&keyword.as_str()) => change(value, how),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_closed_schemas_that_require_everything_are_strict() {
        let inner = json!({"type": "object", "properties": {}, "additionalProperties": false});
        let good = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": inner}},
                          "required": ["a", "b"], "additionalProperties": false});
        assert!(is_strict(&good));
        for (pointer, value) in [
            ("/required", json!(["a"])),
            ("/additionalProperties", json!(true)),
            ("/properties/b/items", json!({"type": "object"})),
            ("/properties/a", json!({"not": {}})),
            ("/type", json!("array")),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert!(!is_strict(&bad), "{bad}");
        }
    }

    #[test]
    fn bounds_are_left_out_and_objects_closed() {
        // Properties may be called as keywords are.
        let schema = json!({"type": "object", "properties": {
            "minimum": {"type": "integer", "minimum": 1},
            "list": {"type": "array", "maxItems": 3, "items": {"type": ["object", "null"], "properties": {}}},
        }, "required": ["minimum"]});
        let expected = json!({"type": "object", "additionalProperties": false, "properties": {
            "minimum": {"type": "integer"},
            "list": {"type": "array", "items": {"type": ["object", "null"], "properties": {}, "additionalProperties": false}},
        }, "required": ["minimum"]});
        assert_eq!(closed(&schema), Some(expected));
        for open in
            [json!({"type": "object", "additionalProperties": {"type": "string"}}), json!({"oneOf": []}), json!(true)]
        {
            assert_eq!(closed(&open), None, "{open}");
        }
    }
}
