//! `cargo xtask edges`: dependencies point one way.
//!
//! [`rules`] says what each package may depend on, [`manifest`] reads what it does depend on, [`wrong_edges`] compares
//! the two and knows nothing of cargo. Only manifests are read, not the resolved graph: an edge counts on every
//! platform and with every feature, and nothing needs to be downloaded.

mod manifest;
mod rules;
#[cfg(test)]
mod tests;

use anyhow::{Context, bail};
use manifest::{Dependency, Kind, Member, Source};
use rules::{Outside, RULES, Rule};

/// No options: the rules are in the source.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// A dependency, or a feature, that the rules forbid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error("{member} has no rule: add a row for it to xtask/src/edges/rules.rs")]
    NoRule { member: String },
    #[error("{from} depends on {to}: it may use {} of this workspace", list(.allowed))]
    Ours { from: String, to: String, allowed: Vec<&'static str> },
    #[error("{from} depends on {to}: of crates from outside it may use {} only", list(.allowed))]
    Outside { from: String, to: String, allowed: Vec<&'static str> },
    #[error("{from} depends on {to}: AWS crates belong in errand-store-aws and functions/")]
    Aws { from: String, to: String },
    #[error("{from} depends on {to} from {source_name}: crates come from crates.io or from this workspace")]
    Source { from: String, to: String, source_name: String },
    #[error("{from} switches on the feature `{feature}`: planted bugs are for errand-sim and tests")]
    Bugs { from: String, feature: String },
}

/// Checks the workspace in the current folder.
///
/// # Errors
/// When an edge is wrong, after printing each; or when cargo cannot read the workspace.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    let members = manifest::read().context("reading the workspace's manifests")?;
    let wrong = wrong_edges(&members, RULES);
    for one in &wrong {
        println!("wrong edge: {one}");
    }
    match wrong.len() {
        0 => println!("{} packages, every dependency points the right way", members.len()),
        count => bail!("{count} wrong dependency edges; DESIGN.md section 4 says which way they point"),
    }
    Ok(())
}

/// Every rule that `members` break, in the order of their manifests.
fn wrong_edges(members: &[Member], rules: &[Rule]) -> Vec<Wrong> {
    members.iter().flat_map(|member| wrong_in(member, rules)).collect()
}

fn wrong_in(member: &Member, rules: &[Rule]) -> Vec<Wrong> {
    let Some(rule) = rules.iter().find(|rule| rule.covers(&member.name, &member.folder)) else {
        return vec![Wrong::NoRule { member: member.name.clone() }];
    };
    let edges = member.dependencies.iter().filter_map(|dependency| wrong_edge(member, dependency, rule));
    edges.chain(wrong_bugs(member, rule)).collect()
}

fn wrong_edge(member: &Member, dependency: &Dependency, rule: &Rule) -> Option<Wrong> {
    let (from, to) = (member.name.clone(), dependency.name.clone());
    match &dependency.source {
        Source::Workspace if may_use_ours(member, dependency, rule) => None,
        Source::Workspace => Some(Wrong::Ours { from, to, allowed: rule.ours.to_vec() }),
        Source::Elsewhere(source_name) => Some(Wrong::Source { from, to, source_name: source_name.clone() }),
        Source::CratesIo if rules::is_aws(&to) && !rule.aws => Some(Wrong::Aws { from, to }),
        Source::CratesIo => match rule.outside {
            Outside::Only(allowed) if dependency.kind == Kind::Linked && !allowed.contains(&to.as_str()) => {
                Some(Wrong::Outside { from, to, allowed: allowed.to_vec() })
            }
            _ => None,
        },
    }
}

/// Tests may use the simulated world, and a package may depend on itself to switch its own test features on.
fn may_use_ours(member: &Member, dependency: &Dependency, rule: &Rule) -> bool {
    let for_tests = dependency.kind == Kind::Dev && [rules::SIMULATION, &member.name].contains(&dependency.name.as_str());
    for_tests || rule.ours.contains(&dependency.name.as_str())
}

/// A planted bug reaches a binary through a dependency's features or through a feature of the package's own.
fn wrong_bugs(member: &Member, rule: &Rule) -> Vec<Wrong> {
    if rule.bugs {
        return Vec::new();
    }
    let linked = member.dependencies.iter().filter(|dependency| dependency.kind == Kind::Linked);
    let asked = linked.flat_map(|dependency| dependency.features.iter().map(|f| format!("{}/{f}", dependency.name)));
    let own = member.features.iter().filter(|(name, _)| *name != rules::BUGS).flat_map(|(_, implied)| implied.clone());
    asked
        .chain(own)
        .filter(|feature| feature.rsplit('/').next() == Some(rules::BUGS))
        .map(|feature| Wrong::Bugs { from: member.name.clone(), feature })
        .collect()
}

fn list(names: &[&'static str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
