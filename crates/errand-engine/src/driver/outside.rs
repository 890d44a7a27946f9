use super::Driver;
use crate::bugs::Bug;
use crate::error::Error;
use crate::ports::{Commit, Loaded, Put};
use errand_core::{
    Allowance, Budget, CallId, CallState, Cancelled, Decision, Event, Forked, Input, Item, ItemBody, ItemKey, Making,
    ModelChoice, Observation, Outcome, RunConfig, RunId, RunLog, Started, Status, Timestamp, UserMessage, Verdict,
};

/// What a cancel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancellation {
    /// How the run stands now: cancelled, or as it had ended before.
    pub status: Status,
    /// Attempts at the model call that can still be under way; their cost will be on the bill.
    pub attempts: Vec<u32>,
    /// Tool calls that can still be under way; their receipts will be beside the log.
    pub calls: Vec<CallId>,
}

/// How a fork differs from its origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForkOptions {
    /// Another model.
    pub model: Option<ModelChoice>,
    /// Another budget.
    pub budget: Option<Budget>,
    /// Something to say to the model first.
    pub message: Option<String>,
}

impl Driver {
    /// Accepts an errand: writes record 1 and makes the run due. Accepting the same id again is harmless.
    pub async fn create(&self, run: RunId, started: Started) -> Result<RunId, Error> {
        check_task(&started.task, started.config.limits.task_bytes)?;
        check_prices(&started.config)?;
        let now = self.world.now();
        let making = Making { made_under: 0, attempt: 0, maker: self.world.nonce() };
        let log = RunLog::begin(run, started, now, making);
        let due = match self.bugs.has(Bug::OutsideWakesNobody) {
            true => Timestamp::from_millis(u64::MAX / 2),
            false => now.plus(self.settings.begin_ms),
        };
        if self.store.begin(run, &log.records, due).await? == Commit::Stored {
            self.watch.recorded(run, &log.records[0]);
        }
        if log.run.head.status.is_ended() {
            let Loaded { log, due } = self.loaded(run).await?;
            self.dispatch(&log, due).await?;
        } else {
            self.send_step(run, 2, None).await?;
        }
        Ok(run)
    }

    /// Decides on a call that waits for a person.
    pub async fn decide(&self, run: RunId, call: CallId, decision: Decision, by: &str) -> Result<(), Error> {
        let log = self.load(run).await?;
        let state = self.waiting(&log, call)?;
        let not_waiting = |why: &str| Error::NotWaiting { run, call, why: why.to_owned() };
        if !decision.fits(state) {
            return Err(not_waiting(stands(state)));
        }
        match &decision {
            Decision::Edit { arguments } => self.check_edited(&log, call, arguments)?,
            Decision::Reject { reason: text } | Decision::Happened { note: text } | Decision::NotHappened { note: text } => {
                check_length(text, log.run.config.limits.task_bytes)?;
            }
            Decision::Approve => {}
        }
        let key = match state {
            CallState::Unknown => ItemKey::Resolution { call },
            _ => ItemKey::Approval { call },
        };
        let body = ItemBody::Decision { decision, by: by.to_owned() };
        match self.put_and_wake(&log, key, body).await? {
            Put::Stored => Ok(()),
            Put::Taken(_) => Err(not_waiting("it has been decided already")),
        }
    }

    /// Answers a question that a call put to a person.
    pub async fn answer(&self, run: RunId, call: CallId, text: &str) -> Result<(), Error> {
        let log = self.load(run).await?;
        let state = self.waiting(&log, call)?;
        if !matches!(state, CallState::Person { .. }) {
            return Err(Error::NotWaiting { run, call, why: stands(state).to_owned() });
        }
        check_task(text, log.run.config.limits.task_bytes)?;
        let observation = Observation::free(call, Outcome::Ok { text: text.to_owned() });
        match self.put_and_wake(&log, ItemKey::Result { call }, ItemBody::Result { observation }).await? {
            Put::Stored => Ok(()),
            Put::Taken(_) => Err(Error::NotWaiting { run, call, why: "it has been answered already".to_owned() }),
        }
    }

    /// Says something to a run. One at work reads it at its next turn; one that is done is followed by a new run, whose
    /// id is returned. `id` is chosen by the sender: sending the same message twice is harmless.
    pub async fn message(&self, run: RunId, id: &str, text: &str) -> Result<RunId, Error> {
        let log = self.load(run).await?;
        check_task(text, log.run.config.limits.task_bytes)?;
        match &log.run.head.status {
            Status::Done => return self.continue_thread(&log, id, text).await,
            ended if ended.is_ended() => {
                return Err(Error::Ended { run, status: ended.code(), hint: "start a new run, or fork this one" });
            }
            _ => {}
        }
        let message = UserMessage { id: id.to_owned(), text: text.to_owned() };
        self.put_and_wake(&log, ItemKey::Message { id: id.to_owned() }, ItemBody::Message { message }).await?;
        // The run may have been stopped in the meantime, and then nobody reads it.
        match self.store.last(run).await?.map(|last| last.head.status.clone()) {
            Some(status) if status.is_ended() && status != Status::Done => {
                Err(Error::Ended { run, status: status.code(), hint: "start a new run, or fork this one" })
            }
            _ => Ok(run),
        }
    }

    /// Raises the budget of a run that is paused at it.
    pub async fn raise(&self, run: RunId, id: &str, by: Allowance, who: &str) -> Result<(), Error> {
        let log = self.load(run).await?;
        if log.run.head.status != Status::Paused {
            return Err(Error::NotPaused { run, status: log.run.head.status.code() });
        }
        let body = ItemBody::Raise { by, who: who.to_owned() };
        self.put_and_wake(&log, ItemKey::Raise { id: id.to_owned() }, body).await?;
        Ok(())
    }

    /// Stops a run and everything below it. After this returns nothing new starts there; what was under way is named.
    pub async fn cancel(&self, run: RunId, reason: &str, by: &str) -> Result<Cancellation, Error> {
        let Loaded { log, due } = self.stop(run, reason, by).await?;
        // Also if it was stopped before: that cancel may have died on its way down the tree.
        if matches!(log.run.head.status, Status::Cancelled { .. }) {
            self.dispatch(&log, due).await?;
        }
        Ok(cancellation(&log, self.world.now()))
    }

    /// Makes the run's next record a cancel, unless it has ended, and returns the run after that.
    pub(super) async fn stop(&self, run: RunId, reason: &str, by: &str) -> Result<Loaded, Error> {
        let maker = self.world.nonce();
        loop {
            let loaded = self.loaded(run).await?;
            let log = loaded.log;
            check_length(reason, log.run.config.limits.task_bytes)?;
            if log.run.head.status.is_ended() {
                self.in_flight.stop(run);
                return Ok(Loaded { log, due: loaded.due });
            }
            let now = self.world.now();
            let event = Event::Cancelled(Cancelled { reason: reason.to_owned(), by: by.to_owned() });
            let input = Input { event, books: log.settle(None, now), at: now, began: None };
            let sealed = log.make(input, Vec::new(), Making { made_under: 0, attempt: 0, maker })?;
            let wake = (!self.bugs.has(Bug::OutsideWakesNobody)).then_some(now);
            if self.store.commit(run, &sealed, wake).await? == Commit::Stored {
                self.watch.recorded(run, &sealed);
            }
        }
    }

    /// Begins a run that goes on from record `at` of another one. Nothing that was sent is sent again.
    pub async fn fork(&self, origin: RunId, at: u64, run: RunId, options: ForkOptions) -> Result<RunId, Error> {
        let log = self.load(origin).await?;
        if at == 0 || at > log.run.number {
            return Err(Error::NoSuchRecord { run: origin, number: at, last: log.run.number });
        }
        if let Some(message) = &options.message {
            check_task(message, log.run.config.limits.task_bytes)?;
        }
        let mut fork = log.prefix(run, at)?;
        let carried = if self.bugs.has(Bug::ForkForgetsFences) { Vec::new() } else { log.carried(at) };
        let ForkOptions { model, budget, message } = options;
        let forked = Forked { run, origin, at, model, budget, message, carried };
        let config = fork.run.config_after(&Event::Forked(Box::new(forked.clone())));
        check_prices(&config)?;
        let now = self.world.now();
        let input = Input { event: Event::Forked(Box::new(forked)), books: Vec::new(), at: now, began: None };
        let sealed = fork.make(input, Vec::new(), Making { made_under: 0, attempt: 0, maker: self.world.nonce() })?;
        fork.push(sealed.clone());
        if self.store.begin(run, &fork.records, now.plus(self.settings.begin_ms)).await? == Commit::Stored {
            self.watch.recorded(run, &sealed);
        }
        let Loaded { log, due } = self.loaded(run).await?;
        self.dispatch(&log, due).await?;
        Ok(run)
    }

    fn waiting<'a>(&self, log: &'a RunLog, call: CallId) -> Result<&'a CallState, Error> {
        let (run, status) = (log.run.id, &log.run.head.status);
        if status.is_ended() {
            return Err(Error::Ended { run, status: status.code(), hint: "nothing can be decided any longer" });
        }
        let pending = log.run.head.due.calls().iter().find(|pending| pending.id == call);
        pending.map(|pending| &pending.state).ok_or_else(|| Error::NotWaiting {
            run,
            call,
            why: "there is no such call".to_owned(),
        })
    }

    fn check_edited(&self, log: &RunLog, call: CallId, arguments: &str) -> Result<(), Error> {
        check_length(arguments, log.run.config.limits.argument_bytes)?;
        let spec = log.call(call).and_then(|made| log.run.config.tool(made.tool));
        match spec.map(|spec| self.tools.check(spec, arguments, self.world.now())) {
            Some(Verdict::Accepted { .. }) => Ok(()),
            Some(Verdict::Refused { error, .. }) => Err(Error::ArgumentsInvalid { error }),
            None => Err(Error::ArgumentsInvalid { error: "the run does not have this tool".to_owned() }),
        }
    }

    async fn put_and_wake(&self, log: &RunLog, key: ItemKey, body: ItemBody) -> Result<Put, Error> {
        let now = self.world.now();
        let wake = (!self.bugs.has(Bug::OutsideWakesNobody)).then_some(now);
        let put = self.store.put(log.run.id, &Item { key, at: now, body }, wake).await?;
        // The run may have gone on since it was loaded: the message must be for what is due now.
        if let Some(last) = self.store.last(log.run.id).await? {
            let record = if last.head.status.is_ended() { last.number } else { last.number + 1 };
            self.send_step(log.run.id, record, None).await?;
        }
        Ok(put)
    }
}

fn cancellation(log: &RunLog, now: Timestamp) -> Cancellation {
    let due = log.run.number;
    let attempts = log.items.iter().filter_map(|(key, item)| match (key, &item.body) {
        (ItemKey::Claim { record, attempt }, ItemBody::Claim { expires, .. }) if *record == due && *expires > now => {
            Some(*attempt)
        }
        _ => None,
    });
    let over = |record, attempt| {
        log.items.contains_key(&ItemKey::Void { record, attempt })
            || log.items.contains_key(&ItemKey::Waste { record, attempt })
            || log.booked().any(|booked| (booked.record, booked.attempt) == (record, attempt))
    };
    let fenced = |call: CallId| log.items.keys().any(|key| matches!(key, ItemKey::Fence { call: of, .. } if *of == call));
    let calls = log.run.head.due.calls().iter().map(|call| call.id);
    Cancellation {
        status: log.run.head.status.clone(),
        attempts: attempts.filter(|attempt| !over(due, *attempt)).collect(),
        calls: calls.filter(|call| fenced(*call) && log.result(*call).is_none()).collect(),
    }
}

/// A budget in dollars can be kept only where each model that may be asked has a price.
fn check_prices(config: &RunConfig) -> Result<(), Error> {
    let unknown = config.models().find(|model| model.price.is_none()).filter(|_| config.budget.usd.is_some());
    unknown.map_or(Ok(()), |model| Err(Error::PriceUnknown { model: model.name.clone() }))
}

fn check_task(text: &str, limit: u64) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::EmptyTask);
    }
    check_length(text, limit)
}

fn check_length(text: &str, limit: u64) -> Result<(), Error> {
    let bytes = text.len() as u64;
    if bytes > limit { Err(Error::TaskTooLong { bytes, limit }) } else { Ok(()) }
}

fn stands(state: &CallState) -> &'static str {
    match state {
        CallState::Approval => "it waits to be approved or rejected",
        CallState::HandedOut { .. } => "it is being carried out",
        CallState::Person { .. } => "it waits for an answer",
        CallState::Timer { .. } => "it waits for the clock",
        CallState::SubRun { .. } => "a sub-run carries it out",
        CallState::Caller => "it was handed to the caller",
        CallState::Unknown => "somebody must say whether it took hold",
        CallState::Done => "it is done",
    }
}
