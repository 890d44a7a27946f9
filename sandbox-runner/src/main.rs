//! The `sandbox-runner` binary: what a host of boxes runs. The engine is `errand-sandbox`, the same that `errand` links.

mod doctor;
mod image;
mod problem;
mod runtime;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod work;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs code that nobody has read, in boxes that nobody gets out of.
#[derive(Debug, Parser)]
#[command(name = "sandbox-runner", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try to get out of a box of each tier, and tell which tiers this host can offer, how quotas hold, and how to get
    /// what is missing; exit status 1 if one of them is not offered
    Doctor(doctor::Args),
    /// Make, list and remove images: named layers of Python packages for boxes
    Image(image::Args),
    /// Carry out calls of runs from queues, and serve sandboxes to clients that were written for E2B, until stopped
    #[cfg(target_os = "linux")]
    Serve(Box<serve::Args>),
    /// What this program is in the box of a sandbox
    #[cfg(target_os = "linux")]
    #[command(hide = true, name = serve::ENVD)]
    Envd,
    /// What this program is in a box of an OCI runtime
    #[command(hide = true, name = runtime::INSIDE)]
    Inside,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Image(args) => image::image(args),
        #[cfg(target_os = "linux")]
        Command::Serve(args) => serve::serve(&args),
        #[cfg(target_os = "linux")]
        Command::Envd => errand_e2b::inside::run(),
        Command::Inside => errand_sandbox::run_inside_box(),
    }
}
