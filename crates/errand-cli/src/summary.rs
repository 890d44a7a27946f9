//! How a run stands, in one object: the last line of `--json`, and the lines below an answer.

use crate::files::FileEntry;
use crate::follow::waits_for;
use crate::text;
use errand_api::events::bound_name;
use errand_core::{BudgetBound, Due, Left, RunId, RunLog, Status, Usd};
use serde::Serialize;

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) run: RunId,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<String>,
    pub(crate) model: String,
    pub(crate) scripted: bool,
    pub(crate) records: u64,
    pub(crate) steps: u32,
    pub(crate) calls: u32,
    pub(crate) tokens: u64,
    pub(crate) usd: f64,
    pub(crate) unconfirmed_usd: f64,
    pub(crate) active_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) waits_for: Vec<String>,
    pub(crate) files: Vec<FileEntry>,
    #[serde(skip)]
    cost: String,
    /// What has to be raised for it to go on, if it is paused.
    #[serde(skip)]
    short_of: Option<&'static str>,
}

impl Summary {
    pub(crate) fn of(log: &RunLog, files: Vec<FileEntry>) -> Self {
        let head = &log.run.head;
        let bill = log.bill();
        let unconfirmed = head.totals.unconfirmed + bill.waste.usd + bill.open.usd;
        let (code, message) = reason(&head.status);
        let total = bill.total();
        Self {
            kind: "result",
            run: log.run.id,
            status: head.status.code(),
            code,
            message,
            answer: log.answer().map(str::to_owned),
            model: log.run.model().name.clone(),
            scripted: log.run.model().name.starts_with(errand_models::PREFIX),
            records: log.run.number,
            steps: head.totals.steps,
            calls: head.totals.calls,
            tokens: total.tokens,
            usd: text::dollars(total.usd),
            unconfirmed_usd: text::dollars(unconfirmed),
            active_ms: head.totals.active_ms,
            waits_for: waits_for(log),
            files,
            cost: cost(log, total.usd, unconfirmed),
            short_of: (head.due == Due::Budget).then(|| short_of(log)),
        }
    }

    /// The lines below an answer. `seen`: why it ended was shown already.
    pub(crate) fn lines(&self, seen: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(message) = self.message.as_ref().filter(|_| !seen || self.status == "budget_exceeded") {
            let code = self.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
            lines.push(format!("{}{code}: {}", self.status, text::neutral(message)));
        }
        lines.extend(self.waits_for.iter().cloned());
        if let Some(short_of) = self.short_of {
            lines.push(format!("to go on: errand raise {} {short_of}", self.run));
        }
        lines.push(format!(
            "{} · {} · {} · {} · {} tokens · {} · {}",
            self.run,
            self.status,
            text::plural(u64::from(self.steps), "step", "steps"),
            text::plural(u64::from(self.calls), "tool call", "tool calls"),
            text::count(self.tokens),
            self.cost,
            text::duration(self.active_ms),
        ));
        let made: Vec<String> = self
            .files
            .iter()
            .filter(|file| file.made)
            .map(|file| format!("{} ({})", text::one_line(&file.path, 100), text::bytes(file.bytes)))
            .collect();
        if !made.is_empty() {
            let (shown, more) =
                (made.iter().take(12).cloned().collect::<Vec<_>>().join(", "), made.len().saturating_sub(12));
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("files made: {shown}{more}; fetch one: errand files {} PATH --output FILE", self.run));
        }
        lines
    }
}

fn reason(status: &Status) -> (Option<String>, Option<String>) {
    match status {
        Status::Failed { code, message } => (Some(code.clone()), Some(message.clone())),
        Status::Cancelled { reason } => (None, Some(reason.clone()).filter(|reason| !reason.is_empty())),
        Status::BudgetExceeded { bound } => {
            let more = match bound {
                BudgetBound::Usd => "give a new run, or a fork of this one, more with --budget",
                BudgetBound::Tokens => "give a new run, or a fork of this one, more with --budget-tokens",
                BudgetBound::Steps => "give a new run, or a fork of this one, more with --max-steps",
                BudgetBound::ActiveTime => "give a new run, or a fork of this one, more with --max-time",
                BudgetBound::OutputTokens => "the request said how long the answer may be at most",
            };
            let message = format!("the next model call does not fit; {more}");
            (Some(bound_name(*bound).to_owned()), Some(message))
        }
        _ => (None, None),
    }
}

/// The flags of `errand raise` that let a paused run go on.
fn short_of(log: &RunLog) -> &'static str {
    let budget = &log.run.config.budget;
    let left = Left::of(budget, &log.run.head);
    match (budget.usd, budget.tokens) {
        _ if left.steps == 0 => "--steps N",
        _ if left.active_ms == 0 => "--time DURATION",
        (Some(_), Some(_)) => "--usd AMOUNT --tokens N",
        (None, Some(_)) => "--tokens N",
        _ => "--usd AMOUNT",
    }
}

fn cost(log: &RunLog, total: Usd, unconfirmed: Usd) -> String {
    match log.run.model().price {
        Some(_) => text::money(total, unconfirmed),
        None => "cost unknown (no price is known for this model)".to_owned(),
    }
}
