//! What a GraphQL server has to offer, in few words.

use serde_json::Value;
use std::fmt::Write;

/// Asks for the types (GraphQL specification of September 2025, section 4, checked 2026-11-21). Types are wrapped in lists
/// and non-nulls, seldom more than four deep.
pub(super) const QUERY: &str = "query Schema { __schema { queryType { name } mutationType { name } types { kind name description \
fields { name description args { name type { ...T } defaultValue } type { ...T } isDeprecated } \
inputFields { name type { ...T } defaultValue } enumValues { name } possibleTypes { name } } } } \
fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name \
ofType { kind name } } } } } } }";

/// Longest description that is shown.
const ABOUT_CHARS: usize = 100;

/// The answer to [`QUERY`] in the schema language, without what is built in or deprecated.
pub(super) fn summary(data: &Value) -> String {
    let schema = &data["__schema"];
    let root = |name: &str| schema[name]["name"].as_str().unwrap_or_default().to_owned();
    let (query, mutation) = (root("queryType"), root("mutationType"));
    let mut types: Vec<&Value> = schema["types"].as_array().map(|types| types.iter().collect()).unwrap_or_default();
    types.retain(|one| !name(one).starts_with("__") && !BUILT_IN.contains(&name(one)));
    // What one begins with comes first.
    types.sort_by_key(|one| (name(one) != query, name(one) != mutation, kind(one) == "SCALAR"));
    let mut text = String::new();
    for one in types {
        about(one, "", &mut text);
        describe(one, &mut text);
    }
    if text.is_empty() { "the server tells nothing of its schema".to_owned() } else { text.trim_end().to_owned() }
}

const BUILT_IN: [&str; 5] = ["String", "Int", "Float", "Boolean", "ID"];

fn describe(one: &Value, text: &mut String) {
    let name = name(one);
    let _ = match kind(one) {
        "OBJECT" | "INTERFACE" => {
            let word = if kind(one) == "OBJECT" { "type" } else { "interface" };
            let _ = writeln!(text, "{word} {name} {{");
            for field in list(one, "fields").filter(|field| field["isDeprecated"] != true) {
                about(field, "  ", text);
                let _ = writeln!(text, "  {}{}: {}", self::name(field), arguments(field), type_of(&field["type"], 0));
            }
            writeln!(text, "}}")
        }
        "INPUT_OBJECT" => writeln!(text, "input {name} {{ {} }}", inputs(one, "inputFields")),
        "ENUM" => writeln!(text, "enum {name} {{ {} }}", names(one, "enumValues", " ")),
        "UNION" => writeln!(text, "union {name} = {}", names(one, "possibleTypes", " | ")),
        _ => writeln!(text, "scalar {name}"),
    };
}

fn about(one: &Value, indent: &str, text: &mut String) {
    let about = one["description"].as_str().unwrap_or_default();
    let about: String = about.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(ABOUT_CHARS).collect();
    if !about.is_empty() {
        let _ = writeln!(text, "{indent}# {about}");
    }
}

fn arguments(field: &Value) -> String {
    let inputs = inputs(field, "args");
    if inputs.is_empty() { inputs } else { format!("({inputs})") }
}

fn inputs(one: &Value, key: &str) -> String {
    let shown = |input: &Value| {
        let default = input["defaultValue"].as_str().map_or_else(String::new, |value| format!(" = {value}"));
        format!("{}: {}{default}", name(input), type_of(&input["type"], 0))
    };
    list(one, key).map(shown).collect::<Vec<_>>().join(", ")
}

fn names(one: &Value, key: &str, between: &str) -> String {
    list(one, key).map(name).collect::<Vec<_>>().join(between)
}

fn type_of(one: &Value, depth: usize) -> String {
    let inner = |one: &Value| if depth < 10 { type_of(&one["ofType"], depth + 1) } else { "…".to_owned() };
    match kind(one) {
        "NON_NULL" => format!("{}!", inner(one)),
        "LIST" => format!("[{}]", inner(one)),
        _ => name(one).to_owned(),
    }
}

fn list<'a>(one: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    one[key].as_array().into_iter().flatten()
}

fn name(one: &Value) -> &str {
    one["name"].as_str().unwrap_or_default()
}

fn kind(one: &Value) -> &str {
    one["kind"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_told_in_its_own_language() {
        let non_null = |name: &str| json!({"kind": "NON_NULL", "ofType": {"kind": "SCALAR", "name": name}});
        let data = json!({"__schema": {"queryType": {"name": "Q"}, "mutationType": null, "types": [
            {"kind": "SCALAR", "name": "String"}, {"kind": "OBJECT", "name": "__Type", "fields": []},
            {"kind": "SCALAR", "name": "Date"},
            {"kind": "ENUM", "name": "E", "enumValues": [{"name": "A"}, {"name": "B"}]},
            {"kind": "UNION", "name": "U", "possibleTypes": [{"name": "Q"}, {"name": "R"}]},
            {"kind": "INPUT_OBJECT", "name": "I", "inputFields": [{"name": "n", "type": {"kind": "SCALAR", "name": "Int"}, "defaultValue": "3"}]},
            {"kind": "OBJECT", "name": "Q", "description": "Where to\n begin", "fields": [
                {"name": "user", "args": [{"name": "id", "type": non_null("ID")}], "type": {"kind": "LIST", "ofType": non_null("String")}},
                {"name": "old", "args": [], "type": non_null("ID"), "isDeprecated": true},
            ]},
        ]}});
        let wanted = "# Where to begin\ntype Q {\n  user(id: ID!): [String!]\n}\nenum E { A B }\nunion U = Q | R\ninput I { n: Int = 3 }\nscalar Date";
        assert_eq!(summary(&data), wanted);
        assert_eq!(summary(&json!({"__schema": 7})), "the server tells nothing of its schema");
    }
}
