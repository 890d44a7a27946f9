//! The reply a turn makes.

use super::format::Turn;
use super::scope::Scope;
use super::walk::{Due, calls_of};
use errand_core::{Finish, Message, ModelReply, ModelRequest, RequestedCall, Usage};
use errand_engine::ports::{Delta, DeltaSink};
use serde_json::Map;

/// Bytes that count as one token.
const BYTES_PER_TOKEN: u64 = 4;

/// Most bytes of an endless reply, should the request allow more.
const ENDLESS_BYTES_MAX: u64 = 1 << 20;

/// Plays the turn that is due. Output beyond the request's limit is cut off, arguments of calls too.
pub(super) fn reply(request: &ModelRequest, due: &Due<'_>) -> Result<ModelReply, String> {
    let turn = due.turn;
    let mut room = Room { bytes: request.max_output_tokens.saturating_mul(BYTES_PER_TOKEN), cut: false };
    let reasoning = room.take(due.scope.render(&turn.reasoning)?);
    let text = room.take(text(turn, &due.scope, room.bytes)?);
    let calls = calls(request, due, &mut room)?;
    if !turn.empty && text.is_empty() && calls.is_empty() && !room.cut {
        return Err("it has nothing to say here; mend `say`, or write `empty = true` if that is meant".to_owned());
    }
    let written = reasoning.len() + text.len() + calls.iter().map(|c| c.name.len() + c.arguments.len()).sum::<usize>();
    let usage = Usage {
        input_tokens: input_bytes(request).div_ceil(BYTES_PER_TOKEN),
        cached_input_tokens: 0,
        output_tokens: (written as u64).div_ceil(BYTES_PER_TOKEN),
        reasoning_tokens: (reasoning.len() as u64).div_ceil(BYTES_PER_TOKEN),
    };
    let finish = turn.finish.unwrap_or(if room.cut { Finish::Length } else { Finish::Stop });
    let usage = turn.usage.then_some(usage);
    Ok(ModelReply { opaque: None, model: request.model.clone(), text, reasoning, calls, finish, usage })
}

/// Hands a reply out word by word.
pub(super) fn stream(reply: &ModelReply, deltas: &dyn DeltaSink) {
    for word in reply.reasoning.split_inclusive(char::is_whitespace) {
        deltas.delta(Delta::Reasoning(word.to_owned()));
    }
    for word in reply.text.split_inclusive(char::is_whitespace) {
        deltas.delta(Delta::Text(word.to_owned()));
    }
    for call in &reply.calls {
        deltas.delta(Delta::Call { name: call.name.clone() });
    }
}

fn text(turn: &Turn, scope: &Scope, room: u64) -> Result<String, String> {
    let said = if turn.plain { turn.say.clone() } else { scope.render(&turn.say)? };
    if !turn.endless {
        return Ok(said);
    }
    let unit = if said.is_empty() { "again ".to_owned() } else { said };
    let bytes = room.min(ENDLESS_BYTES_MAX);
    // One more than there is room for, so that it is always the limit that ends it.
    Ok(unit.repeat(usize::try_from(bytes / unit.len() as u64).unwrap_or(0) + 1))
}

fn calls(request: &ModelRequest, due: &Due<'_>, room: &mut Room) -> Result<Vec<RequestedCall>, String> {
    let before = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
    let mut calls = Vec::new();
    for (position, call) in calls_of(due.turn, &due.scope)?.into_iter().enumerate() {
        let none = Map::new();
        let arguments = match &call.arguments_raw {
            Some(raw) => due.scope.render(raw)?,
            None => due.scope.fill_fields(call.arguments.as_ref().unwrap_or(&none))?.to_string(),
        };
        let name = room.take(call.tool.clone());
        calls.push(RequestedCall { id: format!("call_{before}_{position}"), name, arguments: room.take(arguments) });
    }
    Ok(calls)
}

fn input_bytes(request: &ModelRequest) -> u64 {
    let tools = request.tools.iter().map(|t| (t.name.len() + t.description.len() + t.parameters.len()) as u64);
    request.messages.iter().map(Message::bytes).chain(tools).sum()
}

/// What the output limit leaves.
struct Room {
    bytes: u64,
    cut: bool,
}

impl Room {
    fn take(&mut self, mut text: String) -> String {
        let end = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        if text.len() > end {
            text.truncate(text.floor_char_boundary(end));
            self.cut = true;
        }
        self.bytes -= text.len() as u64;
        text
    }
}
