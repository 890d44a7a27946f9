//! What people do to runs from outside: the same whether this process owns the data folder or another one does.

use crate::error::Error;
use crate::text;
use errand_core::{Allowance, Budget, CallId, CallState, Decision, ModelChoice, RunId, RunLog, Usd};
use errand_engine::Driver;
use errand_engine::ForkOptions;
use serde::{Deserialize, Serialize};

/// One of those things. Spoken over the control socket as well, so its form is versioned there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Operation {
    /// Decides on a call.
    Decide { run: RunId, call: Option<CallId>, decision: Decision },
    /// Answers a question.
    Answer { run: RunId, call: Option<CallId>, text: String },
    /// Says something.
    Message { run: RunId, id: String, text: String },
    /// Raises a budget.
    Raise { run: RunId, id: String, by: Allowance },
    /// Stops a run.
    Cancel { run: RunId, reason: String },
    /// Begins a run that goes on from another one.
    Fork { run: RunId, at: u64, fork: RunId, model: Option<ModelChoice>, budget: Option<Budget>, message: Option<String> },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    /// The run that goes on: the one named, or one that follows from it.
    pub(crate) run: RunId,
    /// What was done, for people.
    pub(crate) said: String,
}

impl Operation {
    /// The run it is about.
    pub(crate) fn run(&self) -> RunId {
        match self {
            Operation::Decide { run, .. }
            | Operation::Answer { run, .. }
            | Operation::Message { run, .. }
            | Operation::Raise { run, .. }
            | Operation::Cancel { run, .. }
            | Operation::Fork { run, .. } => *run,
        }
    }

    /// Does it, in the name of `by`.
    pub(crate) async fn apply(self, driver: &Driver, by: &str) -> Result<Done, Error> {
        let run = self.run();
        match self {
            Operation::Decide { call, decision, .. } => {
                let log = driver.load(run).await?;
                let call = the_call(&log, call, |state| decision.fits(state))?;
                let said = format!("{} {call} of {run}", word(&decision));
                driver.decide(run, call, decision, by).await?;
                Ok(Done { run, said })
            }
            Operation::Answer { call, text, .. } => {
                let log = driver.load(run).await?;
                let call = the_call(&log, call, |state| matches!(state, CallState::Person { .. }))?;
                driver.answer(run, call, &text).await?;
                Ok(Done { run, said: format!("answered {call} of {run}") })
            }
            Operation::Message { id, text, .. } => {
                let next = driver.message(run, &id, &text).await?;
                let said = if next == run {
                    format!("{run} reads it at its next turn")
                } else {
                    format!("{run} is done; {next} goes on with its thread")
                };
                Ok(Done { run: next, said })
            }
            Operation::Raise { id, by: amount, .. } => {
                driver.raise(run, &id, amount, by).await?;
                Ok(Done { run, said: format!("raised the budget of {run} by {}", allowance(&amount)) })
            }
            Operation::Cancel { reason, .. } => {
                let cancellation = driver.cancel(run, &reason, by).await?;
                let mut said = format!("{run} is {}", cancellation.status.code());
                let under_way = cancellation.calls.len() + cancellation.attempts.len();
                if under_way > 0 {
                    let calls = text::plural(under_way as u64, "call was", "calls were");
                    said.push_str(&format!("; {calls} under way, and what they cost will be on the bill"));
                }
                Ok(Done { run, said })
            }
            Operation::Fork { at, fork, model, budget, message, .. } => {
                let options = ForkOptions { model, budget, message };
                driver.fork(run, at, fork, options).await?;
                Ok(Done { run: fork, said: format!("{fork} goes on from record {at} of {run}") })
            }
        }
    }
}

/// What is granted, for people.
pub(crate) fn allowance(by: &Allowance) -> String {
    let parts = [
        (by.amount.usd != Usd::ZERO).then(|| by.amount.usd.to_string()),
        (by.amount.tokens > 0).then(|| text::plural(by.amount.tokens, "token", "tokens")),
        (by.steps > 0).then(|| text::plural(u64::from(by.steps), "step", "steps")),
        (by.active_ms > 0).then(|| text::duration(by.active_ms)),
    ];
    let told: Vec<String> = parts.into_iter().flatten().collect();
    if told.is_empty() { "nothing".to_owned() } else { told.join(" and ") }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Approve => "approved",
        Decision::Edit { .. } => "approved, with other arguments,",
        Decision::Reject { .. } => "rejected",
        Decision::Happened { .. } => "resolved (it took hold)",
        Decision::NotHappened { .. } => "resolved (it did not take hold)",
    }
}

/// The call that was named, or the only one that waits for this.
fn the_call(log: &RunLog, named: Option<CallId>, waits: impl Fn(&CallState) -> bool) -> Result<CallId, Error> {
    if let Some(call) = named {
        return Ok(call);
    }
    let run = log.run.id;
    let pending: Vec<CallId> =
        log.run.head.due.calls().iter().filter(|call| waits(&call.state)).map(|call| call.id).collect();
    match pending[..] {
        [call] => Ok(call),
        _ if log.run.head.status.is_ended() => {
            let status = log.run.head.status.code();
            Err(Error::new("run_ended", format!("run {run} has ended ({status}): nothing can be decided any longer")))
        }
        [] => Err(Error::new("not_waiting", format!("no call of run {run} is waiting for this"))),
        _ => {
            let names: Vec<String> = pending.iter().map(CallId::to_string).collect();
            let message = format!("calls {} of run {run} wait for this: name one with --call", names.join(", "));
            Err(Error::new("call_ambiguous", message))
        }
    }
}
