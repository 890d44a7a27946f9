use super::claim::Claimed;
use super::{Disposition, Driver};
use crate::bugs::Bug;
use crate::error::Error;
use crate::ports::{Commit, Delivery, Loaded};
use errand_core::{
    Asked, Booked, Consumed, Due, Event, Input, Item, ItemBody, ItemKey, Making, Next, Nonce, RunId, RunLog, Sealed, Spent,
    Timestamp,
};

/// How far one message has come.
struct Progress {
    /// The record the message is for.
    message: u64,
    /// Who handles it.
    maker: Nonce,
    /// The last record made under it here.
    made: Option<u64>,
    /// How many were made under it here.
    count: u32,
    /// When the attempt under way began.
    began: Option<Timestamp>,
    /// The last request made under it here, for the next one to go on from.
    asked: Option<Asked>,
    /// Only with a planted bug: the message is dropped.
    gave_up: bool,
}

impl Driver {
    /// Handles the message for record `record`.
    pub(super) async fn step(&self, delivery: &Delivery, run: RunId, record: u64) -> Result<Disposition, Error> {
        let start = self.world.now();
        let mut progress = Progress {
            message: record,
            maker: self.world.nonce(),
            made: None,
            count: 0,
            began: None,
            asked: None,
            gave_up: false,
        };
        loop {
            if progress.gave_up {
                return Ok(Disposition::Acknowledge);
            }
            let now = self.world.now();
            let Some(Loaded { log, due }) = self.store.load(run).await? else {
                return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms)));
            };
            let number = log.run.number;
            let mine = progress.made == Some(number);
            if record > number + 1 {
                return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms)));
            }
            if record <= number && !mine {
                return self.stale(&log, due, record).await;
            }
            if !log.run.head.status.is_ended() && self.keep_due(run, &log, due).await? {
                continue;
            }
            let next = log.next(now);
            let enough = mine && progress.count >= self.settings.records_per_message;
            match next {
                Next::Nothing => {
                    self.dispatch(&log, due).await?;
                    return Ok(Disposition::Acknowledge);
                }
                Next::Wait if !mine => return Ok(Disposition::Acknowledge),
                Next::NotBefore(time) if !mine => {
                    self.send_step(run, number + 1, Some(time)).await?;
                    return Ok(Disposition::Acknowledge);
                }
                Next::Commit { event, consumed } if !enough => {
                    self.make(&log, event, consumed, None, &mut progress).await?;
                }
                Next::Model if !enough && !self.serves(log.run.model()) => {
                    // The run stays due; who has its model finds it by the due index.
                    tracing::warn!(%run, model = log.run.model().name, "this process does not have the run's model");
                    return Ok(Disposition::Acknowledge);
                }
                Next::Model if !enough && !self.tools.serves(&log.run.config.tools) => {
                    tracing::warn!(%run, "this process does not have the run's tools");
                    return Ok(Disposition::Acknowledge);
                }
                Next::Model if !enough => {
                    let timeout = model_timeout(&log);
                    let until = delivery.hidden_until.min(start.plus(self.settings.step_ms));
                    if now.plus(timeout) > until || self.in_flight.is_winding_down() {
                        if mine {
                            self.dispatch(&log, due).await?;
                            return Ok(Disposition::Acknowledge);
                        }
                        return Ok(Disposition::GiveBack(now.plus(self.settings.early_ms)));
                    }
                    if let Some(disposition) = self.attempt(&log, &mut progress).await? {
                        return Ok(disposition);
                    }
                }
                Next::Wait | Next::NotBefore(_) | Next::Commit { .. } | Next::Model => {
                    self.dispatch(&log, due).await?;
                    return Ok(Disposition::Acknowledge);
                }
            }
        }
    }

    /// A message for a record that exists: what its maker did not hand out is handed out again.
    async fn stale(&self, log: &RunLog, due: Option<crate::ports::DueEntry>, record: u64) -> Result<Disposition, Error> {
        let forgotten = self.bugs.has(Bug::GoingOnForgotten) && log.run.number > record;
        let later = log.last().made_under > record;
        if later || forgotten || self.bugs.has(Bug::LoserAcknowledges) {
            return Ok(Disposition::Acknowledge);
        }
        self.dispatch_again(log, due).await?;
        Ok(Disposition::Acknowledge)
    }

    /// One attempt at the model call that is due. `None`: look at the run again.
    async fn attempt(&self, log: &RunLog, progress: &mut Progress) -> Result<Option<Disposition>, Error> {
        // All that can fail without a call is done before the claim, so that no claim is left open for nothing.
        let asked = match progress.asked.take().and_then(|earlier| log.ask_on(earlier)) {
            Some(asked) => asked,
            None => {
                let history = if log.compacted().is_some() { Vec::new() } else { self.history(log).await? };
                let Some(asked) = log.ask(&history) else { return Ok(None) };
                asked
            }
        };
        let began = self.world.now();
        let (number, attempt) = match self.claim(log, progress.maker).await? {
            Claimed::Granted { attempt } => (log.run.number + 1, attempt),
            Claimed::Refused { until } => {
                if !self.bugs.has(Bug::RefusedClaimDropped) {
                    self.send_step(log.run.id, log.run.number + 1, Some(until)).await?;
                }
                return Ok(Some(Disposition::Acknowledge));
            }
            Claimed::DoesNotFit { event } => {
                self.make(log, event, Vec::new(), None, progress).await?;
                return Ok(None);
            }
            Claimed::Stale => return Ok(None),
        };
        self.watch.attempt(log.run.id, number, attempt);
        progress.began = Some(began);
        match self.perform(log, asked.request(), progress.maker).await {
            Some((event, spent)) => {
                progress.asked = Some(asked);
                let own = Booked { record: number, attempt, spent };
                self.make(log, event, Vec::new(), Some(own), progress).await?;
                Ok(None)
            }
            // Stopped from within this process: by a cancel, which the next look at the run shows, or by a shutdown.
            None => {
                let bound = reserve(log);
                self.waste(log.run.id, number, attempt, Spent { amount: bound, confirmed: false }).await?;
                let ended = self.store.last(log.run.id).await?.is_some_and(|last| last.head.status.is_ended());
                Ok(if ended { None } else { Some(Disposition::GiveBack(self.world.now())) })
            }
        }
    }

    /// Makes the next record. If another worker was faster, what this attempt spent is written down as waste.
    async fn make(
        &self,
        log: &RunLog,
        event: Event,
        consumed: Vec<Consumed>,
        own: Option<Booked>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let now = self.world.now();
        let making = Making {
            made_under: progress.message,
            attempt: own.as_ref().map_or(0, |booked| booked.attempt),
            maker: progress.maker,
        };
        let began = progress.began.take().or_else(|| log.began(&event));
        let input = Input { event, books: log.settle(own.clone(), now), at: now, began };
        let sealed = log.make(input, consumed, making)?;
        if self.bugs.has(Bug::HandOutBeforeCommit) {
            let mut early = log.clone();
            early.push(sealed.clone());
            self.dispatch(&early, None).await?;
        }
        if self.commit(log.run.id, &sealed, progress.maker).await? {
            progress.made = Some(sealed.record.number);
            progress.count += 1;
        } else if self.bugs.has(Bug::LosesToItself) {
            progress.gave_up = true;
        } else if let Some(Booked { record, attempt, spent }) = own {
            self.waste(log.run.id, record, attempt, spent).await?;
        }
        Ok(())
    }

    /// True if the record is in the log, by this write or by an earlier try of the same write.
    async fn commit(&self, run: RunId, sealed: &Sealed, maker: Nonce) -> Result<bool, Error> {
        let won = match self.store.commit(run, sealed, None).await? {
            Commit::Stored => true,
            Commit::Taken(record) => record.maker == maker && !self.bugs.has(Bug::LosesToItself),
        };
        if won {
            self.watch.recorded(run, sealed);
        }
        Ok(won)
    }

    async fn waste(&self, run: RunId, record: u64, attempt: u32, spent: Spent) -> Result<(), Error> {
        if self.bugs.has(Bug::WasteNotWritten) {
            return Ok(());
        }
        let item = Item { key: ItemKey::Waste { record, attempt }, at: self.world.now(), body: ItemBody::Waste { spent } };
        self.store.put(run, &item, None).await?;
        Ok(())
    }

    /// Moves the run's entry in the due index ahead once half of its time is used. True if it was moved.
    async fn keep_due(&self, run: RunId, log: &RunLog, due: Option<crate::ports::DueEntry>) -> Result<bool, Error> {
        if log.next(self.world.now()) == Next::Wait {
            return Ok(false);
        }
        let now = self.world.now();
        if due.is_some_and(|due| due.at > now.plus(self.settings.lease_ms / 2)) {
            return Ok(false);
        }
        self.store.move_due(run, due, Some(now.plus(self.settings.lease_ms))).await?;
        Ok(true)
    }
}

fn model_timeout(log: &RunLog) -> u64 {
    match log.run.head.due {
        Due::Model { timeout_ms, .. } => timeout_ms,
        _ => 0,
    }
}

pub(super) fn reserve(log: &RunLog) -> errand_core::Amount {
    match log.run.head.due {
        Due::Model { reserve, .. } => reserve,
        _ => errand_core::Amount::ZERO,
    }
}
