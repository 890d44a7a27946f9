//! Small forms that several dialects share.

use super::dialect::Unfit;
use errand_core::{Hash, Message, ModelRequest};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The text at `name`, or nothing.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The list at `name`, or an empty one.
pub(crate) fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Arguments as text, also from servers that send the object itself.
pub(crate) fn arguments_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A count at the end of a path of names, such as `/usage/total`.
pub(crate) fn count(value: &Value, path: &str) -> Option<u64> {
    path.split('/').skip(1).try_fold(value, |value, name| value.get(name)).and_then(Value::as_u64)
}

/// A JSON object of one field.
pub(crate) fn field(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}

/// How many replies the conversation holds already.
pub(crate) fn turn(request: &ModelRequest) -> usize {
    request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count()
}

/// Name, description and parameters of each tool.
pub(crate) fn tools(request: &ModelRequest) -> Result<Vec<(&str, &str, Value)>, Unfit> {
    let tools = request.tools.iter();
    tools
        .map(|tool| match serde_json::from_str::<Value>(&tool.parameters) {
            Ok(parameters) => Ok((tool.name.as_str(), tool.description.as_str(), parameters)),
            Err(_) => Err(Unfit::Tool { tool: tool.name.clone() }),
        })
        .collect()
}

/// Tools in the form of Chat Completions, which Ollama took over.
pub(crate) fn function_tools(request: &ModelRequest) -> Result<Vec<Value>, Unfit> {
    let form = |(name, description, parameters)| json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}});
    Ok(tools(request)?.into_iter().map(form).collect())
}

/// The name of a tool as providers take it back in a conversation: at most 64 characters of `[A-Za-z0-9_-]`. A model
/// may have made up any name, and a history with a refused one could never be sent again.
pub(crate) fn sent_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(64).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The id of a call as providers take it back. One that another provider made up may have a form that this one refuses;
/// it goes as the first `length` digits of its digest.
pub(crate) fn sent_id(id: &str, fits: impl Fn(&str) -> bool, length: usize) -> String {
    if fits(id) { id.to_owned() } else { Hash::of(id.as_bytes()).to_string()[..length.min(64)].to_owned() }
}

/// Ids that Anthropic takes: `[a-zA-Z0-9_-]+`.
pub(crate) fn is_plain_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(is_plain)
}

/// Arguments as providers take them back. Several servers parse them and refuse the whole conversation if they are no
/// JSON object, so what is none goes as the text it was under one name.
pub(crate) fn sent_arguments(arguments: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(_)) => arguments.into(),
        _ => json!({ "malformed": arguments }).to_string().into(),
    }
}

/// The same as an object, for dialects that have arguments as JSON.
pub(crate) fn sent_object(arguments: &str) -> Value {
    match serde_json::from_str::<Value>(arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ => json!({ "malformed": arguments }),
    }
}

/// A name as one segment of a path: it cannot lead anywhere else.
pub(crate) fn segment(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(char::from(byte)),
            // Two of them would be the folder above.
            b'.' if !name.bytes().all(|byte| byte == b'.') => encoded.push('.'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_made_up_goes_back_in_a_form_that_is_taken() {
        assert_eq!(sent_name("functions.python"), "functions_python");
        assert_eq!(sent_name(""), "unnamed");
        assert_eq!(sent_name(&"é".repeat(99)).len(), 64);
        assert_eq!(sent_arguments(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(sent_arguments(r#"{"a": "#), r#"{"malformed":"{\"a\": "}"#);
        assert_eq!(sent_arguments("[1]"), r#"{"malformed":"[1]"}"#);
        assert_eq!(sent_object("[1]"), json!({"malformed": "[1]"}));
        assert_eq!(sent_id("call_1", is_plain_id, 24), "call_1");
        assert_eq!(sent_id("functions.f:0", is_plain_id, 24).len(), 24);
        assert!(is_plain_id(&sent_id("functions.f:0", is_plain_id, 24)));
    }

    #[test]
    fn a_model_name_stays_one_segment_of_a_path() {
        assert_eq!(segment("gemini-2.5-pro"), "gemini-2.5-pro");
        assert_eq!(segment("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!((segment(".."), segment("ä")), ("%2E%2E".to_owned(), "%C3%A4".to_owned()));
    }
}
