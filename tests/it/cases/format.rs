//! The form of a case file, read into data. `tests/cases/README.md` tells it to authors.

use super::stage::Takes;
use errand_core::{
    Allowance, Amount, Approval, Budget, CallId, Class, Decision, Executor, Limits, Outcome, ToolDefinition, ToolSpec, Usd,
    WhenExceeded,
};
use serde_json::json;
use std::collections::BTreeMap;

/// The line above what is expected.
pub(super) const LINE: &str = "----";

/// A case as it is written.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    /// Everything above the line.
    pub(super) above: String,
    /// Everything below it.
    pub(super) expected: String,
    pub(super) task: String,
    pub(super) budget: Budget,
    pub(super) limits: Limits,
    pub(super) price_unknown: bool,
    /// Names of models that take over, and that shorten conversations.
    pub(super) fallbacks: Vec<String>,
    pub(super) summarizers: Vec<String>,
    /// What an answer must contain.
    pub(super) output: Option<String>,
    pub(super) tools: Vec<ToolLine>,
    /// Time the first model calls take, in order.
    pub(super) model_takes: Vec<Takes>,
    pub(super) models: BTreeMap<String, String>,
    pub(super) script: Vec<Line>,
}

/// A tool with its outcomes.
#[derive(Debug, Clone)]
pub(super) struct ToolLine {
    pub(super) spec: ToolSpec,
    pub(super) answers: Vec<Answer>,
}

/// What an execution of a tool comes to.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) takes: Takes,
    pub(super) outcome: Outcome,
    pub(super) nanos: u64,
}

impl Answer {
    pub(super) fn nothing() -> Self {
        Answer { takes: Takes::Nothing, outcome: Outcome::Ok { text: "done".to_owned() }, nanos: 0 }
    }
}

/// One line of the script.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// As it is written.
    pub(super) text: String,
    /// The run it is about: `R1` unless it says otherwise.
    pub(super) run: String,
    pub(super) act: Act,
}

/// What happens from outside.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Work,
    Step,
    Wait(u64),
    ClockBack(u64),
    Sweep,
    HoldSend,
    Crash,
    Restart,
    Decide(CallId, Decision),
    Answer(CallId, String),
    Message(String, String),
    Raise(String, Allowance),
    Cancel(String),
    Fork { at: u64, model: Option<String>, budget: Option<Usd>, message: Option<String> },
}

impl Case {
    /// Reads a case.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (above, expected) = match text.split_once(&format!("\n{LINE}\n")) {
            Some((above, expected)) => (above, expected),
            None => (text.trim_end(), ""),
        };
        let mut case = Case {
            name: name.to_owned(),
            above: above.to_owned(),
            expected: expected.to_owned(),
            task: "Do the errand.".to_owned(),
            budget: Budget { usd: None, tokens: None, steps: 20, active_ms: 600_000, when_exceeded: WhenExceeded::End },
            limits: Limits::default(),
            price_unknown: false,
            fallbacks: Vec::new(),
            summarizers: Vec::new(),
            output: None,
            tools: Vec::new(),
            model_takes: Vec::new(),
            models: BTreeMap::new(),
            script: Vec::new(),
        };
        let mut section = String::new();
        for (number, line) in (1..).zip(above.lines()) {
            let failed = |reason: String| format!("{name}, line {number}: {reason}");
            if let Some(title) = line.strip_prefix("== ") {
                section = title.trim().to_owned();
                if let Some(model) = section.strip_prefix("model") {
                    let model = if model.is_empty() { "main" } else { model.trim() };
                    case.models.insert(model.to_owned(), "about = \"a case\"\n".to_owned());
                }
                continue;
            }
            match section.as_str() {
                "" => case.header(line).map_err(failed)?,
                "script" => case.script.extend(Line::parse(line).map_err(failed)?),
                other => {
                    let model = other.strip_prefix("model").ok_or_else(|| failed(format!("no section `{other}`")))?;
                    let model = if model.is_empty() { "main" } else { model.trim() };
                    let script = case.models.entry(model.to_owned()).or_default();
                    script.push_str(line);
                    script.push('\n');
                }
            }
        }
        Ok(case)
    }

    fn header(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (word, rest) = line.split_once(' ').ok_or("a word and a value are expected")?;
        match word {
            "task" => self.task = rest.trim_end().to_owned(),
            "budget" => rest.split_whitespace().try_for_each(|part| self.budget(part))?,
            "limits" => rest.split_whitespace().try_for_each(|part| self.limit(part))?,
            "fallback" => self.fallbacks.push(rest.to_owned()),
            "summarizer" => self.summarizers.push(rest.to_owned()),
            "output" => self.output = Some(rest.to_owned()),
            "price" if rest == "unknown" => self.price_unknown = true,
            "model-takes" => self.model_takes = rest.split_whitespace().map(takes).collect::<Result<_, _>>()?,
            "tool" => self.tools.push(tool(rest)?),
            other => return Err(format!("`{other}` is not known")),
        }
        Ok(())
    }

    fn budget(&mut self, part: &str) -> Result<(), String> {
        let budget = &mut self.budget;
        match part.split_once('=') {
            Some(("usd", text)) => budget.usd = Some(usd(text)?),
            Some(("tokens", text)) => budget.tokens = Some(number(text)?),
            Some(("steps", text)) => budget.steps = number(text)? as u32,
            Some(("active", text)) => budget.active_ms = millis(text)?,
            Some(("when", "pause")) => budget.when_exceeded = WhenExceeded::Pause,
            _ => return Err(format!("`{part}` is no part of a budget")),
        }
        Ok(())
    }

    fn limit(&mut self, part: &str) -> Result<(), String> {
        let (name, value) = part.split_once('=').ok_or("a limit is NAME=NUMBER")?;
        let mut limits = serde_json::to_value(self.limits).map_err(|error| error.to_string())?;
        if limits.get(name).is_none() {
            return Err(format!("there is no limit `{name}`"));
        }
        limits[name] = number(value)?.into();
        self.limits = serde_json::from_value(limits).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// `NAME CLASS EXECUTOR [approval] [timeout=10s] [NAME:TYPE]… = OUTCOME ; OUTCOME …`
fn tool(text: &str) -> Result<ToolLine, String> {
    let (what, outcomes) = text.split_once(" = ").unwrap_or((text, ""));
    let mut words = what.split_whitespace();
    let name = words.next().ok_or("a tool needs a name")?;
    let class = match words.next() {
        Some("pure") => Class::Pure,
        Some("idempotent") => Class::Idempotent,
        Some("effectful") => Class::Effectful,
        other => return Err(format!("{other:?} is no class")),
    };
    let executor = match words.next() {
        Some("inline") => Executor::Inline,
        Some("worker") => Executor::Worker,
        Some("sandbox") => Executor::Sandbox,
        Some("person") => Executor::Person,
        Some("timer") => Executor::Timer,
        Some("subrun") => Executor::SubRun,
        other => return Err(format!("{other:?} is no executor")),
    };
    let (mut approval, mut timeout_ms) = (Approval::Never, 30_000);
    let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
    for word in words {
        match word.split_once('=') {
            Some(("timeout", text)) => timeout_ms = millis(text)?,
            _ if word == "approval" => approval = Approval::Always,
            _ => {
                let (field, kind) = word.split_once(':').ok_or_else(|| format!("`{word}` is not known"))?;
                properties.insert(field.to_owned(), json!({ "type": kind }));
                required.push(field.to_owned());
            }
        }
    }
    let parameters = json!({ "type": "object", "properties": properties, "required": required }).to_string();
    let definition = ToolDefinition { name: name.to_owned(), description: format!("the tool {name}"), parameters };
    let answers = outcomes.split(" ; ").filter(|text| !text.is_empty()).map(answer).collect::<Result<_, _>>()?;
    let spec = ToolSpec {
        definition,
        class,
        executor,
        approval,
        timeout_ms,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    };
    Ok(ToolLine { spec, answers })
}

/// `[slow 5s | forever] [cost 0.01] ok TEXT | error CODE TEXT`
fn answer(text: &str) -> Result<Answer, String> {
    let mut answer = Answer::nothing();
    let mut rest = text.trim();
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let (value, beyond) = after.split_once(' ').unwrap_or((after, ""));
        match word {
            "forever" => (answer.takes, rest) = (Takes::Forever, after),
            "slow" => (answer.takes, rest) = (Takes::Millis(millis(value)?), beyond),
            "cost" => (answer.nanos, rest) = (usd(value)?.nanos(), beyond),
            "ok" => answer.outcome = Outcome::Ok { text: after.to_owned() },
            "error" => answer.outcome = Outcome::error(value, beyond),
            "" => {}
            other => return Err(format!("`{other}` is no outcome")),
        }
        if matches!(word, "ok" | "error" | "") {
            return Ok(answer);
        }
    }
}

impl Line {
    fn parse(line: &str) -> Result<Option<Self>, String> {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let (run, words) = match text.split_once(": ") {
            Some((run, words)) if run.starts_with('R') && !run.contains(' ') => (run, words),
            _ => ("R1", text),
        };
        Ok(Some(Line { text: text.to_owned(), run: run.to_owned(), act: act(words)? }))
    }
}

fn act(text: &str) -> Result<Act, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let call = || first.parse::<CallId>().map_err(|error| error.to_string());
    Ok(match word {
        "work" => Act::Work,
        "step" => Act::Step,
        "wait" => Act::Wait(millis(rest)?),
        "clock-back" => Act::ClockBack(millis(rest)?),
        "sweep" => Act::Sweep,
        "hold-send" => Act::HoldSend,
        "crash" => Act::Crash,
        "restart" => Act::Restart,
        "approve" => Act::Decide(call()?, Decision::Approve),
        "edit" => Act::Decide(call()?, Decision::Edit { arguments: second.to_owned() }),
        "reject" => Act::Decide(call()?, Decision::Reject { reason: second.to_owned() }),
        "happened" => Act::Decide(call()?, Decision::Happened { note: second.to_owned() }),
        "not-happened" => Act::Decide(call()?, Decision::NotHappened { note: second.to_owned() }),
        "answer" => Act::Answer(call()?, second.to_owned()),
        "message" => Act::Message(first.to_owned(), second.to_owned()),
        "raise" => Act::Raise(first.to_owned(), allowance(second)?),
        "cancel" => Act::Cancel(rest.to_owned()),
        "fork" => fork(first, second)?,
        other => return Err(format!("`{other}` is no act")),
    })
}

/// `AT [model=NAME] [usd=0.10] [say=TEXT to the end]`
fn fork(at: &str, options: &str) -> Result<Act, String> {
    let (options, message) = match options.split_once("say=") {
        Some((options, message)) => (options, Some(message.to_owned())),
        None => (options, None),
    };
    let (mut model, mut budget) = (None, None);
    for option in options.split_whitespace() {
        match option.split_once('=') {
            Some(("model", name)) => model = Some(name.to_owned()),
            Some(("usd", text)) => budget = Some(usd(text)?),
            _ => return Err(format!("`{option}` is no part of a fork")),
        }
    }
    Ok(Act::Fork { at: number(at)?, model, budget, message })
}

fn allowance(text: &str) -> Result<Allowance, String> {
    let mut by = Allowance::default();
    for part in text.split_whitespace() {
        match part.split_once('=') {
            Some(("usd", text)) => by.amount = Amount { usd: usd(text)?, ..by.amount },
            Some(("tokens", text)) => by.amount = Amount { tokens: number(text)?, ..by.amount },
            Some(("steps", text)) => by.steps = number(text)? as u32,
            Some(("active", text)) => by.active_ms = millis(text)?,
            _ => return Err(format!("`{part}` is no part of a raise")),
        }
    }
    Ok(by)
}

fn takes(text: &str) -> Result<Takes, String> {
    match text {
        "forever" => Ok(Takes::Forever),
        "0" => Ok(Takes::Nothing),
        text => Ok(Takes::Millis(millis(text)?)),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// Dollars with up to nine decimals.
fn usd(text: &str) -> Result<Usd, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<9}");
    Ok(Usd::from_nanos(number(&digits)?))
}

/// A number with `ms`, `s`, `m` or `h`.
fn millis(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[at..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => return Err(format!("`{other}` is no unit of time")),
    };
    Ok(number(&text[..at])? * unit)
}
