use super::Driver;
use super::step::reserve;
use crate::bugs::Bug;
use crate::error::Error;
use crate::ports::Put;
use errand_core::{
    Amount, BudgetExceeded, ClaimDecision, Due, Event, Item, ItemBody, ItemKey, Nonce, RunId, RunLog, Timestamp,
};

/// What became of a claim.
pub(super) enum Claimed {
    /// The attempt may be made.
    Granted {
        /// Its number.
        attempt: u32,
    },
    /// An earlier attempt can be alive until then.
    Refused {
        /// When it must be over.
        until: Timestamp,
    },
    /// The budget does not hold it.
    DoesNotFit {
        /// What to record.
        event: Event,
    },
    /// The run has moved on.
    Stale,
}

impl Driver {
    /// Reserves the bound of the model call that is due, then looks again: if the record or a stop got there first, the
    /// claim is void.
    pub(super) async fn claim(&self, log: &RunLog, by: Nonce) -> Result<Claimed, Error> {
        let now = self.world.now();
        let (run, record) = (log.run.id, log.run.number + 1);
        let Due::Model { timeout_ms, .. } = log.run.head.due else { return Ok(Claimed::Stale) };
        if self.skips_claim(log) {
            return Ok(Claimed::Granted { attempt: 1 });
        }
        let attempt = match self.may_claim(log, now) {
            Some(ClaimDecision::Go { attempt }) => attempt,
            Some(ClaimDecision::Wait { until }) => return Ok(Claimed::Refused { until }),
            Some(ClaimDecision::DoesNotFit { bound }) => {
                return Ok(Claimed::DoesNotFit { event: Event::BudgetExceeded(BudgetExceeded { bound }) });
            }
            None => return Ok(Claimed::Stale),
        };
        let bound = if self.bugs.has(Bug::NothingReserved) { Amount::ZERO } else { reserve(log) };
        let expires = now.plus(timeout_ms + self.settings.margin_ms);
        let body = ItemBody::Claim { by, bound, expires };
        let key = ItemKey::Claim { record, attempt };
        match self.store.put(run, &Item { key, at: now, body: body.clone() }, None).await? {
            Put::Stored => {}
            // A write that was tried twice finds itself.
            Put::Taken(item) if item.body == body => {}
            Put::Taken(_) => return Ok(Claimed::Stale),
        }
        if self.bugs.has(Bug::ClaimNotLookedAt) {
            return Ok(Claimed::Granted { attempt });
        }
        let stopped = self.stopped(run, record - 1).await?;
        // A worker that was held up may find its claim expired: another one can be under way by now.
        let late = self.world.now().plus(timeout_ms) > expires && !self.bugs.has(Bug::DeadlineNotChecked);
        if stopped == Stopped::No && !late {
            return Ok(Claimed::Granted { attempt });
        }
        let void = Item { key: ItemKey::Void { record, attempt }, at: self.world.now(), body: ItemBody::Void };
        self.store.put(run, &void, None).await?;
        if let Stopped::Above(above) = stopped {
            self.cancel(run, &format!("run {above} above it has ended"), "errand").await?;
        }
        Ok(Claimed::Stale)
    }

    fn may_claim(&self, log: &RunLog, now: Timestamp) -> Option<ClaimDecision> {
        if self.bugs.has(Bug::ClaimsNotCounted) {
            let attempt = log.items.keys().filter(|key| matches!(key, ItemKey::Claim { .. })).count() as u32 + 1;
            return Some(ClaimDecision::Go { attempt });
        }
        match log.claim(now) {
            Some(ClaimDecision::Wait { .. }) if self.bugs.has(Bug::LiveAttemptEndsRun) => {
                let fits = log.claim(Timestamp::from_millis(u64::MAX));
                match fits {
                    Some(ClaimDecision::DoesNotFit { .. }) => fits,
                    _ => log.claim(now),
                }
            }
            decision => decision,
        }
    }

    fn skips_claim(&self, log: &RunLog) -> bool {
        self.bugs.has(Bug::NoClaim)
            || (self.bugs.has(Bug::LastResultSkipsClaim) && matches!(log.last().event, Event::Observed(_)))
    }

    /// Whether a run, or one above it, has ended or moved past record `number`.
    pub(super) async fn stopped(&self, run: RunId, number: u64) -> Result<Stopped, Error> {
        let Some(last) = self.store.last(run).await? else { return Ok(Stopped::Here) };
        if last.number != number || last.head.status.is_ended() {
            return Ok(Stopped::Here);
        }
        self.stopped_above(last.head.parent).await
    }

    /// Whether one of the runs above has ended.
    pub(super) async fn stopped_above(&self, mut above: Option<RunId>) -> Result<Stopped, Error> {
        if self.bugs.has(Bug::OnlyOwnRunChecked) || self.bugs.has(Bug::CancelStopsAtCancelled) {
            return Ok(Stopped::No);
        }
        while let Some(run) = above {
            let Some(last) = self.store.last(run).await? else { return Ok(Stopped::Above(run)) };
            if last.head.status.is_ended() {
                return Ok(Stopped::Above(run));
            }
            above = last.head.parent;
        }
        Ok(Stopped::No)
    }
}

/// Whether something new may still start in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It may.
    No,
    /// The run itself has ended or moved on.
    Here,
    /// A run above it has ended.
    Above(RunId),
}
