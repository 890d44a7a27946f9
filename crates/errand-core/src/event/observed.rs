use crate::{CallState, Due, Head, Observation, Outcome, Rejection, Run};
use serde::{Deserialize, Serialize};

/// Tool calls ended: results came, people answered, time passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// What came of them, in the order of the calls.
    pub observations: Vec<Observation>,
}

impl Observed {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Due::Calls { mut calls } = head.due.clone() else { return Err(run.rejection("observed")) };
        for observation in &self.observations {
            let call = calls
                .iter_mut()
                .find(|call| call.id == observation.call)
                .filter(|call| {
                    call.state.is_at_work() || matches!(call.state, CallState::Person { .. } | CallState::Timer { .. })
                })
                .ok_or(Rejection::NotPending { call: observation.call })?;
            call.state = match observation.outcome {
                Outcome::Unknown { .. } => CallState::Unknown,
                _ => CallState::Done,
            };
            let tool = call.tool.clone();
            run.note_observation(head, observation, &tool);
        }
        run.go_on_after_calls(head, calls);
        Ok(())
    }
}
