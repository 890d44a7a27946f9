//! Errand's automation: every command a developer or CI runs on the repository, in Rust.
//!
//! One module per subcommand, each with an `Args` and a `run`:
//! - [`mod@bench`]: what a durable step costs, beside the least it can cost;
//! - [`check`]: everything that must hold before a change lands;
//! - [`edges`]: which crate may depend on which;
//! - [`fuzz`]: what reads a box's words, fed with hostile ones for longer than the tests do;
//! - [`python`]: the Python packages that tests speak to Errand with;
//! - [`real_model`]: runs against a small model that is real, for who asks for it;
//! - [`sim`]: seeds of the simulation, to search and to replay.
//!
//! [`cargo`] starts cargo for them. Absent here: anything the `errand` binary does for its users.
//! Tests stand beside each module; `edges` is tested on the real workspace too.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line that people and CI logs read")]

mod bench;
mod cargo;
mod check;
mod edges;
mod fuzz;
mod python;
mod real_model;
mod sim;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Errand's automation", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure against the floors and tell which goals are met.
    Bench(bench::Args),
    /// Run every check that CI runs, in order, and stop at the first that fails.
    Check(check::Args),
    /// Fail when a crate of the workspace depends on something it must not.
    Edges(edges::Args),
    /// Feed what reads a box's words with hostile ones.
    Fuzz(fuzz::Args),
    /// Install the Python packages that tests speak to Errand with.
    Python(python::Args),
    /// Run errands against a small real model on this machine: optional, and no part of `check`.
    RealModel(real_model::Args),
    /// Live through seeds of the simulation; with --seed, replay one and print what happened.
    Sim(sim::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Edges(args) => edges::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Python(args) => python::run(&args),
        Command::RealModel(args) => real_model::run(&args),
        Command::Sim(args) => sim::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
