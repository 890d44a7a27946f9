//! What every tier offers, and the choice among them.

use std::fmt::Debug;
use std::sync::Arc;

use crate::Session;
use crate::error::{Error, Result, Tier};
use crate::exec::{Exec, ExecOutcome};
use crate::report::{Report, Strength};

/// A tier that is ready: its probe passed on this host.
pub trait Isolation: Debug + Send + Sync {
    /// What the probe found when it started, its tier among it.
    fn report(&self) -> &Report;

    /// Runs something in a fresh box over the session's workspace; returns when nothing of it is left.
    ///
    /// # Errors
    /// [`Error::ExecRefused`] for what this tier cannot run, and what the engine of the tier says.
    fn run(&self, session: &Session, exec: Exec) -> Result<ExecOutcome>;
}

/// The tiers of a host: those that are ready, and why the others are not.
#[derive(Debug, Default)]
pub struct Tiers {
    ready: Vec<Arc<dyn Isolation>>,
    refused: Vec<Report>,
}

impl Tiers {
    /// Takes in a tier that started, or the report of one that did not.
    #[must_use]
    pub fn with(mut self, started: std::result::Result<Arc<dyn Isolation>, Report>) -> Tiers {
        match started {
            Ok(tier) => self.ready.push(tier),
            Err(report) => self.refused.push(report),
        }
        self.ready.sort_by_key(|tier| tier.report().tier);
        self
    }

    /// The weakest tier that is at least `least`: it costs the least of those that are strong enough. With `hard`, memory,
    /// processes and processor time must be bounded hard.
    ///
    /// # Errors
    /// [`Error::TierUnavailable`] with the reasons of every tier that would have done, [`Error::QuotaTooWeak`] when only
    /// the quotas are at fault. Nothing weaker is ever given.
    pub fn at_least(&self, least: Tier, hard: bool) -> Result<&Arc<dyn Isolation>> {
        let mut strong = self.ready.iter().filter(|tier| tier.report().tier >= least).peekable();
        if strong.peek().is_none() {
            return Err(Error::TierUnavailable { tier: least, reasons: self.reasons(least) });
        }
        let mut weak = None;
        for tier in strong {
            match tier.report().quotas.weakest_bound().filter(|_| hard) {
                Some((quota, strength)) => weak = weak.or(Some((quota, strength))),
                None => return Ok(tier),
            }
        }
        let (quota, strength) = weak.unwrap_or(("memory", Strength::Absent));
        Err(Error::QuotaTooWeak { quota, strength: strength.name() })
    }

    /// Reports of all tiers, the weakest first.
    pub fn reports(&self) -> Vec<&Report> {
        let mut reports: Vec<&Report> = self.ready.iter().map(|tier| tier.report()).chain(&self.refused).collect();
        reports.sort_by_key(|report| report.tier);
        reports
    }

    fn reasons(&self, least: Tier) -> Vec<String> {
        let refused = self.refused.iter().filter(|report| report.tier >= least);
        let reasons: Vec<String> =
            refused.flat_map(|report| report.reasons.iter().map(|reason| format!("{}: {reason}", report.tier))).collect();
        if reasons.is_empty() { vec!["no such tier is configured".to_owned()] } else { reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Quotas;

    #[derive(Debug)]
    struct Ready(Report);

    impl Isolation for Ready {
        fn report(&self) -> &Report {
            &self.0
        }

        fn run(&self, _: &Session, _: Exec) -> Result<ExecOutcome> {
            Err(Error::ExecRefused { reason: "a tier of a test".to_owned() })
        }
    }

    fn report(tier: Tier, available: bool, bound: Strength) -> Report {
        let reasons = if available { Vec::new() } else { vec![format!("{tier} is missing here")] };
        let quotas = Quotas { memory: bound, processes: bound, cpu: bound, ..Quotas::absent() };
        Report { tier, available, reasons, quotas, checks: Vec::new(), elapsed_ms: 0 }
    }

    fn tiers(all: &[(Tier, bool, Strength)]) -> Tiers {
        all.iter().fold(Tiers::default(), |tiers, (tier, available, bound)| {
            let report = report(*tier, *available, *bound);
            tiers.with(if *available { Ok(Arc::new(Ready(report))) } else { Err(report) })
        })
    }

    #[test]
    fn the_weakest_that_is_strong_enough_is_given_and_nothing_weaker() {
        use Strength::{Hard, Soft};
        let all = tiers(&[(Tier::T2, true, Hard), (Tier::T0, true, Hard), (Tier::T1, true, Soft)]);
        let given = |least, hard| all.at_least(least, hard).map(|tier| tier.report().tier).unwrap();
        assert_eq!(given(Tier::T0, false), Tier::T0);
        assert_eq!(given(Tier::T1, false), Tier::T1);
        assert_eq!(given(Tier::T1, true), Tier::T2, "quotas of the next one hold");
        assert_eq!(given(Tier::T2, true), Tier::T2);

        let weak = tiers(&[(Tier::T0, true, Hard), (Tier::T1, true, Soft), (Tier::T2, false, Hard)]);
        let refused = weak.at_least(Tier::T1, true).unwrap_err();
        assert_eq!(refused.code(), "sandbox_quota_too_weak");
        let refused = weak.at_least(Tier::T2, false).unwrap_err();
        assert_eq!(refused.code(), "sandbox_tier_unavailable");
        assert!(refused.to_string().contains("t2: t2 is missing here"), "{refused}");
        assert_eq!(weak.reports().iter().map(|report| report.tier).collect::<Vec<_>>(), [Tier::T0, Tier::T1, Tier::T2]);
    }
}
