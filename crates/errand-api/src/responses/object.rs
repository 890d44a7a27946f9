//! A run as a response: all fields that the specification asks for, null where there is nothing to say.

use super::{begin, id};
use crate::standing::{Standing, standing};
use errand_core::{BudgetBound, RunLog, Status, Timestamp};
use serde_json::{Value, json};

/// Where a response stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) status: &'static str,
    /// Why it is incomplete.
    pub(super) reason: Option<&'static str>,
    pub(super) error: Option<Value>,
}

impl State {
    /// Where `log`'s response stands. One that nobody waits for goes on; a plain one that only a person can bring forward
    /// is incomplete until then.
    pub(super) fn of(log: &RunLog, now: Timestamp) -> Self {
        let background = begin::shown(log).background;
        let plain = |status| Self { status, ..Self::default() };
        let incomplete = |reason| Self { status: "incomplete", reason: Some(reason), error: None };
        match &log.run.head.status {
            Status::Done => plain("completed"),
            Status::Cancelled { .. } => plain("cancelled"),
            Status::Failed { code, .. } if code == "model_refused" => incomplete("content_filter"),
            Status::Failed { code, message } => Self { status: "failed", reason: None, error: Some(error(code, message)) },
            Status::BudgetExceeded { bound } => incomplete(match bound {
                BudgetBound::OutputTokens => "max_output_tokens",
                BudgetBound::Usd => "budget_usd",
                BudgetBound::Tokens => "budget_tokens",
                BudgetBound::Steps => "budget_steps",
                BudgetBound::ActiveTime => "budget_active_time",
            }),
            _ => match standing(log, now) {
                Standing::Person if !background => incomplete("waits_for_person"),
                Standing::Paused if !background => incomplete("paused_at_budget"),
                _ if log.run.number == 1 => plain("queued"),
                _ => plain("in_progress"),
            },
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        !matches!(self.status, "queued" | "in_progress")
    }

    /// The event that ends a stream in this state.
    pub(super) fn event(&self) -> &'static str {
        match self.status {
            "completed" => "response.completed",
            "failed" => "response.failed",
            _ => "response.incomplete",
        }
    }
}

/// OpenAI's codes where they mean the same; Errand's own stands in the message.
fn error(code: &str, message: &str) -> Value {
    let known = match code {
        "model_rate_limited" | "model_quota_exhausted" => "rate_limit_exceeded",
        "model_bad_request" | "context_full" => "invalid_prompt",
        _ => "server_error",
    };
    json!({"code": known, "message": format!("{code}: {message}")})
}

/// The response, with these items.
pub(super) fn response(log: &RunLog, state: &State, items: Vec<Value>) -> Value {
    let shown = begin::shown(log);
    let started = log.started();
    let seconds = |at: Timestamp| at.as_millis() / 1000;
    let created =
        log.records.iter().find(|sealed| sealed.record.run == log.run.id).map_or(log.run.at, |sealed| sealed.record.at);
    let previous = started.history.as_ref().map(|history| id::response(history.run));
    json!({
        "id": id::response(log.run.id),
        "object": "response",
        "created_at": seconds(created),
        "completed_at": (state.status == "completed").then(|| seconds(log.run.at)),
        "status": state.status,
        "incomplete_details": state.reason.map(|reason| json!({"reason": reason})),
        "model": log.run.config.model.name,
        "previous_response_id": previous,
        "instructions": shown.instructions,
        "output": items,
        "error": state.error,
        "tools": shown.tools,
        "tool_choice": shown.tool_choice.as_deref().unwrap_or("auto"),
        "truncation": shown.truncation.as_deref().unwrap_or("auto"),
        "parallel_tool_calls": true,
        "text": shown.text.unwrap_or_else(|| json!({"format": {"type": "text"}})),
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "temperature": 1.0,
        "reasoning": null,
        "usage": state.is_terminal().then(|| usage(log)),
        "max_output_tokens": shown.max_output_tokens,
        "max_tool_calls": null,
        "store": true,
        "background": shown.background,
        "service_tier": "default",
        "metadata": started.metadata,
        "safety_identifier": shown.safety_identifier,
        "prompt_cache_key": shown.prompt_cache_key,
    })
}

/// All that is on the books, waste and lost answers among it.
fn usage(log: &RunLog) -> Value {
    let totals = &log.run.head.totals;
    let all = log.bill().total().tokens;
    let output = totals.output_tokens.min(all);
    json!({
        "input_tokens": all - output,
        "input_tokens_details": {"cached_tokens": totals.cached_tokens.min(all - output), "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": all,
    })
}
