//! A run after its last record, and what an event makes of it.

use crate::event::Event;
use crate::{
    Amount, Booked, Budget, BudgetBound, CallId, CallState, ContextSize, Due, Hash, Head, ModelChoice, ModelTask,
    Observation, Outcome, PendingCall, Price, RunConfig, RunId, Status, Timestamp, ToolSpec, Usd, WhenExceeded,
};
use std::sync::Arc;

/// A run after record `number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which run. In a fork this is the fork, also for the records it shares with its origin.
    pub id: RunId,
    /// What it is pinned to.
    pub config: Arc<RunConfig>,
    /// Number of its last record.
    pub number: u64,
    /// Time of its last record.
    pub at: Timestamp,
    /// Ledger hash of its last record.
    pub hash: Hash,
    /// Where it stands.
    pub head: Head,
}

/// An event with all that a record made of it takes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What happened.
    pub event: Event,
    /// Attempts whose cost this record puts on the books.
    pub books: Vec<Booked>,
    /// When.
    pub at: Timestamp,
    /// When the work that led to it began; `None` if nobody worked for it.
    pub began: Option<Timestamp>,
}

/// An event that does not fit the state of the run. Late and doubled events are normal; the caller drops them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The run is not in a state in which this can happen.
    #[error("`{event}` does not fit after record {number}: the run is {status}; load it again")]
    OutOfPlace {
        /// Kind of the event.
        event: &'static str,
        /// The last record.
        number: u64,
        /// Where the run stands.
        status: &'static str,
    },
    /// The call is not pending, or not in a way that this would end.
    #[error("call {call} is not waiting for this; it may have been answered already")]
    NotPending {
        /// Which call.
        call: CallId,
    },
    /// Nothing follows the record a fork is to go on from.
    #[error("nothing is due after record {record}: fork at an earlier record, or add a message to go on with")]
    NothingDue {
        /// That record.
        record: u64,
    },
    /// The event contradicts itself or the configuration: an error in the engine.
    #[error("the event contradicts the run: {what}")]
    Inconsistent {
        /// What does not hold.
        what: &'static str,
    },
}

impl Run {
    /// The head after `input`, or why it does not fit. Pure: the same run and input always give the same head.
    pub fn handle(&self, input: &Input) -> Result<Head, Rejection> {
        let mut head = self.head.clone();
        let at = input.at.max(self.at);
        if let Some(began) = input.began {
            // Waiting does not count, and neither does the time in which no worker was alive.
            let from = began.max(self.at);
            head.totals.active_ms = head.totals.active_ms.saturating_add(at.since(from));
        }
        for booked in &input.books {
            head.totals.spent += booked.spent.amount;
            if !booked.spent.confirmed {
                head.totals.unconfirmed += booked.spent.amount.usd;
            }
        }
        match &input.event {
            Event::Started(_) => Err(self.rejection("started")),
            Event::ModelReplied(event) => event.apply(self, &mut head),
            Event::ModelFailed(event) => event.apply(self, &mut head, at),
            Event::Compacted(event) => event.apply(self, &mut head),
            Event::Observed(event) => event.apply(self, &mut head),
            Event::Decided(event) => event.apply(self, &mut head),
            Event::Messaged(event) => event.apply(self, &mut head),
            Event::Cancelled(event) => event.apply(self, &mut head),
            Event::BudgetExceeded(event) => event.apply(self, &mut head),
            Event::BudgetRaised(event) => event.apply(self, &mut head),
            Event::Failed(event) => event.apply(self, &mut head),
            Event::Forked(event) => {
                let mut forked = self.clone();
                forked.config = self.config_after(&input.event);
                event.apply(&forked, &mut head)
            }
        }?;
        Ok(head)
    }

    /// The configuration after `event`: only a fork changes it.
    pub fn config_after(&self, event: &Event) -> Arc<RunConfig> {
        let Event::Forked(forked) = event else { return Arc::clone(&self.config) };
        let mut config = RunConfig::clone(&self.config);
        if let Some(model) = &forked.model {
            config.model = model.clone();
            config.fallbacks.clear();
        }
        if let Some(budget) = forked.budget {
            config.budget = budget;
        }
        Arc::new(config)
    }

    /// The id of the sub-run that carries out `call`; always the same.
    pub fn sub_run_id(&self, call: CallId) -> RunId {
        RunId::derived(self.id, &call.to_string(), self.at)
    }

    /// What the budget still holds, claims aside.
    pub fn left(&self, head: &Head) -> Left {
        Left::of(&self.config.budget, head)
    }

    pub(crate) fn rejection(&self, event: &'static str) -> Rejection {
        Rejection::OutOfPlace { event, number: self.number, status: self.head.status.code() }
    }

    pub(crate) fn end(&self, head: &mut Head, status: Status) {
        let abandoned = head.due.calls().iter().filter(|call| call.state != CallState::Done).cloned().collect();
        head.status = status;
        head.due = Due::Nothing { abandoned };
    }

    pub(crate) fn exceed(&self, head: &mut Head, bound: BudgetBound) {
        exceed(&self.config, head, bound);
    }

    /// True if the output tokens that a reply may still have are fewer than those of any reply: the run asked for no more.
    pub(crate) fn is_last_output(&self) -> bool {
        let limits = &self.config.limits;
        match self.head.due {
            Due::Model { max_output_tokens, .. } if limits.answer_tokens > 0 => {
                max_output_tokens >= limits.answer_tokens.saturating_sub(self.head.totals.said_tokens())
            }
            _ => false,
        }
    }

    /// Ends the run with what it has said: it may say no more.
    pub(crate) fn end_of_output(&self, head: &mut Head) {
        end_at(head, BudgetBound::OutputTokens);
    }

    /// The model that is asked next, or was asked last.
    pub fn model(&self) -> &ModelChoice {
        self.config.model_for(&self.head, self.head.due.task().unwrap_or_default())
    }

    /// Makes the next turn due, or the shortening that it needs first.
    pub(crate) fn model_due(&self, head: &mut Head, not_before: Option<Timestamp>) {
        self.model_due_for(head, next_task(&self.config, head), not_before);
    }

    pub(crate) fn model_due_for(&self, head: &mut Head, task: ModelTask, not_before: Option<Timestamp>) {
        Run::make_model_due(&self.config, head, task, not_before);
    }

    /// Makes the first model call of a run due.
    pub(crate) fn make_first_due(config: &RunConfig, head: &mut Head) {
        let task = next_task(config, head);
        Run::make_model_due(config, head, task, None);
    }

    /// Makes a model call due, if the budget holds one: with as many output tokens as fit.
    fn make_model_due(config: &RunConfig, head: &mut Head, task: ModelTask, not_before: Option<Timestamp>) {
        let left = Left::of(&config.budget, head);
        if left.steps == 0 {
            return exceed(config, head, BudgetBound::Steps);
        }
        if left.active_ms == 0 {
            return exceed(config, head, BudgetBound::ActiveTime);
        }
        let limits = &config.limits;
        let output_left = match limits.answer_tokens {
            0 => u64::MAX,
            bound => bound.saturating_sub(head.totals.said_tokens()),
        };
        if output_left == 0 && task == ModelTask::Turn {
            return end_at(head, BudgetBound::OutputTokens);
        }
        let model = config.model_for(head, task);
        let (context, wanted) = match task {
            ModelTask::Turn => (head.context, limits.output_tokens.min(output_left)),
            ModelTask::Compact { .. } => (summary_context(config, head, model), limits.summary_tokens),
        };
        let price = model.price.unwrap_or(Price::FREE);
        let input = context.token_bound(model.image_tokens);
        let enough = limits.output_tokens_min.min(wanted);
        let by_tokens = left.tokens.map_or(u64::MAX, |tokens| tokens.saturating_sub(input));
        if by_tokens < enough {
            return exceed(config, head, BudgetBound::Tokens);
        }
        let by_money = match left.usd {
            Some(usd) if price.bound(input, enough) > usd => return exceed(config, head, BudgetBound::Usd),
            Some(usd) => price.output_for(usd.less(price.bound(input, 0))).max(enough),
            None => u64::MAX,
        };
        // Here an estimate serves: the bound is several times too large, and would shrink the answer to nothing.
        let by_context = model
            .context_tokens
            .map_or(u64::MAX, |tokens| tokens.saturating_sub(context.token_estimate(model.image_tokens)).max(enough));
        let max_output_tokens = wanted.min(by_tokens).min(by_money).min(by_context);
        head.status = Status::Running;
        head.due = Due::Model {
            reserve: Amount { usd: price.bound(input, max_output_tokens), tokens: input.saturating_add(max_output_tokens) },
            max_output_tokens,
            timeout_ms: limits.model_call_ms.min(left.active_ms),
            not_before,
            task,
        };
    }

    /// The state of a call that goes to the calls queue.
    pub(crate) fn hand_out(&self, head: &Head, spec: &ToolSpec) -> CallState {
        CallState::HandedOut { timeout_ms: spec.timeout_ms.min(self.left(head).active_ms.max(1)) }
    }

    pub(crate) fn make_calls_due(&self, head: &mut Head, calls: Vec<PendingCall>) {
        head.status = if calls.iter().any(|call| call.state.is_at_work()) { Status::Running } else { Status::Waiting };
        head.due = Due::Calls { calls };
    }

    pub(crate) fn go_on_after_calls(&self, head: &mut Head, calls: Vec<PendingCall>) {
        if calls.iter().all(|call| call.state == CallState::Done) {
            head.due = Due::Calls { calls };
            self.model_due(head, None);
        } else if calls.iter().all(|call| call.state.is_over()) {
            head.due = Due::Calls { calls };
            self.end(head, Status::Done);
        } else {
            self.make_calls_due(head, calls);
        }
    }

    /// Books what an observation cost and what it adds to the conversation.
    pub(crate) fn note_observation(&self, head: &mut Head, observation: &Observation, tool: &str) {
        head.totals.spent += observation.cost_for(self.id);
        head.totals.sandbox_ms = head.totals.sandbox_ms.saturating_add(observation.sandbox_ms);
        let passed = observation.egress.as_ref().map_or(0, |passed| passed.bytes());
        head.totals.egress_bytes = head.totals.egress_bytes.saturating_add(passed);
        head.workspace = head.workspace.max(observation.workspace);
        if matches!(observation.outcome, Outcome::Ok { .. })
            && let Some(spec) = self.config.tool(tool)
        {
            head.taint.extend(spec.taint_out.iter().cloned());
        }
        head.context.add((observation.outcome.shown().0.len() + tool.len() + 64) as u64);
    }
}

/// The next turn, or first the shortening without which it would not fit the model's window.
fn next_task(config: &RunConfig, head: &Head) -> ModelTask {
    let model = config.model_for(head, ModelTask::Turn);
    let Some(window) = model.context_tokens else { return ModelTask::Turn };
    let estimate = head.context.token_estimate(model.image_tokens);
    let full = estimate.saturating_mul(100) > window.saturating_mul(u64::from(config.limits.compact_percent));
    if head.turns < 2 || !full {
        return ModelTask::Turn;
    }
    // Where the window is known, a summarizer with a smaller one is not tried in vain.
    let summarizer = config.model_for(head, ModelTask::Compact { cut: false });
    ModelTask::Compact { cut: summarizer.context_tokens.is_some_and(|tokens| tokens < window) }
}

/// Size of the request for a summary, at most.
fn summary_context(config: &RunConfig, head: &Head, summarizer: &ModelChoice) -> ContextSize {
    let mut context = head.context;
    if summarizer != config.model_for(head, ModelTask::Turn) {
        context.recount();
    }
    context.add(crate::transcript::SUMMARY_PROMPT.len() as u64);
    context
}

fn exceed(config: &RunConfig, head: &mut Head, bound: BudgetBound) {
    match config.budget.when_exceeded {
        WhenExceeded::End => end_at(head, bound),
        WhenExceeded::Pause => {
            head.status = Status::Paused;
            head.due = Due::Budget;
        }
    }
}

fn end_at(head: &mut Head, bound: BudgetBound) {
    head.status = Status::BudgetExceeded { bound };
    head.due = Due::Nothing { abandoned: Vec::new() };
}

/// What a budget still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Money, if bounded.
    pub usd: Option<Usd>,
    /// Tokens, if bounded.
    pub tokens: Option<u64>,
    /// Model turns.
    pub steps: u32,
    /// Time at work, in milliseconds.
    pub active_ms: u64,
}

impl Left {
    /// What `budget` still holds after `head`: spent amounts and the slices of sub-runs at work are gone.
    pub fn of(budget: &Budget, head: &Head) -> Self {
        let slices: Amount = head
            .due
            .calls()
            .iter()
            .map(|call| match call.state {
                CallState::SubRun { slice, .. } => slice,
                _ => Amount::ZERO,
            })
            .sum();
        let gone = head.totals.spent + slices;
        Left {
            usd: budget.usd.map(|usd| (usd + head.raised.amount.usd).less(gone.usd)),
            tokens: budget.tokens.map(|tokens| tokens.saturating_add(head.raised.amount.tokens).saturating_sub(gone.tokens)),
            steps: budget.steps.saturating_add(head.raised.steps).saturating_sub(head.totals.steps),
            active_ms: budget.active_ms.saturating_add(head.raised.active_ms).saturating_sub(head.totals.active_ms),
        }
    }
}

/// Money to hand out to sub-runs that start together.
pub(crate) struct Grant {
    left: Amount,
    equal: Amount,
}

impl Grant {
    /// Shares what is left equally among `count` sub-runs and the run itself. A budget without a bound grants none
    /// of that kind either; what a sub-run is given is always a number.
    pub(crate) fn among(run: &Run, head: &Head, count: u64) -> Self {
        let left = run.left(head);
        let left =
            Amount { usd: left.usd.unwrap_or(Usd::from_nanos(u64::MAX / 4)), tokens: left.tokens.unwrap_or(u64::MAX / 4) };
        let shares = count + 1;
        Self { left, equal: Amount { usd: Usd::from_nanos(left.usd.nanos() / shares), tokens: left.tokens / shares } }
    }

    pub(crate) fn take(&mut self, asked: Option<Amount>) -> Amount {
        let wanted = asked.unwrap_or(self.equal);
        let slice = Amount { usd: wanted.usd.min(self.left.usd), tokens: wanted.tokens.min(self.left.tokens) };
        self.left = Amount { usd: self.left.usd.less(slice.usd), tokens: self.left.tokens - slice.tokens };
        slice
    }
}
