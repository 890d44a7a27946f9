//! Responses, OpenAI's newer dialect.
//!
//! Forms checked 2026-11-21 against <https://developers.openai.com/api/reference/resources/responses> and the
//! Open Responses specification of 2026-04-24.

use super::calls::{Calls, Fragment};
use super::classify::Complaint;
use super::dialect::{Ask, Broken, Dialect, Ended, Offer, Reader, Step, Unfit, complaint};
use super::draft::Draft;
use super::forms::{arguments_text, count, field, list, sent_arguments, sent_name, text, tools};
use super::layout::{self, Layout, Part};
use super::manner::House;
use super::{chat, schema};
use errand_core::{Finish, Message, ModelReply, Usage};
use errand_engine::ports::DeltaSink;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The dialect.
#[derive(Debug)]
pub(crate) struct Responses;

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn path(&self, _: &str) -> String {
        "responses".to_owned()
    }

    fn body(&self, ask: &Ask<'_>) -> Result<Value, Unfit> {
        body(ask)
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(ResponsesReader { draft: Draft::new(ask), whole: false, items: BTreeMap::new() })
    }

    fn offers(&self, list: &Value) -> Vec<Offer> {
        chat::offers(list)
    }
}

/// `store` is off: the conversation is kept by Errand, and each request carries the whole of it. So reasoning is asked
/// for in its encrypted form, to be sent back with it.
fn body(ask: &Ask<'_>) -> Result<Value, Unfit> {
    let request = ask.request;
    let tool = |(name, description, parameters)| json!({"type": "function", "name": name, "description": description, "parameters": parameters, "strict": false});
    let tools: Vec<Value> = tools(request)?.into_iter().map(tool).collect();
    let mut body = Map::new();
    body.insert("model".into(), ask.model.into());
    body.insert("input".into(), request.messages.iter().flat_map(|message| items(message, ask)).collect());
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    if let Some(output) = &request.output {
        let schema = schema::parsed(output)?;
        let strict = schema::is_strict(&schema);
        let form = json!({"type": "json_schema", "name": output.name, "schema": schema, "strict": strict});
        body.insert("text".into(), json!({"format": form}));
    }
    if ask.manner.shows_reasoning {
        body.insert("reasoning".into(), json!({"summary": "auto"}));
    }
    if reasons(ask.model) {
        body.insert("include".into(), json!(["reasoning.encrypted_content"]));
    }
    body.insert("max_output_tokens".into(), request.max_output_tokens.into());
    body.insert("store".into(), false.into());
    body.insert("stream".into(), true.into());
    if ask.manner.house == House::OpenAi && !request.cache_key.is_empty() {
        body.insert("prompt_cache_key".into(), request.cache_key.as_str().into());
    }
    Ok(Value::Object(body))
}

/// True for models of OpenAI that reason; the others refuse to be asked for their reasoning.
fn reasons(model: &str) -> bool {
    let digit = |start: &str| model.strip_prefix(start).and_then(|rest| rest.chars().next()?.to_digit(10));
    let is_series = digit("o").is_some() || digit("gpt-").is_some_and(|major| major >= 5) || model.starts_with("codex-");
    is_series && !model.contains("-chat")
}

fn items(message: &Message, ask: &Ask<'_>) -> Vec<Value> {
    match message {
        Message::System { text } => vec![json!({"role": "system", "content": text})],
        Message::User { text, images } if images.is_empty() => vec![json!({"role": "user", "content": text})],
        Message::User { text, images } => {
            let shown = images.iter().map(|image| json!({"type": "input_image", "image_url": ask.pictures.data_url(image)}));
            let said = (!text.is_empty()).then(|| json!({"type": "input_text", "text": text}));
            vec![json!({"role": "user", "content": shown.chain(said).collect::<Vec<_>>()})]
        }
        Message::Assistant { text, calls, opaque } => {
            let mut parts = layout::parts(text, calls, opaque.as_ref(), &ask.origin);
            // Reasoning that nothing came of is refused.
            while matches!(parts.last(), Some(Part::Kept(_))) {
                parts.pop();
            }
            let mut items: Vec<Value> = parts.into_iter().map(item).collect();
            if items.is_empty() {
                items.push(json!({"role": "assistant", "content": ""}));
            }
            items
        }
        Message::Tool { call_id, text, .. } => {
            vec![json!({"type": "function_call_output", "call_id": call_id, "output": text})]
        }
    }
}

fn item(part: Part<'_>) -> Value {
    match part {
        Part::Kept(value) => value,
        Part::Text(text, with) => {
            let mut item = Map::from_iter([("role".to_owned(), "assistant".into()), ("content".to_owned(), text.into())]);
            item.extend(with);
            Value::Object(item)
        }
        Part::Call(call, _) => json!({"type": "function_call", "call_id": call.id, "name": sent_name(&call.name),
                                      "arguments": sent_arguments(&call.arguments)}),
    }
}

/// Gathers a reply from its events.
struct ResponsesReader {
    draft: Draft,
    whole: bool,
    /// Items that were said to be done, for servers whose last event lists none.
    items: BTreeMap<u64, Value>,
}

impl ResponsesReader {
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
        self.items.insert(count(event, "/output_index").unwrap_or(self.items.len() as u64), item.clone());
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
            let done = std::mem::take(&mut self.items);
            self.draft.layout = laid_out(done.values());
            return Ok(false);
        };
        self.draft.layout = laid_out(items.iter());
        let (mut said, mut refused, mut calls) = (String::new(), false, Calls::default());
        for (position, item) in items.iter().enumerate() {
            let parts = list(item, "content");
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
        complaint(body)?;
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
        if self.whole { Ok(self.draft.into_reply()) } else { Err(Broken::cut()) }
    }
}

/// Where encrypted reasoning stood among text and calls. Items without it say nothing that the text does not.
fn laid_out<'a>(items: impl Iterator<Item = &'a Value>) -> Layout {
    let mut layout = Layout::default();
    for item in items {
        match text(item, "type") {
            "reasoning" if !text(item, "encrypted_content").is_empty() => layout.keep(kept(item)),
            "message" => {
                let said = list(item, "content").map(|part| text(part, "text").len() + text(part, "refusal").len()).sum();
                let phase = text(item, "phase");
                layout.text(said, if phase.is_empty() { Map::new() } else { field("phase", phase) });
            }
            "function_call" => layout.call(Map::new()),
            _ => {}
        }
    }
    layout
}

/// A reasoning item as it may be sent: its status may not.
fn kept(item: &Value) -> Value {
    let fields = ["type", "id", "summary", "content", "encrypted_content"];
    let field = |name: &str| item.get(name).filter(|value| !value.is_null()).map(|value| (name.to_owned(), value.clone()));
    fields.into_iter().filter_map(field).collect::<Map<_, _>>().into()
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
