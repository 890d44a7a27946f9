//! Chat Completions, as OpenAI publishes it and as compatible servers speak it.
//!
//! Forms checked 2026-11-21 against <https://developers.openai.com/api/reference/resources/chat>.

use super::calls::Fragment;
use super::classify::Complaint;
use super::dialect::{
    Broken, Draft, Ended, Reader, Step, arguments_text, count, sent_arguments, sent_name, text, tool_parameters, turn,
};
use errand_core::{Finish, Message, ModelReply, ModelRequest, Usage};
use errand_engine::ports::DeltaSink;
use serde_json::{Map, Value, json};

/// The body of a request. Fails with the name of a tool whose parameters are not JSON.
///
/// `max_tokens_name` is `max_completion_tokens` for OpenAI, which refuses the older name for its newer models, and
/// `max_tokens` for everybody else, of whom many know only that one.
pub(crate) fn body(request: &ModelRequest, model: &str, max_tokens_name: &str) -> Result<Value, String> {
    let tools: Vec<Value> = tool_parameters(request)?
        .into_iter()
        .map(|(name, description, parameters)| {
            json!({"type": "function",
                   "function": {"name": name, "description": description, "parameters": parameters}})
        })
        .collect();
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), request.messages.iter().map(message).collect());
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    body.insert(max_tokens_name.into(), request.max_output_tokens.into());
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    Ok(Value::Object(body))
}

fn message(message: &Message) -> Value {
    match message {
        Message::System { text } => json!({"role": "system", "content": text}),
        Message::User { text, .. } => json!({"role": "user", "content": text}),
        Message::Assistant { text, calls, .. } if calls.is_empty() => json!({"role": "assistant", "content": text}),
        Message::Assistant { text, calls, .. } => {
            let calls: Vec<Value> = calls
                .iter()
                .map(|call| {
                    json!({"id": call.id, "type": "function",
                           "function": {"name": sent_name(&call.name), "arguments": sent_arguments(&call.arguments)}})
                })
                .collect();
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        Message::Tool { call_id, text, .. } => json!({"role": "tool", "tool_call_id": call_id, "content": text}),
    }
}

/// Gathers a reply from its chunks.
pub(crate) struct ChatReader {
    draft: Draft,
    asked: String,
    turn: usize,
}

impl ChatReader {
    pub(crate) fn new(request: &ModelRequest, model: &str) -> Self {
        Self { draft: Draft::default(), asked: model.to_owned(), turn: turn(request) }
    }

    fn choice(&mut self, choice: &Value, part: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        // DeepSeek, vLLM and llama.cpp say `reasoning_content`; OpenRouter, Ollama and newer vLLM say `reasoning`.
        let reasoning = [text(part, "reasoning_content"), text(part, "reasoning")];
        self.draft.add_reasoning(reasoning.into_iter().find(|text| !text.is_empty()).unwrap_or_default(), deltas);
        self.content(part.get("content"), deltas);
        let refusal = text(part, "refusal");
        if !refusal.is_empty() {
            self.draft.refused = true;
            self.draft.add_text(refusal, deltas);
        }
        for call in part.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let function = call.get("function").unwrap_or(&Value::Null);
            let fragment = Fragment {
                index: count(call, "/index"),
                id: text(call, "id"),
                name: text(function, "name"),
                arguments: &arguments_text(function.get("arguments")),
            };
            self.draft.calls.add(&fragment, deltas)?;
        }
        match text(choice, "finish_reason") {
            "" => {}
            "length" | "max_tokens" => self.draft.finish = Some(Finish::Length),
            "content_filter" | "refusal" => self.draft.finish = Some(Finish::Refused),
            "error" => return Err(Broken::Garbled("the provider says that its model failed".to_owned())),
            _ => self.draft.finish = Some(Finish::Stop),
        }
        Ok(())
    }

    /// Content is text, or (Mistral) a list of typed parts.
    fn content(&mut self, content: Option<&Value>, deltas: &dyn DeltaSink) {
        match content {
            Some(Value::String(text)) => self.draft.add_text(text, deltas),
            Some(Value::Array(parts)) => {
                for part in parts {
                    self.draft.add_text(text(part, "text"), deltas);
                    for thought in part.get("thinking").and_then(Value::as_array).into_iter().flatten() {
                        self.draft.add_reasoning(text(thought, "text"), deltas);
                    }
                }
            }
            _ => {}
        }
    }

    fn about(&mut self, event: &Value) {
        if self.draft.model.is_empty() {
            text(event, "model").clone_into(&mut self.draft.model);
        }
        if let Some(found) = event.get("usage").and_then(usage) {
            self.draft.usage = Some(found);
        }
    }
}

impl Reader for ChatReader {
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        complaint(event)?;
        self.about(event);
        let choice = event.get("choices").and_then(|choices| choices.get(0)).unwrap_or(&Value::Null);
        // A server may stream one whole message instead of pieces.
        let part = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(&Value::Null);
        self.choice(choice, part, deltas)?;
        Ok(Step::More)
    }

    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        complaint(body)?;
        self.about(body);
        let Some(choice) = body.get("choices").and_then(|choices| choices.get(0)) else {
            return Err(Broken::Garbled("the answer is JSON but holds no choices".to_owned()));
        };
        let mut part = choice.get("message").cloned().unwrap_or_default();
        // Calls of a whole message stand side by side; their position is their index.
        for (position, call) in part.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            if let Some(call) = call.as_object_mut() {
                call.insert("index".to_owned(), position.into());
            }
        }
        self.choice(choice, &part, deltas)?;
        self.draft.finish.get_or_insert(Finish::Stop);
        Ok(())
    }

    fn has_content(&self) -> bool {
        self.draft.has_content()
    }

    /// `[DONE]` ends a stream. Without it the reply still counts as whole if nothing can be missing: the finish
    /// reason has come, and after it the usage, which is last, or an end that the HTTP framing vouches for.
    fn finish(self: Box<Self>, ended: Ended) -> Result<ModelReply, Broken> {
        let finished = self.draft.finish.is_some();
        let whole = match ended {
            Ended::Marked => finished || self.draft.has_content(),
            Ended::Framed => finished,
            Ended::Open => finished && self.draft.usage.is_some(),
        };
        if whole {
            Ok(self.draft.into_reply(&self.asked, self.turn))
        } else {
            Err(Broken::Garbled("the answer ended before it was whole".to_owned()))
        }
    }
}

fn complaint(event: &Value) -> Result<(), Broken> {
    match event.get("error") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Broken::Complaint(Complaint::read(event, None))),
    }
}

/// Usage, if it is there. Cached tokens: `prompt_tokens_details.cached_tokens`, DeepSeek `prompt_cache_hit_tokens`.
/// Where the total is more than input and output (xAI leaves reasoning out of the output), the rest is output too.
fn usage(usage: &Value) -> Option<Usage> {
    let input_tokens = count(usage, "/prompt_tokens")?;
    let output = count(usage, "/completion_tokens").unwrap_or(0);
    let total = count(usage, "/total_tokens").unwrap_or(0);
    let cached = count(usage, "/prompt_tokens_details/cached_tokens");
    Some(Usage {
        input_tokens,
        cached_input_tokens: cached.or_else(|| count(usage, "/prompt_cache_hit_tokens")).unwrap_or(0),
        output_tokens: output.max(total.saturating_sub(input_tokens)),
        reasoning_tokens: count(usage, "/completion_tokens_details/reasoning_tokens").unwrap_or(0),
    })
}
