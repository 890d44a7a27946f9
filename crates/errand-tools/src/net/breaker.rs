//! A circuit breaker per endpoint: one that keeps failing is left alone for a while. Time is the job's.

use super::error::Error;
use errand_core::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Failures in a row that open a breaker.
const FAILURES_MAX: u32 = 5;
/// How long it stays open at first, in milliseconds; doubled by each failed trial.
const OPEN_MS: u64 = 30_000;
/// Longest that it stays open, in milliseconds.
const OPEN_MS_MAX: u64 = 300_000;
/// Endpoints that are remembered.
const ENDPOINTS_MAX: usize = 1024;

/// The breakers of all endpoints, by name: an origin such as `https://host:443`, or what else a tool calls.
#[derive(Clone, Default)]
pub(crate) struct Breakers(Arc<Mutex<HashMap<String, Breaker>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Breaker {
    failures: u32,
    open: Option<Open>,
    /// When it last let a call through or judged one: the oldest is forgotten first.
    touched: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Timestamp,
    for_ms: u64,
    /// A trial is under way.
    trial: bool,
}

impl Breakers {
    /// Lets a call through, or says when one may be tried.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the breaker is open, and while the one trial call is under way.
    pub(crate) fn admit(&self, endpoint: &str, now: Timestamp) -> Result<Pass, Error> {
        let mut breakers = self.lock();
        if !breakers.contains_key(endpoint) && breakers.len() >= ENDPOINTS_MAX {
            forget_oldest(&mut breakers);
        }
        let breaker = breakers.entry(endpoint.to_owned()).or_default();
        breaker.touched = now;
        let trial = match &mut breaker.open {
            None => false,
            Some(open) if !open.trial && now >= open.until => {
                open.trial = true;
                true
            }
            Some(open) => {
                let until = open.until.max(now);
                return Err(Error::Unavailable { endpoint: endpoint.to_owned(), until });
            }
        };
        Ok(Pass { breakers: self.clone(), endpoint: endpoint.to_owned(), now, trial, judged: false })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_oldest(breakers: &mut HashMap<String, Breaker>) {
    let oldest = breakers.iter().min_by_key(|(name, breaker)| (breaker.open.is_some(), breaker.touched, *name));
    if let Some(name) = oldest.map(|(name, _)| name.clone()) {
        breakers.remove(&name);
    }
}

/// A call that was let through. Say how it went; dropped without a word (the call was stopped) it counts for nothing.
pub(crate) struct Pass {
    breakers: Breakers,
    endpoint: String,
    now: Timestamp,
    trial: bool,
    judged: bool,
}

impl Pass {
    /// The endpoint answered, whatever it said: the breaker is closed.
    pub(crate) fn succeeded(mut self) {
        self.judge(|breaker, _| *breaker = Breaker { touched: breaker.touched, ..Breaker::default() });
    }

    /// No connection, no answer in time, a broken one, or a server error.
    pub(crate) fn failed(mut self) {
        let trial = self.trial;
        self.judge(|breaker, now| match &mut breaker.open {
            // A call from before it opened tells nothing new.
            Some(_) if !trial => {}
            Some(open) => {
                let for_ms = (open.for_ms * 2).min(OPEN_MS_MAX);
                *open = Open { until: now.plus(for_ms), for_ms, trial: false };
            }
            None => {
                breaker.failures += 1;
                if breaker.failures >= FAILURES_MAX {
                    breaker.open = Some(Open { until: now.plus(OPEN_MS), for_ms: OPEN_MS, trial: false });
                }
            }
        });
    }

    fn judge(&mut self, verdict: impl FnOnce(&mut Breaker, Timestamp)) {
        self.judged = true;
        if let Some(breaker) = self.breakers.lock().get_mut(&self.endpoint) {
            verdict(breaker, self.now);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.judged || !self.trial {
            return;
        }
        if let Some(open) = self.breakers.lock().get_mut(&self.endpoint).and_then(|breaker| breaker.open.as_mut()) {
            open.trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    fn fail(breakers: &Breakers, seconds: u64) {
        breakers.admit("e", at(seconds)).ok().unwrap().failed();
    }

    fn until(breakers: &Breakers, seconds: u64) -> Option<Timestamp> {
        match breakers.admit("e", at(seconds)) {
            Err(Error::Unavailable { until, .. }) => Some(until),
            _ => None,
        }
    }

    fn opened() -> Breakers {
        let breakers = Breakers::default();
        (0..5).for_each(|_| fail(&breakers, 0));
        breakers
    }

    #[test]
    fn five_failures_in_a_row_open_it_for_thirty_seconds() {
        let breakers = Breakers::default();
        (0..4).for_each(|_| fail(&breakers, 0));
        breakers.admit("e", at(0)).ok().unwrap().succeeded();
        (0..4).for_each(|_| fail(&breakers, 0));
        assert_eq!(until(&breakers, 0), None);
        fail(&breakers, 0);
        assert_eq!(until(&breakers, 0), Some(at(30)));
        assert_eq!(until(&breakers, 29), Some(at(30)));
        assert!(breakers.admit("other", at(0)).is_ok());
    }

    #[test]
    fn one_trial_is_let_through_and_a_success_closes_it() {
        let breakers = opened();
        let trial = breakers.admit("e", at(30)).ok().unwrap();
        assert_eq!(until(&breakers, 31), Some(at(31)));
        trial.succeeded();
        (0..4).for_each(|_| fail(&breakers, 31));
        assert_eq!(until(&breakers, 31), None);
    }

    #[test]
    fn each_failed_trial_doubles_the_time_up_to_five_minutes() {
        let breakers = opened();
        let mut now = 30;
        for waits in [60, 120, 240, 300, 300] {
            fail(&breakers, now);
            assert_eq!(until(&breakers, now), Some(at(now + waits)));
            now += waits;
        }
        breakers.admit("e", at(now)).ok().unwrap().succeeded();
        (0..5).for_each(|_| fail(&breakers, now));
        assert_eq!(until(&breakers, now), Some(at(now + 30)));
    }

    #[test]
    fn a_trial_that_was_stopped_makes_room_for_another() {
        let breakers = opened();
        drop(breakers.admit("e", at(30)));
        assert!(breakers.admit("e", at(30)).is_ok());
    }

    #[test]
    fn calls_from_before_it_opened_do_not_prolong_it() {
        let breakers = Breakers::default();
        let late: Vec<Pass> = (0..7).map(|_| breakers.admit("e", at(0)).ok().unwrap()).collect();
        late.into_iter().for_each(Pass::failed);
        assert_eq!(until(&breakers, 0), Some(at(30)));
    }

    #[test]
    fn no_more_endpoints_are_remembered_than_fit_and_open_ones_stay() {
        let breakers = opened();
        for number in 0..3000 {
            breakers.admit(&format!("x{number}"), at(1)).ok().unwrap().failed();
        }
        assert_eq!(breakers.lock().len(), ENDPOINTS_MAX);
        assert_eq!(until(&breakers, 2), Some(at(30)));
    }
}
