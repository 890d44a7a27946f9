use super::call::lost;
use super::{Disposition, Driver};
use crate::bugs::Bug;
use crate::error::Error;
use crate::ports::{Commit, Delivery, Loaded, Message};
use errand_core::{ClaimDecision, Consumed, Event, Failed, Input, Making, Next, RunId, RunLog};

impl Driver {
    /// Looks after runs whose entry in the due index is overdue: repeats what their head asks for and sends the message
    /// for the next record. Returns how many there were.
    pub async fn sweep(&self, limit: u32) -> Result<usize, Error> {
        if self.bugs.has(Bug::NoSweep) {
            return Ok(0);
        }
        let overdue = self.store.overdue(self.world.now(), limit).await?;
        let mut failed = None;
        for run in &overdue {
            // One that is damaged must not keep the others waiting.
            if let Err(error) = self.revive(*run).await {
                tracing::warn!(%run, code = error.code(), %error, "an overdue run could not be looked after");
                failed = Some(error);
            }
        }
        match failed {
            Some(error) if overdue.len() == 1 => Err(error),
            _ => Ok(overdue.len()),
        }
    }

    /// Repeats what a run's head asks for and sends the message for the next record.
    pub async fn revive(&self, run: RunId) -> Result<(), Error> {
        let Some(Loaded { log, due }) = self.store.load(run).await? else { return Ok(()) };
        self.dispatch_again(&log, due).await?;
        if log.run.head.status.is_ended() {
            return Ok(());
        }
        self.send_step(run, log.run.number + 1, log.run.head.due.deadline()).await?;
        let Some(Loaded { due: Some(due), .. }) = self.store.load(run).await? else { return Ok(()) };
        let now = self.world.now();
        if due.at <= now {
            self.store.move_due(run, Some(due), Some(now.plus(self.settings.lease_ms))).await?;
        }
        Ok(())
    }

    /// Looks at a message that was delivered too often. It can be stale, or about a run that is well; only a record
    /// that is due and that nobody is at fails the run. A call gets an error, or `unknown`.
    pub async fn dead_letter(&self, delivery: &Delivery) -> Result<Disposition, Error> {
        let now = self.world.now();
        let run = delivery.message.run();
        let Some(Loaded { log, due }) = self.store.load(run).await? else { return Ok(Disposition::Acknowledge) };
        if log.run.head.status.is_ended() {
            self.dispatch(&log, due).await?;
            return Ok(Disposition::Acknowledge);
        }
        match delivery.message {
            Message::Call { call, .. } => {
                let pending = log.run.head.due.calls().iter().find(|pending| pending.id == call);
                if let Some(pending) = pending.filter(|pending| pending.state.is_at_work() && log.result(call).is_none()) {
                    let (home, fences) = self.fences(&log, call, pending.class).await?;
                    if let Some(until) = fences.iter().map(|fence| fence.1).filter(|expires| *expires > now).max() {
                        return Ok(Disposition::GiveBack(until));
                    }
                    if self.take_over(home, run, call).await? {
                        return Ok(Disposition::Acknowledge);
                    }
                    self.receive(home, run, lost(call, pending.class, !fences.is_empty())).await?;
                    return Ok(Disposition::Acknowledge);
                }
                self.tell(run).await?;
            }
            Message::Step { record, .. } => {
                let alive = matches!(log.claim(now), Some(ClaimDecision::Wait { .. }));
                let due_now = record == log.run.number + 1 && !alive;
                let stuck = match log.next(now) {
                    Next::Model => Some(format!("record {record} could not be made: every worker that tried it died")),
                    // What the core refuses now it will refuse for ever.
                    Next::Commit { event, consumed } => self.refused(&log, event, consumed),
                    _ => None,
                };
                let stuck = stuck.filter(|_| due_now).or_else(|| self.planted(record));
                if let Some(message) = stuck {
                    let event = Event::Failed(Failed { code: "step_failed".to_owned(), message });
                    let input = Input { event, books: log.settle(None, now), at: now, began: None };
                    let making = Making { made_under: record, attempt: 0, maker: self.world.nonce() };
                    let sealed = log.make(input, Vec::new(), making)?;
                    if self.store.commit(run, &sealed, Some(now)).await? == Commit::Stored {
                        self.watch.recorded(run, &sealed);
                    }
                }
                self.revive(run).await?;
            }
        }
        Ok(Disposition::Acknowledge)
    }

    /// Why the core does not take an event that is due, if it does not.
    fn refused(&self, log: &RunLog, event: Event, consumed: Vec<Consumed>) -> Option<String> {
        let input = Input { event, books: Vec::new(), at: self.world.now(), began: None };
        let making = Making { made_under: 0, attempt: 0, maker: self.world.nonce() };
        let rejection = log.make(input, consumed, making).err()?;
        Some(format!("the next record could not be made: {rejection}"))
    }

    fn planted(&self, record: u64) -> Option<String> {
        self.bugs.has(Bug::DeadLetterFailsLiveRun).then(|| format!("record {record} failed"))
    }
}
