//! Texts with `{parameter}` in them.

use serde_json::{Map, Value};

/// A text, cut at its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Parameter(String),
}

/// The arguments of a call.
pub(crate) type Arguments = Map<String, Value>;

impl Template {
    /// Reads a text. `{{` and `}}` are braces; `{name}` is the parameter of that name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..];
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let name = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, after)) = name.filter(|(name, _)| is_name(name)) else {
                let shown: String = brace.chars().take(20).collect();
                return Err(format!("{shown:?} is no placeholder: write {{name}}, or {{{{ and }}}} for braces"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Parameter(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The parameters it names.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The parameter, if there is nothing else.
    pub(crate) fn whole(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Parameter(name)] => Some(name),
            _ => None,
        }
    }

    /// The text, each argument put in as `encode` makes it. A parameter that was not given leaves nothing.
    pub(crate) fn fill(&self, arguments: &Arguments, encode: impl Fn(&str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Parameter(name) => arguments.get(name).map(|value| encode(&text(value))).unwrap_or_default(),
        };
        self.0.iter().map(part).collect()
    }

    /// The text as it stands.
    pub(crate) fn plain(&self, arguments: &Arguments) -> String {
        self.fill(arguments, str::to_owned)
    }

    /// True if all it needs was given: a value whose parameter is missing is left out altogether.
    pub(crate) fn is_given(&self, arguments: &Arguments) -> bool {
        self.parameters().all(|name| arguments.get(name).is_some_and(|value| !value.is_null()))
    }
}

/// A value within a text: strings as they are, everything else as JSON.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// A JSON value whose texts are templates. A text that is one placeholder and nothing else becomes the argument itself,
/// whatever its type; a member or an item whose parameter was not given is left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Text(Template),
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
    Fixed(Value),
}

impl Shape {
    /// # Errors
    /// What is wrong with a text in it, and where.
    pub(crate) fn read(value: &Value, at: &str) -> Result<Self, (String, String)> {
        Ok(match value {
            Value::String(text) => Shape::Text(Template::read(text).map_err(|problem| (at.to_owned(), problem))?),
            Value::Array(list) => {
                let each = list.iter().enumerate().map(|(index, value)| Self::read(value, &format!("{at}.{index}")));
                Shape::List(each.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let each = members
                    .iter()
                    .map(|(name, value)| Self::read(value, &format!("{at}.{name}")).map(|shape| (name.clone(), shape)));
                Shape::Object(each.collect::<Result<_, _>>()?)
            }
            other => Shape::Fixed(other.clone()),
        })
    }

    /// The parameters it names.
    pub(crate) fn parameters(&self) -> Vec<&str> {
        match self {
            Shape::Text(template) => template.parameters().collect(),
            Shape::List(list) => list.iter().flat_map(Self::parameters).collect(),
            Shape::Object(members) => members.iter().flat_map(|(_, shape)| shape.parameters()).collect(),
            Shape::Fixed(_) => Vec::new(),
        }
    }

    /// The value, if all that a text in it needs was given.
    pub(crate) fn fill(&self, arguments: &Arguments) -> Option<Value> {
        match self {
            Shape::Text(template) => match template.whole() {
                Some(name) => arguments.get(name).cloned(),
                None => template.is_given(arguments).then(|| Value::String(template.plain(arguments))),
            },
            Shape::List(list) => Some(list.iter().filter_map(|shape| shape.fill(arguments)).collect()),
            Shape::Object(members) => {
                let filled = members.iter().filter_map(|(name, shape)| Some((name.clone(), shape.fill(arguments)?)));
                Some(Value::Object(filled.collect()))
            }
            Shape::Fixed(value) => Some(value.clone()),
        }
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3).
pub(crate) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(value: Value) -> Arguments {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn placeholders_are_filled_and_braces_doubled() {
        let template = Template::read("a{x}b{{{y-1}}}{x}").unwrap();
        assert_eq!(template.parameters().collect::<Vec<_>>(), ["x", "y-1", "x"]);
        let given = arguments(json!({ "x": "ä/", "y-1": [1, "2"] }));
        assert_eq!(template.plain(&given), "aä/b{[1,\"2\"]}ä/");
        assert_eq!(template.fill(&given, percent), "a%C3%A4%2Fb{%5B1%2C%222%22%5D}%C3%A4%2F");
        assert!(!template.is_given(&arguments(json!({ "x": 1 }))));
        for wrong in ["{", "}", "{}", "{a b}", "a}b", "{x"] {
            assert!(Template::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shape_keeps_types_and_leaves_out_what_was_not_given() {
        let body = json!({ "n": "{n}", "t": "n is {n}", "list": ["{a}", "{none}", 1], "none": "{none}", "half": "x{none}" });
        let shape = Shape::read(&body, "body").unwrap();
        let filled = shape.fill(&arguments(json!({ "n": 3, "a": [true] }))).unwrap();
        assert_eq!(filled, json!({ "n": 3, "t": "n is 3", "list": [[true], 1] }));
        assert_eq!(Shape::read(&json!({ "a": [{ "b": "{" }] }), "body").unwrap_err().0, "body.a.0.b");
    }
}
