//! Who may spend: claims, waste, and the bill.

use crate::{Amount, Booked, BudgetBound, CallId, CallState, Due, Event, ItemBody, ItemKey, RunLog, Spent, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The most that a run can have cost so far: its totals, claims it has not counted, and waste.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bill {
    /// What records have counted.
    pub counted: Amount,
    /// What was spent beside the records and is known.
    pub waste: Amount,
    /// What attempts without an outcome may have spent.
    pub open: Amount,
}

impl Bill {
    /// All of it.
    pub fn total(&self) -> Amount {
        self.counted + self.waste + self.open
    }
}

/// Whether an attempt at the record that is due may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimDecision {
    /// Yes, under this number.
    Go {
        /// The number of the attempt.
        attempt: u32,
    },
    /// Not before this time: an earlier attempt can be alive.
    Wait {
        /// When it must be over.
        until: Timestamp,
    },
    /// No: it does not fit the budget, and every earlier attempt is over.
    DoesNotFit {
        /// The bound it does not fit.
        bound: BudgetBound,
    },
}

/// An attempt that no record has counted.
#[derive(Debug, Clone, Copy)]
struct OpenAttempt {
    bound: Amount,
    expires: Timestamp,
    waste: Option<Spent>,
}

impl RunLog {
    /// What this run can have cost so far.
    pub fn bill(&self) -> Bill {
        let mut bill = Bill { counted: self.run.head.totals.spent, ..Bill::default() };
        for attempt in self.open_attempts().values() {
            match attempt.waste {
                Some(spent) => bill.waste += spent.amount,
                None => bill.open += attempt.bound,
            }
        }
        for call in self.run.head.due.calls().iter().filter(|call| call.state != CallState::Done) {
            match (self.result(call.id), &call.state) {
                (Some(observation), _) => bill.waste += observation.cost_for(self.run.id),
                (None, CallState::SubRun { slice, .. }) => bill.open += *slice,
                (None, _) => {}
            }
        }
        bill
    }

    /// Whether an attempt at the record that is due may be made now.
    pub fn claim(&self, now: Timestamp) -> Option<ClaimDecision> {
        let Due::Model { reserve, .. } = self.run.head.due else { return None };
        let due = self.run.number + 1;
        let open = self.open_attempts();
        let alive = open.iter().filter(|(_, attempt)| attempt.waste.is_none() && attempt.expires > now);
        let here = alive.clone().filter(|((record, _), _)| *record == due).map(|(_, attempt)| attempt.expires).max();
        if let Some(until) = here {
            return Some(ClaimDecision::Wait { until });
        }
        let outstanding: Amount =
            open.values().map(|attempt| attempt.waste.map_or(attempt.bound, |spent| spent.amount)).sum();
        let left = self.run.left(&self.run.head);
        let needed = outstanding + reserve;
        let exceeded = match () {
            () if left.usd.is_some_and(|usd| needed.usd > usd) => Some(BudgetBound::Usd),
            () if left.tokens.is_some_and(|tokens| needed.tokens > tokens) => Some(BudgetBound::Tokens),
            () => None,
        };
        if let Some(bound) = exceeded {
            return Some(match alive.map(|(_, attempt)| attempt.expires).max() {
                Some(until) => ClaimDecision::Wait { until },
                None => ClaimDecision::DoesNotFit { bound },
            });
        }
        Some(ClaimDecision::Go { attempt: self.last_attempt(due) + 1 })
    }

    /// True while an attempt at the record that is due can be alive.
    pub(crate) fn is_attempted(&self, now: Timestamp) -> bool {
        let due = self.run.number + 1;
        self.open_attempts()
            .iter()
            .any(|((record, _), attempt)| *record == due && attempt.waste.is_none() && attempt.expires > now)
    }

    /// What the next record puts on the books: `own` attempt, and all earlier ones that are over.
    pub fn settle(&self, own: Option<Booked>, now: Timestamp) -> Vec<Booked> {
        let own_key = own.as_ref().map(|booked| (booked.record, booked.attempt));
        let over = self
            .open_attempts()
            .into_iter()
            .filter(|(key, attempt)| Some(*key) != own_key && (attempt.waste.is_some() || attempt.expires <= now));
        let mut books: Vec<Booked> = over
            .map(|((record, attempt), open)| Booked {
                record,
                attempt,
                spent: open.waste.unwrap_or(Spent { amount: open.bound, confirmed: false }),
            })
            .collect();
        books.extend(own);
        books
    }

    /// When the work for `event` began: the earliest of the last attempts at the calls it takes in. `None` if nobody
    /// worked for it; a sub-run works from the moment it was asked for.
    pub fn began(&self, event: &Event) -> Option<Timestamp> {
        let Event::Observed(observed) = event else { return None };
        let pending = |call| self.run.head.due.calls().iter().find(|pending| pending.id == call);
        let began = |call| match pending(call).map(|pending| &pending.state) {
            Some(CallState::SubRun { .. }) => Some(self.run.at),
            Some(CallState::HandedOut { .. }) => self.fenced(call),
            _ => None,
        };
        observed.observations.iter().filter_map(|observation| began(observation.call)).min()
    }

    /// When the last attempt at a call began.
    fn fenced(&self, call: CallId) -> Option<Timestamp> {
        let fences = self.items.iter().filter_map(|(key, item)| match key {
            ItemKey::Fence { call: of, .. } if *of == call => Some(item.at),
            _ => None,
        });
        fences.max()
    }

    fn last_attempt(&self, due: u64) -> u32 {
        self.items
            .keys()
            .filter_map(|key| match key {
                ItemKey::Claim { record, attempt } if *record == due => Some(*attempt),
                _ => None,
            })
            .max()
            .unwrap_or(0)
    }

    fn open_attempts(&self) -> BTreeMap<(u64, u32), OpenAttempt> {
        if !self.items.keys().any(|key| matches!(key, ItemKey::Claim { .. })) {
            return BTreeMap::new();
        }
        let counted: BTreeSet<(u64, u32)> = self.booked().map(|booked| (booked.record, booked.attempt)).collect();
        let mut open = BTreeMap::new();
        for (key, item) in &self.items {
            let (ItemKey::Claim { record, attempt }, ItemBody::Claim { bound, expires, .. }) = (key, &item.body) else {
                continue;
            };
            let (record, attempt) = (*record, *attempt);
            if counted.contains(&(record, attempt)) || self.items.contains_key(&ItemKey::Void { record, attempt }) {
                continue;
            }
            let waste = self.items.get(&ItemKey::Waste { record, attempt }).and_then(|item| match item.body {
                ItemBody::Waste { spent } => Some(spent),
                _ => None,
            });
            open.insert((record, attempt), OpenAttempt { bound: *bound, expires: *expires, waste });
        }
        open
    }
}
