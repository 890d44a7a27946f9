//! Its manifest as a type.

use crate::secret::Given;
use errand_core::{Approval, Class};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a manifest says of a server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct McpForm {
    pub(super) server: ServerForm,
    include: Option<Vec<String>>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    trust_annotations: bool,
    #[serde(default)]
    pub(crate) optional: bool,
    start_timeout_s: Option<f64>,
    class: Option<Class>,
    approval: Option<Approval>,
    timeout_s: Option<f64>,
    taint_out: Option<Vec<String>>,
    #[serde(default)]
    tools: BTreeMap<String, Override>,
}

/// How it is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum ServerForm {
    /// A program that speaks over its standard input and output.
    Command {
        command: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, Given>,
        folder: Option<String>,
    },
    /// A server behind a URL.
    Url {
        url: String,
        #[serde(default)]
        headers: BTreeMap<String, Given>,
    },
}

/// What holds for one tool.
#[derive(Debug, Clone, Default, Deserialize)]
struct Override {
    class: Option<Class>,
    approval: Option<Approval>,
    timeout_s: Option<f64>,
}

/// What a server says of a tool, as far as it is believed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hints {
    pub(super) read_only: bool,
    pub(super) idempotent: bool,
}

impl McpForm {
    pub(super) fn start_timeout(&self) -> Duration {
        seconds(self.start_timeout_s.unwrap_or(20.0))
    }

    pub(super) fn timeout_ms(&self, tool: &str) -> u64 {
        let own = self.tools.get(tool).and_then(|own| own.timeout_s);
        let timeout = seconds(own.or(self.timeout_s).unwrap_or(60.0));
        u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn taint_out(&self) -> Vec<String> {
        self.taint_out.clone().unwrap_or_else(|| vec!["mcp".to_owned()])
    }

    /// The manifest's word, else the server's if it is trusted, else the worst.
    pub(super) fn class(&self, tool: &str, hints: Hints) -> Class {
        let said = self.tools.get(tool).and_then(|own| own.class).or(self.class);
        said.unwrap_or(match (self.trust_annotations, hints) {
            (true, Hints { read_only: true, .. }) => Class::Pure,
            (true, Hints { idempotent: true, .. }) => Class::Idempotent,
            _ => Class::Effectful,
        })
    }

    pub(super) fn approval(&self, tool: &str) -> Approval {
        self.tools.get(tool).and_then(|own| own.approval).or(self.approval).unwrap_or(Approval::Effectful)
    }

    /// True for a tool that is wanted.
    pub(super) fn wants(&self, tool: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, tool));
        !any(&self.exclude) && self.include.as_deref().is_none_or(any)
    }

    /// Names under `tools` that the server does not have.
    pub(super) fn unknown<'a>(&'a self, known: &[&str]) -> Vec<&'a str> {
        self.tools.keys().map(String::as_str).filter(|name| !known.contains(name)).collect()
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(20))
}

/// `*` stands for anything. Linear in the text for each star.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pattern.contains('*').then(|| pattern.rsplit('*').next().unwrap_or_default()) else {
        return rest.is_empty();
    };
    let between: Vec<&str> = parts.collect();
    for part in &between[..between.len() - 1] {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("read", "read", true),
            ("read", "reads", false),
            ("read_*", "read_file", true),
            ("*", "", true),
            ("*_file", "read_file", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
