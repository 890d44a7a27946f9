use super::super::run::Grant;
use crate::{
    CallId, CallState, Due, Executor, Finish, Hash, Head, ModelReply, ModelTask, Observation, PendingCall, Rejection, Run,
    Status, ToolSpec, Verdict,
};
use serde::{Deserialize, Serialize};

/// Longest time that calls which take turns may have together: what one call may have at most.
const CALLS_MS_MAX: u64 = 900_000;

/// A model answered. Quick pure calls it asked for are already carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReplied {
    /// What was asked.
    pub request: Hash,
    /// What it said.
    pub reply: ModelReply,
    /// The engine's check of each call, in the order of the reply.
    pub verdicts: Vec<Verdict>,
    /// What came of the calls that were carried out at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<Observation>,
    /// Why the answer does not have the form that was asked for, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfit: Option<String>,
}

/// What is wrong with a reply as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Neither text nor a call.
    Empty,
    /// Cut off by the output limit.
    Cut,
    /// Calls, but none that can be made.
    NoValidCall,
    /// An answer, but not in the form that was asked for.
    Misfit,
}

impl Fault {
    /// What the model is told, where the answers to its calls do not tell it already.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Fault::Empty => Some("[errand] Your reply was empty. Call a tool, or give your final answer as text."),
            Fault::Cut => Some(
                "[errand] Your reply was cut off at the output limit. Be shorter, or write long content to a file in parts.",
            ),
            Fault::Misfit => Some(
                "[errand] Your answer does not have the form that was asked for. Answer again, with nothing but JSON that \
                 fits the schema. What is wrong:",
            ),
            Fault::NoValidCall => None,
        }
    }
}

impl ModelReplied {
    /// What is wrong with the reply as a whole, if anything.
    pub fn fault(&self) -> Option<Fault> {
        let accepted = self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Accepted { .. }));
        if accepted {
            return None;
        }
        match self.reply.finish {
            Finish::Length => Some(Fault::Cut),
            _ if !self.reply.calls.is_empty() => Some(Fault::NoValidCall),
            Finish::Stop if self.reply.text.trim().is_empty() => Some(Fault::Empty),
            _ if self.misfit.is_some() => Some(Fault::Misfit),
            _ => None,
        }
    }

    /// What the model is told of a fault of the reply as a whole.
    pub fn note(&self) -> Option<String> {
        let note = self.fault()?.note()?;
        Some(match &self.misfit {
            Some(misfit) => format!("{note} {misfit}"),
            None => note.to_owned(),
        })
    }

    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Due::Model { task: ModelTask::Turn, .. } = head.due else { return Err(run.rejection("model_replied")) };
        if self.verdicts.len() != self.reply.calls.len() {
            return Err(Rejection::Inconsistent { what: "a reply needs one verdict per call" });
        }
        self.count(head);
        let number = run.number + 1;
        let mut calls = Vec::new();
        for (index, verdict) in self.verdicts.iter().enumerate() {
            let id = CallId { record: number, index: index as u32 };
            let Verdict::Accepted { .. } = verdict else { continue };
            let spec = run
                .config
                .tool(&self.reply.calls[index].name)
                .ok_or(Rejection::Inconsistent { what: "an accepted call names a tool the run does not have" })?;
            head.totals.calls += 1;
            if spec.is_immediate() {
                if !self.observations.iter().any(|observation| observation.call == id) {
                    return Err(Rejection::Inconsistent { what: "an inline call has no observation" });
                }
                continue;
            }
            calls.push((id, spec, verdict));
        }
        for observation in &self.observations {
            run.note_observation(head, observation, self.tool_of(observation));
        }
        self.count_refusals(head);
        if calls.is_empty() {
            return self.finish_turn(run, head);
        }
        head.faults.malformed = 0;
        let sub_runs = calls.iter().filter(|(_, spec, _)| spec.executor == Executor::SubRun).count();
        let mut grant = Grant::among(run, head, sub_runs as u64);
        let mut pending: Vec<PendingCall> =
            calls.into_iter().map(|(id, spec, verdict)| pending(run, head, id, spec, verdict, &mut grant)).collect();
        share_time(&mut pending);
        run.go_on_after_calls(head, pending);
        Ok(())
    }

    fn tool_of(&self, observation: &Observation) -> &str {
        self.reply.calls.get(observation.call.index as usize).map_or("", |call| call.name.as_str())
    }

    fn count(&self, head: &mut Head) {
        head.totals.steps += 1;
        head.turns = head.turns.saturating_add(1);
        head.faults.model = 0;
        let calls: usize = self.reply.calls.iter().map(|call| call.name.len() + call.arguments.len() + 32).sum();
        let opaque = self.reply.opaque.as_ref().map_or(0, |opaque| opaque.content.len());
        let bytes = (self.reply.text.len() + calls + opaque) as u64;
        match self.reply.usage {
            Some(usage) => {
                let totals = &mut head.totals;
                totals.cached_tokens = totals.cached_tokens.saturating_add(usage.cached_input_tokens);
                totals.output_tokens = totals.output_tokens.saturating_add(usage.output_tokens);
                head.context.counted(usage.input_tokens.saturating_add(usage.output_tokens), bytes);
            }
            None => head.context.add(bytes),
        }
    }

    fn count_refusals(&self, head: &mut Head) {
        for (index, verdict) in self.verdicts.iter().enumerate() {
            if let Verdict::Refused { code, error } = verdict {
                let name = self.reply.calls[index].name.len();
                head.context.add((code.len() + error.len() + name + 64) as u64);
            }
        }
    }

    /// What follows a reply that leaves no call pending.
    fn finish_turn(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Some(fault) = self.fault() else {
            head.faults.malformed = 0;
            if self.reply.calls.is_empty() {
                run.end(head, self.answer_status());
            } else {
                run.model_due(head, None);
            }
            return Ok(());
        };
        if fault == Fault::Cut && run.is_last_output() {
            run.end_of_output(head);
            return Ok(());
        }
        if let Some(note) = self.note() {
            head.context.add(note.len() as u64);
        }
        head.faults.malformed += 1;
        if head.faults.malformed > run.config.limits.malformed_replies {
            let message = format!(
                "the model gave {} replies in a row that could not be used (the last one: {}); try another model or a smaller task",
                head.faults.malformed,
                match fault {
                    Fault::Empty => "empty",
                    Fault::Cut => "cut off at the output limit",
                    Fault::NoValidCall => "no call that can be made",
                    Fault::Misfit => "an answer that does not fit the schema",
                },
            );
            run.end(head, Status::Failed { code: "model_malformed".to_owned(), message });
        } else {
            run.model_due(head, None);
        }
        Ok(())
    }

    fn answer_status(&self) -> Status {
        if self.reply.finish == Finish::Refused && self.reply.text.trim().is_empty() {
            let message = "the model refused to answer and gave no text; rephrase the task or use another model".to_owned();
            return Status::Failed { code: "model_refused".to_owned(), message };
        }
        Status::Done
    }
}

fn pending(run: &Run, head: &Head, id: CallId, spec: &ToolSpec, verdict: &Verdict, grant: &mut Grant) -> PendingCall {
    let (until, share, class) = match verdict {
        Verdict::Accepted { until, share, class } => (*until, *share, class.unwrap_or(spec.class)),
        Verdict::Refused { .. } => (None, None, spec.class),
    };
    let asks = spec.asks(class) && spec.executor.is_machine();
    let state = match spec.executor {
        _ if asks => CallState::Approval,
        Executor::Person => CallState::Person { until },
        Executor::Timer => CallState::Timer { at: until.unwrap_or(run.at) },
        Executor::SubRun => CallState::SubRun { run: run.sub_run_id(id), slice: grant.take(share) },
        Executor::Caller => CallState::Caller,
        Executor::Worker | Executor::Sandbox | Executor::Inline => run.hand_out(head, spec),
    };
    PendingCall { id, tool: spec.definition.name.clone(), class, state }
}

/// Calls that are handed out together may have to take turns, so each gets the time of all of them.
fn share_time(calls: &mut [PendingCall]) {
    let own = |call: &PendingCall| match call.state {
        CallState::HandedOut { timeout_ms } => timeout_ms,
        _ => 0,
    };
    let all = calls.iter().map(own).fold(0, u64::saturating_add).min(CALLS_MS_MAX);
    for call in calls {
        if let CallState::HandedOut { timeout_ms } = &mut call.state {
            *timeout_ms = all.max(*timeout_ms);
        }
    }
}
