//! Anthropic's Messages.
//!
//! Forms checked 2026-11-21 against <https://platform.claude.com/docs/en/api/messages> and the pages on streaming,
//! structured outputs, extended thinking and prompt caching there.

mod reader;

use super::dialect::{Ask, Dialect, Offer, Reader, Unfit};
use super::forms::{count, is_plain_id, list, sent_id, sent_name, sent_object, text, tools};
use super::layout::{self, Part};
use super::schema;
use errand_core::Message;
use reader::MessagesReader;
use reqwest::Url;
use serde_json::{Map, Value, json};

/// The dialect.
#[derive(Debug)]
pub(crate) struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn base(&self, mut given: Url) -> Url {
        let path = given.path().trim_end_matches('/').to_owned();
        if !path.ends_with("/v1") {
            given.set_path(&format!("{path}/v1"));
        }
        given
    }

    fn key_header(&self) -> (&'static str, &'static str) {
        ("x-api-key", "")
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn path(&self, _: &str) -> String {
        "messages".to_owned()
    }

    fn body(&self, ask: &Ask<'_>) -> Result<Value, Unfit> {
        body(ask)
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(MessagesReader::new(ask))
    }

    fn list_path(&self) -> &'static str {
        "models?limit=1000"
    }

    fn offers(&self, models: &Value) -> Vec<Offer> {
        let can =
            |model: &Value, what: &str| model.get("capabilities")?.get(what)?.get("supported").and_then(Value::as_bool);
        let offer = |model: &Value| Offer {
            context_tokens: count(model, "/max_input_tokens"),
            images: can(model, "image_input"),
            reasoning: can(model, "thinking"),
            ..Offer::named(text(model, "id"))
        };
        list(models, "data").map(offer).filter(|offer| !offer.name.is_empty()).collect()
    }
}

/// What marks the end of a prefix that is to be cached, for five minutes after each use.
fn mark() -> Value {
    json!({"type": "ephemeral"})
}

fn body(ask: &Ask<'_>) -> Result<Value, Unfit> {
    let request = ask.request;
    let mut system: Vec<Value> = request
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::System { text } if !text.trim().is_empty() => Some(json!({"type": "text", "text": text})),
            _ => None,
        })
        .collect();
    let tool =
        |(name, description, parameters)| json!({"name": name, "description": description, "input_schema": parameters});
    let mut tools: Vec<Value> = tools(request)?.into_iter().map(tool).collect();
    let mut messages = messages(ask);
    let mut body = Map::new();
    body.insert("model".into(), ask.model.into());
    body.insert("max_tokens".into(), request.max_output_tokens.into());
    body.insert("stream".into(), true.into());
    if let Some(output) = &request.output {
        let closed = schema::closed(&schema::parsed(output)?).filter(|_| generation(ask.model) >= (4, 5));
        match closed {
            Some(schema) => {
                let format = json!({"format": {"type": "json_schema", "schema": schema}});
                body.insert("output_config".into(), format);
            }
            None => system.push(json!({"type": "text", "text": schema::told(output)})),
        }
    }
    if ask.manner.shows_reasoning && generation(ask.model) >= (4, 6) {
        body.insert("thinking".into(), json!({"type": "adaptive", "display": "summarized"}));
    }
    mark_prefixes(&mut tools, &mut system, &mut messages);
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    if !system.is_empty() {
        body.insert("system".into(), system.into());
    }
    body.insert("messages".into(), messages.into());
    Ok(Value::Object(body))
}

/// Four marks are allowed: after the tools, after the instructions, and after the newest two turns of the user. The one
/// before the newest stands where the last request ended, so that its cache is found however much was added.
fn mark_prefixes(tools: &mut [Value], system: &mut [Value], messages: &mut [Value]) {
    let last = |blocks: &mut [Value]| {
        if let Some(block) = blocks.last_mut() {
            block["cache_control"] = mark();
        }
    };
    last(tools);
    last(system);
    let users = messages.iter_mut().rev().filter(|message| text(message, "role") == "user");
    for message in users.take(2) {
        if let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) {
            last(blocks);
        }
    }
}

/// Turns of user and assistant by turns: what follows in the same role joins it.
fn messages(ask: &Ask<'_>) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in &ask.request.messages {
        let (role, blocks) = match message {
            Message::System { .. } => continue,
            Message::User { .. } | Message::Tool { .. } => ("user", user_blocks(message, ask)),
            Message::Assistant { .. } => ("assistant", assistant_blocks(message, ask)),
        };
        match turns.last_mut() {
            Some((last, before)) if *last == role => before.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    let finished = turns.into_iter().map(|(role, mut blocks)| {
        // Results of tools come first in a turn, or are refused.
        blocks.sort_by_key(|block| role == "user" && text(block, "type") != "tool_result");
        if blocks.is_empty() {
            blocks.push(said("(nothing)"));
        }
        json!({"role": role, "content": blocks})
    });
    finished.collect()
}

/// Blank text is refused.
fn said(text: &str) -> Value {
    json!({"type": "text", "text": if text.trim().is_empty() { "(nothing)" } else { text }})
}

fn user_blocks(message: &Message, ask: &Ask<'_>) -> Vec<Value> {
    match message {
        Message::User { text, images } => {
            let shown = images.iter().map(|image| {
                json!({"type": "image", "source": {"type": "base64", "media_type": image.media_type,
                                                   "data": ask.pictures.base64(image)}})
            });
            let text = (images.is_empty() || !text.trim().is_empty()).then(|| said(text));
            shown.chain(text).collect()
        }
        Message::Tool { call_id, text, is_error, .. } => {
            let id = sent_id(call_id, is_plain_id, 24);
            let mut block = json!({"type": "tool_result", "tool_use_id": id});
            if !text.trim().is_empty() {
                block["content"] = text.as_str().into();
            }
            if *is_error {
                block["is_error"] = true.into();
            }
            vec![block]
        }
        _ => Vec::new(),
    }
}

fn assistant_blocks(message: &Message, ask: &Ask<'_>) -> Vec<Value> {
    let Message::Assistant { text, calls, opaque } = message else { return Vec::new() };
    let parts = layout::parts(text, calls, opaque.as_ref(), &ask.origin).into_iter();
    let block = |part| match part {
        Part::Kept(block) => Some(block),
        Part::Text(text, _) => (!text.trim().is_empty()).then(|| said(text)),
        Part::Call(call, _) => Some(json!({"type": "tool_use", "id": sent_id(&call.id, is_plain_id, 24),
            "name": sent_name(&call.name), "input": sent_object(&call.arguments)})),
    };
    parts.filter_map(block).collect()
}

/// The generation in a model's name: `claude-opus-4-7` is (4, 7), `claude-3-5-haiku-latest` (3, 5). A number of more
/// digits is a date. A name that tells none counts as new.
fn generation(model: &str) -> (u64, u64) {
    let mut numbers = model.split('-').filter_map(|part| part.parse::<u64>().ok()).filter(|number| *number < 100);
    numbers.next().map_or((u64::MAX, 0), |major| (major, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_from_names() {
        assert_eq!(generation("claude-opus-4-7"), (4, 7));
        assert_eq!(generation("claude-sonnet-4-20250514"), (4, 0));
        assert_eq!(generation("claude-3-5-haiku-latest"), (3, 5));
        assert_eq!(generation("claude-sonnet-5"), (5, 0));
        assert!(generation("house-model") > (9, 9));
    }
}
