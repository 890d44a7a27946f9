//! What can be done now: the decision between loading a run and doing something for it.

use crate::event::{BudgetRaised, Decided, Event, Messaged, Observed};
use crate::{CallState, Consumed, Due, Item, ItemBody, ItemKey, Observation, Outcome, PendingCall, RunLog, Timestamp};

/// What the run needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it has ended.
    Nothing,
    /// Something from outside is missing. Whoever brings it sends a message.
    Wait,
    /// Nothing before this time.
    NotBefore(Timestamp),
    /// A record that costs nothing can be made.
    Commit {
        /// What happened.
        event: Event,
        /// The items it takes in.
        consumed: Vec<Consumed>,
    },
    /// A model call.
    Model,
}

impl RunLog {
    /// What the run needs at `now`.
    pub fn next(&self, now: Timestamp) -> Next {
        match &self.run.head.due {
            Due::Nothing { .. } => Next::Nothing,
            Due::Budget => self.raise(),
            Due::Calls { calls } => self.decided(calls).or_else(|| self.observed(calls, now)).unwrap_or(Next::Wait),
            // A call that is under way is not made worthless by a message: the model reads it at the turn after.
            Due::Model { .. } if self.is_attempted(now) => Next::Model,
            Due::Model { not_before, .. } => match (self.messaged(), not_before) {
                (Some(next), _) => next,
                (None, Some(time)) if *time > now => Next::NotBefore(*time),
                (None, _) => Next::Model,
            },
        }
    }

    /// Messages that no record has read.
    pub fn unread(&self) -> impl Iterator<Item = &Item> {
        self.items.values().filter(|item| matches!(item.key, ItemKey::Message { .. }) && !self.is_consumed(&item.key))
    }

    fn raise(&self) -> Next {
        let raise = self.items.values().find_map(|item| match &item.body {
            ItemBody::Raise { by, who } if !self.is_consumed(&item.key) => {
                Some((Event::BudgetRaised(BudgetRaised { by: *by, who: who.clone() }), vec![consumed(item)]))
            }
            _ => None,
        });
        raise.map_or(Next::Wait, |(event, consumed)| Next::Commit { event, consumed })
    }

    fn decided(&self, calls: &[PendingCall]) -> Option<Next> {
        calls.iter().find_map(|call| {
            let keys = [ItemKey::Approval { call: call.id }, ItemKey::Resolution { call: call.id }];
            let item = keys.iter().filter_map(|key| self.items.get(key)).find(|item| match &item.body {
                ItemBody::Decision { decision, .. } => decision.fits(&call.state) && !self.is_consumed(&item.key),
                _ => false,
            })?;
            let ItemBody::Decision { decision, by } = &item.body else { return None };
            let event = Event::Decided(Decided { call: call.id, decision: decision.clone(), by: by.clone() });
            Some(Next::Commit { event, consumed: vec![consumed(item)] })
        })
    }

    /// All outcomes that are there, once every call that a machine is at has one.
    fn observed(&self, calls: &[PendingCall], now: Timestamp) -> Option<Next> {
        let mut observations = Vec::new();
        let mut taken = Vec::new();
        for call in calls {
            match self.outcome(call, now) {
                Some((observation, item)) => {
                    observations.push(observation);
                    taken.extend(item.map(consumed));
                }
                None if call.state.is_at_work() => return None,
                None => {}
            }
        }
        if observations.is_empty() {
            return None;
        }
        Some(Next::Commit { event: Event::Observed(Observed { observations }), consumed: taken })
    }

    fn outcome(&self, call: &PendingCall, now: Timestamp) -> Option<(Observation, Option<&Item>)> {
        let brought = || {
            let item = self.items.get(&ItemKey::Result { call: call.id })?;
            match &item.body {
                ItemBody::Result { observation } => Some((observation.clone(), Some(item))),
                _ => None,
            }
        };
        match &call.state {
            CallState::HandedOut { .. } | CallState::SubRun { .. } => brought(),
            CallState::Person { until } => brought().or_else(|| {
                let outcome = Outcome::error("no_answer", "nobody answered in time");
                until.filter(|until| *until <= now).map(|_| (Observation::free(call.id, outcome), None))
            }),
            CallState::Timer { at } if *at <= now => {
                let outcome = Outcome::Ok { text: "the time has come".to_owned() };
                Some((Observation::free(call.id, outcome), None))
            }
            CallState::Timer { .. } | CallState::Approval | CallState::Unknown | CallState::Caller | CallState::Done => None,
        }
    }

    fn messaged(&self) -> Option<Next> {
        let mut unread: Vec<&Item> = self.unread().collect();
        unread.sort_by(|a, b| (a.at, &a.key).cmp(&(b.at, &b.key)));
        let messages = unread
            .iter()
            .filter_map(|item| match &item.body {
                ItemBody::Message { message } => Some(message.clone()),
                _ => None,
            })
            .collect::<Vec<_>>();
        if messages.is_empty() {
            return None;
        }
        Some(Next::Commit {
            event: Event::Messaged(Messaged { messages }),
            consumed: unread.into_iter().map(consumed).collect(),
        })
    }
}

fn consumed(item: &Item) -> Consumed {
    Consumed { key: item.key.clone(), sha256: item.digest() }
}
