//! A request for a response, read strictly: what cannot be held is refused by name, never left out in silence.

use super::input::{self, Input};
use super::tools::{self, Wanted};
use crate::Failure;
use crate::fields::{Fields, invalid, unsupported};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most entries of `metadata`, and their lengths in characters
/// (<https://developers.openai.com/api/reference/resources/responses>, checked 2026-11-21).
const METADATA: (usize, usize, usize) = (16, 64, 512);
/// Longest label such as `safety_identifier`, in bytes.
const LABEL_BYTES: usize = 512;
/// Fewest output tokens that can be asked for, as with OpenAI.
const OUTPUT_TOKENS_MIN: u64 = 16;

/// What a caller asks for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) model: Option<String>,
    pub(crate) input: Input,
    pub(crate) previous: Option<String>,
    pub(crate) tools: Vec<Wanted>,
    pub(crate) format: Option<Format>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) stream: bool,
    pub(crate) shown: Shown,
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) name: String,
    pub(crate) schema: String,
}

/// What a response shows of its request. Kept with the run.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Shown {
    pub(crate) background: bool,
    pub(crate) instructions: Option<String>,
    pub(crate) tools: Vec<Value>,
    pub(crate) tool_choice: Option<String>,
    pub(crate) text: Option<Value>,
    pub(crate) truncation: Option<String>,
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) safety_identifier: Option<String>,
    pub(crate) prompt_cache_key: Option<String>,
    /// Digest of the body, if the caller said that the same request may come twice.
    pub(crate) body: Option<String>,
}

impl Request {
    /// Reads a body.
    pub(crate) fn read(body: Value) -> Result<Self, Failure> {
        let mut fields = Fields::of(body, "")?;
        let model = fields.text("model")?;
        let input = input::read(fields.required("input")?)?;
        let previous = fields.text("previous_response_id")?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let (mut wanted, tools_shown) = tools::read(fields.list("tools")?.unwrap_or_default())?;
        let tool_choice = tool_choice(&mut fields)?;
        if tool_choice.as_deref() == Some("none") {
            wanted.clear();
        }
        let (format, text) = text(&mut fields)?;
        let shown = Shown {
            background: fields.flag("background")?.unwrap_or(false),
            instructions: fields.text("instructions")?,
            tools: tools_shown,
            tool_choice,
            text,
            truncation: truncation(&mut fields)?,
            max_output_tokens: max_output_tokens(&mut fields)?,
            safety_identifier: label(&mut fields, "safety_identifier")?,
            prompt_cache_key: label(&mut fields, "prompt_cache_key")?,
            body: None,
        };
        let metadata = metadata(&mut fields)?;
        refuse_what_cannot_be_held(&mut fields)?;
        fields.end()?;
        Ok(Self { model, input, previous, tools: wanted, format, metadata, stream, shown })
    }
}

/// Parameters that are taken only where they ask for what happens anyway.
fn refuse_what_cannot_be_held(fields: &mut Fields) -> Result<(), Failure> {
    let provider = "the model's provider decides this; only the default is taken";
    fields.only("store", &[json!(true)], "runs are durable, so every response is stored; leave it out, or send true")?;
    fields.only("parallel_tool_calls", &[json!(true)], "calls run in parallel; only true is taken")?;
    for name in ["temperature", "top_p"] {
        fields.only(name, &[json!(1), json!(1.0)], provider)?;
    }
    for name in ["presence_penalty", "frequency_penalty", "top_logprobs"] {
        fields.only(name, &[json!(0), json!(0.0)], provider)?;
    }
    fields.only("service_tier", &[json!("auto"), json!("default")], "there is one tier; send auto or default")?;
    fields.only("max_tool_calls", &[], "the number of calls cannot be bounded here; bound tokens or money instead")?;
    fields.only("include", &[json!([])], "responses have no parts that are left out; leave it out")?;
    fields.only("conversation", &[], "this server keeps no conversations; use previous_response_id")?;
    fields.only("prompt", &[], "this server keeps no prompts; send instructions and input")?;
    fields.only("prompt_cache_retention", &[], provider)?;
    fields.only("context_management", &[], "long conversations are shortened by themselves")?;
    fields.only("user", &[], "it was replaced: send safety_identifier or prompt_cache_key")?;
    if let Some(mut options) = fields.object("stream_options")? {
        options.only("include_obfuscation", &[json!(false)], "events are not padded; send false or leave it out")?;
        options.end()?;
    }
    if let Some(mut reasoning) = fields.object("reasoning")? {
        for name in ["effort", "summary", "generate_summary", "context", "mode"] {
            reasoning.only(name, &[], provider)?;
        }
        reasoning.end()?;
    }
    Ok(())
}

fn tool_choice(fields: &mut Fields) -> Result<Option<String>, Failure> {
    let Some(value) = fields.value("tool_choice") else { return Ok(None) };
    match value.as_str() {
        Some(choice @ ("auto" | "none")) => Ok(Some(choice.to_owned())),
        _ => Err(unsupported("tool_choice", "the model chooses; send `auto`, or `none` for no tools")),
    }
}

fn truncation(fields: &mut Fields) -> Result<Option<String>, Failure> {
    match fields.text("truncation")?.as_deref() {
        None => Ok(None),
        Some(kind @ ("auto" | "disabled")) => Ok(Some(kind.to_owned())),
        Some(_) => Err(invalid("truncation", "it is `auto` or `disabled`")),
    }
}

fn max_output_tokens(fields: &mut Fields) -> Result<Option<u64>, Failure> {
    let count = fields.count("max_output_tokens")?;
    if count.is_some_and(|count| count < OUTPUT_TOKENS_MIN) {
        return Err(invalid("max_output_tokens", format!("at least {OUTPUT_TOKENS_MIN} are taken")));
    }
    Ok(count)
}

fn label(fields: &mut Fields, name: &str) -> Result<Option<String>, Failure> {
    let label = fields.text(name)?;
    if label.as_ref().is_some_and(|label| label.len() > LABEL_BYTES) {
        return Err(invalid(name, format!("it is longer than {LABEL_BYTES} bytes")));
    }
    Ok(label)
}

fn metadata(fields: &mut Fields) -> Result<BTreeMap<String, String>, Failure> {
    let (entries, key_chars, value_chars) = METADATA;
    let map = match fields.value("metadata") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(crate::fields::wrong("metadata", "an object", &other)),
    };
    if map.len() > entries {
        return Err(invalid("metadata", format!("it has {} entries, at most {entries} are taken", map.len())));
    }
    let entry = |(key, value): (String, Value)| {
        let path = format!("metadata.{}", key.chars().take(key_chars).collect::<String>());
        match value {
            _ if key.chars().count() > key_chars => Err(invalid(&path, format!("a key has at most {key_chars} characters"))),
            Value::String(text) if text.chars().count() > value_chars => {
                Err(invalid(&path, format!("a value has at most {value_chars} characters")))
            }
            Value::String(text) => Ok((key, text)),
            other => Err(crate::fields::wrong(&path, "a string", &other)),
        }
    };
    map.into_iter().map(entry).collect()
}

/// The form of the answer, and what the response shows of it.
fn text(fields: &mut Fields) -> Result<(Option<Format>, Option<Value>), Failure> {
    let Some(mut text) = fields.object("text")? else { return Ok((None, None)) };
    text.only("verbosity", &[json!("medium")], "the model decides how much it says; only medium is taken")?;
    let format = text.object("format")?;
    text.end()?;
    let Some(mut format) = format else { return Ok((None, None)) };
    match format.required_text("type")?.as_str() {
        "text" => {
            format.end()?;
            Ok((None, None))
        }
        "json_object" => {
            format.end()?;
            let wanted = Format { name: "object".to_owned(), schema: json!({"type": "object"}).to_string() };
            Ok((Some(wanted), Some(json!({"format": {"type": "json_object"}}))))
        }
        "json_schema" => {
            let name = format.required_text("name")?;
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
                return Err(invalid("text.format.name", "a name has 1 to 64 letters, digits, `_` or `-`"));
            }
            let schema = format.required("schema")?;
            let (strict, description) = (format.flag("strict")?, format.text("description")?);
            format.end()?;
            let shown = json!({"type": "json_schema", "name": name, "schema": schema, "strict": strict,
                               "description": description});
            Ok((Some(Format { name, schema: schema.to_string() }), Some(json!({"format": shown}))))
        }
        _ => Err(invalid("text.format.type", "it is `text`, `json_object` or `json_schema`")),
    }
}
