use super::Driver;
use super::call::lost;
use crate::bugs::Bug;
use crate::error::Error;
use crate::ports::{DueEntry, Loaded, Message};
use errand_core::{
    Budget, CallId, CallState, Class, Effect, Executor, History, ItemBody, Making, Next, Observation, Outcome, Parent,
    PendingCall, RunConfig, RunId, RunLog, Started, Status, Timestamp,
};

impl Driver {
    /// Hands out everything that the head asks for, however often it has been handed out before: ids follow from run,
    /// record and index, so repeating is harmless. `due` is the entry in the due index as it was when `log` was loaded.
    pub(super) async fn dispatch(&self, log: &RunLog, due: Option<DueEntry>) -> Result<(), Error> {
        let run = log.run.id;
        for effect in log.run.head.effects() {
            match effect {
                Effect::MakeNext { not_before } => self.send_step(run, log.run.number + 1, not_before).await?,
                Effect::CallTool { call } if log.result(call).is_some() => {}
                Effect::CallTool { call } => {
                    let sandbox = log.is_sandboxed(call);
                    self.queue.send(Message::Call { run, call, sandbox, not_before: None }).await?;
                }
                Effect::StartRun { call, run: sub_run, slice } => {
                    let started = sub_run_started(log, call, slice);
                    self.start_sub_run(sub_run, started, log.run.at).await?;
                }
                // People are told by whoever looks on; nothing is held while they think.
                Effect::Ask { .. } => {}
                Effect::StopRun { call, run: sub_run } => self.stop_sub_run(log, call, sub_run).await?,
                Effect::TellParent { run: parent } => self.tell_parent(log, parent).await?,
            }
        }
        // What arrived while the record was made has sent its message to a number that is taken by now.
        if matches!(log.next(self.world.now()), Next::Commit { .. }) {
            return self.send_step(run, log.run.number + 1, None).await;
        }
        let mut again = None;
        if log.run.head.status.is_ended() {
            self.follow_up(log).await?;
            again = self.surface_unknown(log).await?;
        }
        if log.run.head.status != Status::Running {
            // While a run waits it holds nothing: its workspace is a snapshot.
            self.tools.release(run).await;
        }
        self.settle_due(log, due, again).await
    }

    /// Effectful calls that were under way when the run ended and never got a receipt: once their workers must be dead,
    /// their receipt says `unknown`. Returns when to look again.
    async fn surface_unknown(&self, log: &RunLog) -> Result<Option<Timestamp>, Error> {
        let now = self.world.now();
        let mut again = None;
        for call in log.run.head.due.calls().iter().filter(|call| call.class == Class::Effectful) {
            if log.result(call.id).is_some() {
                continue;
            }
            let (home, fences) = self.fences(log, call.id, call.class).await?;
            if self.take_over(home, log.run.id, call.id).await? {
                continue;
            }
            let Some(over) = fences.iter().map(|fence| fence.1).max() else { continue };
            if over > now {
                again = Some(again.map_or(over, |again: Timestamp| again.min(over)));
            } else {
                self.receive(home, log.run.id, lost(call.id, Class::Effectful, true)).await?;
            }
        }
        Ok(again)
    }

    /// Dispatch for a head that somebody else may have dispatched already.
    pub(super) async fn dispatch_again(&self, log: &RunLog, due: Option<DueEntry>) -> Result<(), Error> {
        let ended = log.run.head.status.is_ended();
        let cancelled = matches!(log.run.head.status, Status::Cancelled { .. });
        if self.bugs.has(Bug::StaleMessageDropped) && !ended {
            return self.send_step(log.run.id, log.run.number + 1, log.run.head.due.deadline()).await;
        }
        if self.bugs.has(Bug::EndNotDispatchedAgain) && ended || self.bugs.has(Bug::CancelNotDispatchedAgain) && cancelled {
            return self.settle_due(log, due, None).await;
        }
        self.dispatch(log, due).await
    }

    /// Takes the entry out of the due index when the run has ended or waits; sets it to the time the clock acts.
    async fn settle_due(&self, log: &RunLog, due: Option<DueEntry>, again: Option<Timestamp>) -> Result<(), Error> {
        let head = &log.run.head;
        // A sub-run has an entry of its own until it has told this run, so a run that only waits for sub-runs needs none.
        let handed_out = |call: &PendingCall| matches!(call.state, CallState::HandedOut { .. });
        let at_work = head.due.calls().iter().any(|call| handed_out(call) && log.result(call.id).is_none());
        let at = match &head.due {
            errand_core::Due::Nothing { .. } => again,
            errand_core::Due::Budget => None,
            errand_core::Due::Model { not_before: None, .. } => return Ok(()),
            _ if at_work => return Ok(()),
            due => due.deadline(),
        };
        if due.map(|due| due.at) == at {
            return Ok(());
        }
        // If somebody woke the run in the meantime, the entry stays as they left it.
        self.store.move_due(log.run.id, due, at).await?;
        Ok(())
    }

    async fn start_sub_run(&self, sub_run: RunId, started: Started, at: Timestamp) -> Result<(), Error> {
        let withdrawn = started.withdrawn.is_some();
        let log = RunLog::begin(sub_run, started, at, Making { made_under: 0, attempt: 0, maker: self.world.nonce() });
        self.store.begin(sub_run, &log.records, self.world.now()).await?;
        if !withdrawn {
            self.send_step(sub_run, 2, None).await?;
        }
        Ok(())
    }

    /// Stops a sub-run, also one that has not begun: its record 1 then says so.
    async fn stop_sub_run(&self, log: &RunLog, call: CallId, sub_run: RunId) -> Result<(), Error> {
        let reason = format!("run {} above it has ended", log.run.id);
        if self.store.last(sub_run).await?.is_none() {
            if self.bugs.has(Bug::SubRunNotWithdrawn) {
                return Ok(());
            }
            let mut started = sub_run_started(log, call, errand_core::Amount::ZERO);
            started.withdrawn = Some(reason.clone());
            self.start_sub_run(sub_run, started, log.run.at).await?;
        }
        // It may have begun in the meantime, so it is looked at in any case; and a cancel goes down also through runs that
        // have ended already, for an earlier one may have died half way, before they told what they cost.
        let ended_before = self.store.last(sub_run).await?.is_some_and(|last| last.head.status.is_ended());
        let Loaded { log, due } = self.stop(sub_run, &reason, "errand").await?;
        let shallow = self.bugs.has(Bug::OnlyOwnRunChecked) || (self.bugs.has(Bug::CancelStopsAtCancelled) && ended_before);
        if !shallow {
            Box::pin(self.dispatch(&log, due)).await?;
        }
        Ok(())
    }

    async fn tell_parent(&self, log: &RunLog, parent: RunId) -> Result<(), Error> {
        let Some(Parent { call, .. }) = log.started().parent.clone() else { return Ok(()) };
        let outcome = match &log.run.head.status {
            Status::Done => Outcome::Ok { text: log.answer().unwrap_or_default().to_owned() },
            Status::Failed { code, message } => Outcome::error(code, message.clone()),
            other => Outcome::error(other.code(), format!("sub-run {} ended as {}", log.run.id, other.code())),
        };
        // The runs below have told by now what they cost, which `log` may not show yet.
        let bill = self.load(log.run.id).await?.bill().total();
        let observation =
            Observation { spent: bill, sandbox_ms: log.run.head.totals.sandbox_ms, ..Observation::free(call, outcome) };
        self.result(parent, observation).await?;
        self.tell(parent).await
    }

    /// A message that came too late to be read begins a new run of the thread.
    async fn follow_up(&self, log: &RunLog) -> Result<(), Error> {
        if log.run.head.status != Status::Done || self.bugs.has(Bug::LateMessageNotRead) {
            return Ok(());
        }
        for item in log.unread() {
            if let ItemBody::Message { message } = &item.body {
                Box::pin(self.continue_thread(log, &message.id, &message.text)).await?;
            }
        }
        Ok(())
    }

    /// Begins the run of the thread that follows `log`; the same message always begins the same run.
    pub(super) async fn continue_thread(&self, log: &RunLog, id: &str, text: &str) -> Result<RunId, Error> {
        let run = RunId::derived(log.run.id, &format!("message/{id}"), log.run.at);
        let started = Started {
            config: (*log.run.config).clone(),
            task: text.to_owned(),
            images: Vec::new(),
            files: Vec::new(),
            workspace: log.run.head.workspace,
            history: Some(self.history_of(log).await?),
            parent: None,
            withdrawn: None,
            given: Vec::new(),
            metadata: Default::default(),
            surface: None,
        };
        self.create(run, started).await
    }

    /// A run as the history of the next run of its thread.
    pub async fn history_of(&self, log: &RunLog) -> Result<History, Error> {
        let mut messages = if log.compacted().is_some() { Vec::new() } else { self.history(log).await? };
        messages.extend(log.conversation());
        let messages = errand_core::answered(messages);
        Ok(History {
            run: log.run.id,
            number: log.run.number,
            hash: log.run.hash,
            bytes: messages.iter().map(errand_core::Message::bytes).sum(),
            messages: messages.len() as u64,
            images: messages.iter().map(|message| message.images().len() as u32).sum(),
        })
    }
}

/// What a sub-run starts with: the configuration of the run above with a slice of its budget, and without tools that
/// would nest too deep.
fn sub_run_started(log: &RunLog, call: CallId, slice: errand_core::Amount) -> Started {
    let config = &log.run.config;
    let depth = log.run.head.depth + 1;
    let left = log.run.left(&log.run.head);
    let tools = config.tools.iter().filter(|tool| tool.executor != Executor::SubRun || depth < config.limits.depth).cloned();
    let arguments = log.call(call).map_or("", |call| call.arguments);
    Started {
        images: Vec::new(),
        config: RunConfig {
            tools: tools.collect(),
            budget: Budget {
                usd: config.budget.usd.map(|_| slice.usd),
                tokens: config.budget.tokens.map(|_| slice.tokens),
                steps: left.steps.max(1),
                active_ms: left.active_ms.max(1),
                when_exceeded: errand_core::WhenExceeded::End,
            },
            ..(**config).clone()
        },
        task: sub_run_task(arguments),
        files: Vec::new(),
        workspace: log.workspace(),
        history: None,
        parent: Some(Parent { run: log.run.id, call, depth }),
        withdrawn: None,
        given: Vec::new(),
        metadata: Default::default(),
        surface: None,
    }
}

/// The task in the arguments of a call that starts a sub-run; the arguments themselves if they name none.
fn sub_run_task(arguments: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Arguments {
        task: String,
    }
    serde_json::from_str(arguments).map_or_else(|_| arguments.to_owned(), |Arguments { task }| task)
}
