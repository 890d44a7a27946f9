//! A reply of Gemini's, gathered from its chunks.

use crate::http::calls::Fragment;
use crate::http::dialect::{Ask, Broken, Ended, Reader, Step, complaint};
use crate::http::draft::Draft;
use crate::http::forms::{arguments_text, count, list, text};
use errand_core::{Finish, ModelReply, Usage};
use errand_engine::ports::DeltaSink;
use serde_json::{Map, Value};

pub(super) struct GeminiReader {
    draft: Draft,
}

impl GeminiReader {
    pub(super) fn new(ask: &Ask<'_>) -> Self {
        Self { draft: Draft::new(ask) }
    }

    fn chunk(&mut self, chunk: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        complaint(chunk)?;
        let model = text(chunk, "modelVersion");
        if !model.is_empty() {
            model.clone_into(&mut self.draft.model);
        }
        if let Some(usage) = chunk.get("usageMetadata").and_then(usage) {
            self.draft.usage = Some(usage);
        }
        if let Some(candidate) = list(chunk, "candidates").next() {
            for part in candidate.get("content").into_iter().flat_map(|content| list(content, "parts")) {
                self.part(part, deltas)?;
            }
            self.stopped(text(candidate, "finishReason"))?;
        }
        // A prompt that is blocked has no candidates, and nothing follows.
        if chunk.pointer("/promptFeedback/blockReason").and_then(Value::as_str).is_some_and(|reason| !reason.is_empty()) {
            self.draft.finish = Some(Finish::Refused);
        }
        Ok(())
    }

    fn part(&mut self, part: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        let mut with = Map::new();
        if let Some(signature) = part.get("thoughtSignature").filter(|signature| signature.is_string()) {
            with.insert("thoughtSignature".to_owned(), signature.clone());
        }
        if let Some(call) = part.get("functionCall") {
            let arguments = Some(arguments_text(call.get("args"))).filter(|arguments| !arguments.is_empty());
            let fragment = Fragment {
                index: Some(self.draft.calls.len() as u64),
                id: text(call, "id"),
                name: text(call, "name"),
                arguments: arguments.as_deref().unwrap_or("{}"),
            };
            self.draft.calls.add(&fragment, deltas)?;
            if let Some(id) = call.get("id").filter(|id| id.as_str().is_some_and(|id| !id.is_empty())) {
                with.insert("id".to_owned(), id.clone());
            }
            self.draft.layout.call(with);
        } else if part.get("thought") == Some(&Value::Bool(true)) {
            // Summaries of thoughts are for readers; the thoughts themselves are in the signatures.
            self.draft.add_reasoning(text(part, "text"), deltas);
        } else {
            let said = text(part, "text");
            self.draft.layout.text(said.len(), with);
            self.draft.add_text(said, deltas);
        }
        Ok(())
    }

    fn stopped(&mut self, reason: &str) -> Result<(), Broken> {
        self.draft.finish = match reason {
            "" | "FINISH_REASON_UNSPECIFIED" => return Ok(()),
            "STOP" => Some(Finish::Stop),
            "MAX_TOKENS" => Some(Finish::Length),
            "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
                Some(Finish::Refused)
            }
            // The model stumbled, over a call for the most part; another try may go well. Reasons of later versions are
            // not taken for a whole answer.
            reason => {
                let reason: String = reason.chars().filter(char::is_ascii_graphic).take(60).collect();
                return Err(Broken::Garbled(format!("the model broke off ({reason})")));
            }
        };
        Ok(())
    }
}

impl Reader for GeminiReader {
    fn event(&mut self, event: &Value, deltas: &dyn DeltaSink) -> Result<Step, Broken> {
        self.chunk(event, deltas)?;
        Ok(Step::More)
    }

    fn whole(&mut self, body: &Value, deltas: &dyn DeltaSink) -> Result<(), Broken> {
        // Without `alt=sse`, as some gateways ask, all chunks come in one list.
        match body {
            Value::Array(chunks) => chunks.iter().try_for_each(|chunk| self.chunk(chunk, deltas)),
            chunk => self.chunk(chunk, deltas),
        }
    }

    fn has_content(&self) -> bool {
        self.draft.has_content()
    }

    /// There is no mark of the end. The reason to stop comes in the last chunk, in one with the counts.
    fn finish(self: Box<Self>, ended: Ended) -> Result<ModelReply, Broken> {
        let finished = self.draft.finish.is_some();
        let whole = finished && (ended != Ended::Open || self.draft.usage.is_some());
        if whole { Ok(self.draft.into_reply()) } else { Err(Broken::cut()) }
    }
}

/// Thoughts are counted beside the answer there, and are output here.
fn usage(usage: &Value) -> Option<Usage> {
    let prompt = count(usage, "/promptTokenCount")?;
    let input = prompt.saturating_add(count(usage, "/toolUsePromptTokenCount").unwrap_or(0));
    let thoughts = count(usage, "/thoughtsTokenCount").unwrap_or(0);
    let output = count(usage, "/candidatesTokenCount").unwrap_or(0).saturating_add(thoughts);
    let total = count(usage, "/totalTokenCount").unwrap_or(0);
    Some(Usage {
        input_tokens: input,
        cached_input_tokens: count(usage, "/cachedContentTokenCount").unwrap_or(0),
        output_tokens: output.max(total.saturating_sub(input)),
        reasoning_tokens: thoughts,
    })
}
