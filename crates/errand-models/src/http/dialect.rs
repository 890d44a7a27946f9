//! What both of OpenAI's dialects share: the forms a request is sent in and a reply is gathered from.

use super::calls::{Calls, TooManyCalls};
use super::classify::Complaint;
use errand_core::{Finish, Message, ModelReply, ModelRequest, Usage};
use errand_engine::ports::{Delta, DeltaSink};
use serde_json::{Value, json};

/// Gathers one reply. Made per call; told each event, then asked for the whole.
pub(crate) trait Reader: Send {
    /// Takes one event of the stream.
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken>;

    /// Takes the answer of a server that does not stream.
    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken>;

    /// True once anything the model said has come.
    fn has_content(&self) -> bool;

    /// The reply. `ended` tells how the stream did.
    fn finish(self: Box<Self>, ended: Ended) -> Result<ModelReply, Broken>;
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Go on reading.
    More,
    /// The reply is whole.
    Done,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By the dialect's own mark.
    Marked,
    /// Without a mark, but the HTTP framing proves that nothing is missing.
    Framed,
    /// The connection closed; something may be missing.
    Open,
}

/// Why an answer is no reply.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The provider said so.
    Complaint(Complaint),
    /// It makes no sense or is not whole: what is wrong, without a word of the reply.
    Garbled(String),
}

impl From<TooManyCalls> for Broken {
    fn from(error: TooManyCalls) -> Self {
        Broken::Garbled(error.to_string())
    }
}

/// A reply as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Calls,
    pub(crate) refused: bool,
    pub(crate) finish: Option<Finish>,
    pub(crate) usage: Option<Usage>,
}

impl Draft {
    pub(crate) fn has_content(&self) -> bool {
        !self.text.is_empty() || !self.reasoning.is_empty() || !self.calls.is_empty()
    }

    pub(crate) fn add_text(&mut self, text: &str, deltas: &dyn DeltaSink) {
        if !text.is_empty() {
            self.text.push_str(text);
            deltas.delta(Delta::Text(text.to_owned()));
        }
    }

    pub(crate) fn add_reasoning(&mut self, text: &str, deltas: &dyn DeltaSink) {
        if !text.is_empty() {
            self.reasoning.push_str(text);
            deltas.delta(Delta::Reasoning(text.to_owned()));
        }
    }

    /// The reply; `asked` and `turn` fill in what the provider left out.
    pub(crate) fn into_reply(self, asked: &str, turn: usize) -> ModelReply {
        let finish = self.finish.unwrap_or(Finish::Stop);
        ModelReply {
            opaque: None,
            model: if self.model.is_empty() { asked.to_owned() } else { self.model },
            text: self.text,
            reasoning: self.reasoning,
            calls: self.calls.finish(turn),
            finish: if self.refused { Finish::Refused } else { finish },
            usage: self.usage,
        }
    }
}

/// The text at `name`, or nothing.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Arguments as text, also from servers that send the object itself.
pub(crate) fn arguments_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A count at a JSON pointer.
pub(crate) fn count(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// How many replies the conversation holds already.
pub(crate) fn turn(request: &ModelRequest) -> usize {
    request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count()
}

/// A tool's parameters as JSON, or the name of the tool whose schema is none.
pub(crate) fn tool_parameters(request: &ModelRequest) -> Result<Vec<(&str, &str, Value)>, String> {
    let parse = |tool: &'_ errand_core::ToolDefinition| serde_json::from_str::<Value>(&tool.parameters);
    let tools = request.tools.iter();
    tools
        .map(|tool| match parse(tool) {
            Ok(parameters) => Ok((tool.name.as_str(), tool.description.as_str(), parameters)),
            Err(_) => Err(tool.name.clone()),
        })
        .collect()
}

/// The name of a tool as providers take it back in a conversation: at most 64 characters of `[A-Za-z0-9_-]`. A model
/// may have made up any name, and a history with a refused one could never be sent again.
pub(crate) fn sent_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// Arguments as providers take them back. Several servers parse them and refuse the whole conversation if they are no
/// JSON object, so what is none goes as the text it was under one name.
pub(crate) fn sent_arguments(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(_)) => arguments.to_owned(),
        _ => json!({ "malformed": arguments }).to_string(),
    }
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
    }
}
