//! `cargo xtask bench step`: what a durable step costs, beside the least it can cost, in one run and one table.
//! `cargo xtask bench sandbox`: what boxes and kernels cost, beside bubblewrap.
//! `cargo xtask bench snapshot`: what keeping and restoring a workspace costs, beside a floor and `cp -a`.
//!
//! - [`process`]: starting the programs and telling them what to do;
//! - [`round`]: one round, every figure once, ours and the floors in turns;
//! - [`once`]: figures that do not vary from round to round;
//! - [`judge`]: the goals, and what the rounds say of them;
//! - [`noise`]: how much else the machine was doing;
//! - [`table`]: what is printed.
//!
//! The other sides are in `crates/errand-bench`; ours is the binary of the profile `dist`, by its hidden command `bench`
//! (`run` for the start). A step is durable on both sides as ADR 0003 says: on the disk before the model is asked again.

mod judge;
mod noise;
mod once;
mod process;
mod round;
mod table;

use anyhow::Context;
use judge::Figure;
use noise::Noise;
use process::{Folder, Programs, Stub};
use std::path::PathBuf;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The cost of a durable step.
    Step(StepArgs),
    /// What a sandbox costs whoever waits for it.
    Sandbox(SandboxArgs),
    /// What keeping a workspace costs, and how long a restore keeps the first reader waiting.
    Snapshot(SnapshotArgs),
}

/// How often.
#[derive(clap::Args)]
struct SandboxArgs {
    /// Rounds; each has everything once, beside its peer.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
}

/// How often, and how much.
#[derive(clap::Args)]
struct SnapshotArgs {
    /// Rounds; each has everything once, beside its floor.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Largest workspace to restore, in MiB; three times as much is needed on the disk.
    #[arg(long, default_value_t = 1000)]
    largest: u64,
}

/// How often, and where the figures go.
#[derive(clap::Args)]
struct StepArgs {
    /// Rounds; each has every figure that varies.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Fewer and smaller rounds, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Write everything that was measured to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    rounds: u32,
    /// Turns of ours and the floor within a round.
    turns: usize,
    /// Runs in one turn, one after the other, and so many at a time.
    runs: [usize; 2],
    waiting: usize,
    boxes: usize,
    starts: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Step(args) => step(args),
        What::Sandbox(args) => sandbox(args),
        What::Snapshot(args) => snapshot(args),
    }
}

fn sandbox(args: &SandboxArgs) -> anyhow::Result<()> {
    let programs = Programs::build()?;
    let folder = Folder::beside(&programs)?;
    let mut command = std::process::Command::new(&programs.bench);
    command.args(["claims", "--rounds", &args.rounds.to_string(), "--data"]).arg(folder.fresh()?);
    command.arg("--worker").arg(&programs.errand).args(["--worker-argument", "t0-worker"]);
    let status = command.status().context("cannot start errand-bench")?;
    anyhow::ensure!(status.success(), "the benchmark ended with {status}");
    Ok(())
}

fn snapshot(args: &SnapshotArgs) -> anyhow::Result<()> {
    let programs = Programs::build()?;
    let folder = Folder::beside(&programs)?;
    let mut command = std::process::Command::new(&programs.bench);
    command.args(["snapshots", "--rounds", &args.rounds.to_string(), "--largest", &args.largest.to_string(), "--data"]);
    let status = command.arg(folder.fresh()?).status().context("cannot start errand-bench")?;
    anyhow::ensure!(status.success(), "the benchmark ended with {status}");
    Ok(())
}

fn step(args: &StepArgs) -> anyhow::Result<()> {
    let size = match args.quick {
        true => Size { rounds: args.rounds.min(2), turns: 2, runs: [4, 32], waiting: 1_000, boxes: 5, starts: 1 },
        false => Size { rounds: args.rounds, turns: 4, runs: [8, 64], waiting: 10_000, boxes: 20, starts: 3 },
    };
    let programs = Programs::build()?;
    let folder = Folder::beside(&programs)?;
    let mut stub = Stub::start(&programs)?;
    let (mut figures, mut noise) = (judge::figures(), Vec::new());
    for number in 1..=size.rounds {
        eprintln!("round {number} of {}", size.rounds);
        let before = Noise::measure()?;
        let measured = round::measure(&programs, &folder, &mut stub, size).with_context(|| format!("in round {number}"))?;
        noise.push(before.worse(Noise::measure()?));
        judge::add(&mut figures, &measured);
    }
    eprintln!("memory, growth, boxes");
    judge::add(&mut figures, &once::measure(&programs, &folder, &mut stub, size)?);
    let judged: Vec<Figure> = figures;
    print!("{}", table::render(&judged, &noise));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&table::json(&judged, &noise))?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
