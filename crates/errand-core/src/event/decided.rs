use super::super::run::Grant;
use crate::{CallId, CallState, Due, Executor, Head, Outcome, Rejection, Run};
use serde::{Deserialize, Serialize};

/// A person decided on a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Which call.
    pub call: CallId,
    /// What was decided.
    pub decision: Decision,
    /// Who decided.
    pub by: String,
}

/// A person's decision on a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Make the call as it is.
    Approve,
    /// Make the call with these arguments, checked against the tool's schema.
    Edit {
        /// A JSON object.
        arguments: String,
    },
    /// Do not make the call.
    Reject {
        /// Why; the model is told.
        reason: String,
    },
    /// Of a call whose outcome was unknown: it took hold.
    Happened {
        /// What is known of its result.
        note: String,
    },
    /// Of a call whose outcome was unknown: it did not take hold.
    NotHappened {
        /// What is known.
        note: String,
    },
}

impl Decision {
    /// The outcome that the decision itself is, if it ends the call.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Decision::Approve | Decision::Edit { .. } => None,
            Decision::Reject { reason } => Some(Outcome::Rejected { reason: reason.clone() }),
            Decision::Happened { note } => {
                Some(Outcome::Ok { text: format!("a person confirmed that this call took hold. {note}") })
            }
            Decision::NotHappened { note } => {
                Some(Outcome::error("not_executed", format!("a person confirmed that this call did not take hold. {note}")))
            }
        }
    }

    /// True if the decision answers a call in this state.
    pub fn fits(&self, state: &CallState) -> bool {
        match self {
            Decision::Approve | Decision::Edit { .. } => matches!(state, CallState::Approval),
            Decision::Reject { .. } => matches!(state, CallState::Approval | CallState::Person { .. }),
            Decision::Happened { .. } | Decision::NotHappened { .. } => matches!(state, CallState::Unknown),
        }
    }
}

impl Decided {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Due::Calls { mut calls } = head.due.clone() else { return Err(run.rejection("decided")) };
        let call = calls.iter_mut().find(|call| call.id == self.call).ok_or(Rejection::NotPending { call: self.call })?;
        if !self.decision.fits(&call.state) {
            return Err(Rejection::NotPending { call: self.call });
        }
        match self.decision.outcome() {
            Some(outcome) => {
                head.context.add((outcome.shown().0.len() + call.tool.len() + 64) as u64);
                call.state = CallState::Done;
            }
            None => {
                let spec = run.config.tool(&call.tool).ok_or(Rejection::NotPending { call: self.call })?;
                if let Decision::Edit { arguments } = &self.decision {
                    // Other arguments may do more than those the class was decided for.
                    call.class = spec.class;
                    head.context.add((arguments.len() + crate::transcript::EDITED_NOTE.len()) as u64);
                }
                call.state = match spec.executor {
                    Executor::SubRun => {
                        let slice = Grant::among(run, head, 1).take(None);
                        CallState::SubRun { run: run.sub_run_id(self.call), slice }
                    }
                    _ => run.hand_out(head, spec),
                };
            }
        }
        run.go_on_after_calls(head, calls);
        Ok(())
    }
}
