//! What truly happened, and whether the engine's word agrees with it.

use crate::world::{Sim, State};
use errand_core::{
    Booked, CallId, Decided, Decision, Event, Hash, Item, ItemBody, ItemKey, Message, Outcome, RunId, RunLog, Sealed,
    Status, Timestamp, Usd, replay, verify,
};
use std::collections::{BTreeMap, BTreeSet};

/// The world's own books: kept by the simulated provider and tools, not by the engine.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) sent: u64,
    pub(crate) commits: u64,
    pub(crate) clock_reads: u64,
    /// Overdue runs that no message and no worker was about.
    pub(crate) rescued: u64,
    pub(crate) model_calls: u64,
    pub(crate) tool_calls: u64,
    sequence: u64,
    /// What each run's model calls have cost.
    spent: BTreeMap<RunId, Usd>,
    /// The run that each task works for.
    tasks: BTreeMap<usize, RunId>,
    /// The last claim or fence that each task wrote.
    claims: BTreeMap<usize, (RunId, u64, Timestamp)>,
    /// Model calls under way, by task.
    alive: BTreeMap<usize, RunId>,
    /// Cancels whose caller got an answer.
    cancelled: BTreeMap<RunId, u64>,
    parents: BTreeMap<RunId, RunId>,
    /// How often each effect took hold.
    effects: BTreeMap<String, u32>,
    /// Messages whose sender was told that they were accepted, and by which run.
    pub(crate) accepted: Vec<(RunId, String)>,
    violation: Option<String>,
}

impl Truth {
    pub(crate) fn works_for(&mut self, task: usize, run: RunId) {
        self.tasks.insert(task, run);
    }

    pub(crate) fn began(&mut self, run: RunId, records: &[Sealed]) {
        self.commits += 1;
        if let Some(parent) = records.first().and_then(|sealed| sealed.record.head.parent)
            && records.len() == 1
        {
            self.parents.insert(run, parent);
        }
    }

    pub(crate) fn put(&mut self, run: RunId, item: &Item, task: usize) {
        self.sequence += 1;
        match (&item.key, &item.body) {
            (ItemKey::Claim { .. }, ItemBody::Claim { expires, .. })
            | (ItemKey::Fence { .. }, ItemBody::Fence { expires, .. }) => {
                self.claims.insert(task, (run, self.sequence, *expires));
            }
            _ => {}
        }
    }

    pub(crate) fn committed(&mut self, run: RunId, sealed: &Sealed) {
        self.commits += 1;
        self.sequence += 1;
        let ends_by_itself = match &sealed.record.event {
            Event::BudgetExceeded(_) => true,
            Event::Failed(failed) => failed.code == "step_failed",
            _ => false,
        };
        let at = sealed.record.at;
        let alive = self.alive.iter().find(|(task, of)| {
            let live = self.claims.get(*task).is_some_and(|(claimed, _, expires)| *claimed == run && *expires > at);
            **of == run && live
        });
        if let Some((task, _)) = alive.filter(|_| ends_by_itself) {
            self.violate(format!(
                "{run} was ended by `{}` while task {task} was at its model call",
                sealed.record.event.kind()
            ));
        }
        if let Event::Failed(failed) = &sealed.record.event
            && failed.code == "step_failed"
            && sealed.record.made_under != sealed.record.number
        {
            self.violate(format!("{run} was failed by a stale message"));
        }
    }

    pub(crate) fn model_called(&mut self, task: usize, cost: Usd) {
        self.model_calls += 1;
        let Some(run) = self.tasks.get(&task).copied() else { return };
        *self.spent.entry(run).or_default() += cost;
        self.alive.insert(task, run);
        self.check_started(task, run, "a model call");
    }

    /// The run that a task works for.
    pub(crate) fn run_of(&self, task: usize) -> Option<RunId> {
        self.tasks.get(&task).copied()
    }

    pub(crate) fn model_ended(&mut self, task: usize) {
        self.alive.remove(&task);
    }

    pub(crate) fn tool_called(&mut self, task: usize, run: RunId, key: String, effectful: bool, inline: bool) {
        self.tool_calls += 1;
        if !inline {
            self.check_started(task, run, "a tool call");
        }
        if effectful {
            let count = self.effects.entry(key.clone()).or_default();
            *count += 1;
            if let count @ 2.. = *count {
                self.violate(format!("effect {key} took hold {count} times"));
            }
        }
    }

    pub(crate) fn cancel_answered(&mut self, run: RunId) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.cancelled.entry(run).or_insert(sequence);
    }

    pub(crate) fn took_hold(&self, key: &str) -> bool {
        self.effects.contains_key(key)
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    /// After a cancel was answered, only what had claimed before may still start.
    fn check_started(&mut self, task: usize, run: RunId, what: &str) {
        let claim = self.claims.get(&task).filter(|(of, _, _)| *of == run).map(|(_, sequence, _)| *sequence);
        let mut above = Some(run);
        while let Some(ancestor) = above {
            if let Some(cancelled) = self.cancelled.get(&ancestor)
                && claim.is_none_or(|claim| claim > *cancelled)
            {
                let what = format!("{what} of {run} started after the cancel of {ancestor} was answered");
                return self.violate(what);
            }
            above = self.parents.get(&ancestor).copied();
        }
    }
}

/// What holds at every model call: no run of the tree, nor the whole, has spent more than it was granted.
pub(crate) fn within_budgets(state: &State, run: RunId) -> Result<(), String> {
    let mut above = Some(run);
    while let Some(run) = above {
        let Some(stored) = state.runs.get(&run) else { break };
        let log = RunLog::fold(run, stored.records.clone(), []).map_err(|error| format!("{run}: {error}"))?;
        let spent = tree_spent(state, run);
        if let Some(usd) = log.run.config.budget.usd
            && spent > usd + log.run.head.raised.amount.usd
        {
            return Err(format!("{run}: a model call begins and {spent} is more than its budget of {usd}"));
        }
        above = state.truth.parents.get(&run).copied();
    }
    Ok(())
}

/// Checks that must hold once everything has come to rest.
pub(crate) fn at_rest(sim: &Sim) -> Result<(), String> {
    let state = sim.lock();
    let mut logs = BTreeMap::new();
    for (run, stored) in &state.runs {
        let chain = stored.records.iter().map(|sealed| (&*sealed.bytes, sealed.hash));
        verify(chain).map_err(|error| format!("{run}: {error}"))?;
        let items = stored.items.values().chain(stored.volatile.values()).cloned();
        let log = RunLog::fold(*run, stored.records.clone(), items).map_err(|error| format!("{run}: {error}"))?;
        logs.insert(*run, log);
    }
    for (run, log) in &logs {
        replay(log, &history(&logs, log)).map_err(|error| format!("{run} cannot be replayed: {error}"))?;
        run_at_rest(&state, &logs, log).map_err(|what| format!("{run}: {what}"))?;
    }
    messages_read(&state, &logs)?;
    if state.drawn.books_are_exact() {
        exact_books(&state, &logs)?;
    }
    if state.drawn.redelivery_heals() && state.truth.rescued > 0 {
        return Err(format!("{} times a run was only healed by the due index", state.truth.rescued));
    }
    // Each record leads to a few messages; more means that something keeps waking something else.
    let bound = if state.drawn.is_quiet() { 6 } else { 60 } * (state.truth.commits + 20);
    if state.truth.sent > bound {
        return Err(format!("{} messages for {} records", state.truth.sent, state.truth.commits));
    }
    Ok(())
}

fn run_at_rest(state: &State, logs: &BTreeMap<RunId, RunLog>, log: &RunLog) -> Result<(), String> {
    let head = &log.run.head;
    if !head.status.is_ended() {
        return Err(format!("never ended: {:?}, due {:?}", head.status, head.due));
    }
    if state.runs.get(&log.run.id).is_some_and(|stored| stored.due.is_some()) {
        return Err("has ended and is still in the due index".to_owned());
    }
    let spent = tree_spent(state, log.run.id);
    let bill = log.bill().total().usd;
    if spent > bill {
        return Err(format!("spent {spent} and the bill says {bill}"));
    }
    let budget = log.run.config.budget;
    if let Some(usd) = budget.usd
        && spent > usd + head.raised.amount.usd
    {
        return Err(format!("spent {spent} of a budget of {}", usd + head.raised.amount.usd));
    }
    if let Some(tokens) = budget.tokens
        && state.drawn.bad_model == 0
        && !state.drawn.exclusive
        && head.totals.spent.tokens > tokens + head.raised.amount.tokens
    {
        return Err(format!("used {} tokens of {tokens}", head.totals.spent.tokens));
    }
    if head.totals.steps > budget.steps + head.raised.steps {
        return Err(format!("took {} steps of {}", head.totals.steps, budget.steps));
    }
    if matches!(head.status, Status::Done | Status::Failed { .. } | Status::BudgetExceeded { .. })
        && !head.due.calls().is_empty()
    {
        return Err("ended with calls under way".to_owned());
    }
    children_ended(logs, log)?;
    receipts(state, log)
}

fn children_ended(logs: &BTreeMap<RunId, RunLog>, log: &RunLog) -> Result<(), String> {
    for call in log.run.head.due.calls() {
        let errand_core::CallState::SubRun { run, .. } = call.state else { continue };
        match logs.get(&run) {
            Some(sub_run) if sub_run.run.head.status.is_ended() => {}
            Some(_) => return Err(format!("sub-run {run} goes on")),
            None => return Err(format!("sub-run {run} could still begin")),
        }
        if log.result(call.id).is_none() {
            return Err(format!("sub-run {run} never told what it spent"));
        }
    }
    Ok(())
}

/// What the log says of effects must be what happened.
fn receipts(state: &State, log: &RunLog) -> Result<(), String> {
    for sealed in &log.records {
        if sealed.record.run != log.run.id {
            continue;
        }
        if let Event::Decided(Decided { call, decision: Decision::NotHappened { .. }, .. }) = &sealed.record.event
            && let Some(made) = log.call(*call)
            && state.truth.took_hold(&made.idempotency_key())
        {
            return Err(format!("call {call} took hold after somebody made sure that it had not"));
        }
        let Event::ModelReplied(replied) = &sealed.record.event else { continue };
        for index in 0..replied.reply.calls.len() as u32 {
            let call = CallId { record: sealed.record.number, index };
            let Some(made) = log.call(call) else { continue };
            if !matches!(made.tool, "pay" | "wire") {
                continue;
            }
            let held = state.truth.took_hold(&made.idempotency_key());
            let word = log.result(call).map(|observation| observation.outcome.clone());
            match word {
                Some(Outcome::Ok { .. }) if !held => {
                    return Err(format!("call {call} is said to have been made and was not"));
                }
                Some(Outcome::Error { code, .. })
                    if held && matches!(code.as_str(), "not_sent" | "cancelled" | "tool_crashed") =>
                {
                    return Err(format!("call {call} took hold and is said not to have been sent"));
                }
                Some(Outcome::Unknown { .. }) if state.drawn.books_are_exact() && state.drawn.bad_tool == 0 => {
                    return Err(format!("call {call} is said to be unknown, and its worker knew"));
                }
                None if held => {
                    return Err(format!("call {call} took hold and has no receipt"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn messages_read(state: &State, logs: &BTreeMap<RunId, RunLog>) -> Result<(), String> {
    for (run, id) in &state.truth.accepted {
        let Some(log) = logs.get(run) else { return Err(format!("{run} took message {id} and is gone")) };
        let key = ItemKey::Message { id: id.clone() };
        if !log.items.contains_key(&key) || log.is_consumed(&key) || log.run.head.status != Status::Done {
            continue;
        }
        let follower = RunId::derived(*run, &format!("message/{id}"), log.run.at);
        if !logs.contains_key(&follower) {
            return Err(format!("{run} accepted message {id} and nobody read it"));
        }
    }
    Ok(())
}

/// Where every attempt learns what it cost the books are exact, and without doubled messages no call is made twice.
fn exact_books(state: &State, logs: &BTreeMap<RunId, RunLog>) -> Result<(), String> {
    let booked: u64 =
        logs.values().map(|log| log.booked().filter(|Booked { spent, .. }| spent.confirmed).count() as u64).sum();
    let cancelled = logs.values().any(|log| matches!(log.run.head.status, Status::Cancelled { .. }));
    if !cancelled && state.drawn.is_quiet() && booked != state.truth.model_calls {
        return Err(format!("{} model calls for {booked} records that needed one", state.truth.model_calls));
    }
    for (run, log) in logs {
        // A sub-run tells what it can have cost at most while a doubled attempt of it is still under way.
        let alone = !state.truth.parents.values().any(|parent| parent == run);
        let (spent, bill) = (tree_spent(state, *run), log.bill().total().usd);
        if alone && spent != bill {
            return Err(format!("{run}: spent {spent}, every attempt knew its cost, and the bill says {bill}"));
        }
    }
    Ok(())
}

fn tree_spent(state: &State, root: RunId) -> Usd {
    let mut members = BTreeSet::from([root]);
    loop {
        let more: Vec<RunId> = state
            .truth
            .parents
            .iter()
            .filter(|(child, parent)| members.contains(parent) && !members.contains(child))
            .map(|(child, _)| *child)
            .collect();
        if more.is_empty() {
            break;
        }
        members.extend(more);
    }
    members.iter().filter_map(|run| state.truth.spent.get(run)).copied().sum()
}

fn history(logs: &BTreeMap<RunId, RunLog>, log: &RunLog) -> Vec<Message> {
    let Some(history) = &log.started().history else { return Vec::new() };
    let Some(earlier) = logs.get(&history.run).and_then(|log| log.prefix(history.run, history.number).ok()) else {
        return Vec::new();
    };
    let mut messages = if earlier.compacted().is_some() { Vec::new() } else { self::history(logs, &earlier) };
    messages.extend(earlier.conversation());
    messages
}

/// What a person who knows the truth says of a call whose outcome is unknown.
pub(crate) fn resolution(state: &State, key: &str) -> Decision {
    match state.truth.took_hold(key) {
        true => Decision::Happened { note: String::new() },
        false => Decision::NotHappened { note: String::new() },
    }
}

/// A digest of everything that was stored: two runs of one seed must agree on it.
pub(crate) fn digest(sim: &Sim) -> Hash {
    let state = sim.lock();
    let mut text = String::new();
    for (run, stored) in &state.runs {
        text.push_str(&run.to_string());
        for sealed in &stored.records {
            text.push_str(&sealed.hash.to_string());
        }
    }
    Hash::of(text.as_bytes())
}
