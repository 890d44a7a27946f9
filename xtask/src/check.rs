//! `cargo xtask check`: what CI runs, and what a developer runs before handing a change in.
//!
//! [`plan`] lists the steps for the tools that are installed, [`run_steps`] carries them out and stops at the first
//! that fails. Nothing is installed outside of the target folder. One compile profile serves all steps: lints and documentation share one set of
//! checked dependencies, documentation examples and tests share one set of built ones. The tests come last, so that
//! the last counts in a log are theirs; what they print goes through unchanged.

#[cfg(test)]
mod tests;

use crate::cargo::{cargo, has_subcommand};
use crate::{edges, python};
use anyhow::{Context, bail};
use std::io::Write;
use std::time::{Duration, Instant};

/// What to check besides the usual.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask the RustSec database about known vulnerabilities too (needs cargo-deny and the network).
    #[arg(long)]
    advisories: bool,
}

/// Which optional tools this machine has.
#[derive(Clone, Copy)]
struct Tools {
    nextest: bool,
    deny: bool,
}

struct Step {
    title: &'static str,
    action: Action,
}

enum Action {
    /// The rules of [`edges`], in this process.
    Edges,
    /// The packages of [`python`], in this process.
    Python,
    Cargo {
        arguments: &'static [&'static str],
        variables: &'static [(&'static str, &'static str)],
    },
    /// Not done, and why.
    Skip(&'static str),
}

/// How a step ended that did not fail.
enum Ended {
    Passed(Duration),
    Skipped(&'static str),
}

const NO_DENY: &str = "cargo-deny is not installed; to have this step: cargo install --locked cargo-deny";

/// Runs every step.
///
/// # Errors
/// When a step fails, naming it and how to repeat it; the steps after it are not run. When `--advisories` is asked for
/// and cannot be done.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let tools = Tools { nextest: has_subcommand("nextest"), deny: has_subcommand("deny") };
    if args.advisories && !tools.deny {
        bail!("--advisories needs cargo-deny: cargo install --locked cargo-deny");
    }
    run_steps(&plan(tools, args.advisories), &mut std::io::stdout(), carry_out)
}

fn plan(tools: Tools, advisories: bool) -> Vec<Step> {
    let mut steps = vec![
        step("format", &["fmt", "--all", "--check"]),
        Step { title: "dependency edges", action: Action::Edges },
        match tools.deny {
            true => {
                step("licences, bans, sources", &["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
            }
            false => Step { title: "licences, bans, sources", action: Action::Skip(NO_DENY) },
        },
    ];
    if advisories {
        steps.push(step("advisories", &["deny", "check", "advisories"]));
    }
    steps.extend([
        step("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Step {
            title: "documentation",
            action: Action::Cargo {
                // Written for who reads the source, so private items are in it and may be linked to.
                arguments: &["doc", "--workspace", "--no-deps", "--document-private-items"],
                variables: &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")],
            },
        },
        step("documentation examples", &["test", "--workspace", "--doc"]),
        Step { title: "packages for tests", action: Action::Python },
        match tools.nextest {
            true => step("tests", &["nextest", "run", "--workspace", "--no-fail-fast"]),
            false => step("tests", &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]),
        },
    ]);
    steps
}

fn step(title: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { title, action: Action::Cargo { arguments, variables: &[] } }
}

/// Runs `steps` in order with `carry_out`, and writes to `out` how each ended and what all took.
fn run_steps(
    steps: &[Step],
    out: &mut impl Write,
    mut carry_out: impl FnMut(&Action) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut ended = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        heading(out, &format!("[{}/{}] {}: {}", index + 1, steps.len(), step.title, command_line(&step.action)))?;
        if let Action::Skip(reason) = step.action {
            ended.push((step.title, Ended::Skipped(reason)));
            continue;
        }
        let begun = Instant::now();
        carry_out(&step.action).with_context(|| {
            format!("check failed at '{}' ({} of {}): {}", step.title, index + 1, steps.len(), command_line(&step.action))
        })?;
        ended.push((step.title, Ended::Passed(begun.elapsed())));
    }
    heading(out, &summary(&ended))
}

fn carry_out(action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Edges => edges::run(&edges::Args {}),
        Action::Python => python::run(&python::Args {}),
        Action::Cargo { arguments, variables } => {
            let status = cargo().args(*arguments).envs(variables.iter().copied()).status().context("starting cargo")?;
            if !status.success() {
                bail!("{status}");
            }
            Ok(())
        }
        Action::Skip(_) => Ok(()),
    }
}

/// What a person types to do the same.
fn command_line(action: &Action) -> String {
    match action {
        Action::Edges => "cargo xtask edges".to_owned(),
        Action::Python => "cargo xtask python".to_owned(),
        Action::Skip(reason) => format!("skipped, {reason}"),
        Action::Cargo { arguments, variables } => {
            let variables: String = variables.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
            format!("{variables}cargo {}", arguments.join(" "))
        }
    }
}

fn summary(ended: &[(&str, Ended)]) -> String {
    let mut lines = String::new();
    let (mut total, mut skipped) = (Duration::ZERO, 0);
    for (title, end) in ended {
        match end {
            Ended::Passed(took) => {
                total += *took;
                lines += &format!("{:>8.1} s  {title}\n", took.as_secs_f64());
            }
            Ended::Skipped(reason) => {
                skipped += 1;
                lines += &format!("{:>10}  {title}: {reason}\n", "skipped");
            }
        }
    }
    let passed = ended.len() - skipped;
    format!("check passed: {passed} steps in {:.1} s, {skipped} skipped\n{lines}", total.as_secs_f64())
}

/// Flushed, so that it stands before what a child process prints, whatever `out` is.
fn heading(out: &mut impl Write, text: &str) -> anyhow::Result<()> {
    writeln!(out, "\n=== {}", text.trim_end())?;
    Ok(out.flush()?)
}
