//! What the probe found on this host: one line per check, the quotas, the verdict.

use crate::error::Tier;

/// How well a limit holds on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Not enforced.
    Absent,
    /// Enforced after the fact, or per process and not for the whole box: it can be overshot for a moment.
    Soft,
    /// Enforced by the kernel for the whole box, or by this process in a way the box cannot evade.
    Hard,
}

impl Strength {
    /// `hard`, `soft` or `absent`.
    pub fn name(self) -> &'static str {
        match self {
            Strength::Absent => "absent",
            Strength::Soft => "soft",
            Strength::Hard => "hard",
        }
    }
}

/// The strength of each quota on this host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quotas {
    /// Memory of the whole box.
    pub memory: Strength,
    /// Processes of the whole box.
    pub processes: Strength,
    /// Processor time.
    pub cpu: Strength,
    /// Bytes and files of the workspace.
    pub workspace: Strength,
    /// Output kept.
    pub output: Strength,
    /// Wall time.
    pub time: Strength,
}

impl Quotas {
    /// No quota at all: what a host without the tier has.
    pub(crate) fn absent() -> Quotas {
        let none = Strength::Absent;
        Quotas { memory: none, processes: none, cpu: none, workspace: none, output: none, time: none }
    }

    /// Name and strength of each, in a fixed order.
    pub fn list(&self) -> [(&'static str, Strength); 6] {
        [
            ("memory", self.memory),
            ("processes", self.processes),
            ("cpu", self.cpu),
            ("workspace", self.workspace),
            ("output", self.output),
            ("time", self.time),
        ]
    }

    /// The first of memory, processes and processor time that is not bounded hard.
    pub fn weakest_bound(&self) -> Option<(&'static str, Strength)> {
        self.list().into_iter().take(3).find(|(_, strength)| *strength != Strength::Hard)
    }
}

/// One attempt made from inside a real box, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// Stable id, for example `N17`.
    pub id: String,
    /// What was tried.
    pub what: String,
    /// What must happen.
    pub expected: String,
    /// What happened.
    pub found: String,
    /// Whether that is as it must be.
    pub pass: bool,
}

/// The probe's findings.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The tier that was probed.
    pub tier: Tier,
    /// Whether boxes of this tier are offered: every check passed.
    pub available: bool,
    /// Why not: empty when available.
    pub reasons: Vec<String>,
    /// How each quota is kept here.
    pub quotas: Quotas,
    /// All checks, in the order they were made.
    pub checks: Vec<Check>,
    /// How long the probe took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Report {
    /// The report of a tier that did not start, and why.
    pub fn refused(tier: Tier, reasons: Vec<String>) -> Report {
        Report::unavailable(tier, reasons, Vec::new(), 0)
    }

    /// A report that says a tier is not there, and why.
    pub(crate) fn unavailable(tier: Tier, reasons: Vec<String>, checks: Vec<Check>, elapsed_ms: u64) -> Report {
        Report { tier, available: false, reasons, quotas: Quotas::absent(), checks, elapsed_ms }
    }

    /// How many checks passed.
    pub fn passed(&self) -> usize {
        self.checks.iter().filter(|check| check.pass).count()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.available { "ready" } else { "not available" };
        let (passed, all) = (self.passed(), self.checks.len());
        writeln!(f, "sandbox tier {}: {verdict}, {passed} of {all} checks passed in {} ms", self.tier, self.elapsed_ms)?;
        for reason in &self.reasons {
            writeln!(f, "  because {reason}")?;
        }
        let quotas: Vec<String> =
            self.quotas.list().iter().map(|(name, strength)| format!("{name} {}", strength.name())).collect();
        writeln!(f, "  quotas: {}", quotas.join(", "))?;
        for check in &self.checks {
            let mark = if check.pass { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark} {:<8} {}: {} (expected {})", check.id, check.what, check.found, check.expected)?;
        }
        Ok(())
    }
}
