use super::super::run::Grant;
use crate::{
    Allowance, Amount, Budget, CallState, Due, Faults, Head, ModelChoice, Observation, Outcome, PendingCall, Rejection, Run,
    RunId, Status, Totals,
};
use serde::{Deserialize, Serialize};

/// The run goes on from record `at` of `origin`, whose first records it shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// The fork itself.
    pub run: RunId,
    /// The run it comes from.
    pub origin: RunId,
    /// The last record they share.
    pub at: u64,
    /// Another model, if it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
    /// Another budget, if it was changed. The fork's books start at zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Something said to the model before it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What came in the origin of the calls pending at that record. The fork sends none of them again.
    pub carried: Vec<Observation>,
}

impl Forked {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        head.totals = Totals::default();
        head.raised = Allowance::default();
        head.faults = Faults::default();
        head.parent = None;
        head.depth = 0;
        if self.model.is_some() {
            head.model = 0;
            head.summarizer = 0;
            head.context.recount();
        }
        if let Some(message) = &self.message {
            head.context.add(message.len() as u64);
        }
        match head.due.clone() {
            Due::Calls { calls } => {
                let calls = self.carry(run, head, calls);
                head.status = Status::Running;
                run.go_on_after_calls(head, calls);
            }
            Due::Nothing { .. } if self.message.is_none() => return Err(Rejection::NothingDue { record: self.at }),
            Due::Nothing { abandoned } if !abandoned.is_empty() => return Err(Rejection::NothingDue { record: self.at }),
            Due::Nothing { .. } | Due::Model { .. } | Due::Budget => {
                head.status = Status::Running;
                run.model_due(head, None);
            }
        }
        Ok(())
    }

    fn carry(&self, run: &Run, head: &mut Head, mut calls: Vec<PendingCall>) -> Vec<PendingCall> {
        for call in calls.iter_mut().filter(|call| call.state != CallState::Done) {
            // What nobody has sent yet may still be sent: origin and forks share its fence, so by one of them at most.
            let Some(observation) = self.carried.iter().find(|observation| observation.call == call.id) else { continue };
            call.state = match observation.outcome {
                Outcome::Unknown { .. } => CallState::Unknown,
                _ => CallState::Done,
            };
            let tool = call.tool.clone();
            let unpaid = Observation { spent: Amount::ZERO, sandbox_ms: 0, ..observation.clone() };
            run.note_observation(head, &unpaid, &tool);
        }
        let sub_runs = calls.iter().filter(|call| matches!(call.state, CallState::SubRun { .. })).count();
        for call in &mut calls {
            if matches!(call.state, CallState::SubRun { .. }) {
                call.state =
                    CallState::SubRun { run: RunId::derived(self.run, &call.id.to_string(), run.at), slice: Amount::ZERO };
            }
        }
        head.due = Due::Calls { calls: calls.clone() };
        let mut grant = Grant::among(run, head, sub_runs as u64);
        for call in &mut calls {
            if let CallState::SubRun { slice, .. } = &mut call.state {
                *slice = grant.take(None);
            }
        }
        calls
    }
}
