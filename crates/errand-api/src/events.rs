//! From records to public events: what programs and people see of a run.
//!
//! A run's events are numbered from 1. A record always gives the same events, and nothing but the records before it
//! has a say in them, so a number means the same event to everybody, live, later and in a bundle. `docs/guide/events.md`
//! tells the form.

use crate::text;
use errand_core::{
    CallId, CallState, Compacted, Decision, Due, EgressUse, Event, Head, ModelReplied, ModelTask, Observation, Outcome,
    Record, RunConfig, RunId, Started, Status, Verdict,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What names of scripts begin with: answers of such a model come from a script, and people must be shown that.
pub const SCRIPTED: &str = "scripted/";

/// One numbered event of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublicEvent {
    /// What happened, and the word for it.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its number in the run, from 1.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// The record it comes from.
    pub record: u64,
    /// When that record was made: RFC 3339, UTC.
    pub at: String,
}

/// What happened.
#[expect(missing_docs, reason = "docs/guide/events.md tells each kind and field, and a test compares")]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    RunStarted {
        task: String,
        model: String,
        scripted: bool,
        tools: Vec<String>,
        files: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        assistant: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<RunId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<RunId>,
    },
    RunForked {
        origin: RunId,
        origin_record: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Reasoning {
        text: String,
    },
    Text {
        text: String,
    },
    ToolCall {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        tool: String,
        arguments: String,
    },
    ToolCallRefused {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        tool: String,
        arguments: String,
        code: String,
        error: String,
    },
    ToolResult {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        tool: String,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        text: String,
        sandbox_ms: u64,
        /// What passed through the way out of its box, where it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        egress: Option<Box<EgressUse>>,
    },
    ApprovalNeeded {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        tool: String,
        arguments: String,
    },
    QuestionAsked {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        arguments: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    },
    TimerSet {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        until: String,
    },
    OutcomeUnknown {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        tool: String,
        arguments: String,
    },
    Decided {
        #[serde(serialize_with = "as_text")]
        call: CallId,
        decision: &'static str,
        by: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    UserMessage {
        id: String,
        text: String,
    },
    Compacted {
        through: u64,
        model: String,
        summary: String,
    },
    ModelFailed {
        code: String,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_at: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_model: Option<String>,
    },
    BudgetRaised {
        usd: f64,
        tokens: u64,
        steps: u32,
        active_ms: u64,
        by: String,
    },
    Usage {
        steps: u32,
        calls: u32,
        tokens: u64,
        usd: f64,
        unconfirmed_usd: f64,
    },
    RunPaused {
        reason: String,
    },
    RunDone {
        answer: String,
    },
    RunFailed {
        code: String,
        message: String,
    },
    RunCancelled {
        reason: String,
    },
    RunBudgetExceeded {
        bound: String,
    },
}

/// Call ids read as they are given to commands: `2.0`.
fn as_text<S: serde::Serializer>(call: &CallId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(call)
}

/// Tool and arguments of a call that was asked for.
#[derive(Debug, Clone)]
struct Asked {
    tool: String,
    arguments: String,
}

/// Turns a run's records, in order, into its events.
#[derive(Debug, Clone, Default)]
pub struct Projector {
    seq: u64,
    run: Option<RunId>,
    calls: BTreeMap<CallId, Asked>,
    config: Option<RunConfig>,
    /// Which of the models thinks.
    thinking: u32,
    /// Calls whose state was announced, and in which state.
    announced: BTreeMap<CallId, CallState>,
}

impl Projector {
    /// For the run `run`; a fork's shared records count as its own.
    pub fn new(run: RunId) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// The events of the next record.
    pub fn push(&mut self, record: &Record) -> Vec<PublicEvent> {
        let mut kinds = self.happened(record);
        if !record.books.is_empty() || record.head.status.is_ended() {
            kinds.push(usage(&record.head));
        }
        self.states(&record.head, &mut kinds);
        kinds.extend(ending(record));
        let at = text::time(record.at);
        let number = |kind| {
            self.seq += 1;
            PublicEvent { seq: self.seq, run: self.run.unwrap_or(record.run), record: record.number, at: at.clone(), kind }
        };
        kinds.into_iter().map(number).collect()
    }

    /// The tool that a call named.
    pub fn tool(&self, call: CallId) -> &str {
        self.calls.get(&call).map_or("", |asked| &asked.tool)
    }

    fn happened(&mut self, record: &Record) -> Vec<Kind> {
        match &record.event {
            Event::Started(started) => {
                self.config = Some(started.config.clone());
                vec![run_started(started)]
            }
            Event::ModelReplied(replied) => self.replied(record.number, replied),
            Event::Compacted(compacted) if !Compacted::is_summary(&compacted.reply) => Vec::new(),
            Event::Compacted(compacted) => vec![Kind::Compacted {
                through: compacted.through,
                model: compacted.reply.model.clone(),
                summary: compacted.reply.text.clone(),
            }],
            Event::ModelFailed(failed) => {
                let retry_at = match record.head.due {
                    Due::Model { not_before, .. } => not_before.map(text::time),
                    _ => None,
                };
                let code = failed.error.kind.code().to_owned();
                let next_model = self.goes_over_to(&record.head);
                vec![Kind::ModelFailed { code, message: failed.error.message.clone(), retry_at, next_model }]
            }
            Event::Observed(observed) => observed.observations.iter().map(|observation| self.result(observation)).collect(),
            Event::Decided(decided) => self.decided(decided.call, &decided.decision, &decided.by),
            Event::Messaged(messaged) => messaged
                .messages
                .iter()
                .map(|message| Kind::UserMessage { id: message.id.clone(), text: message.text.clone() })
                .collect(),
            Event::BudgetRaised(raised) => vec![Kind::BudgetRaised {
                usd: text::dollars(raised.by.amount.usd),
                tokens: raised.by.amount.tokens,
                steps: raised.by.steps,
                active_ms: raised.by.active_ms,
                by: raised.who.clone(),
            }],
            Event::Forked(forked) => {
                if let (Some(config), Some(model)) = (&mut self.config, &forked.model) {
                    config.model = model.clone();
                    config.fallbacks.clear();
                    self.thinking = 0;
                }
                let mut kinds = vec![Kind::RunForked {
                    origin: forked.origin,
                    origin_record: forked.at,
                    model: forked.model.as_ref().map(|model| model.name.clone()),
                    message: forked.message.clone(),
                }];
                kinds.extend(forked.carried.iter().map(|observation| self.result(observation)));
                kinds
            }
            Event::Cancelled(_) | Event::BudgetExceeded(_) | Event::Failed(_) => Vec::new(),
        }
    }

    /// The model that takes over with this record.
    fn goes_over_to(&mut self, head: &Head) -> Option<String> {
        let before = std::mem::replace(&mut self.thinking, head.model);
        let config = self.config.as_ref().filter(|_| head.model != before)?;
        Some(config.model_for(head, ModelTask::Turn).name.clone())
    }

    fn replied(&mut self, number: u64, replied: &ModelReplied) -> Vec<Kind> {
        let mut kinds = Vec::new();
        if !replied.reply.reasoning.trim().is_empty() {
            kinds.push(Kind::Reasoning { text: replied.reply.reasoning.clone() });
        }
        if !replied.reply.text.trim().is_empty() {
            kinds.push(Kind::Text { text: replied.reply.text.clone() });
        }
        for (index, (requested, verdict)) in (0u32..).zip(replied.reply.calls.iter().zip(&replied.verdicts)) {
            let call = CallId { record: number, index };
            let (tool, arguments) = (requested.name.clone(), requested.arguments.clone());
            self.calls.insert(call, Asked { tool: tool.clone(), arguments: arguments.clone() });
            kinds.push(match verdict {
                Verdict::Accepted { .. } => Kind::ToolCall { call, tool, arguments },
                Verdict::Refused { code, error } => {
                    Kind::ToolCallRefused { call, tool, arguments, code: code.clone(), error: error.clone() }
                }
            });
        }
        kinds.extend(replied.observations.iter().map(|observation| self.result(observation)));
        kinds
    }

    fn result(&self, observation: &Observation) -> Kind {
        let (outcome, code, text) = match &observation.outcome {
            Outcome::Ok { text } => ("ok", None, text),
            Outcome::Error { code, text } => ("error", Some(code.clone()), text),
            Outcome::Unknown { reason } => ("unknown", None, reason),
            Outcome::Rejected { reason } => ("rejected", None, reason),
        };
        Kind::ToolResult {
            call: observation.call,
            tool: self.asked(observation.call).tool,
            outcome,
            code,
            text: text.clone(),
            sandbox_ms: observation.sandbox_ms,
            egress: observation.egress.clone(),
        }
    }

    fn decided(&mut self, call: CallId, decision: &Decision, by: &str) -> Vec<Kind> {
        let (word, text) = match decision {
            Decision::Approve => ("approve", None),
            Decision::Edit { arguments } => {
                if let Some(asked) = self.calls.get_mut(&call) {
                    asked.arguments.clone_from(arguments);
                }
                ("edit", Some(arguments.clone()))
            }
            Decision::Reject { reason } => ("reject", Some(reason.clone())),
            Decision::Happened { note } => ("happened", Some(note.clone())),
            Decision::NotHappened { note } => ("not_happened", Some(note.clone())),
        };
        vec![Kind::Decided { call, decision: word, by: by.to_owned(), text: text.filter(|text| !text.is_empty()) }]
    }

    /// What people or the clock owe after this record and did not owe before it.
    fn states(&mut self, head: &Head, kinds: &mut Vec<Kind>) {
        let Due::Calls { calls } = &head.due else { return };
        for pending in calls {
            if self.announced.get(&pending.id) == Some(&pending.state) {
                continue;
            }
            let Asked { tool, arguments } = self.asked(pending.id);
            let call = pending.id;
            let kind = match &pending.state {
                CallState::Approval => Kind::ApprovalNeeded { call, tool, arguments },
                CallState::Person { until } => Kind::QuestionAsked { call, arguments, until: until.map(text::time) },
                CallState::Timer { at } => Kind::TimerSet { call, until: text::time(*at) },
                CallState::Unknown => Kind::OutcomeUnknown { call, tool, arguments },
                CallState::HandedOut { .. } | CallState::SubRun { .. } | CallState::Caller | CallState::Done => continue,
            };
            self.announced.insert(call, pending.state.clone());
            kinds.push(kind);
        }
    }

    fn asked(&self, call: CallId) -> Asked {
        self.calls.get(&call).cloned().unwrap_or_else(|| Asked { tool: String::new(), arguments: String::new() })
    }
}

fn run_started(started: &Started) -> Kind {
    let config = &started.config;
    Kind::RunStarted {
        task: started.task.clone(),
        model: config.model.name.clone(),
        scripted: config.model.name.starts_with(SCRIPTED),
        tools: config.tools.iter().map(|tool| tool.definition.name.clone()).collect(),
        files: started.files.iter().map(|file| file.path.clone()).collect(),
        assistant: config.assistant.as_ref().map(|assistant| format!("{}@{}", assistant.name, assistant.version)),
        after: started.history.as_ref().map(|history| history.run),
        parent: started.parent.as_ref().map(|parent| parent.run),
    }
}

fn usage(head: &Head) -> Kind {
    let totals = &head.totals;
    Kind::Usage {
        steps: totals.steps,
        calls: totals.calls,
        tokens: totals.spent.tokens,
        usd: text::dollars(totals.spent.usd),
        unconfirmed_usd: text::dollars(totals.unconfirmed),
    }
}

/// How the run ended with this record, or that it is paused.
fn ending(record: &Record) -> Option<Kind> {
    Some(match &record.head.status {
        Status::Running | Status::Waiting => return None,
        Status::Paused => Kind::RunPaused { reason: "the next model call does not fit the budget".to_owned() },
        Status::Done => Kind::RunDone { answer: answer(record) },
        Status::Failed { code, message } => Kind::RunFailed { code: code.clone(), message: message.clone() },
        Status::Cancelled { reason } => Kind::RunCancelled { reason: reason.clone() },
        Status::BudgetExceeded { bound } => Kind::RunBudgetExceeded { bound: bound_name(*bound).to_owned() },
    })
}

fn answer(record: &Record) -> String {
    match &record.event {
        Event::ModelReplied(replied) => replied.reply.text.clone(),
        _ => String::new(),
    }
}

/// The stable word for a bound of the budget.
pub fn bound_name(bound: errand_core::BudgetBound) -> &'static str {
    match bound {
        errand_core::BudgetBound::Usd => "usd",
        errand_core::BudgetBound::Tokens => "tokens",
        errand_core::BudgetBound::Steps => "steps",
        errand_core::BudgetBound::ActiveTime => "active_time",
        errand_core::BudgetBound::OutputTokens => "output_tokens",
    }
}

#[cfg(test)]
mod tests;
