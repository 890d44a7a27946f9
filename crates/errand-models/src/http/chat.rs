//! Chat Completions, as OpenAI publishes it and as compatible servers speak it.
//!
//! Forms checked 2026-11-21 against <https://developers.openai.com/api/reference/resources/chat>.

use super::calls::Fragment;
use super::chunk::{self, Chunk};
use super::dialect::{Ask, Broken, Dialect, Ended, Offer, Reader, Step, Unfit, complaint};
use super::draft::Draft;
use super::forms::{arguments_text, count, function_tools, list, sent_arguments, sent_id, sent_name, text};
use super::layout::{self, Part};
use super::manner::House;
use super::schema;
use errand_core::{Finish, Message, ModelReply, RequestedCall, Usage};
use errand_engine::ports::DeltaSink;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The dialect.
#[derive(Debug)]
pub(crate) struct Chat;

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn path(&self, _: &str) -> String {
        "chat/completions".to_owned()
    }

    fn body(&self, ask: &Ask<'_>) -> Result<Value, Unfit> {
        body(ask)
    }

    fn bytes(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Unfit> {
        bytes(ask)
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(ChatReader { draft: Draft::new(ask), keeps_reasoning: ask.manner.house == House::DeepSeek })
    }

    fn offers(&self, list: &Value) -> Vec<Offer> {
        offers(list)
    }
}

/// A list of models as OpenAI has it. OpenRouter and others tell the context too.
pub(super) fn offers(models: &Value) -> Vec<Offer> {
    let offer = |model: &Value| {
        let context = ["/context_length", "/context_window", "/max_context_length", "/max_model_len"];
        let modalities = model.pointer("/architecture/input_modalities").and_then(Value::as_array);
        let parameters = model.get("supported_parameters").and_then(Value::as_array);
        let vision = model.pointer("/capabilities/vision").and_then(Value::as_bool);
        Offer {
            context_tokens: context.iter().find_map(|pointer| count(model, pointer)).filter(|tokens| *tokens > 0),
            images: modalities.map(|kinds| kinds.iter().any(|kind| kind == "image")).or(vision),
            tools: parameters.map(|names| names.iter().any(|name| name == "tools")),
            ..Offer::named(text(model, "id"))
        }
    };
    list(models, "data").map(offer).filter(|offer| !offer.name.is_empty()).collect()
}

fn body(ask: &Ask<'_>) -> Result<Value, Unfit> {
    let mut messages: Vec<Value> = ask.request.messages.iter().map(|said| message(said, ask)).collect();
    if let Some(told) = told_form(ask) {
        let after_system = usize::from(matches!(ask.request.messages.first(), Some(Message::System { .. })));
        messages.insert(after_system, told);
    }
    let mut body = frame(ask)?;
    body.insert("messages".into(), messages.into());
    body.insert(limit_name(ask).into(), ask.request.max_output_tokens.into());
    Ok(Value::Object(body))
}

/// The same as bytes, of which only what is new in a conversation is written anew.
fn bytes(ask: &Ask<'_>) -> Result<Vec<u8>, Unfit> {
    if told_form(ask).is_some() {
        return Ok(body(ask)?.to_string().into_bytes());
    }
    let request = ask.request;
    let mut bytes = request.remember(&ask.origin, || {
        // A map with text keys, so serialising it cannot fail.
        let mut bytes = serde_json::to_vec(&frame(ask)?).unwrap_or_default();
        bytes.pop();
        bytes.extend_from_slice(b",\"messages\":[");
        Ok(bytes)
    })?;
    request.append_messages(&ask.origin, &mut bytes, |message, bytes| write(message, ask, bytes));
    bytes.extend_from_slice(format!("],\"{}\":{}}}", limit_name(ask), request.max_output_tokens).as_bytes());
    Ok(bytes)
}

/// OpenAI refuses the older name for its newer models; of the others many know only that one.
fn limit_name(ask: &Ask<'_>) -> &'static str {
    if matches!(ask.manner.house, House::OpenAi | House::Azure) { "max_completion_tokens" } else { "max_tokens" }
}

/// Whether the endpoint is asked to hold the model to the form of the answer.
fn enforces_form(ask: &Ask<'_>) -> bool {
    ask.manner.house != House::DeepSeek && (ask.request.tools.is_empty() || ask.manner.takes_form_with_tools())
}

/// The form of the answer in words, where the endpoint cannot be asked to enforce it.
fn told_form(ask: &Ask<'_>) -> Option<Value> {
    let output = ask.request.output.as_ref().filter(|_| !enforces_form(ask))?;
    Some(json!({"role": "system", "content": schema::told(output)}))
}

/// All but the messages and the bound of the answer: the same in all requests of a run. Mistral refuses
/// `stream_options` and tells the usage without.
fn frame(ask: &Ask<'_>) -> Result<Map<String, Value>, Unfit> {
    let (request, house) = (ask.request, ask.manner.house);
    let tools = function_tools(request)?;
    let mut body = Map::new();
    body.insert("model".into(), ask.model.into());
    if let Some(output) = request.output.as_ref().filter(|_| enforces_form(ask)) {
        let schema = schema::parsed(output)?;
        let strict = schema::is_strict(&schema);
        let form = match ask.manner.has_older_form {
            true => json!({"type": "json_object", "schema": schema}),
            false => {
                let form = json!({"name": output.name, "schema": schema, "strict": strict});
                json!({"type": "json_schema", "json_schema": form})
            }
        };
        body.insert("response_format".into(), form);
    }
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    body.insert("stream".into(), true.into());
    if house != House::Mistral {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    if house == House::OpenAi && !request.cache_key.is_empty() {
        body.insert("prompt_cache_key".into(), request.cache_key.as_str().into());
    }
    Ok(body)
}

/// A message of text and calls, written without an intermediate value: it is what most of a conversation is.
#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Sent<'a>>,
}

/// A call that the model made.
#[derive(Serialize)]
struct Sent<'a> {
    id: String,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: String,
    arguments: Cow<'a, str>,
}

fn said<'a>(role: &'static str, content: &'a str) -> Said<'a> {
    Said { role, content, tool_call_id: None, tool_calls: Vec::new() }
}

fn sent<'a>(call: &'a RequestedCall, ask: &Ask<'_>) -> Sent<'a> {
    let function = Function { name: sent_name(&call.name), arguments: sent_arguments(&call.arguments) };
    Sent { id: call_id(&call.id, ask), r#type: "function", function }
}

/// A message that is no more than text and calls.
fn plain<'a>(message: &'a Message, ask: &Ask<'_>) -> Option<Said<'a>> {
    match message {
        Message::System { text } => Some(said("system", text)),
        Message::User { text, images } if images.is_empty() => Some(said("user", text)),
        Message::Assistant { text, calls, opaque: None } => {
            Some(Said { tool_calls: calls.iter().map(|call| sent(call, ask)).collect(), ..said("assistant", text) })
        }
        Message::Tool { call_id: id, text, .. } => Some(Said { tool_call_id: Some(call_id(id, ask)), ..said("tool", text) }),
        Message::User { .. } | Message::Assistant { .. } => None,
    }
}

/// A message with images, or with what its provider wants back as it came.
fn rich(message: &Message, ask: &Ask<'_>) -> Value {
    match message {
        Message::User { text, images } => {
            let shown =
                images.iter().map(|image| json!({"type": "image_url", "image_url": {"url": ask.pictures.data_url(image)}}));
            let said = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
            json!({"role": "user", "content": shown.chain(said).collect::<Vec<_>>()})
        }
        Message::Assistant { text, calls, opaque } => {
            let mut message = json!({"role": "assistant", "content": text});
            let mut made = Vec::new();
            for part in layout::parts(text, calls, opaque.as_ref(), &ask.origin) {
                match part {
                    Part::Kept(Value::Object(kept)) => message.as_object_mut().into_iter().for_each(|message| {
                        message.extend(kept.clone());
                    }),
                    Part::Call(call, _) => made.push(json!(sent(call, ask))),
                    Part::Kept(_) | Part::Text(..) => {}
                }
            }
            if !made.is_empty() {
                message["tool_calls"] = made.into();
            }
            message
        }
        Message::System { .. } | Message::Tool { .. } => json!(plain(message, ask)),
    }
}

fn message(message: &Message, ask: &Ask<'_>) -> Value {
    plain(message, ask).map_or_else(|| rich(message, ask), |said| json!(said))
}

/// The same as JSON. Plain data with text keys only, so writing it to memory cannot fail.
fn write(message: &Message, ask: &Ask<'_>, bytes: &mut Vec<u8>) {
    let _ = match plain(message, ask) {
        Some(said) => serde_json::to_writer(bytes, &said),
        None => serde_json::to_writer(bytes, &rich(message, ask)),
    };
}

/// Mistral takes ids of nine letters and digits only.
fn call_id(id: &str, ask: &Ask<'_>) -> String {
    let is_short = |id: &str| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match ask.manner.house {
        House::Mistral => sent_id(id, is_short, 9),
        _ => id.to_owned(),
    }
}

/// Gathers a reply from its chunks.
struct ChatReader {
    draft: Draft,
    /// DeepSeek wants the reasoning before a call back with its result, or refuses the conversation
    /// (<https://api-docs.deepseek.com/guides/thinking_mode>, checked 2026-11-21).
    keeps_reasoning: bool,
}

impl ChatReader {
    /// A piece of a message, or all of it.
    fn piece(&mut self, piece: &Piece<'_>, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        self.draft.add_reasoning(piece.reasoning, deltas);
        self.draft.add_text(piece.text, deltas);
        self.parts(piece.parts, deltas);
        if !piece.refusal.is_empty() {
            self.draft.refused = true;
            self.draft.add_text(piece.refusal, deltas);
        }
        for fragment in &piece.calls {
            self.draft.calls.add(fragment, deltas)?;
        }
        match piece.finish_reason {
            "" => {}
            "length" | "max_tokens" => self.draft.finish = Some(Finish::Length),
            "content_filter" | "refusal" => self.draft.finish = Some(Finish::Refused),
            "error" => return Err(Broken::Garbled("the provider says that its model failed".to_owned())),
            _ => self.draft.finish = Some(Finish::Stop),
        }
        Ok(())
    }

    /// Content as a list of typed parts, as Mistral has it.
    fn parts(&mut self, parts: &[Value], deltas: &dyn DeltaSink) {
        for part in parts {
            self.draft.add_text(text(part, "text"), deltas);
            for thought in list(part, "thinking") {
                self.draft.add_reasoning(text(thought, "text"), deltas);
            }
        }
    }

    /// With `is_whole` calls stand side by side, and their position is their index.
    fn choice(&mut self, choice: &Value, part: &Value, is_whole: bool, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        let functions: Vec<&Value> =
            list(part, "tool_calls").map(|call| call.get("function").unwrap_or(&Value::Null)).collect();
        let arguments: Vec<String> = functions.iter().map(|function| arguments_text(function.get("arguments"))).collect();
        let calls = (0..).zip(list(part, "tool_calls")).zip(functions.iter().zip(&arguments));
        let calls = calls.map(|((position, call), (function, arguments))| Fragment {
            index: if is_whole { Some(position) } else { count(call, "/index") },
            id: text(call, "id"),
            name: text(function, "name"),
            arguments,
        });
        let piece = Piece {
            reasoning: first(text(part, "reasoning_content"), text(part, "reasoning")),
            text: text(part, "content"),
            parts: part.get("content").and_then(Value::as_array).map_or(&[], Vec::as_slice),
            refusal: text(part, "refusal"),
            calls: calls.collect(),
            finish_reason: text(choice, "finish_reason"),
        };
        self.piece(&piece, deltas)
    }

    /// The same of a chunk in its usual form.
    fn chunk(&mut self, whole: &Chunk<'_>, is_whole: bool, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        self.about(&whole.model, whole.usage.as_ref());
        let Some(choice) = whole.choices.first() else { return Ok(()) };
        let part = if is_whole { choice.message.as_ref() } else { choice.delta.as_ref().or(choice.message.as_ref()) };
        let calls = part.and_then(|part| part.tool_calls.as_deref()).unwrap_or_default();
        let fragments = (0..).zip(calls).map(|(position, call)| Fragment {
            index: if is_whole { Some(position) } else { call.index },
            id: chunk::said(&call.id),
            name: call.function.as_ref().map_or("", |function| chunk::said(&function.name)),
            arguments: call.function.as_ref().map_or("", |function| chunk::said(&function.arguments)),
        });
        let of = |pick: for<'b> fn(&'b chunk::Part<'_>) -> &'b str| part.map_or("", pick);
        let piece = Piece {
            reasoning: first(of(|part| chunk::said(&part.reasoning_content)), of(|part| chunk::said(&part.reasoning))),
            text: of(|part| chunk::said(&part.content)),
            parts: &[],
            refusal: of(|part| chunk::said(&part.refusal)),
            calls: fragments.collect(),
            finish_reason: chunk::said(&choice.finish_reason),
        };
        self.piece(&piece, deltas)
    }

    fn reply(mut self) -> ModelReply {
        if self.keeps_reasoning && !self.draft.reasoning.is_empty() && !self.draft.calls.is_empty() {
            self.draft.layout.keep(json!({"reasoning_content": self.draft.reasoning}));
            self.draft.layout.text(self.draft.text.len(), Map::new());
            (0..self.draft.calls.len()).for_each(|_| self.draft.layout.call(Map::new()));
        }
        self.draft.into_reply()
    }

    fn about(&mut self, model: &str, told: Option<&Value>) {
        if self.draft.model.is_empty() {
            model.clone_into(&mut self.draft.model);
        }
        if let Some(found) = told.and_then(usage) {
            self.draft.usage = Some(found);
        }
    }
}

/// What a piece of a message says.
struct Piece<'a> {
    reasoning: &'a str,
    text: &'a str,
    /// Content that is no text.
    parts: &'a [Value],
    refusal: &'a str,
    calls: Vec<Fragment<'a>>,
    finish_reason: &'a str,
}

/// DeepSeek, vLLM and llama.cpp say `reasoning_content`; OpenRouter, Ollama and newer vLLM say `reasoning`.
fn first<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.is_empty() { other } else { one }
}

impl Reader for ChatReader {
    fn usual_event(&mut self, text: &str, deltas: &dyn DeltaSink) -> Option<Result<Step, Broken>> {
        let chunk = Chunk::read(text.as_bytes())?;
        Some(self.chunk(&chunk, false, deltas).map(|()| Step::More))
    }

    fn usual_whole(&mut self, body: &[u8], deltas: &dyn DeltaSink) -> Option<Result<(), Broken>> {
        let chunk = Chunk::read(body).filter(|chunk| !chunk.choices.is_empty())?;
        let taken = self.chunk(&chunk, true, deltas);
        self.draft.finish.get_or_insert(Finish::Stop);
        Some(taken)
    }

    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        complaint(event)?;
        self.about(text(event, "model"), event.get("usage"));
        let choice = event.get("choices").and_then(|choices| choices.get(0)).unwrap_or(&Value::Null);
        // A server may stream one whole message instead of pieces.
        let part = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(&Value::Null);
        self.choice(choice, part, false, deltas)?;
        Ok(Step::More)
    }

    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        complaint(body)?;
        self.about(text(body, "model"), body.get("usage"));
        let Some(choice) = body.get("choices").and_then(|choices| choices.get(0)) else {
            return Err(Broken::Garbled("the answer is JSON but holds no choices".to_owned()));
        };
        self.choice(choice, choice.get("message").unwrap_or(&Value::Null), true, deltas)?;
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
        if whole { Ok(self.reply()) } else { Err(Broken::cut()) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pictures::Pictures;
    use crate::settings::Settings;
    use errand_core::{Memo, ModelRequest, ToolDefinition};

    #[test]
    fn what_is_sent_is_the_same_whether_it_is_written_at_once_or_goes_on() {
        let tool = ToolDefinition { name: "t".to_owned(), description: "d".to_owned(), parameters: "{}".to_owned() };
        let mut request = ModelRequest {
            model: "m".to_owned(),
            messages: vec![Message::System { text: "s\"".to_owned() }],
            tools: vec![tool],
            max_output_tokens: 1,
            output: None,
            cache_key: "key".to_owned(),
            memo: Memo::default(),
        };
        let call = RequestedCall { id: "c".to_owned(), name: "t".to_owned(), arguments: "{\"a\":1}".to_owned() };
        let said = [
            Message::user("hello"),
            Message::Assistant { text: String::new(), calls: vec![call], opaque: None },
            Message::Tool { call_id: "c".to_owned(), name: "t".to_owned(), text: "ok\n".to_owned(), is_error: false },
        ];
        for house in ["http://localhost/v1", "https://api.openai.com/v1", "https://api.mistral.ai/v1"] {
            let (pictures, origin) = (Pictures::default(), format!("chat {house} m"));
            let manner = crate::http::manner::Manner::of(&house.parse().unwrap(), &Settings::default());
            let mut growing = request.clone();
            for (turn, message) in said.iter().enumerate() {
                growing.messages.push(message.clone());
                growing.max_output_tokens = turn as u64;
                let ask = Ask {
                    request: &growing,
                    model: "m",
                    origin: origin.clone(),
                    pictures: &pictures,
                    manner: &manner,
                    about: None,
                };
                let sent: Value = serde_json::from_slice(&bytes(&ask).unwrap()).unwrap();
                assert_eq!(sent, body(&ask).unwrap(), "{house}, turn {turn}");
            }
        }
        request.tools[0].parameters = "{".to_owned();
        let (pictures, manner) =
            (Pictures::default(), crate::http::manner::Manner::of(&"http://h".parse().unwrap(), &Settings::default()));
        let ask =
            Ask { request: &request, model: "m", origin: "o".to_owned(), pictures: &pictures, manner: &manner, about: None };
        assert!(matches!(bytes(&ask), Err(Unfit::Tool { .. })));
    }

    #[test]
    fn a_chunk_says_the_same_read_at_once_or_as_a_value() {
        let (pictures, request) = (
            Pictures::default(),
            ModelRequest {
                model: "m".to_owned(),
                messages: Vec::new(),
                tools: Vec::new(),
                max_output_tokens: 1,
                output: None,
                cache_key: String::new(),
                memo: Memo::default(),
            },
        );
        let manner = crate::http::manner::Manner::of(&"http://localhost/v1".parse().unwrap(), &Settings::default());
        let ask =
            Ask { request: &request, model: "m", origin: "o".to_owned(), pictures: &pictures, manner: &manner, about: None };
        let streams: [&[&str]; 4] = [
            &[
                r#"{"model": "m\u0041", "choices": [{"delta": {"content": "a\n\u00e9", "reasoning": "why"}}]}"#,
                r#"{"choices": [{"delta": {"content": null, "reasoning_content": "so"}, "finish_reason": "length"}]}"#,
                r#"{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}"#,
            ],
            &[
                r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{\"a"}}]}}]}"#,
                r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\":1}"}}]}, "finish_reason": "tool_calls"}]}"#,
            ],
            &[
                r#"{"choices": [{"message": {"content": "whole", "refusal": "no"}, "finish_reason": "stop"}], "usage": null}"#,
            ],
            &[r#"{"choices": [{"delta": {"content": [{"type": "text", "text": "parts"}]}, "finish_reason": "stop"}]}"#],
        ];
        for stream in streams {
            let reader = || ChatReader { draft: Draft::new(&ask), keeps_reasoning: false };
            let (mut quick, mut slow) = (reader(), reader());
            for event in stream {
                let value: Value = serde_json::from_str(event).unwrap();
                match quick.usual_event(event, &()) {
                    Some(taken) => assert!(matches!(taken, Ok(Step::More)), "{event}"),
                    None => drop(quick.event(&value, &()).unwrap()),
                }
                slow.event(&value, &()).unwrap();
            }
            let finished = |reader: ChatReader| Box::new(reader).finish(Ended::Marked).unwrap();
            assert_eq!(finished(quick), finished(slow), "{stream:?}");
        }
        // What is no usual chunk is left to the value.
        for other in [r#"{"error": {"message": "no"}}"#, "[]", "1", r#"{"choices": [{"delta": {"content": 1}}]}"#] {
            assert!(
                ChatReader { draft: Draft::new(&ask), keeps_reasoning: false }.usual_event(other, &()).is_none(),
                "{other}"
            );
        }
    }
}
