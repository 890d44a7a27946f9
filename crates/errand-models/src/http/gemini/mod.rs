//! Gemini, as Google's developer API speaks it.
//!
//! Forms checked 2026-11-21 against <https://ai.google.dev/api/generate-content> and the pages on function calling,
//! thought signatures and structured output there.

mod reader;

use super::dialect::{Ask, Dialect, Offer, Reader, Unfit};
use super::forms::{count, field, list, segment, sent_name, sent_object, text, tools};
use super::layout::{self, Part};
use super::schema;
use errand_core::{Message, RequestedCall};
use reader::GeminiReader;
use reqwest::Url;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The dialect.
#[derive(Debug)]
pub(crate) struct Gemini;

/// Stands for the signature of a call that Gemini did not make itself, or 3 and later refuse the conversation
/// (<https://ai.google.dev/gemini-api/docs/thought-signatures>, checked 2026-11-21).
const FOREIGN: &str = "skip_thought_signature_validator";

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn base(&self, mut given: Url) -> Url {
        let path = given.path().trim_end_matches('/').to_owned();
        if !path.rsplit('/').next().is_some_and(|last| last.starts_with("v1")) {
            given.set_path(&format!("{path}/v1beta"));
        }
        given
    }

    fn key_header(&self) -> (&'static str, &'static str) {
        ("x-goog-api-key", "")
    }

    fn path(&self, model: &str) -> String {
        let model = model.strip_prefix("models/").unwrap_or(model);
        format!("models/{}:streamGenerateContent?alt=sse", segment(model))
    }

    fn body(&self, ask: &Ask<'_>) -> Result<Value, Unfit> {
        body(ask)
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(GeminiReader::new(ask))
    }

    fn takes(&self, media_type: &str) -> bool {
        matches!(media_type, "image/png" | "image/jpeg" | "image/webp")
    }

    fn list_path(&self) -> &'static str {
        "models?pageSize=1000"
    }

    fn offers(&self, models: &Value) -> Vec<Offer> {
        let offer = |model: &Value| {
            let name = text(model, "name");
            Offer {
                context_tokens: count(model, "/inputTokenLimit"),
                reasoning: model.get("thinking").and_then(Value::as_bool),
                chats: Some(list(model, "supportedGenerationMethods").any(|method| method == "generateContent")),
                ..Offer::named(name.strip_prefix("models/").unwrap_or(name))
            }
        };
        list(models, "models").map(offer).filter(|offer| !offer.name.is_empty()).collect()
    }
}

fn body(ask: &Ask<'_>) -> Result<Value, Unfit> {
    let request = ask.request;
    let mut system: Vec<Value> = request
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::System { text } => Some(json!({"text": text})),
            _ => None,
        })
        .collect();
    let tool = |(name, description, parameters)| json!({"name": name, "description": description, "parametersJsonSchema": parameters});
    let tools: Vec<Value> = tools(request)?.into_iter().map(tool).collect();
    let mut config = field("maxOutputTokens", request.max_output_tokens);
    if let Some(output) = &request.output {
        // Before Gemini 3, a form and tools in one request are refused.
        if tools.is_empty() || !is_older(ask.model) {
            config.insert("responseMimeType".into(), "application/json".into());
            config.insert("responseJsonSchema".into(), schema::parsed(output)?);
        } else {
            system.push(json!({"text": schema::told(output)}));
        }
    }
    if ask.manner.shows_reasoning {
        config.insert("thinkingConfig".into(), json!({"includeThoughts": true}));
    }
    let mut body = Map::new();
    if !system.is_empty() {
        body.insert("systemInstruction".into(), json!({"parts": system}));
    }
    body.insert("contents".into(), contents(ask).into());
    if !tools.is_empty() {
        body.insert("tools".into(), json!([{"functionDeclarations": tools}]));
    }
    body.insert("generationConfig".into(), config.into());
    Ok(Value::Object(body))
}

/// True for Gemini 1 and 2.
fn is_older(model: &str) -> bool {
    let model = model.strip_prefix("models/").unwrap_or(model);
    ["gemini-1", "gemini-2"].iter().any(|start| model.starts_with(start))
}

/// The conversation. Results of the calls of one reply stand in one entry.
fn contents(ask: &Ask<'_>) -> Vec<Value> {
    let mut entries: Vec<(&str, bool, Vec<Value>)> = Vec::new();
    let mut named = BTreeSet::new();
    for message in &ask.request.messages {
        let (role, is_result, parts) = match message {
            Message::System { .. } => continue,
            Message::User { text, images } => {
                let shown = images
                    .iter()
                    .map(|image| json!({"inlineData": {"mimeType": image.media_type, "data": ask.pictures.base64(image)}}));
                let said = (images.is_empty() || !text.is_empty()).then(|| json!({"text": text}));
                ("user", false, shown.chain(said).collect())
            }
            Message::Assistant { text, calls, opaque } => {
                let parts = layout::parts(text, calls, opaque.as_ref(), &ask.origin);
                ("model", false, model_parts(parts, is_older(ask.model), &mut named))
            }
            Message::Tool { call_id, name, text, is_error } => {
                let response = if *is_error { json!({"error": text}) } else { json!({"output": text}) };
                let mut answer = Map::from_iter([("name".into(), sent_name(name).into()), ("response".into(), response)]);
                // Ids that Gemini did not give mean nothing to it.
                if named.contains(call_id.as_str()) {
                    answer.insert("id".into(), call_id.as_str().into());
                }
                ("user", true, vec![json!({"functionResponse": answer})])
            }
        };
        match entries.last_mut() {
            Some((last, true, before)) if is_result && *last == role => before.extend(parts),
            _ => entries.push((role, is_result, parts)),
        }
    }
    entries.into_iter().map(|(role, _, parts)| json!({"role": role, "parts": parts})).collect()
}

/// A reply. Of its calls only the first is signed.
fn model_parts<'a>(parts: Vec<Part<'a>>, is_older: bool, named: &mut BTreeSet<&'a str>) -> Vec<Value> {
    let mut sent = Vec::new();
    let mut calls = 0;
    for part in parts {
        match part {
            Part::Kept(value) => sent.push(value),
            Part::Text(text, with) => {
                let mut part = field("text", text);
                part.extend(with);
                sent.push(part.into());
            }
            Part::Call(call, mut with) => {
                let mut part = function_call(call);
                if let Some(id) = with.remove("id") {
                    part["functionCall"]["id"] = id;
                    named.insert(call.id.as_str());
                }
                if calls == 0 && !is_older && !with.contains_key("thoughtSignature") {
                    with.insert("thoughtSignature".to_owned(), FOREIGN.into());
                }
                calls += 1;
                part.as_object_mut().into_iter().for_each(|part| part.extend(with.clone()));
                sent.push(part);
            }
        }
    }
    if sent.is_empty() {
        sent.push(json!({"text": ""}));
    }
    sent
}

fn function_call(call: &RequestedCall) -> Value {
    json!({"functionCall": {"name": sent_name(&call.name), "args": sent_object(&call.arguments)}})
}
