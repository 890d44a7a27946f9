//! Events as lines for people. Pure: the same event always reads the same.

use crate::text::{count, duration, neutral, one_line, plural};
use errand_api::events::{Kind, PublicEvent};
use serde_json::Value;

/// How a piece of text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Dim,
    Strong,
    Good,
    Bad,
    Notice,
}

/// Most characters of arguments or of a result that a line shows.
const WIDTH: usize = 110;

/// The lines of an event. `streamed`: its text was shown as it came.
pub(crate) fn lines(event: &PublicEvent, streamed: bool) -> Vec<(Tone, String)> {
    match &event.kind {
        Kind::RunStarted { task, model, scripted, files, after, .. } => started(task, model, *scripted, files, after),
        Kind::RunForked { origin, origin_record, .. } => {
            vec![(Tone::Dim, format!("forked from {origin} after record {origin_record}"))]
        }
        Kind::Reasoning { .. } | Kind::Text { .. } if streamed => Vec::new(),
        Kind::Reasoning { text } => vec![(Tone::Dim, neutral(text.trim_end()))],
        Kind::Text { text } => vec![(Tone::Plain, neutral(text.trim_end()))],
        Kind::ToolCall { call, tool, arguments } => {
            vec![(Tone::Strong, format!("→ {} {call}  {}", neutral(tool), short_arguments(arguments)))]
        }
        Kind::ToolCallRefused { call, tool, code, error, .. } => {
            vec![(Tone::Bad, format!("✗ {} {call} was not made: {code}: {}", neutral(tool), one_line(error, WIDTH)))]
        }
        Kind::ToolResult { call, tool, outcome, code, text, sandbox_ms, egress: _ } => {
            vec![result(&format!("{} {call}", neutral(tool)), outcome, code.as_deref(), text, *sandbox_ms)]
        }
        Kind::ApprovalNeeded { call, tool, arguments } => vec![
            (Tone::Notice, format!("? {} {call} waits for your approval", neutral(tool))),
            (Tone::Plain, indented(&pretty(arguments))),
        ],
        Kind::QuestionAsked { call, arguments, until } => {
            let until = until.as_ref().map(|until| format!(" (until {until})")).unwrap_or_default();
            vec![(Tone::Notice, format!("? {call} asks{until}: {}", neutral(&question(arguments))))]
        }
        Kind::TimerSet { until, .. } => vec![(Tone::Notice, format!("⏲ waits until {until}"))],
        Kind::OutcomeUnknown { call, tool, .. } => vec![(
            Tone::Bad,
            format!(
                "? {} {call}: nobody knows whether it took hold; look, then say it with `errand resolve`",
                neutral(tool)
            ),
        )],
        Kind::Decided { call, decision, by, text } => {
            let text = text.as_ref().map(|text| format!(": {}", one_line(text, WIDTH))).unwrap_or_default();
            vec![(Tone::Dim, format!("  {by} decided on {call}: {decision}{text}"))]
        }
        Kind::UserMessage { text, .. } => vec![(Tone::Strong, format!("» {}", neutral(text)))],
        Kind::Compacted { model, .. } => {
            vec![(Tone::Dim, format!("  the conversation was shortened by {}; the records keep it whole", neutral(model)))]
        }
        Kind::ModelFailed { code, message, retry_at, next_model } => {
            let then = match (next_model, retry_at) {
                (Some(model), _) => format!("; {} takes over", neutral(model)),
                (None, Some(at)) => format!("; trying again at {at}"),
                (None, None) => String::new(),
            };
            vec![(Tone::Bad, format!("✗ model call failed ({code}): {}{then}", one_line(message, 300)))]
        }
        Kind::BudgetRaised { usd, tokens, steps, active_ms, by } => {
            let by = neutral(by);
            let more = format!("${usd}, {tokens} tokens, {steps} steps, {}", duration(*active_ms));
            vec![(Tone::Dim, format!("  {by} raised the budget by {more}"))]
        }
        Kind::Usage { steps, tokens, usd, .. } => vec![(
            Tone::Dim,
            format!("  {} · {} tokens · ${}", plural(u64::from(*steps), "step", "steps"), count(*tokens), short_usd(*usd)),
        )],
        Kind::RunPaused { reason } => vec![(Tone::Notice, format!("paused: {reason}"))],
        Kind::RunDone { .. } => Vec::new(),
        Kind::RunFailed { code, message } => vec![(Tone::Bad, format!("failed ({code}): {}", neutral(message)))],
        Kind::RunCancelled { reason } if reason.is_empty() => vec![(Tone::Notice, "cancelled".to_owned())],
        Kind::RunCancelled { reason } => vec![(Tone::Notice, format!("cancelled: {}", neutral(reason)))],
        Kind::RunBudgetExceeded { bound } => {
            vec![(Tone::Notice, format!("the next model call does not fit the budget ({bound})"))]
        }
    }
}

fn started(
    task: &str,
    model: &str,
    scripted: bool,
    files: &[String],
    after: &Option<errand_core::RunId>,
) -> Vec<(Tone, String)> {
    let mut lines =
        vec![(Tone::Strong, format!("» {}", one_line(task, 300))), (Tone::Dim, format!("  model {}", neutral(model)))];
    if scripted {
        lines.push((Tone::Notice, "  scripted model: this is a script, not an AI".to_owned()));
    }
    if !files.is_empty() {
        lines.push((Tone::Dim, format!("  files {}", one_line(&files.join(", "), 300))));
    }
    if let Some(after) = after {
        lines.push((Tone::Dim, format!("  goes on after {after}")));
    }
    lines
}

fn result(name: &str, outcome: &str, code: Option<&str>, text: &str, sandbox_ms: u64) -> (Tone, String) {
    let took = if sandbox_ms > 0 { format!(" {}", duration(sandbox_ms)) } else { String::new() };
    let shown = one_line(text, WIDTH);
    match (outcome, code) {
        ("ok", _) => (Tone::Good, format!("  ✓ {name}{took}  {shown}")),
        ("rejected", _) => (Tone::Notice, format!("  ✗ {name} rejected: {shown}")),
        ("unknown", _) => (Tone::Bad, format!("  ? {name} outcome unknown: {shown}")),
        (_, code) => (Tone::Bad, format!("  ✗ {name}{took} {}: {shown}", code.unwrap_or("error"))),
    }
}

/// Arguments on one line: of a single text only the text.
fn short_arguments(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(fields)) if fields.len() == 1 => match fields.values().next() {
            Some(Value::String(text)) => one_line(text, WIDTH),
            _ => one_line(arguments, WIDTH),
        },
        _ => one_line(arguments, WIDTH),
    }
}

/// Arguments as a person decides on them: all of them, texts as they will be used.
pub(crate) fn pretty(arguments: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(arguments) else { return neutral(arguments) };
    let shown = fields.iter().map(|(name, value)| match value {
        Value::String(text) if text.contains('\n') => format!("{}:\n{}", neutral(name), indented(&neutral(text))),
        Value::String(text) => format!("{}: {}", neutral(name), neutral(text)),
        other => format!("{}: {}", neutral(name), neutral(&other.to_string())),
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// The question and its options in the arguments of `ask_user`.
pub(crate) fn question(arguments: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(arguments) else { return arguments.to_owned() };
    let mut text = value["question"].as_str().unwrap_or(arguments).to_owned();
    for (number, option) in (1..).zip(value["options"].as_array().into_iter().flatten()) {
        text.push_str(&format!("\n  {number}. {}", option.as_str().unwrap_or_default()));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Dollars with two decimals, more where they are needed.
fn short_usd(usd: f64) -> String {
    if usd == 0.0 || usd >= 0.01 { format!("{usd:.2}") } else { format!("{usd:.6}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use errand_core::CallId;

    fn shown(kind: Kind) -> String {
        let run = "run_01HZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap();
        let event = PublicEvent { kind, seq: 1, run, record: 2, at: "t".to_owned() };
        lines(&event, false).into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    }

    const CALL: CallId = CallId { record: 2, index: 0 };

    #[test]
    fn a_script_always_says_so() {
        let kind = Kind::RunStarted {
            assistant: None,
            task: "t".to_owned(),
            model: "scripted/hello".to_owned(),
            scripted: true,
            tools: Vec::new(),
            files: Vec::new(),
            after: None,
            parent: None,
        };
        assert!(shown(kind).contains("this is a script, not an AI"));
    }

    #[test]
    fn nothing_of_a_model_or_a_tool_reaches_the_terminal_raw() {
        let evil = "\x1b]0;owned\x07\x1b[2J".to_owned();
        let kinds = [
            Kind::Text { text: evil.clone() },
            Kind::Reasoning { text: evil.clone() },
            Kind::ToolCall { call: CALL, tool: evil.clone(), arguments: evil.clone() },
            Kind::ToolResult {
                call: CALL,
                tool: evil.clone(),
                outcome: "ok",
                code: None,
                text: evil.clone(),
                sandbox_ms: 1,
                egress: None,
            },
            Kind::ApprovalNeeded { call: CALL, tool: evil.clone(), arguments: format!("{{\"a\":{evil:?}}}") },
            Kind::ApprovalNeeded {
                call: CALL,
                tool: evil.clone(),
                arguments: "{\"a\":\"\\u001b[2J\\n\\u001b\"}".to_owned(),
            },
            Kind::QuestionAsked { call: CALL, arguments: "{\"question\":\"\\u001b[2J\"}".to_owned(), until: None },
            Kind::UserMessage { id: evil.clone(), text: evil.clone() },
            Kind::ModelFailed {
                code: "c".to_owned(),
                message: evil.clone(),
                retry_at: None,
                next_model: Some(evil.clone()),
            },
            Kind::Compacted { through: 1, model: evil.clone(), summary: evil.clone() },
            Kind::RunFailed { code: "c".to_owned(), message: evil.clone() },
            Kind::RunCancelled { reason: evil },
        ];
        for kind in kinds {
            let text = shown(kind);
            assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
        }
    }

    #[test]
    fn arguments_are_shown_as_they_will_be_used() {
        assert_eq!(pretty("{\"script\":\"a\\nb\",\"n\":1}"), "n: 1\nscript:\n    a\n    b");
        assert_eq!(short_arguments("{\"script\":\"ls -l\\n  | sort\"}"), "ls -l | sort");
        assert_eq!(question("{\"question\":\"q?\",\"options\":[\"a\",\"b\"]}"), "q?\n  1. a\n  2. b");
    }
}
