//! Ollama's own dialect. Its OpenAI-compatible one cuts a conversation to a small default window without a word; this one
//! takes the size of the window, and refuses what is longer.
//!
//! Forms checked 2026-11-21 against <https://docs.ollama.com/api/chat> and <https://docs.ollama.com/api-reference/show-model-details>.

use super::calls::Fragment;
use super::dialect::{Ask, Broken, Dialect, Ended, Framing, Offer, Reader, Step, Unfit, complaint};
use super::draft::Draft;
use super::forms::{arguments_text, count, function_tools, list, sent_name, sent_object, text};
use super::layout::{self, Part};
use super::manner::Manner;
use super::schema;
use errand_core::{Finish, Message, ModelReply, Usage};
use errand_engine::ports::DeltaSink;
use reqwest::Url;
use serde_json::{Map, Value, json};

/// The dialect.
#[derive(Debug)]
pub(crate) struct Ollama;

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn base(&self, mut given: Url) -> Url {
        let path = given.path().trim_end_matches('/').to_owned();
        let root = path.strip_suffix("/v1").or_else(|| path.strip_suffix("/api")).unwrap_or(&path);
        given.set_path(root);
        given
    }

    fn path(&self, _: &str) -> String {
        "api/chat".to_owned()
    }

    fn body(&self, ask: &Ask<'_>) -> Result<Value, Unfit> {
        body(ask)
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(OllamaReader { draft: Draft::new(ask) })
    }

    fn takes(&self, media_type: &str) -> bool {
        matches!(media_type, "image/png" | "image/jpeg" | "image/webp")
    }

    fn context_tokens(&self, manner: &Manner) -> Option<u64> {
        Some(manner.context_tokens)
    }

    /// Qwen 2.5 VL takes the most, about 2,700 at the size that Ollama scales images down to. No money hangs on it.
    fn image_tokens(&self) -> u64 {
        4_096
    }

    fn list_path(&self) -> &'static str {
        "api/tags"
    }

    fn offers(&self, models: &Value) -> Vec<Offer> {
        let names = list(models, "models").map(|model| match text(model, "name") {
            "" => text(model, "model"),
            name => name,
        });
        let offer = |name: &str| Offer { chats: name.contains("embed").then_some(false), ..Offer::named(name) };
        names.filter(|name| !name.is_empty()).map(offer).collect()
    }

    fn question(&self, model: &str) -> Option<(&'static str, Value)> {
        Some(("api/show", json!({"model": model})))
    }

    fn answer(&self, model: &str, answer: &Value) -> Option<Offer> {
        let info = answer.get("model_info").and_then(Value::as_object);
        let architecture = info.and_then(|info| info.get("general.architecture")?.as_str()).unwrap_or_default();
        let context = info.and_then(|info| info.get(&format!("{architecture}.context_length"))?.as_u64());
        let capabilities = answer.get("capabilities").and_then(Value::as_array);
        let can = |what: &str| capabilities.map(|all| all.iter().any(|capability| capability == what));
        Some(Offer {
            context_tokens: context.filter(|tokens| *tokens > 0),
            images: can("vision"),
            tools: can("tools"),
            reasoning: can("thinking"),
            chats: can("completion"),
            ..Offer::named(model)
        })
    }
}

fn body(ask: &Ask<'_>) -> Result<Value, Unfit> {
    let request = ask.request;
    let about = ask.about.clone().unwrap_or_default();
    let tools = function_tools(request)?;
    let lacks = |what| Unfit::Lacks { model: ask.model.to_owned(), what };
    if about.tools == Some(false) && !tools.is_empty() {
        return Err(lacks("tools"));
    }
    if about.images == Some(false) && request.messages.iter().any(|message| !message.images().is_empty()) {
        return Err(lacks("images"));
    }
    let mut messages: Vec<Value> = request.messages.iter().map(|message| self::message(message, ask)).collect();
    let mut body = Map::new();
    body.insert("model".into(), ask.model.into());
    if let Some(output) = &request.output {
        // The form is enforced on every word, so that no tool could be called.
        match tools.is_empty() {
            true => drop(body.insert("format".into(), schema::parsed(output)?)),
            false => messages.insert(
                usize::from(matches!(request.messages.first(), Some(Message::System { .. }))),
                json!({"role": "system", "content": schema::told(output)}),
            ),
        }
    }
    body.insert("messages".into(), messages.into());
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    if about.reasoning == Some(true) {
        body.insert("think".into(), true.into());
    }
    let window = about.context_tokens.map_or(ask.manner.context_tokens, |most| most.min(ask.manner.context_tokens));
    body.insert("options".into(), json!({"num_ctx": window, "num_predict": request.max_output_tokens}));
    // A conversation that does not fit is refused, in place of losing its beginning.
    body.insert("truncate".into(), false.into());
    body.insert("shift".into(), false.into());
    body.insert("stream".into(), true.into());
    Ok(Value::Object(body))
}

fn message(message: &Message, ask: &Ask<'_>) -> Value {
    match message {
        Message::System { text } => json!({"role": "system", "content": text}),
        Message::User { text, images } => {
            let mut message = json!({"role": "user", "content": text});
            if !images.is_empty() {
                message["images"] = images.iter().map(|image| ask.pictures.base64(image)).collect();
            }
            message
        }
        Message::Assistant { text, calls, opaque } => {
            let mut message =
                Map::from_iter([("role".into(), "assistant".into()), ("content".into(), text.as_str().into())]);
            let mut sent = Vec::new();
            for part in layout::parts(text, calls, opaque.as_ref(), &ask.origin) {
                match part {
                    Part::Kept(Value::Object(kept)) => message.extend(kept),
                    Part::Call(call, _) => sent.push(json!({"id": call.id, "function": {"name": sent_name(&call.name),
                        "arguments": sent_object(&call.arguments)}})),
                    Part::Kept(_) | Part::Text(..) => {}
                }
            }
            if !sent.is_empty() {
                message.insert("tool_calls".into(), sent.into());
            }
            message.into()
        }
        Message::Tool { call_id, name, text, .. } => {
            json!({"role": "tool", "tool_name": sent_name(name), "tool_call_id": call_id, "content": text})
        }
    }
}

/// Gathers a reply from its lines.
struct OllamaReader {
    draft: Draft,
}

impl OllamaReader {
    fn line(&mut self, line: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        complaint(line)?;
        let model = text(line, "model");
        if !model.is_empty() {
            model.clone_into(&mut self.draft.model);
        }
        let message = line.get("message").unwrap_or(&Value::Null);
        self.draft.add_reasoning(text(message, "thinking"), deltas);
        self.draft.add_text(text(message, "content"), deltas);
        for call in list(message, "tool_calls") {
            let function = call.get("function").unwrap_or(&Value::Null);
            let arguments = Some(arguments_text(function.get("arguments"))).filter(|arguments| !arguments.is_empty());
            let fragment = Fragment {
                index: Some(self.draft.calls.len() as u64),
                id: text(call, "id"),
                name: text(function, "name"),
                arguments: arguments.as_deref().unwrap_or("{}"),
            };
            self.draft.calls.add(&fragment, deltas)?;
        }
        if line.get("done") != Some(&Value::Bool(true)) {
            return Ok(Step::More);
        }
        self.draft.usage = usage(line);
        self.draft.finish = match text(line, "done_reason") {
            "length" => Some(Finish::Length),
            // Only loaded, or thrown out of memory, without a word.
            reason @ ("load" | "unload") => return Err(Broken::Garbled(format!("the model was only {reason}ed"))),
            _ => Some(Finish::Stop),
        };
        Ok(Step::Done)
    }
}

impl Reader for OllamaReader {
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        self.line(event, deltas)
    }

    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        self.line(body, deltas).map(drop)
    }

    fn has_content(&self) -> bool {
        self.draft.has_content()
    }

    /// Only the last line makes a reply whole. Thinking goes back with the calls it led to: templates of some models
    /// show it to them once more.
    fn finish(mut self: Box<Self>, _: Ended) -> Result<ModelReply, Broken> {
        if self.draft.finish.is_none() {
            return Err(Broken::cut());
        }
        if !self.draft.reasoning.is_empty() && !self.draft.calls.is_empty() {
            self.draft.layout.keep(json!({"thinking": self.draft.reasoning}));
            self.draft.layout.text(self.draft.text.len(), Map::new());
            (0..self.draft.calls.len()).for_each(|_| self.draft.layout.call(Map::new()));
        }
        Ok(self.draft.into_reply())
    }
}

/// Nothing where the prompt's count is left out, as older servers do when all of it is in memory already.
fn usage(line: &Value) -> Option<Usage> {
    let input_tokens = count(line, "/prompt_eval_count")?;
    let output_tokens = count(line, "/eval_count").unwrap_or(0);
    Some(Usage { input_tokens, output_tokens, ..Usage::default() })
}
