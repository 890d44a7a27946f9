//! From a run's records, and what an attempt shows meanwhile, to the events and items of a response.
//!
//! One walk serves everything: played over the log alone it gives the items of a stored response and the events of a
//! stream that is read later; with the pieces of an attempt under way it gives the stream while it happens. Numbers are
//! the same in both: a piece of text counts as many as it has characters, so it does not matter how a reply was cut into
//! pieces. Only what a failed attempt showed is not in the log, and later numbers of that stream are higher for it.

use super::id;
use errand_core::{
    CallId, CallState, Event, Executor, Fault, ModelReplied, Outcome, Record, RunConfig, RunId, RunLog, Verdict,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One event of a response's stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// Its number: for a piece of text, that of its last character.
    pub(super) number: u64,
    /// Its type.
    pub(super) name: &'static str,
    /// All of it but type and number.
    pub(super) data: Value,
}

/// Walks along a run.
pub(super) struct Emitter {
    run: RunId,
    /// Whether pieces are shown as they come. Not where the answer must have a form: nobody knows yet which text that is.
    live: bool,
    next: u64,
    /// Records that were walked over.
    walked: u64,
    items: Vec<Value>,
    calls: BTreeMap<CallId, usize>,
    open: Option<Open>,
    told: Vec<Told>,
}

/// What an attempt shows.
struct Open {
    record: u64,
    attempt: u32,
    reasoning: Option<Part>,
    message: Option<Part>,
    /// Pieces are missing; the whole reply brings them.
    lost: bool,
}

struct Part {
    index: usize,
    text: String,
    closed: bool,
}

impl Emitter {
    pub(super) fn new(run: RunId, config: &RunConfig) -> Self {
        Self {
            run,
            live: config.output.is_none(),
            next: 0,
            walked: 0,
            items: Vec::new(),
            calls: BTreeMap::new(),
            open: None,
            told: Vec::new(),
        }
    }

    /// The items of the response as far as the log goes.
    pub(super) fn items_of(log: &RunLog) -> Vec<Value> {
        let mut emitter = Self::new(log.run.id, &log.run.config);
        emitter.walk(log);
        emitter.items
    }

    /// The items so far.
    pub(super) fn items(&self) -> Vec<Value> {
        self.items.clone()
    }

    /// The events since this was asked last.
    pub(super) fn take(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// An event about the response as a whole.
    pub(super) fn tell(&mut self, name: &'static str, data: Value) {
        self.push(name, 1, data);
    }

    /// An attempt begins to show something.
    pub(super) fn attempt(&mut self, record: u64, attempt: u32) {
        if record > self.walked {
            self.give_up();
            self.open = Some(Open { record, attempt, reasoning: None, message: None, lost: false });
        }
    }

    /// Pieces were missed.
    pub(super) fn lost(&mut self) {
        if let Some(open) = &mut self.open {
            open.lost = true;
        }
    }

    /// A piece of visible text.
    pub(super) fn text(&mut self, piece: &str) {
        if self.live && self.open.as_ref().is_some_and(|open| !open.lost) {
            self.close_reasoning();
            self.open_message();
            self.say(piece);
        }
    }

    /// A piece of reasoning. What comes after visible text waits for the whole reply.
    pub(super) fn reasoning(&mut self, piece: &str) {
        if self.live && self.open.as_ref().is_some_and(|open| !open.lost && open.message.is_none()) {
            self.open_reasoning();
            self.think(piece);
        }
    }

    /// Walks over the records that were not walked over yet.
    pub(super) fn walk(&mut self, log: &RunLog) {
        let from = usize::try_from(self.walked).unwrap_or(usize::MAX).min(log.records.len());
        for sealed in &log.records[from..] {
            let record = &*sealed.record;
            match &record.event {
                Event::ModelReplied(replied) => self.replied(log, record, replied),
                // An attempt at a later record may have begun to show something already.
                _ if self.open.as_ref().is_some_and(|open| open.record > record.number) => {}
                _ => self.give_up(),
            }
            self.close_calls(log, record);
            self.walked = record.number;
        }
    }

    fn replied(&mut self, log: &RunLog, record: &Record, replied: &ModelReplied) {
        let (reasoning, text) = (&replied.reply.reasoning, &replied.reply.text);
        let fits = |part: &Option<Part>, whole: &str| part.as_ref().is_none_or(|part| whole.starts_with(&part.text));
        let goes_on = self.open.as_ref().is_some_and(|open| {
            open.record == record.number
                && open.attempt == record.attempt
                && fits(&open.message, text)
                && fits(&open.reasoning, reasoning)
        });
        if !goes_on {
            self.give_up();
            self.open =
                Some(Open { record: record.number, attempt: record.attempt, reasoning: None, message: None, lost: false });
        }
        self.end_reasoning(reasoning);
        // Where the answer must have a form, only the answer is shown as one.
        let is_shown = self.live || (replied.reply.calls.is_empty() && replied.fault().is_none());
        if is_shown || self.has_message() {
            self.end_message(text, replied);
        }
        self.open = None;
        for (index, call) in (0u32..).zip(&replied.reply.calls) {
            let id = CallId { record: record.number, index };
            let verdict = &replied.verdicts[index as usize];
            let is_callers = log.run.config.tool(&call.name).is_some_and(|tool| tool.executor == Executor::Caller);
            match (verdict, is_callers) {
                (Verdict::Accepted { .. }, true) => self.function_call(id, &call.name, &call.arguments),
                // The caller is not troubled with a call that nobody could make.
                (Verdict::Refused { .. }, true) => {}
                (verdict, false) => self.own_call(id, &call.name, &call.arguments, verdict),
            }
        }
    }

    fn open_reasoning(&mut self) {
        let Some(open) = self.open.as_ref().filter(|open| open.reasoning.is_none()) else { return };
        let item_id = id::of_reply("rs", self.run, open.record, open.attempt);
        let index = self.add(json!({"id": item_id, "type": "reasoning", "status": "in_progress", "summary": []}));
        let part = json!({"type": "summary_text", "text": ""});
        self.about(index, "response.reasoning_summary_part.added", json!({"summary_index": 0, "part": part}), 1);
        if let Some(open) = &mut self.open {
            open.reasoning = Some(Part { index, text: String::new(), closed: false });
        }
    }

    fn think(&mut self, piece: &str) {
        let Some(part) = self.open.as_mut().and_then(|open| open.reasoning.as_mut()) else { return };
        part.text.push_str(piece);
        let index = part.index;
        let count = piece.chars().count() as u64;
        if count > 0 {
            let data = json!({"summary_index": 0, "delta": piece});
            self.about(index, "response.reasoning_summary_text.delta", data, count);
        }
    }

    fn end_reasoning(&mut self, whole: &str) {
        if whole.trim().is_empty() && self.open.as_ref().is_none_or(|open| open.reasoning.is_none()) {
            return;
        }
        let Some(open) = &self.open else { return };
        // It came after visible text, whose item stands already.
        if open.reasoning.is_none() && open.message.is_some() {
            return;
        }
        self.open_reasoning();
        let shown = self.open.as_ref().and_then(|open| open.reasoning.as_ref()).map_or(0, |part| part.text.len());
        if self.open.as_ref().and_then(|open| open.reasoning.as_ref()).is_some_and(|part| !part.closed) {
            self.think(whole.get(shown..).unwrap_or_default());
        }
        self.close_reasoning();
    }

    fn close_reasoning(&mut self) {
        let open = self.open.as_mut().and_then(|open| open.reasoning.as_mut()).filter(|part| !part.closed);
        let Some(part) = open else { return };
        part.closed = true;
        let (index, text) = (part.index, part.text.clone());
        self.about(index, "response.reasoning_summary_text.done", json!({"summary_index": 0, "text": text}), 1);
        let part = json!({"type": "summary_text", "text": text});
        self.about(index, "response.reasoning_summary_part.done", json!({"summary_index": 0, "part": part}), 1);
        self.items[index]["summary"] = json!([part]);
        self.finish(index, "completed");
    }

    fn has_message(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.message.is_some())
    }

    fn open_message(&mut self) {
        let Some(open) = self.open.as_ref().filter(|open| open.message.is_none()) else { return };
        let item_id = id::of_reply("msg", self.run, open.record, open.attempt);
        let index =
            self.add(json!({"id": item_id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}));
        self.about(index, "response.content_part.added", json!({"content_index": 0, "part": output_text("")}), 1);
        if let Some(open) = &mut self.open {
            open.message = Some(Part { index, text: String::new(), closed: false });
        }
    }

    fn say(&mut self, piece: &str) {
        let Some(part) = self.open.as_mut().and_then(|open| open.message.as_mut()) else { return };
        part.text.push_str(piece);
        let index = part.index;
        let count = piece.chars().count() as u64;
        if count > 0 {
            let data = json!({"content_index": 0, "delta": piece, "logprobs": []});
            self.about(index, "response.output_text.delta", data, count);
        }
    }

    fn end_message(&mut self, whole: &str, replied: &ModelReplied) {
        if whole.trim().is_empty() && !self.has_message() {
            return;
        }
        self.open_message();
        let shown = self.open.as_ref().and_then(|open| open.message.as_ref()).map_or(0, |part| part.text.len());
        self.say(whole.get(shown..).unwrap_or_default());
        let status = match replied.fault() {
            Some(Fault::Cut | Fault::Misfit) => "incomplete",
            _ => "completed",
        };
        let phase = if replied.reply.calls.is_empty() { "final_answer" } else { "commentary" };
        self.close_message(status, Some(phase));
    }

    fn close_message(&mut self, status: &str, phase: Option<&str>) {
        let Some(part) = self.open.as_mut().and_then(|open| open.message.take()) else { return };
        let index = part.index;
        let data = json!({"content_index": 0, "text": part.text, "logprobs": []});
        self.about(index, "response.output_text.done", data, 1);
        let content = output_text(&part.text);
        self.about(index, "response.content_part.done", json!({"content_index": 0, "part": content}), 1);
        self.items[index]["content"] = json!([content]);
        if let Some(phase) = phase {
            self.items[index]["phase"] = phase.into();
        }
        self.finish(index, status);
    }

    /// What the attempt under way showed will not be part of the answer.
    fn give_up(&mut self) {
        let Some(open) = &self.open else { return };
        if let Some(part) = open.reasoning.as_ref().filter(|part| !part.closed) {
            let index = part.index;
            self.items[index]["summary"] = json!([{"type": "summary_text", "text": part.text}]);
            self.finish(index, "incomplete");
        }
        self.close_message("incomplete", None);
        self.open = None;
    }

    /// A call that the caller makes.
    fn function_call(&mut self, call: CallId, name: &str, arguments: &str) {
        let index = self.add(json!({
            "id": id::of_call("fc", self.run, call), "type": "function_call", "status": "in_progress",
            "call_id": id::of_call("call", self.run, call), "name": name, "arguments": "",
        }));
        let count = arguments.chars().count().max(1) as u64;
        self.about(index, "response.function_call_arguments.delta", json!({"delta": arguments}), count);
        let data = json!({"name": name, "arguments": arguments});
        self.about(index, "response.function_call_arguments.done", data, 1);
        self.items[index]["arguments"] = arguments.into();
        self.finish(index, "completed");
    }

    /// A call that this server makes: an item of its own kind.
    fn own_call(&mut self, call: CallId, name: &str, arguments: &str, verdict: &Verdict) {
        let index = self.add(json!({
            "id": id::of_call("et", self.run, call), "type": format!("{}{name}", super::tools::OWN),
            "status": "in_progress", "call_id": id::of_call("call", self.run, call),
            "arguments": arguments, "output": null,
        }));
        match verdict {
            Verdict::Accepted { .. } => {
                self.calls.insert(call, index);
            }
            Verdict::Refused { code, error } => {
                self.items[index]["output"] = format!("error {code}: {error}").into();
                self.finish(index, "failed");
            }
        }
    }

    /// Ends the items of calls that are over after `record`.
    fn close_calls(&mut self, log: &RunLog, record: &Record) {
        let pending = record.head.due.calls();
        let is_pending = |call: &CallId| pending.iter().any(|of| of.id == *call && of.state != CallState::Done);
        let ended = record.head.status.is_ended();
        let over: Vec<CallId> = self.calls.keys().copied().filter(|call| ended || !is_pending(call)).collect();
        for call in over {
            let Some(index) = self.calls.remove(&call) else { continue };
            if let Some(edited) = log.call(call) {
                self.items[index]["arguments"] = edited.arguments.into();
            }
            let outcome = if is_pending(&call) { None } else { log.observation(call).map(|seen| seen.outcome) };
            let status = match &outcome {
                None => "incomplete",
                Some(Outcome::Ok { .. }) => "completed",
                Some(_) => "failed",
            };
            if let Some(outcome) = outcome {
                self.items[index]["output"] = outcome.shown().0.into();
            }
            self.finish(index, status);
        }
    }

    fn add(&mut self, item: Value) -> usize {
        let index = self.items.len();
        self.items.push(item.clone());
        self.push("response.output_item.added", 1, json!({"output_index": index, "item": item}));
        index
    }

    fn finish(&mut self, index: usize, status: &str) {
        self.items[index]["status"] = status.into();
        let item = self.items[index].clone();
        self.push("response.output_item.done", 1, json!({"output_index": index, "item": item}));
    }

    fn about(&mut self, index: usize, name: &'static str, mut data: Value, count: u64) {
        data["item_id"] = self.items[index]["id"].clone();
        data["output_index"] = index.into();
        self.push(name, count, data);
    }

    fn push(&mut self, name: &'static str, count: u64, data: Value) {
        self.next += count;
        self.told.push(Told { number: self.next - 1, name, data });
    }
}

impl Told {
    /// The event as far as it comes after number `after`; `None` if nothing of it does.
    pub(super) fn after(mut self, after: Option<u64>) -> Option<Self> {
        let Some(after) = after else { return Some(self) };
        if self.number <= after {
            return None;
        }
        if let Some(Value::String(delta)) = self.data.get_mut("delta") {
            let wanted = usize::try_from(self.number - after).unwrap_or(usize::MAX);
            let cut = delta.chars().count().saturating_sub(wanted);
            *delta = delta.chars().skip(cut).collect();
        }
        Some(self)
    }
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

#[cfg(test)]
mod tests;
