use super::claim::Stopped;
use super::{Disposition, Driver};
use crate::bugs::Bug;
use crate::error::Error;
use crate::ports::{Admission, Delivery, Loaded, Put, ToolJob};
use errand_core::{
    CallId, CallState, Class, Item, ItemBody, ItemKey, Nonce, Observation, Outcome, RunId, RunLog, Timestamp,
};
use futures::future::{Either, select};
use std::pin::pin;

impl Driver {
    /// Handles the message for a tool call: fence, look again, carry out, write the result, tell the run.
    pub(super) async fn call(&self, delivery: &Delivery, run: RunId, call: CallId) -> Result<Disposition, Error> {
        let now = self.world.now();
        let Some(Loaded { log, .. }) = self.store.load(run).await? else {
            return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms)));
        };
        let pending = log.run.head.due.calls().iter().find(|pending| pending.id == call);
        let timeout_ms = match pending.map(|pending| (&pending.state, pending.class)) {
            _ if log.run.head.status.is_ended() => return Ok(Disposition::Acknowledge),
            Some((CallState::HandedOut { timeout_ms }, _)) if log.result(call).is_none() => *timeout_ms,
            // Whoever finds the outcome there still sends: the one who wrote it may have died before that.
            Some((CallState::HandedOut { .. }, _)) => {
                self.tell(run).await?;
                return Ok(Disposition::Acknowledge);
            }
            _ if call.record > log.run.number => return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms))),
            _ => return Ok(Disposition::Acknowledge),
        };
        let spec = log.call(call).and_then(|made| log.run.config.tool(made.tool));
        if spec.is_some_and(|spec| !self.tools.serves(std::slice::from_ref(spec))) {
            // The run stays due; who has the tool finds it by the due index.
            tracing::warn!(%run, %call, "this process does not have the tool as the run knows it");
            return Ok(Disposition::Acknowledge);
        }
        let effectful = pending.is_some_and(|pending| pending.class == Class::Effectful);
        let class = if effectful { Class::Effectful } else { Class::Idempotent };
        let (home, mut fences) = self.fences(&log, call, class).await?;
        if home != run
            && let Some(receipt) = self.receipt(home, call).await?
        {
            self.result(run, receipt).await?;
            self.tell(run).await?;
            return Ok(Disposition::Acknowledge);
        }
        if self.bugs.has(Bug::FenceIgnored) {
            fences.clear();
        }
        if let Some(until) = fences.iter().map(|fence| fence.1).filter(|expires| *expires > now).max() {
            return Ok(Disposition::GiveBack(until));
        }
        if effectful && !fences.is_empty() && !self.bugs.has(Bug::UnknownSentAgain) {
            let reason = "the call was sent, and the worker that sent it died before it knew what came of it".to_owned();
            self.receive(home, run, Observation::free(call, Outcome::Unknown { reason })).await?;
            return Ok(Disposition::Acknowledge);
        }
        if self.in_flight.is_winding_down() {
            return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms)));
        }
        let fits = now.plus(timeout_ms) <= delivery.hidden_until;
        match self.admitted(&log, call).await? {
            Admission::Here | Admission::Held if fits => {}
            Admission::Here => return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms))),
            // Where all runners take from, messages are hidden for a moment only; here it has its time.
            Admission::Held | Admission::Elsewhere => {
                self.queue.send(delivery.message.clone()).await?;
                return Ok(Disposition::Acknowledge);
            }
            // A message of its own: waiting for room is no failed delivery.
            Admission::Later { millis } => {
                self.queue.send(delivery.message.at(now.plus(millis))).await?;
                return Ok(Disposition::Acknowledge);
            }
        }
        let attempt = fences.iter().map(|fence| fence.0).max().unwrap_or(0) + 1;
        let by = self.world.nonce();
        let expires = now.plus(timeout_ms + self.settings.margin_ms);
        let body = ItemBody::Fence { by, expires };
        let fence = Item { key: ItemKey::Fence { call, attempt }, at: now, body: body.clone() };
        match self.store.put(home, &fence, None).await? {
            Put::Stored => {}
            Put::Taken(item) if item.body == body || self.bugs.has(Bug::FenceIgnored) => {}
            Put::Taken(_) => return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms))),
        }
        let sending = Sending { call, by, timeout_ms, expires, effectful, home };
        self.send_call(&log, sending).await
    }

    async fn admitted(&self, log: &RunLog, call: CallId) -> Result<Admission, Error> {
        match log.call(call).and_then(|made| log.run.config.tool(made.tool)) {
            Some(spec) => Ok(self.tools.admit(log.run.id, &log.run.config.tenant, spec).await?),
            None => Ok(Admission::Here),
        }
    }

    /// Sends a fenced call, unless the run was stopped or the fence has run out in the meantime.
    async fn send_call(&self, log: &RunLog, sending: Sending) -> Result<Disposition, Error> {
        let Sending { call, by, timeout_ms, expires, effectful, home } = sending;
        let run = log.run.id;
        if self.is_stopped(run).await? {
            let outcome = Outcome::error("not_sent", "the run was stopped before this call was sent");
            self.receive(home, run, Observation::free(call, outcome)).await?;
            return Ok(Disposition::Acknowledge);
        }
        if self.world.now().plus(timeout_ms) > expires && !self.bugs.has(Bug::DeadlineNotChecked) {
            if !effectful {
                return Ok(Disposition::GiveBack(expires));
            }
            let outcome = Outcome::error("not_sent", "the worker was held up until it was too late to send this call");
            self.receive(home, run, Observation::free(call, outcome)).await?;
            return Ok(Disposition::Acknowledge);
        }
        let Some((made, spec)) = log.call(call).and_then(|made| Some((made, log.run.config.tool(made.tool)?))) else {
            let outcome = Outcome::error("unknown_tool", "the run does not have this tool any longer");
            self.receive(home, run, Observation::free(call, outcome)).await?;
            return Ok(Disposition::Acknowledge);
        };
        let job = ToolJob {
            run,
            call: made,
            spec,
            workspace: log.workspace(),
            timeout_ms: spec.timeout_ms.min(timeout_ms),
            observation_bytes: log.run.config.limits.observation_bytes,
            has_called_before: log.has_called_before(call),
            min_tier: spec.min_tier.max(log.run.config.min_tier),
            egress_bytes: log.egress_bytes(),
            now: self.world.now(),
        };
        self.watch.calling(run, call);
        let observing = self.in_flight.run(run, by, self.observe(job, timeout_ms));
        let observed = self.until_stopped(run, observing).await;
        self.watch.called(run, call);
        let observation = match observed {
            Ok(observation) => surfaced(observation, effectful),
            Err(_) if effectful => {
                let reason = "the call was under way when it was stopped".to_owned();
                Observation::free(call, Outcome::Unknown { reason })
            }
            Err(_) if self.is_stopped(run).await? => {
                Observation::free(call, Outcome::error("cancelled", "the run was stopped while this call was under way"))
            }
            Err(_) => return Ok(Disposition::GiveBack(self.world.now())),
        };
        if self.bugs.has(Bug::ReceiptLostAfterCancel) && self.is_stopped(run).await? {
            return Ok(Disposition::Acknowledge);
        }
        self.receive(home, run, observation).await?;
        Ok(Disposition::Acknowledge)
    }

    /// Waits for `work`, looking from time to time whether another process stopped the run, which then stops here too.
    async fn until_stopped<T>(&self, run: RunId, work: impl Future<Output = T>) -> T {
        if self.settings.look_ms == 0 {
            return work.await;
        }
        let mut work = pin!(work);
        loop {
            let time = pin!(self.world.sleep(self.settings.look_ms));
            match select(work, time).await {
                Either::Left((done, _)) => return done,
                Either::Right(((), unfinished)) => work = unfinished,
            }
            // A store that is away stops nothing.
            if self.is_stopped(run).await.unwrap_or(false) {
                self.in_flight.stop(run);
            }
        }
    }

    /// The run that holds a call's fence and receipt, and the attempts at it with the time when each is certainly over.
    /// An effectful call that a fork shares with its origin has them where it was born: one fence for all.
    pub(super) async fn fences(
        &self,
        log: &RunLog,
        call: CallId,
        class: Class,
    ) -> Result<(RunId, Vec<(u32, Timestamp)>), Error> {
        let run = log.run.id;
        let born = log.record(call.record).map_or(run, |record| record.run);
        let shared = class == Class::Effectful && born != run && !self.bugs.has(Bug::ForkForgetsFences);
        match shared {
            true => Ok((born, fences(&self.load(born).await?, call))),
            false => Ok((run, fences(log, call))),
        }
    }

    /// Writes down what came of a call, first where its fence is, and tells the run. The run that made it pays. If there
    /// was a word on it already, that one stands.
    pub(super) async fn receive(&self, home: RunId, run: RunId, observation: Observation) -> Result<(), Error> {
        if home == run {
            self.result(run, observation).await?;
            return self.tell(run).await;
        }
        let call = observation.call;
        self.result(home, Observation { payer: Some(run), ..observation }).await?;
        self.take_over(home, run, call).await?;
        Ok(())
    }

    /// True if the birth place of a call had a word on it, which is now that of this run too.
    pub(super) async fn take_over(&self, home: RunId, run: RunId, call: CallId) -> Result<bool, Error> {
        if home == run {
            return Ok(false);
        }
        let Some(receipt) = self.receipt(home, call).await? else { return Ok(false) };
        self.result(run, receipt).await?;
        self.tell(run).await?;
        Ok(true)
    }

    /// What a call's birth place says came of it.
    async fn receipt(&self, home: RunId, call: CallId) -> Result<Option<Observation>, Error> {
        let item = self.store.item(home, &ItemKey::Result { call }).await?;
        Ok(item.and_then(|item| match item.body {
            // Without a name to it, it is the birth place's own to pay.
            ItemBody::Result { observation } => Some(Observation { payer: observation.payer.or(Some(home)), ..observation }),
            _ => None,
        }))
    }

    async fn is_stopped(&self, run: RunId) -> Result<bool, Error> {
        if self.bugs.has(Bug::CancelNotCheckedBeforeSending) {
            return Ok(false);
        }
        let Some(last) = self.store.last(run).await? else { return Ok(true) };
        Ok(last.head.status.is_ended() || self.stopped_above(last.head.parent).await? != Stopped::No)
    }

    /// Writes the result of a call, or its receipt; the first word stands.
    pub(super) async fn result(&self, run: RunId, observation: Observation) -> Result<(), Error> {
        let key = ItemKey::Result { call: observation.call };
        let item = Item { key, at: self.world.now(), body: ItemBody::Result { observation } };
        self.store.put(run, &item, None).await?;
        Ok(())
    }

    /// Tells a run that something it may be waiting for has arrived.
    pub(super) async fn tell(&self, run: RunId) -> Result<(), Error> {
        if self.bugs.has(Bug::ResultSenderSilent) {
            return Ok(());
        }
        let Some(last) = self.store.last(run).await? else { return Ok(()) };
        if last.head.status.is_ended() && !self.bugs.has(Bug::EndedParentNotified) {
            return Ok(());
        }
        self.send_step(run, last.number + 1, None).await
    }
}

/// A call that is fenced and about to be sent.
struct Sending {
    call: CallId,
    by: Nonce,
    timeout_ms: u64,
    expires: Timestamp,
    effectful: bool,
    /// The run that holds its fence and its receipt.
    home: RunId,
}

/// An effectful call that ran out of time may have taken hold.
fn surfaced(observation: Observation, effectful: bool) -> Observation {
    match &observation.outcome {
        Outcome::Error { code, text } if effectful && matches!(code.as_str(), "timed_out" | "session_lost") => {
            let outcome = Outcome::Unknown { reason: text.clone() };
            Observation { outcome, ..observation }
        }
        _ => observation,
    }
}

/// What a call to a tool is worth when nobody can say.
pub(super) fn lost(call: CallId, class: Class, fenced: bool) -> Observation {
    let outcome = match class {
        Class::Effectful if fenced => {
            Outcome::Unknown { reason: "the call was sent and every try to learn what came of it failed".to_owned() }
        }
        _ => Outcome::error("tool_crashed", "the call could not be carried out: every try ended with a crash"),
    };
    Observation::free(call, outcome)
}

fn fences(log: &RunLog, call: CallId) -> Vec<(u32, Timestamp)> {
    log.items
        .iter()
        .filter_map(|(key, item)| match (key, &item.body) {
            (ItemKey::Fence { call: of, attempt }, ItemBody::Fence { expires, .. }) if *of == call => {
                Some((*attempt, *expires))
            }
            _ => None,
        })
        .collect()
}
