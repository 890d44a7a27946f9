//! A reply of Anthropic's, gathered from its events.

use crate::http::calls::Fragment;
use crate::http::dialect::{Ask, Broken, Ended, Reader, Step, complaint};
use crate::http::draft::Draft;
use crate::http::forms::{count, list, text};
use errand_core::{Finish, ModelReply, Usage};
use errand_engine::ports::DeltaSink;
use serde_json::{Map, Value};

pub(super) struct MessagesReader {
    draft: Draft,
    /// The block that is being told, with its position.
    open: Option<(u64, Block)>,
    /// Blocks begun.
    blocks: u64,
    /// The counts so far; later events repeat them, some only in part.
    counts: Map<String, Value>,
}

enum Block {
    Text {
        bytes: usize,
    },
    /// Thinking, put together as it is to be sent back.
    Kept(Value),
    Call {
        input: Value,
        has_arguments: bool,
    },
    /// Of a kind that was not asked for.
    Other,
}

impl MessagesReader {
    pub(super) fn new(ask: &Ask<'_>) -> Self {
        Self { draft: Draft::new(ask), open: None, blocks: 0, counts: Map::new() }
    }

    fn begin(&mut self, index: u64, block: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        if index != self.blocks {
            return Err(Broken::Garbled("its blocks are out of order".to_owned()));
        }
        self.close();
        self.blocks += 1;
        let begun = match text(block, "type") {
            "text" => {
                self.draft.add_text(text(block, "text"), deltas);
                Block::Text { bytes: text(block, "text").len() }
            }
            "thinking" | "redacted_thinking" => {
                self.draft.add_reasoning(text(block, "thinking"), deltas);
                Block::Kept(block.clone())
            }
            "tool_use" => {
                let fragment =
                    Fragment { index: Some(index), id: text(block, "id"), name: text(block, "name"), arguments: "" };
                self.draft.calls.add(&fragment, deltas)?;
                Block::Call { input: block.get("input").cloned().unwrap_or_default(), has_arguments: false }
            }
            _ => Block::Other,
        };
        self.open = Some((index, begun));
        Ok(())
    }

    fn piece(&mut self, index: u64, delta: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        let out_of_order = || Broken::Garbled("its blocks are out of order".to_owned());
        let (_, block) = self.open.as_mut().filter(|(open, _)| *open == index).ok_or_else(out_of_order)?;
        match (text(delta, "type"), block) {
            ("text_delta", Block::Text { bytes }) => {
                *bytes += text(delta, "text").len();
                self.draft.add_text(text(delta, "text"), deltas);
            }
            ("thinking_delta", Block::Kept(block)) => {
                append(block, "thinking", text(delta, "thinking"));
                self.draft.add_reasoning(text(delta, "thinking"), deltas);
            }
            ("signature_delta", Block::Kept(block)) => append(block, "signature", text(delta, "signature")),
            ("input_json_delta", Block::Call { has_arguments, .. }) => {
                let arguments = text(delta, "partial_json");
                *has_arguments |= !arguments.is_empty();
                self.draft.calls.add(&Fragment { index: Some(index), arguments, ..Fragment::default() }, deltas)?;
            }
            // Citations, and pieces of later versions.
            _ => {}
        }
        Ok(())
    }

    /// Ends the block that is being told.
    fn close(&mut self) {
        match self.open.take() {
            Some((_, Block::Text { bytes })) => self.draft.layout.text(bytes, Map::new()),
            Some((_, Block::Kept(block))) => self.draft.layout.keep(block),
            Some((index, Block::Call { input, has_arguments })) => {
                // A call without arguments is told without any.
                if !has_arguments {
                    let input = if input.is_object() { input.to_string() } else { "{}".to_owned() };
                    self.draft.calls.set_arguments(index, &input);
                }
                self.draft.layout.call(Map::new());
            }
            Some((_, Block::Other)) | None => {}
        }
    }

    fn about(&mut self, message: &Value) {
        let model = text(message, "model");
        if !model.is_empty() {
            model.clone_into(&mut self.draft.model);
        }
        self.count(message);
    }

    fn count(&mut self, holder: &Value) {
        let counts = holder.get("usage").and_then(Value::as_object).into_iter().flatten();
        for (name, value) in counts.filter(|(_, value)| !value.is_null()) {
            self.counts.insert(name.clone(), value.clone());
        }
        self.draft.usage = usage(&Value::Object(self.counts.clone()));
    }

    /// Why the model stopped. A turn that is paused, and a window that is full, leave the answer unfinished.
    fn stopped(&mut self, holder: &Value, deltas: &dyn DeltaSink) {
        self.draft.finish = match text(holder, "stop_reason") {
            "" => return,
            "max_tokens" | "model_context_window_exceeded" | "pause_turn" => Some(Finish::Length),
            "refusal" => Some(Finish::Refused),
            _ => Some(Finish::Stop),
        };
        let why = holder.get("stop_details").map(|details| text(details, "explanation")).unwrap_or_default();
        if self.draft.finish == Some(Finish::Refused) && self.draft.text.is_empty() {
            self.draft.add_text(why, deltas);
        }
    }
}

impl Reader for MessagesReader {
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        let index = || count(event, "/index").unwrap_or(u64::MAX);
        let part = |name: &str| event.get(name).cloned().unwrap_or_default();
        match text(event, "type") {
            "message_start" => self.about(&part("message")),
            "content_block_start" => self.begin(index(), &part("content_block"), deltas)?,
            "content_block_delta" => self.piece(index(), &part("delta"), deltas)?,
            "content_block_stop" => self.close(),
            "message_delta" => {
                self.count(event);
                self.stopped(&part("delta"), deltas);
            }
            "message_stop" => return Ok(Step::Done),
            "error" => complaint(event)?,
            // Signs of life, and events of later versions.
            _ => {}
        }
        Ok(Step::More)
    }

    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        complaint(body)?;
        if !body.get("content").is_some_and(Value::is_array) {
            return Err(Broken::Garbled("the answer is JSON but holds no content".to_owned()));
        }
        self.about(body);
        for (index, block) in (0..).zip(list(body, "content")) {
            self.begin(index, block, deltas)?;
        }
        self.stopped(body, deltas);
        Ok(())
    }

    fn has_content(&self) -> bool {
        self.draft.has_content()
    }

    /// The reason to stop comes after all content, in one event with the counts; what follows is only the mark of the
    /// end.
    fn finish(mut self: Box<Self>, _: Ended) -> Result<ModelReply, Broken> {
        self.close();
        match self.draft.finish {
            Some(_) => Ok(self.draft.into_reply()),
            None => Err(Broken::cut()),
        }
    }
}

/// Appends to a field that is told in pieces.
fn append(block: &mut Value, name: &str, piece: &str) {
    let joined = format!("{}{piece}", text(block, name));
    block[name] = joined.into();
}

/// Tokens written to the cache and read from it are counted beside the others there, and among them here.
fn usage(usage: &Value) -> Option<Usage> {
    let fresh = count(usage, "/input_tokens")?;
    let written = count(usage, "/cache_creation_input_tokens").unwrap_or(0);
    let read = count(usage, "/cache_read_input_tokens").unwrap_or(0);
    Some(Usage {
        input_tokens: fresh.saturating_add(written).saturating_add(read),
        cached_input_tokens: read,
        output_tokens: count(usage, "/output_tokens").unwrap_or(0),
        reasoning_tokens: count(usage, "/output_tokens_details/thinking_tokens").unwrap_or(0),
    })
}
