//! The input of a request: a text, or items of a conversation, as the messages that a model is sent.

use super::tools::OWN;
use crate::Failure;
use crate::fields::{Fields, invalid, unsupported, wrong};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use errand_core::{Hash, Image, Message, RequestedCall};
use serde_json::Value;

/// Most items of an input.
const ITEMS_MAX: usize = 4_096;
/// Longest text of an input, all items together, in bytes.
const TEXT_BYTES: u64 = 8 << 20;
/// Most bytes of all images of an input: about what providers take in a request.
const IMAGE_BYTES_MAX: usize = 20 << 20;

/// Most images of an input.
const IMAGES_MAX: usize = 50;

/// What a caller says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    /// The conversation, oldest first.
    pub(crate) messages: Vec<Message>,
    /// The bytes of the images in it.
    pub(crate) images: Vec<Vec<u8>>,
}

/// Reads the input of a request.
pub(crate) fn read(value: Value) -> Result<Input, Failure> {
    let mut input = Input::default();
    match value {
        Value::String(text) => input.messages.push(Message::user(text)),
        Value::Array(items) if items.len() > ITEMS_MAX => {
            return Err(invalid("input", format!("it has {} items, at most {ITEMS_MAX} are taken", items.len())));
        }
        Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                input.item(item, &format!("input[{index}]"))?;
            }
        }
        other => return Err(wrong("input", "a string or a list of items", &other)),
    }
    let bytes: u64 = input.messages.iter().map(Message::bytes).sum();
    if bytes > TEXT_BYTES {
        let message = format!("the input has {bytes} bytes of text, at most {TEXT_BYTES} are taken");
        return Err(Failure::bad("input_too_long", message).at("input"));
    }
    Ok(input)
}

impl Input {
    fn item(&mut self, item: Value, path: &str) -> Result<(), Failure> {
        let mut fields = Fields::of(item, path)?;
        let kind = fields.text("type")?.unwrap_or_else(|| "message".to_owned());
        // Items that a response showed come back as they were shown.
        fields.ignore(&["id", "status"]);
        match kind.as_str() {
            "message" => self.message(fields),
            "function_call" => {
                let (id, name) = (fields.required_text("call_id")?, fields.required_text("name")?);
                let arguments = fields.required_text("arguments")?;
                fields.end()?;
                self.call(RequestedCall { id, name, arguments });
                Ok(())
            }
            "function_call_output" => {
                let call_id = fields.required_text("call_id")?;
                let path = fields.path("output");
                let output = fields.required("output")?;
                let text = output_text(output, &path)?;
                fields.end()?;
                self.result(call_id, text, false);
                Ok(())
            }
            // What a model thought is its provider's to keep; it says nothing to another one.
            "reasoning" => {
                fields.ignore(&["summary", "content", "encrypted_content"]);
                fields.end()
            }
            "item_reference" => Err(unsupported(path, "items are not kept by themselves; use previous_response_id")),
            own if own.starts_with(OWN) => {
                let name = own[OWN.len()..].to_owned();
                let id = fields.required_text("call_id")?;
                let (arguments, output) = (fields.required_text("arguments")?, fields.text("output")?);
                fields.end()?;
                self.call(RequestedCall { id: id.clone(), name, arguments });
                self.result(id, output.unwrap_or_else(|| "the call did not end".to_owned()), false);
                Ok(())
            }
            other => {
                let other: String = other.chars().take(80).collect();
                let why = format!("items of type `{other}` are not known here");
                Err(invalid(&format!("{path}.type"), why))
            }
        }
    }

    fn message(&mut self, mut fields: Fields) -> Result<(), Failure> {
        let (role_path, content_path) = (fields.path("role"), fields.path("content"));
        let role = fields.required_text("role")?;
        let content = fields.required("content")?;
        fields.ignore(&["phase"]);
        fields.end()?;
        let mut images = Vec::new();
        let text = match content {
            Value::String(text) => text,
            Value::Array(parts) => {
                let mut texts = Vec::new();
                for (index, part) in parts.into_iter().enumerate() {
                    let path = format!("{content_path}[{index}]");
                    match part_of(part, &path)? {
                        Part::Text(text) => texts.push(text),
                        Part::Image(..) if role != "user" => {
                            return Err(invalid(&path, "only a message of the user shows images"));
                        }
                        Part::Image(image, bytes) => {
                            images.push(image);
                            self.images.push(bytes);
                        }
                    }
                    if self.images.len() > IMAGES_MAX {
                        return Err(invalid(&path, format!("at most {IMAGES_MAX} images are taken")));
                    }
                    if self.images.iter().map(Vec::len).sum::<usize>() > IMAGE_BYTES_MAX {
                        let most = format!("all images together have at most {} MiB", IMAGE_BYTES_MAX >> 20);
                        return Err(invalid(&path, most));
                    }
                }
                texts.join("\n")
            }
            other => return Err(wrong(&content_path, "a string or a list of parts", &other)),
        };
        self.messages.push(match role.as_str() {
            "user" => Message::User { text, images },
            "assistant" => Message::Assistant { text, calls: Vec::new(), opaque: None },
            "system" | "developer" => Message::System { text },
            _ => return Err(invalid(&role_path, "it is `user`, `assistant`, `system` or `developer`")),
        });
        Ok(())
    }

    /// Calls that follow each other, or the text of a reply, belong to one reply.
    fn call(&mut self, call: RequestedCall) {
        match self.messages.last_mut() {
            Some(Message::Assistant { calls, .. }) => calls.push(call),
            _ => self.messages.push(Message::Assistant { text: String::new(), calls: vec![call], opaque: None }),
        }
    }

    /// A result stands behind the reply that asked for it, whatever the caller put in between.
    fn result(&mut self, call_id: String, text: String, is_error: bool) {
        let asked = |message: &Message| match message {
            Message::Assistant { calls, .. } => calls.iter().find(|call| call.id == call_id).map(|call| call.name.clone()),
            _ => None,
        };
        let found = self.messages.iter().enumerate().rev().find_map(|(at, message)| Some((at, asked(message)?)));
        let (mut at, name) = match found {
            Some((at, name)) => (at + 1, name),
            // Of the response before; its name is looked up there.
            None => (0, String::new()),
        };
        while matches!(self.messages.get(at), Some(Message::Tool { .. })) {
            at += 1;
        }
        self.messages.insert(at, Message::Tool { call_id, name, text, is_error });
    }
}

enum Part {
    Text(String),
    Image(Image, Vec<u8>),
}

fn part_of(part: Value, path: &str) -> Result<Part, Failure> {
    let mut fields = Fields::of(part, path)?;
    let kind = fields.required_text("type")?;
    match kind.as_str() {
        "input_text" | "output_text" | "text" => {
            fields.ignore(&["annotations", "logprobs"]);
            let text = fields.required_text("text")?;
            fields.end()?;
            Ok(Part::Text(text))
        }
        "refusal" => {
            let text = fields.required_text("refusal")?;
            fields.end()?;
            Ok(Part::Text(text))
        }
        "input_image" => {
            fields.only("file_id", &[], "this server keeps no files; send the image as a data URL")?;
            fields.only("detail", &["auto".into()], "the model decides; only auto is taken")?;
            let url_path = fields.path("image_url");
            let url = fields.required_text("image_url")?;
            fields.end()?;
            let (image, bytes) = super::image::from_url(&url).map_err(|why| match why {
                super::image::Refused::Elsewhere => unsupported(
                    &url_path,
                    "images are not fetched from elsewhere; send the image as a data URL (data:image/png;base64,…)",
                ),
                super::image::Refused::Unusable(why) => Failure::bad("image_invalid", why).at(&url_path),
            })?;
            Ok(Part::Image(image, bytes))
        }
        "input_file" | "input_audio" => Err(unsupported(&format!("{path}.type"), "text and images are taken")),
        other => {
            let other: String = other.chars().take(80).collect();
            Err(invalid(&format!("{path}.type"), format!("parts of type `{other}` are not known here")))
        }
    }
}

/// The output of a call: a text, or parts that are texts.
fn output_text(output: Value, path: &str) -> Result<String, Failure> {
    match output {
        Value::String(text) => Ok(text),
        Value::Array(parts) => {
            let mut texts = Vec::new();
            for (index, part) in parts.into_iter().enumerate() {
                match part_of(part, &format!("{path}[{index}]"))? {
                    Part::Text(text) => texts.push(text),
                    Part::Image(..) => return Err(unsupported(&format!("{path}[{index}]"), "outputs are texts here")),
                }
            }
            Ok(texts.join("\n"))
        }
        other => Err(wrong(path, "a string or a list of parts", &other)),
    }
}

/// Decodes standard base64.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The digest under which an image is kept.
pub(super) fn digest(bytes: &[u8]) -> Hash {
    Hash::of(bytes)
}
