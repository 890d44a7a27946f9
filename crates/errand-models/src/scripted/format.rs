//! The form of a script, checked when it is read. `scripts/README.md` tells it to authors.

use errand_core::{Finish, ModelErrorKind, Price};
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The target that ends a script; no turn may be called so.
pub(super) const END: &str = "end";

/// A script: turns in the order they come, unless a turn says otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// One line on what it shows.
    pub(super) about: String,
    /// Input and output tokens it pretends to take at most.
    pub(super) context_tokens: Option<u64>,
    price: Option<Dollars>,
    /// What it answers when it is asked to shorten a conversation.
    pub(super) summary: Option<Turn>,
    /// The turns.
    pub(super) turn: Vec<Turn>,
}

/// A price as written: US dollars per million tokens.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dollars {
    input: f64,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: f64,
}

impl Dollars {
    /// The price in nanodollars, or nothing if an amount is negative or beyond any price. Without a price of their
    /// own, cached tokens cost what others do. Which tokens a provider writes to its cache is its own affair, so the
    /// dearer of writing and reading afresh is the price of input.
    pub(crate) fn price(self) -> Option<Price> {
        let nanos = |dollars: f64| (0.0..=1e6).contains(&dollars).then(|| (dollars * 1e9).round() as u64);
        Some(Price {
            input: nanos(self.input)?.max(nanos(self.cache_write.unwrap_or(self.input))?),
            cached_input: nanos(self.cached_input.unwrap_or(self.input))?,
            output: nanos(self.output)?,
        })
    }
}

/// One reply.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    /// What others go to it by.
    pub(super) id: Option<String>,
    /// The turn is passed over unless this holds.
    pub(super) when: Option<String>,
    /// Visible text: a template.
    #[serde(default)]
    pub(super) say: String,
    /// Reasoning: a template.
    #[serde(default)]
    pub(super) reasoning: String,
    /// Tool calls.
    #[serde(default)]
    pub(super) call: Vec<Call>,
    /// Where to go on: the first rule that holds, else the next turn in the file.
    #[serde(default)]
    pub(super) next: Vec<Rule>,
    /// Why the reply ends.
    pub(super) finish: Option<Finish>,
    /// Fault: an empty reply.
    #[serde(default)]
    pub(super) empty: bool,
    /// Fault: `say` over and over until the output limit cuts it off.
    #[serde(default)]
    pub(super) endless: bool,
    /// False: the reply comes without usage.
    #[serde(default = "yes")]
    pub(super) usage: bool,
    /// What it says is no template.
    #[serde(skip)]
    pub(super) plain: bool,
    /// Fault: a failed call instead of a reply.
    pub(super) error: Option<Fault>,
}

fn yes() -> bool {
    true
}

/// A tool call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// What expressions know it by; the tool's name if absent.
    pub(super) id: Option<String>,
    /// Name of the tool.
    pub(super) tool: String,
    /// The call is left out unless this holds.
    pub(super) when: Option<String>,
    /// Arguments; strings in them are templates, `{"$expr": "…"}` is an expression's value.
    pub(super) arguments: Option<Map<String, Value>>,
    /// Arguments as raw text, for malformed ones: a template.
    pub(super) arguments_raw: Option<String>,
    /// Values taken from its observation.
    #[serde(default)]
    pub(super) bind: BTreeMap<String, Bind>,
}

impl Call {
    pub(super) fn name(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.tool)
    }
}

/// Where a value comes from. Without a match it is `default`, or stays undefined.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bind {
    /// JSON pointer into the observation, or into the last line of it that is a JSON object or list.
    pub(super) json: Option<String>,
    /// Regular expression with one group over the observation's text.
    pub(super) regex: Option<String>,
    /// The value if there is no match.
    pub(super) default: Option<Value>,
}

/// A way on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Taken only if this holds.
    pub(super) when: Option<String>,
    /// Id of a turn, or `end`.
    pub(super) goto: String,
}

/// A failed call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Its kind.
    pub(super) kind: ModelErrorKind,
    /// Its text.
    #[serde(default = "fault_message")]
    pub(super) message: String,
    /// The wait asked for, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
    /// Whether it may be charged.
    #[serde(default)]
    pub(super) may_be_charged: bool,
    /// How many tries at the same request fail before one succeeds; without it all do.
    pub(super) times: Option<u32>,
}

fn fault_message() -> String {
    "the script says that this call fails".to_owned()
}

/// A script that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It is not TOML, or not of the form.
    #[error("script `{script}`: {reason}")]
    Form {
        /// Name of the script.
        script: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A turn contradicts itself or another.
    #[error("script `{script}`, turn {turn}: {reason}")]
    Turn {
        /// Name of the script.
        script: String,
        /// Number of the turn, from 1.
        turn: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Script {
    /// Reads and checks the script called `name`.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ScriptError> {
        let form = |reason: String| ScriptError::Form { script: name.to_owned(), reason };
        let script: Script = toml::from_str(text).map_err(|error| form(error.to_string()))?;
        if script.turn.is_empty() {
            return Err(form("it has no turn".to_owned()));
        }
        if script.price.is_some_and(|price| price.price().is_none()) {
            return Err(form("a price is negative or over a million dollars".to_owned()));
        }
        if let Some(Err(reason)) = script.summary.as_ref().map(|turn| turn.check(&BTreeSet::new())) {
            return Err(form(format!("`summary`: {reason}")));
        }
        let ids: BTreeSet<&str> = script.turn.iter().filter_map(|turn| turn.id.as_deref()).collect();
        for (position, turn) in script.turn.iter().enumerate() {
            turn.check(&ids).map_err(|reason| ScriptError::Turn { script: name.to_owned(), turn: position + 1, reason })?;
        }
        if ids.len() < script.turn.iter().filter(|turn| turn.id.is_some()).count() {
            return Err(form("two turns have the same id".to_owned()));
        }
        Ok(script)
    }

    /// What its tokens cost; free unless it says otherwise.
    pub(super) fn price(&self) -> Price {
        self.price.and_then(Dollars::price).unwrap_or(Price::FREE)
    }

    /// Position of the turn called `id`.
    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.turn.iter().position(|turn| turn.id.as_deref() == Some(id))
    }
}

impl Turn {
    /// A turn that says `text` as it is.
    pub(super) fn saying(text: String) -> Self {
        Self { say: text, plain: true, usage: true, ..Self::default() }
    }

    fn check(&self, ids: &BTreeSet<&str>) -> Result<(), String> {
        let says = !self.say.is_empty() || !self.call.is_empty() || self.endless;
        if self.id.as_deref() == Some(END) {
            return Err(format!("no turn can be called `{END}`"));
        }
        if !says && !self.empty && self.error.is_none() {
            return Err("it has neither `say` nor a call; write `empty = true` if that is meant".to_owned());
        }
        if says && self.empty {
            return Err("`empty` leaves no room for `say`, calls or `endless`".to_owned());
        }
        let passes = self.error.as_ref().is_some_and(|fault| fault.times.is_some());
        if self.error.is_some() && passes != (says || self.empty) {
            return Err(
                "an `error` with `times` needs a reply for afterwards; one without leaves no room for any".to_owned()
            );
        }
        if let Some(rule) = self.next.iter().find(|rule| rule.goto != END && !ids.contains(rule.goto.as_str())) {
            return Err(format!("it goes to `{}`, and no turn is called so", rule.goto));
        }
        self.call.iter().try_for_each(Call::check)
    }
}

impl Call {
    fn check(&self) -> Result<(), String> {
        if self.arguments.is_some() && self.arguments_raw.is_some() {
            return Err(format!("call `{}` has both `arguments` and `arguments_raw`", self.name()));
        }
        for (value, bind) in &self.bind {
            let problem = match (&bind.json, &bind.regex) {
                (Some(pointer), None) if pointer.is_empty() || pointer.starts_with('/') => continue,
                (Some(_), None) => "a JSON pointer is empty or begins with `/`".to_owned(),
                (None, Some(regex)) => match Regex::new(regex) {
                    Ok(regex) if regex.captures_len() == 2 => continue,
                    Ok(_) => "the regular expression needs exactly one group".to_owned(),
                    Err(error) => error.to_string(),
                },
                _ => "give either `json` or `regex`".to_owned(),
            };
            return Err(format!("value `{value}` of call `{}`: {problem}", self.name()));
        }
        Ok(())
    }
}
