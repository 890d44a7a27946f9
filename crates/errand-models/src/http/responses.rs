//! Responses, OpenAI's newer dialect.
//!
//! Forms checked 2026-11-21 against <https://developers.openai.com/api/reference/resources/responses> and the
//! Open Responses specification of 2026-04-24.

use super::calls::{Calls, Fragment};
use super::classify::Complaint;
use super::dialect::{
    Broken, Draft, Ended, Reader, Step, arguments_text, count, sent_arguments, sent_name, text, tool_parameters, turn,
};
use errand_core::{Finish, Message, ModelReply, ModelRequest, Usage};
use errand_engine::ports::DeltaSink;
use serde_json::{Map, Value, json};

/// The body of a request. Fails with the name of a tool whose parameters are not JSON.
///
/// `store` is off: the conversation is kept by Errand, and each request carries the whole of it.
pub(crate) fn body(request: &ModelRequest, model: &str, reasoning_summaries: bool) -> Result<Value, String> {
    let tools: Vec<Value> = tool_parameters(request)?
        .into_iter()
        .map(|(name, description, parameters)| {
            json!({"type": "function", "name": name, "description": description, "parameters": parameters,
                   "strict": false})
        })
        .collect();
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("input".into(), request.messages.iter().flat_map(items).collect());
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    if reasoning_summaries {
        body.insert("reasoning".into(), json!({"summary": "auto"}));
    }
    body.insert("max_output_tokens".into(), request.max_output_tokens.into());
    body.insert("store".into(), false.into());
    body.insert("stream".into(), true.into());
    Ok(Value::Object(body))
}

fn items(message: &Message) -> Vec<Value> {
    match message {
        Message::System { text } => vec![json!({"role": "system", "content": text})],
        Message::User { text, .. } => vec![json!({"role": "user", "content": text})],
        Message::Assistant { text, calls, .. } => {
            let said = (!text.is_empty() || calls.is_empty()).then(|| json!({"role": "assistant", "content": text}));
            let calls = calls.iter().map(|call| {
                json!({"type": "function_call", "call_id": call.id, "name": sent_name(&call.name),
                       "arguments": sent_arguments(&call.arguments)})
            });
            said.into_iter().chain(calls).collect()
        }
        Message::Tool { call_id, text, .. } => {
            vec![json!({"type": "function_call_output", "call_id": call_id, "output": text})]
        }
    }
}

/// Gathers a reply from its events.
pub(crate) struct ResponsesReader {
    draft: Draft,
    whole: bool,
    asked: String,
    turn: usize,
}

impl ResponsesReader {
    pub(crate) fn new(request: &ModelRequest, model: &str) -> Self {
        Self { draft: Draft::default(), whole: false, asked: model.to_owned(), turn: turn(request) }
    }

    fn item_added(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        let item = event.get("item").unwrap_or(&Value::Null);
        if text(item, "type") == "function_call" {
            let fragment = call_fragment(count(event, "/output_index"), item, "");
            self.draft.calls.add(&fragment, deltas)?;
        }
        Ok(())
    }

    fn item_done(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        let item = event.get("item").unwrap_or(&Value::Null);
        if text(item, "type") == "function_call" {
            let index = count(event, "/output_index");
            // Once more, for servers that leave out the earlier events.
            self.draft.calls.add(&call_fragment(index, item, ""), deltas)?;
            let arguments = arguments_text(item.get("arguments"));
            if !arguments.is_empty() {
                self.draft.calls.set_arguments(index.unwrap_or(0), &arguments);
            }
        }
        Ok(())
    }

    /// The last event carries the whole response; where it lists output, that is what counts.
    fn last(&mut self, response: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        let refused = self.output(response, deltas)?;
        self.draft.refused |= refused;
        text(response, "model").clone_into(&mut self.draft.model);
        self.draft.usage = response.get("usage").and_then(usage);
        let reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str).unwrap_or_default();
        match (text(response, "status"), reason) {
            ("failed" | "cancelled", _) => return Err(Broken::Complaint(Complaint::read(response, None))),
            ("incomplete", "content_filter") => self.draft.finish = Some(Finish::Refused),
            ("incomplete", _) => self.draft.finish = Some(Finish::Length),
            _ => self.draft.finish = Some(Finish::Stop),
        }
        self.whole = true;
        Ok(())
    }

    /// Takes over the output listed at the end and tells whether it is a refusal.
    fn output(&mut self, response: &Value, deltas: &dyn DeltaSink) -> Result<bool, Broken> {
        let Some(items) = response.get("output").and_then(Value::as_array).filter(|items| !items.is_empty()) else {
            return Ok(false);
        };
        let (mut said, mut refused, mut calls) = (String::new(), false, Calls::default());
        for (position, item) in items.iter().enumerate() {
            let parts = item.get("content").and_then(Value::as_array).into_iter().flatten();
            match text(item, "type") {
                "message" => parts.for_each(|part| {
                    said.push_str(text(part, "text"));
                    said.push_str(text(part, "refusal"));
                    refused |= text(part, "type") == "refusal";
                }),
                "function_call" => {
                    let arguments = arguments_text(item.get("arguments"));
                    let fragment = call_fragment(Some(position as u64), item, &arguments);
                    // The reader has been told of calls that were streamed; only new ones are news to it.
                    let sink: &dyn DeltaSink = if self.draft.calls.is_empty() { deltas } else { &() };
                    calls.add(&fragment, sink)?;
                }
                _ => {}
            }
        }
        if self.draft.text.is_empty() {
            self.draft.add_text(&said, deltas);
        } else if !said.is_empty() {
            self.draft.text = said;
        }
        if !calls.is_empty() {
            self.draft.calls = calls;
        }
        Ok(refused)
    }
}

impl Reader for ResponsesReader {
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        let piece = text(event, "delta");
        match text(event, "type") {
            "response.output_text.delta" => self.draft.add_text(piece, deltas),
            "response.refusal.delta" => {
                self.draft.refused = true;
                self.draft.add_text(piece, deltas);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" | "response.reasoning.delta" => {
                self.draft.add_reasoning(piece, deltas);
            }
            "response.reasoning_summary_part.added" if !self.draft.reasoning.is_empty() => {
                self.draft.add_reasoning("\n\n", deltas);
            }
            "response.output_item.added" => self.item_added(event, deltas)?,
            "response.function_call_arguments.delta" => {
                let fragment = Fragment { index: count(event, "/output_index"), arguments: piece, ..Fragment::default() };
                self.draft.calls.add(&fragment, deltas)?;
            }
            "response.output_item.done" => self.item_done(event, deltas)?,
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.last(event.get("response").unwrap_or(&Value::Null), deltas)?;
                return Ok(Step::Done);
            }
            "error" => return Err(Broken::Complaint(Complaint::read(event, None))),
            // Progress of parts whose content comes in the events above, and events of later versions.
            _ => {}
        }
        Ok(Step::More)
    }

    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        if body.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Broken::Complaint(Complaint::read(body, None)));
        }
        if !body.get("output").is_some_and(Value::is_array) {
            return Err(Broken::Garbled("the answer is JSON but holds no output".to_owned()));
        }
        self.last(body, deltas)
    }

    fn has_content(&self) -> bool {
        self.draft.has_content()
    }

    /// Only the last event makes a reply whole, however the stream ended.
    fn finish(self: Box<Self>, _: Ended) -> Result<ModelReply, Broken> {
        if self.whole {
            Ok(self.draft.into_reply(&self.asked, self.turn))
        } else {
            Err(Broken::Garbled("the answer ended before it was whole".to_owned()))
        }
    }
}

fn call_fragment<'a>(index: Option<u64>, item: &'a Value, arguments: &'a str) -> Fragment<'a> {
    Fragment { index, id: text(item, "call_id"), name: text(item, "name"), arguments }
}

fn usage(usage: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: count(usage, "/input_tokens")?,
        cached_input_tokens: count(usage, "/input_tokens_details/cached_tokens").unwrap_or(0),
        output_tokens: count(usage, "/output_tokens").unwrap_or(0),
        reasoning_tokens: count(usage, "/output_tokens_details/reasoning_tokens").unwrap_or(0),
    })
}
