//! How a run stands, for programs.

use crate::events::bound_name;
use crate::responses::id;
use crate::text::{dollars, time};
use errand_core::{CallState, RunLog, Status, Timestamp};
use errand_engine::ports::RunSummary;
use serde_json::{Value, json};

/// A run in a list.
pub(super) fn line(run: &RunSummary) -> Value {
    json!({
        "run": run.run, "tenant": run.tenant, "response": id::response(run.run), "status": run.status, "task": run.task, "model": run.model,
        "started_at": time(run.started), "at": time(run.at), "records": run.number, "steps": run.totals.steps,
        "calls": run.totals.calls, "tokens": run.totals.spent.tokens, "usd": dollars(run.totals.spent.usd),
        "parent": run.parent,
    })
}

/// How a run stands, and what it waits for.
pub(super) fn run(log: &RunLog, now: Timestamp) -> Value {
    let (bill, totals) = (log.bill(), &log.run.head.totals);
    let (code, message) = match &log.run.head.status {
        Status::Failed { code, message } => (Some(code.as_str()), Some(message.as_str())),
        Status::Cancelled { reason } => (None, Some(reason.as_str())),
        Status::BudgetExceeded { bound } => (Some(bound_name(*bound)), None),
        _ => (None, None),
    };
    let mut run = line(&RunSummary::of(log));
    let total = bill.total();
    let more = json!({
        "code": code, "message": message, "answer": log.answer(), "metadata": log.started().metadata,
        "tokens": total.tokens, "usd": dollars(total.usd),
        "unconfirmed_usd": dollars(totals.unconfirmed + bill.waste.usd + bill.open.usd),
        "active_ms": totals.active_ms, "goes_on": crate::standing::standing(log, now) == crate::standing::Standing::Going,
        "waits_for": waits_for(log),
    });
    if let (Some(run), Value::Object(more)) = (run.as_object_mut(), more) {
        run.extend(more);
    }
    run
}

/// The calls that only a person brings forward.
fn waits_for(log: &RunLog) -> Vec<Value> {
    let waits = |pending: &errand_core::PendingCall| {
        let what = match pending.state {
            CallState::Approval => "approval",
            CallState::Person { .. } => "answer",
            CallState::Unknown => "resolution",
            _ => return None,
        };
        let arguments = log.call(pending.id).map_or("", |call| call.arguments);
        Some(json!({"call": pending.id.to_string(), "tool": pending.tool, "what": what, "arguments": arguments}))
    };
    if log.run.head.status.is_ended() {
        return Vec::new();
    }
    log.run.head.due.calls().iter().filter_map(waits).collect()
}
