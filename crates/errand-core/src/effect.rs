//! What a head asks the world to do. Effects follow from the head alone, so asking twice asks for the same.

use crate::{Amount, CallId, CallState, Due, Head, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// Something the core asks the world to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Send the message for the next record.
    MakeNext {
        /// Not before this time.
        not_before: Option<Timestamp>,
    },
    /// Hand a call to the calls queue.
    CallTool {
        /// Which call.
        call: CallId,
    },
    /// Start a sub-run.
    StartRun {
        /// The call it carries out.
        call: CallId,
        /// Its id.
        run: RunId,
        /// What it may spend.
        slice: Amount,
    },
    /// Ask a person: to allow a call, to answer, or to say what came of one.
    Ask {
        /// Which call.
        call: CallId,
    },
    /// Stop a sub-run.
    StopRun {
        /// The call it carries out.
        call: CallId,
        /// Its id.
        run: RunId,
    },
    /// Tell the run above.
    TellParent {
        /// That run.
        run: RunId,
    },
}

impl Head {
    /// All that the head asks for, in a fixed order.
    pub fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        match &self.due {
            Due::Model { not_before, .. } => effects.push(Effect::MakeNext { not_before: *not_before }),
            Due::Calls { calls } => {
                for call in calls {
                    effects.extend(match call.state {
                        CallState::HandedOut { .. } => Some(Effect::CallTool { call: call.id }),
                        CallState::SubRun { run, slice } => Some(Effect::StartRun { call: call.id, run, slice }),
                        CallState::Approval | CallState::Unknown => Some(Effect::Ask { call: call.id }),
                        CallState::Person { .. } => Some(Effect::Ask { call: call.id }),
                        CallState::Timer { .. } | CallState::Caller | CallState::Done => None,
                    });
                }
                if let Some(time) = self.due.deadline() {
                    effects.push(Effect::MakeNext { not_before: Some(time) });
                }
            }
            Due::Budget => {}
            Due::Nothing { abandoned } => {
                effects.extend(abandoned.iter().filter_map(|call| match call.state {
                    CallState::SubRun { run, .. } => Some(Effect::StopRun { call: call.id, run }),
                    _ => None,
                }));
                effects.extend(self.parent.map(|run| Effect::TellParent { run }));
            }
        }
        effects
    }
}
