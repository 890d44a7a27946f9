//! Lives through seeds of the simulation from the command line: `cargo xtask sim`.

#![expect(clippy::print_stdout, reason = "a command line that people read")]

use anyhow::{Context, bail};
use clap::Parser;
use errand_engine::Bug;
use errand_sim::{Stats, simulate};

#[derive(Parser)]
#[command(name = "errand-sim", about = "Live through seeds of the simulation")]
struct Args {
    /// Replay this seed and print what happened.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds to live through.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Take this rule of the step protocol away (`list` names them).
    #[arg(long)]
    bug: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.bug.as_deref() == Some("list") {
        Bug::ALL.iter().for_each(|bug| println!("{bug:?}"));
        return Ok(());
    }
    let bug = args.bug.as_deref().map(named).transpose()?;
    match args.seed {
        Some(seed) => replay(seed, bug),
        None => search(args.from..args.from.saturating_add(args.seeds), bug),
    }
}

fn named(name: &str) -> anyhow::Result<Bug> {
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    bug.with_context(|| format!("there is no planted bug `{name}`; --bug list names those there are"))
}

fn replay(seed: u64, bug: Option<Bug>) -> anyhow::Result<()> {
    match simulate(seed, bug, true) {
        Ok((stats, trace)) => {
            trace.iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: every invariant held; {stats:?}");
            Ok(())
        }
        Err(violation) => {
            violation.trace.iter().for_each(|line| println!("{line}"));
            bail!("{violation}")
        }
    }
}

fn search(seeds: std::ops::Range<u64>, bug: Option<Bug>) -> anyhow::Result<()> {
    let mut sum = Stats::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match simulate(seed, bug, false) {
            Ok((stats, _)) => sum += stats,
            Err(violation) => {
                let planted = bug.map(|bug| format!(" --bug {bug:?}")).unwrap_or_default();
                bail!("{violation}\nreplay it with: cargo xtask sim --seed {seed}{planted}")
            }
        }
    }
    println!(
        "{count} seeds, every invariant held: {} runs, {} records, {} messages, {} model calls, {} tool calls",
        sum.runs, sum.commits, sum.messages, sum.model_calls, sum.tool_calls
    );
    Ok(())
}
