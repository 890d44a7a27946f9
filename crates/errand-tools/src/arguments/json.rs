//! JSON without tolerance: one value, no key twice. A doubled key would let a person approve one thing and the tool do
//! another.

use super::Refused;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads one JSON value.
pub(crate) fn parse(text: &str) -> Result<Value, Refused> {
    let not_json = |error: serde_json::Error| Refused::NotJson {
        line: error.line(),
        column: error.column().max(1),
        problem: without_position(&error.to_string()).to_owned(),
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader).map_err(not_json)?;
    reader.end().map_err(not_json)?;
    Ok(value)
}

fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            let value = access.next_value_seed(Strict)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> (usize, usize, String) {
        match parse(text).unwrap_err() {
            Refused::NotJson { line, column, problem } => (line, column, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_value_is_read() {
        let text = r#" {"a": [1, -2, 2.5, true, null, "x\n"], "b": {}} "#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        assert_eq!(problem("{\"a\": 1,\n \"b\": }").0, 2);
        assert_eq!(problem("{\"a\": 1} {").2, "trailing characters");
        assert_eq!(problem("{\"a\": 1, \"a\": 2}").2, "the key \"a\" stands twice");
        assert_eq!(problem("").0, 1);
        for text in
            ["{'a': 1}", "{a: 1}", "{\"a\": 1,}", "```json\n{}\n```", "NaN", "1e999", "\"\u{1}\"", "{\"a\": \"\\ud800\"}"]
        {
            problem(text);
        }
        problem(&"[".repeat(100_000));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            if let Ok(value) = parse(&text) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn no_json_like_text_makes_it_panic(text in "[\\[\\]{}\",:0-9eE.+ tfn\\\\u-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
