//! The runs, and what must hold of each whatever the model says.

use super::server::MODEL;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// What bounds a run: such a model may go on for ever.
const BOUNDS: [&str; 6] = ["--budget-tokens", "20000", "--max-steps", "3", "--max-time", "5m"];
/// A form that leaves no room to go on for ever.
const FORM: &str = r#"{"type": "object", "properties": {"colour": {"enum": ["red", "green", "blue"]}},
    "required": ["colour"], "additionalProperties": false}"#;
/// Ends of a run that are clear, with their exit status: a weak model often meets a bound.
const ENDS: [(&str, i32); 2] = [("done", 0), ("budget_exceeded", 4)];

/// The line that `errand run --json` ends with, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Ended {
    run: String,
    status: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    answer: Option<String>,
    steps: u64,
    tokens: u64,
}

/// All runs, each with what it took. Their records lie in `cache` and stay there if something does not hold.
pub(super) fn all(errand: &Path, base_url: &str, cache: &Path) -> anyhow::Result<()> {
    let kept = cache.join(format!("runs-{}", std::process::id()));
    std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    let (data, form, note) = (kept.join("data"), kept.join("form.json"), kept.join("note.txt"));
    std::fs::write(&form, FORM)?;
    // A form is enforced by such a server only where there are no tools.
    let bare = kept.join("errand.toml");
    std::fs::write(&bare, "tools = []\n")?;
    std::fs::write(&note, "The door is green.\n")?;
    let (form, note, bare) = (form.to_string_lossy(), note.to_string_lossy(), bare.to_string_lossy());
    for (name, task, options) in [
        ("plain", "Say hello.", vec!["--config", &*bare]),
        ("with a tool", "What colour is the door in note.txt?", vec!["--tools", "files", "--file", &*note]),
        ("with a form", "Which colour has grass?", vec!["--config", &*bare, "--output-schema", &*form]),
    ] {
        let began = Instant::now();
        let run = |arguments: &[&str]| run(errand, &data, arguments);
        let mut arguments = vec!["run", task, "--json", "--model", MODEL, "--model-base-url", base_url];
        arguments.extend(BOUNDS.iter().chain(&options));
        let ended = one(&run, &arguments).with_context(|| format!("the run {name}, kept in {}", kept.display()))?;
        if name == "with a form" {
            form_held(&ended).with_context(|| format!("the run {name}, kept in {}", kept.display()))?;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{name}: {}, {} steps, {} tokens; events, ledger and replay hold: {seconds:.1} s",
            ended.status, ended.steps, ended.tokens
        );
    }
    std::fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))
}

/// `errand` with nothing of the caller's own settings.
fn run(errand: &Path, data: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(errand);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", data).args(arguments).arg("--data").arg(data);
    command.stdin(Stdio::null()).output().context("cannot start errand")
}

/// One run: a clear end, its events in order, its ledger whole, the same again in replay.
fn one(run: &impl Fn(&[&str]) -> anyhow::Result<Output>, arguments: &[&str]) -> anyhow::Result<Ended> {
    let output = run(arguments)?;
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().next_back().with_context(|| format!("errand said nothing: {complaint}"))?;
    let ended: Ended = serde_json::from_str(last).with_context(|| format!("not the end of a run: {last}"))?;
    let code = output.status.code().unwrap_or(-1);
    let message = ended.message.as_deref().unwrap_or_default();
    ensure!(ENDS.contains(&(ended.status.as_str(), code)), "ended as {} with exit status {code}: {message}", ended.status);
    ensure!(ended.tokens > 0 && ended.steps > 0, "{} tokens and {} steps", ended.tokens, ended.steps);
    for command in ["verify", "replay"] {
        let output = run(&[command, &ended.run])?;
        ensure!(output.status.success(), "errand {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let events = run(&["events", &ended.run, "--json"])?;
    in_order(&String::from_utf8_lossy(&events.stdout), &ended.status)?;
    Ok(ended)
}

/// Events are numbered from 1 without a gap, begin with the start and end with the end.
fn in_order(events: &str, status: &str) -> anyhow::Result<()> {
    let mut kinds = Vec::new();
    for (index, line) in events.lines().enumerate() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("no event: {line}"))?;
        ensure!(event["seq"] == index + 1, "event {} comes in place {}", event["seq"], index + 1);
        kinds.push(event["type"].as_str().unwrap_or_default().to_owned());
    }
    match (kinds.first(), kinds.last()) {
        (Some(first), Some(last)) if first == "run_started" && *last == format!("run_{status}") => Ok(()),
        (first, last) => bail!("the events begin with {first:?} and end with {last:?}"),
    }
}

/// The server holds even a weak model to the form: the first answer fits.
fn form_held(ended: &Ended) -> anyhow::Result<()> {
    let answer: Value =
        serde_json::from_str(ended.answer.as_deref().unwrap_or_default()).context("the answer is not JSON")?;
    let fits = answer["colour"].as_str().is_some_and(|colour| ["red", "green", "blue"].contains(&colour));
    ensure!(fits && ended.steps == 1, "the server did not enforce the form: {answer} after {} steps", ended.steps);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_not_in_order_are_found() {
        let event = |seq: u64, kind: &str| format!("{{\"seq\":{seq},\"type\":\"{kind}\"}}\n");
        let (start, text, end) = (event(1, "run_started"), event(2, "text"), event(3, "run_done"));
        in_order(&format!("{start}{text}{end}"), "done").unwrap();
        for (events, status) in [
            (String::new(), "done"),
            (format!("{start}{text}"), "done"),
            (format!("{start}{end}"), "done"),
            (format!("{start}{text}{end}"), "budget_exceeded"),
            (format!("{start}broken\n"), "done"),
        ] {
            assert!(in_order(&events, status).is_err(), "{events} {status}");
        }
    }

    #[test]
    fn an_answer_that_is_mended_later_is_no_enforced_form() {
        let ended = |answer: &str, steps| Ended {
            run: String::new(),
            status: "done".to_owned(),
            message: None,
            answer: Some(answer.to_owned()),
            steps,
            tokens: 1,
        };
        form_held(&ended("{\"colour\":\"red\"}", 1)).unwrap();
        assert!(form_held(&ended("{\"colour\":\"red\"}", 2)).is_err());
        assert!(form_held(&ended("{\"colour\":\"grass\"}", 1)).is_err());
        assert!(form_held(&ended("red", 1)).is_err());
    }
}
