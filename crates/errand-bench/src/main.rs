//! What `cargo xtask bench` measures Errand against, and with. Nothing of it is linked by the product.
//!
//! - [`stub`]: a model server that answers at once and stamps what it sees;
//! - [`floor`]: the least a Rust program can do for the same work, with the same durability or with none;
//! - [`boxes`]: fresh boxes of our own and of bubblewrap, one after the other;
//! - [`claims`]: the warm pool, fresh boxes and live kernels, beside bubblewrap;
//! - [`orders`]: what `floor` is told on standard input, the same as `errand bench`.
//!
//! Absent: how often what is run, and what the figures mean; that is `xtask/src/bench/`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line that the benchmark reads")]

mod boxes;
mod claims;
mod floor;
mod orders;
mod snapshots;
mod stub;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "errand-bench", about = "The other sides of Errand's benchmark", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer model calls on a port of this machine until standard input ends.
    Stub,
    /// Do what runs do, as leanly as can be.
    Floor(floor::Args),
    /// Start `true` in fresh boxes.
    Boxes(boxes::Args),
    /// Claim kernels, make boxes and run cells, and print what that took.
    Claims(claims::Args),
    /// Take snapshots, restore them, and print what that took.
    Snapshots(snapshots::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Stub => stub::serve(),
        Command::Floor(args) => floor::run(&args),
        Command::Boxes(args) => boxes::run(&args),
        Command::Claims(args) => claims::run(&args),
        Command::Snapshots(args) => snapshots::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
