//! Schemas that others wrote, made safe to check against: finite, without references, with linear patterns.
//!
//! A schema comes from a user's file or from a server. It may refer to itself without end, double its work at every level,
//! or name a document elsewhere. So references are replaced by what they name, up to a bound; where one leads back into
//! itself, anything is taken: whoever made the schema checks it again.

use serde_json::{Map, Value};

/// Most a schema may have as text, in bytes.
pub(crate) const BYTES_MAX: usize = 128 << 10;
/// Most a schema may have once references are replaced, in bytes as text: what it takes of memory, and what checking a
/// value costs at most, per value in it.
const FINITE_BYTES_MAX: usize = 1 << 20;
/// What a schema takes besides its text, in bytes: there are at most 20,000 within one.
const SCHEMA_BYTES: usize = 50;
/// Deepest nesting of schemas once references are replaced.
const DEPTH_MAX: usize = 100;

/// Compiles the schema of a tool's arguments.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    let bytes = schema.to_string().len();
    if bytes > BYTES_MAX {
        return Err(format!("the schema has {bytes} bytes, at most {BYTES_MAX} are taken"));
    }
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("the schema must be that of an object: its \"type\" must be \"object\"".to_owned());
    }
    compile_any(schema)
}

/// Compiles a schema of anything.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn compile_any(schema: &Value) -> Result<jsonschema::Validator, String> {
    let mut flat = Flat { root: schema, bytes: 0, open: Vec::new() };
    let finite = flat.schema(schema, 0)?;
    let options = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex());
    options.build(&finite).map_err(|error| format!("at {:?}: {error}", error.instance_path().to_string()))
}

/// Keywords of JSON Schema, drafts 7 to 2020-12, and those that describe without being checked.
const KEYWORDS: &str = "\
    $anchor $comment $defs $dynamicAnchor $dynamicRef $id $recursiveAnchor $recursiveRef $ref $schema $vocabulary \
    additionalItems additionalProperties allOf anyOf const contains contentEncoding contentMediaType \
    contentSchema default definitions dependencies dependentRequired dependentSchemas deprecated description else \
    enum example examples exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength \
    maxProperties maximum minContains minItems minLength minProperties minimum multipleOf not oneOf pattern \
    patternProperties prefixItems properties propertyNames readOnly required then title type unevaluatedItems \
    unevaluatedProperties uniqueItems writeOnly";

/// Keywords that JSON Schema does not know and a check would pass over, each with where it stands; those that begin with
/// `x-` are meant to be.
pub(crate) fn unknown_keywords(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema, "", DEPTH_MAX, &mut found);
    found
}

fn look(schema: &Value, at: &str, depth: usize, found: &mut Vec<String>) {
    let (Value::Object(keywords), Some(depth)) = (schema, depth.checked_sub(1)) else { return };
    for (keyword, value) in keywords {
        let at = if at.is_empty() { keyword.clone() } else { format!("{at}.{keyword}") };
        if !KEYWORDS.split(' ').any(|known| known == keyword) && !keyword.starts_with("x-") {
            found.push(at.clone());
        }
        // Its replacement of references leaves these two out; what they hold is checked where it is named.
        let holds = if matches!(keyword.as_str(), "$defs" | "definitions") { Holds::Named } else { holds(keyword) };
        match (holds, value) {
            (Holds::Named, Value::Object(named)) => {
                named.iter().for_each(|(name, one)| look(one, &format!("{at}.{name}"), depth, found));
            }
            (Holds::List | Holds::OneOrList, Value::Array(list)) => {
                list.iter().enumerate().for_each(|(index, one)| look(one, &format!("{at}.{index}"), depth, found));
            }
            (Holds::One | Holds::OneOrList, one) => look(one, &at, depth, found),
            _ => {}
        }
    }
}

/// How a keyword holds schemas.
enum Holds {
    One,
    List,
    Named,
    OneOrList,
    Nothing,
}

fn holds(keyword: &str) -> Holds {
    match keyword {
        "additionalProperties"
        | "not"
        | "if"
        | "then"
        | "else"
        | "contains"
        | "propertyNames"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "additionalItems" => Holds::One,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Holds::List,
        "properties" | "patternProperties" | "dependentSchemas" => Holds::Named,
        "items" => Holds::OneOrList,
        _ => Holds::Nothing,
    }
}

struct Flat<'a> {
    root: &'a Value,
    /// What was copied so far.
    bytes: usize,
    /// The references that are being replaced.
    open: Vec<&'a str>,
}

impl<'a> Flat<'a> {
    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Value, String> {
        self.count(SCHEMA_BYTES)?;
        if depth > DEPTH_MAX {
            return Err(format!("the schema is nested over {DEPTH_MAX} deep once its references are replaced"));
        }
        let Value::Object(keywords) = schema else { return Ok(schema.clone()) };
        let mut flat = Map::new();
        for (keyword, value) in keywords {
            self.count(keyword.len())?;
            let value = match (keyword.as_str(), holds(keyword), value) {
                // Names are of no use once nothing refers to them; a meta-schema of somebody's own cannot be had.
                ("$id" | "$anchor" | "$dynamicAnchor" | "$recursiveAnchor" | "$defs" | "definitions", ..) => continue,
                ("$schema", _, named) if !is_known(named) => continue,
                ("$ref", _, Value::String(reference)) => {
                    let named = self.named(reference, depth)?;
                    push(&mut flat, named);
                    continue;
                }
                ("$ref" | "$dynamicRef" | "$recursiveRef", ..) => continue,
                (_, Holds::One, value) | (_, Holds::OneOrList, value @ (Value::Object(_) | Value::Bool(_))) => {
                    self.schema(value, depth + 1)?
                }
                (_, Holds::List | Holds::OneOrList, Value::Array(list)) => {
                    list.iter().map(|one| self.schema(one, depth + 1)).collect::<Result<_, _>>()?
                }
                (_, Holds::Named, Value::Object(named)) => {
                    let each = named.iter().map(|(name, one)| {
                        self.count(name.len())?;
                        Ok((name.clone(), self.schema(one, depth + 1)?))
                    });
                    Value::Object(each.collect::<Result<_, String>>()?)
                }
                (_, _, other) => {
                    self.count(other.to_string().len())?;
                    other.clone()
                }
            };
            match (keyword.as_str(), value) {
                ("allOf", Value::Array(list)) => list.into_iter().for_each(|one| push(&mut flat, one)),
                (_, value) => drop(flat.insert(keyword.clone(), value)),
            }
        }
        Ok(Value::Object(flat))
    }

    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes > FINITE_BYTES_MAX {
            return Err(format!("the schema is too large once its references are replaced (over {FINITE_BYTES_MAX} bytes)"));
        }
        Ok(())
    }

    /// What a reference names; anything if that is under way already.
    fn named(&mut self, reference: &'a str, depth: usize) -> Result<Value, String> {
        let Some(pointer) = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Err(format!("the reference {reference:?} is not taken: only those of the form \"#/…\" are"));
        };
        if self.open.contains(&reference) || pointer.is_empty() {
            return Ok(Value::Bool(true));
        }
        let pointer = percent_decoded(pointer);
        let named = self.root.pointer(&pointer).ok_or_else(|| format!("the reference {reference:?} names nothing"))?;
        self.open.push(reference);
        let flat = self.schema(named, depth + 1);
        self.open.pop();
        flat
    }
}

/// Adds a schema that must hold too.
fn push(flat: &mut Map<String, Value>, one: Value) {
    if let Some(Value::Array(all)) = flat.get_mut("allOf") {
        all.push(one);
    } else {
        flat.insert("allOf".to_owned(), Value::Array(vec![one]));
    }
}

fn is_known(named: &Value) -> bool {
    named.as_str().is_some_and(|uri| uri.contains("//json-schema.org/"))
}

/// A JSON pointer in a reference may be percent-encoded (RFC 6901, section 6).
fn percent_decoded(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn takes(schema: Value, value: Value) -> bool {
        compile(&schema).unwrap().is_valid(&value)
    }

    #[test]
    fn references_are_replaced_by_what_they_name() {
        let schema = json!({
            "type": "object",
            "properties": { "$ref": { "$ref": "#/$defs/a%20b", "description": "a property of that name" } },
            "$defs": { "a b": { "$ref": "#/$defs/n" }, "n": { "type": "integer" } }
        });
        assert!(takes(schema.clone(), json!({ "$ref": 1 })));
        assert!(!takes(schema, json!({ "$ref": "x" })));
    }

    #[test]
    fn what_refers_to_itself_is_checked_once_and_then_taken() {
        for schema in [
            json!({ "type": "object", "$ref": "#" }),
            json!({ "type": "object", "allOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }] } } }),
            json!({ "type": "object", "$dynamicRef": "#x" }),
        ] {
            assert!(takes(schema, json!({ "a": [[[]]] })));
        }
        let tree = json!({
            "type": "object",
            "properties": { "tree": { "$ref": "#/$defs/node" } },
            "$defs": { "node": {
                "type": "object",
                "required": ["v"],
                "properties": { "v": { "type": "integer" }, "left": { "$ref": "#/$defs/node" } }
            } }
        });
        assert!(takes(tree.clone(), json!({ "tree": { "v": 1, "left": { "v": 2 } } })));
        assert!(!takes(tree, json!({ "tree": { "left": {} } })));
    }

    #[test]
    fn what_would_cost_too_much_or_come_from_elsewhere_is_refused() {
        let mut defs = Map::new();
        for level in 0..40 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            defs.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
        }
        defs.insert("d40".to_owned(), json!({}));
        let doubling = json!({ "type": "object", "$ref": "#/$defs/d0", "$defs": defs });
        assert!(compile(&doubling).unwrap_err().contains("too large"));
        let (many, copies): (Vec<u32>, Vec<Value>) = ((0..15_000).collect(), vec![json!({ "$ref": "#/$defs/a" }); 1_000]);
        let wide = json!({ "type": "object", "anyOf": copies, "$defs": { "a": { "enum": many } } });
        assert!(compile(&wide).unwrap_err().contains("too large"));
        let (long, copies) = ("x".repeat(50_000), vec![json!({ "$ref": "#/$defs/a" }); 1_000]);
        let named = json!({ "type": "object", "anyOf": copies, "$defs": { "a": { "properties": { long: true } } } });
        assert!(compile(&named).unwrap_err().contains("too large"));
        for (schema, why) in [
            (json!({ "type": "object", "$ref": "http://127.0.0.1:1/s.json" }), "not taken"),
            (json!({ "type": "object", "$ref": "file:///etc/passwd" }), "not taken"),
            (json!({ "type": "object", "$ref": "#/$defs/none" }), "names nothing"),
            (json!({ "type": "object", "properties": { "a": { "type": "text" } } }), "text"),
            (json!({ "type": "object", "properties": { "a": { "pattern": "(" } } }), "pattern"),
            (json!({ "type": "object", "properties": { "a": { "pattern": "(?=a)b" } } }), "pattern"),
            (json!({ "type": "array" }), "object"),
            (json!([]), "object"),
            (json!({ "type": "object", "description": "x".repeat(BYTES_MAX) }), "bytes"),
        ] {
            let error = compile(&schema).unwrap_err();
            assert!(error.contains(why), "{schema}: {error}");
        }
    }

    #[test]
    fn keywords_that_are_none_are_found_where_they_stand() {
        let schema = json!({
            "type": "object", "requred": ["a"], "x-own": 1,
            "properties": {
                "requred": { "type": "string", "maxLenght": 3, "enum": [{ "free": 1 }], "default": { "free": 1 } },
                "b": { "type": "array", "items": { "anyOf": [{ "minimun": 1 }, { "$ref": "#/$defs/c" }] } }
            },
            "$defs": { "c": { "nullable": true } }
        });
        let mut found = unknown_keywords(&schema);
        found.sort();
        let expected = ["$defs.c.nullable", "properties.b.items.anyOf.0.minimun", "properties.requred.maxLenght", "requred"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_pattern_cannot_take_for_ever() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "^(a+)+$" } } });
        assert!(!takes(schema, json!({ "a": format!("{}!", "a".repeat(100_000)) })));
    }
}
