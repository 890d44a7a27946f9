//! Which turn of a script is due, worked out from the conversation alone.

use super::format::{Bind, Call, END, Script, Turn};
use super::scope::{Scope, json_in};
use errand_core::{Message, ModelRequest, SUMMARY_NOTE};
use regex_lite::Regex;
use serde_json::{Value, json};

/// A turn that cannot be played.
#[derive(Debug)]
pub(super) struct Stuck {
    /// Number of the turn, from 1; 0 if none is meant.
    pub(super) turn: usize,
    /// Why.
    pub(super) reason: String,
}

/// The turn that is due, with what it can see.
#[derive(Debug)]
pub(super) struct Due<'a> {
    /// The turn.
    pub(super) turn: &'a Turn,
    /// Its number, from 1.
    pub(super) number: usize,
    /// What it can see.
    pub(super) scope: Scope,
}

/// Follows the conversation through the script: each reply in it stands for a turn that was played.
///
/// A user message begins a pass through the script if none has begun or the last one is over; otherwise it is the
/// `notice` of the pass. An empty reply leaves no message of its own, only the engine's note on it, so a user message
/// while an `empty` turn is due means that it was played.
pub(super) fn due<'a>(script: &'a Script, request: &ModelRequest) -> Result<Due<'a>, Stuck> {
    let walk = walk(script, request, &request.messages)?;
    match walk.due()? {
        Some(at) => Ok(Due { turn: &script.turn[at], number: at + 1, scope: walk.scope }),
        None => Err(Stuck { turn: 0, reason: "it is over, and the conversation wants another reply".to_owned() }),
    }
}

/// A summary from which the pass through the script can go on: where it is, and what it knows.
pub(super) fn summary(script: &Script, request: &ModelRequest) -> Result<String, Stuck> {
    let (_, before) =
        request.messages.split_last().ok_or_else(|| Stuck { turn: 0, reason: "nothing was said".to_owned() })?;
    let walk = walk(script, request, before)?;
    Ok(json!({ "at": walk.at, "known": walk.scope.values() }).to_string())
}

fn walk<'a>(script: &'a Script, request: &ModelRequest, messages: &[Message]) -> Result<Walk<'a>, Stuck> {
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    let mut walk: Option<Walk<'a>> = None;
    for (position, message) in messages.iter().enumerate() {
        if let (Message::User { text, .. }, Some(walk)) = (message, &mut walk)
            && walk.restored(text)
        {
            continue;
        }
        match (message, &mut walk) {
            (Message::User { text, .. }, Some(walk)) if walk.due()?.is_some() => walk.noticed(text)?,
            (Message::User { text, .. }, walk) => {
                *walk = Some(Walk { script, at: Some(0), scope: Scope::new(text, &tools) })
            }
            (Message::Assistant { .. }, Some(walk)) => walk.replied(&messages[position + 1..])?,
            _ => {}
        }
    }
    Ok(walk.unwrap_or_else(|| Walk { script, at: Some(0), scope: Scope::new("", &tools) }))
}

/// The calls of a turn that are made, given what is known.
pub(super) fn calls_of<'a>(turn: &'a Turn, scope: &Scope) -> Result<Vec<&'a Call>, String> {
    let mut made = Vec::new();
    for call in &turn.call {
        if scope.holds(call.when.as_deref())? {
            made.push(call);
        }
    }
    Ok(made)
}

struct Walk<'a> {
    script: &'a Script,
    /// Where to look for the next turn; `None` once the script has ended.
    at: Option<usize>,
    scope: Scope,
}

impl<'a> Walk<'a> {
    /// The position of the turn that is due, turns whose condition does not hold passed over.
    fn due(&self) -> Result<Option<usize>, Stuck> {
        let Some(from) = self.at else { return Ok(None) };
        for (at, turn) in self.script.turn.iter().enumerate().skip(from) {
            if self.holds(at, turn.when.as_deref())? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Goes on from a summary that this script wrote; false if the text is none.
    fn restored(&mut self, text: &str) -> bool {
        let summary = text.strip_prefix(SUMMARY_NOTE).and_then(|text| serde_json::from_str::<Value>(text.trim()).ok());
        let Some((at, known)) = summary.as_ref().and_then(|summary| Some((summary.get("at")?, summary.get("known")?)))
        else {
            return false;
        };
        self.at = at.as_u64().and_then(|at| usize::try_from(at).ok());
        self.scope.know(known);
        true
    }

    /// The turn that was due has been played; `after` begins with its observations.
    fn replied(&mut self, after: &[Message]) -> Result<(), Stuck> {
        // A reply when none was due is not of this script (a fork from another model): nothing follows from it.
        let Some(at) = self.due()? else { return Ok(()) };
        let turn = &self.script.turn[at];
        let observations = after.iter().map_while(|message| match message {
            Message::Tool { text, is_error, .. } => Some((text.as_str(), *is_error)),
            _ => None,
        });
        let calls = calls_of(turn, &self.scope).map_err(|reason| Stuck { turn: at + 1, reason })?;
        for (call, (text, is_error)) in calls.into_iter().zip(observations) {
            self.scope.observe(call.name(), text, is_error);
            bind(call, text, &mut self.scope);
        }
        self.at = self.after(at, turn)?;
        Ok(())
    }

    fn noticed(&mut self, text: &str) -> Result<(), Stuck> {
        self.scope.set("notice", text.into());
        if let Some(at) = self.due()?.filter(|at| self.script.turn[*at].empty) {
            self.at = self.after(at, &self.script.turn[at])?;
        }
        Ok(())
    }

    fn after(&self, at: usize, turn: &Turn) -> Result<Option<usize>, Stuck> {
        for rule in &turn.next {
            if self.holds(at, rule.when.as_deref())? {
                return Ok(if rule.goto == END { None } else { self.script.position(&rule.goto) });
            }
        }
        Ok(Some(at + 1))
    }

    fn holds(&self, at: usize, expression: Option<&str>) -> Result<bool, Stuck> {
        self.scope.holds(expression).map_err(|reason| Stuck { turn: at + 1, reason })
    }
}

/// Takes the values of a call from its observation. What matches nothing and has no default becomes undefined, also
/// if an earlier pass through a loop had bound it.
fn bind(call: &Call, text: &str, scope: &mut Scope) {
    for (name, bind) in &call.bind {
        match found(bind, text).or_else(|| bind.default.clone()) {
            Some(value) => scope.set(name, value),
            None => scope.remove(name),
        }
    }
}

fn found(bind: &Bind, text: &str) -> Option<Value> {
    match (&bind.json, &bind.regex) {
        (Some(pointer), _) => json_in(text)?.pointer(pointer).cloned(),
        // The script was checked, so the expression is one and has its group.
        (None, Some(regex)) => Some(Regex::new(regex).ok()?.captures(text)?.get(1)?.as_str().into()),
        (None, None) => None,
    }
}
