//! What a sandbox costs whoever waits for it: claims from the warm pool, fresh boxes and cells of a live kernel, each
//! beside its peer in the same round.

use crate::boxes::BWRAP;
use anyhow::{Context, ensure};
use errand_sandbox::{Cell, CellEnd, Engine, EngineConfig, Exec, Kernel, Language, Limits, Pool, PoolConfig, Sessions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest pause before a claim: faster than the pool makes kernels at times, slower at others.
const PAUSE_MAX: Duration = Duration::from_millis(40);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each is done.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// An empty folder for the sessions.
    #[arg(long)]
    data: PathBuf,
}

/// Times of one thing, in the order of the rounds.
#[derive(Default)]
struct Times(Vec<Duration>);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let engine = Arc::new(Engine::start(&EngineConfig::default()).context("this machine makes no T1 boxes")?);
    let sessions = Arc::new(Sessions::at(args.data.join("sessions"))?);
    let workspace = args.data.join("workspace");
    std::fs::create_dir(&workspace)?;
    let has_bwrap = bwrap(&workspace, &["/usr/bin/true"]).is_ok();
    let limits = Limits::default();
    let config = PoolConfig { languages: vec![Language::Python], parked: 4..=16, limits: limits.clone() };
    let pool = Pool::start(Arc::clone(&engine), Arc::clone(&sessions), config)?;
    ensure!(pool.is_filled_within(Duration::from_secs(60)), "the pool does not fill: {:?}", pool.stats());
    let parked = memory_of_children()? as f64 / pool.stats().parked.max(1) as f64;

    let mut live = engine.kernel(&Arc::new(sessions.create("live")?), Language::Python, &limits)?;
    let fresh = sessions.create("fresh")?;
    let mut chance = 0x9e37_79b9_7f4a_7c15u64;
    let [mut ready, mut missed, mut cell, mut cold, mut bare] = [const { Times(Vec::new()) }; 5];
    let [mut bwrap_python, mut bwrap_true] = [const { Times(Vec::new()) }; 2];
    for round in 0..args.rounds.max(1) {
        pause(&mut chance);
        let began = Instant::now();
        let mut claimed = pool.claim(&format!("claim-{round}"), Language::Python, &limits)?;
        print_one(&mut claimed.kernel)?;
        if claimed.was_ready { &mut ready } else { &mut missed }.since(began);
        drop(claimed);

        let began = Instant::now();
        print_one(&mut live)?;
        cell.since(began);

        let began = Instant::now();
        ensure!(engine.run(&fresh, Exec::new(["/usr/bin/true"]))?.success(), "`true` failed in a box");
        cold.since(began);

        let began = Instant::now();
        ensure!(Command::new("/usr/bin/true").stdin(Stdio::null()).status()?.success(), "`true` failed");
        bare.since(began);

        if has_bwrap {
            let began = Instant::now();
            bwrap(&workspace, &["/usr/bin/python3", "-c", "print(1)"])?;
            bwrap_python.since(began);
            let began = Instant::now();
            bwrap(&workspace, &["/usr/bin/true"])?;
            bwrap_true.since(began);
        }
    }
    let stats = pool.stats();
    println!("{} rounds; {} of {} claims found no kernel ready", args.rounds, stats.misses, stats.claims);
    println!("{:<58} {:>9} {:>9} {:>9} {:>8} {:>8}", "", "p50, ms", "p99, ms", "peer p50", "p50", "p99");
    row("claim of a ready kernel to its first output / bwrap python3", &mut ready, Some(&mut bwrap_python));
    row("claim that found none ready / bwrap python3", &mut missed, Some(&mut bwrap_python));
    row("`true` in a fresh box / bwrap", &mut cold, Some(&mut bwrap_true));
    row("`true` in a fresh box / bare fork and exec", &mut cold, Some(&mut bare));
    row("cell of a live kernel to its output", &mut cell, None);
    println!("memory of a parked kernel (PSS of its processes): {:.1} MB", parked / 1e6);
    Ok(())
}

fn print_one(kernel: &mut Kernel) -> anyhow::Result<()> {
    let outcome = kernel.run(Cell::new("print(1)"))?;
    ensure!(outcome.end == CellEnd::Done && outcome.stdout.kept == b"1\n", "a cell went wrong: {outcome:?}");
    Ok(())
}

/// At random instants, so that claims do not keep step with the pool.
#[expect(clippy::disallowed_methods, reason = "a load with pauses is what is measured")]
fn pause(chance: &mut u64) {
    // Xorshift, <https://www.jstatsoft.org/article/view/v008i14>.
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    std::thread::sleep(PAUSE_MAX.mul_f64((*chance >> 11) as f64 / (1u64 << 53) as f64));
}

fn bwrap(workspace: &Path, program: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("bwrap");
    command.args(BWRAP).arg("--bind").arg(workspace).args(["/workspace", "--chdir", "/workspace"]).args(program);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ensure!(command.status()?.success(), "bubblewrap makes no box here");
    Ok(())
}

/// Proportional set size of all processes below this one, in bytes.
fn memory_of_children() -> anyhow::Result<u64> {
    let mut pids: Vec<String> = children("self");
    let mut next = 0;
    while let Some(pid) = pids.get(next) {
        let below = children(pid);
        pids.extend(below);
        next += 1;
    }
    let kilobytes = pids.iter().filter_map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
    });
    Ok(kilobytes.sum::<u64>() * 1024)
}

fn children(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

impl Times {
    fn since(&mut self, began: Instant) {
        self.0.push(began.elapsed());
    }

    /// In milliseconds; none where nothing was measured.
    fn quantile(&mut self, percent: usize) -> Option<f64> {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1)?;
        self.0.get((last * percent).div_ceil(100)).map(|time| time.as_secs_f64() * 1e3)
    }
}

fn row(name: &str, ours: &mut Times, peer: Option<&mut Times>) {
    let (p50, p99) = (ours.quantile(50), ours.quantile(99));
    let peer = peer.and_then(|peer| peer.quantile(50));
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let ratio = |value: Option<f64>| match (value, peer) {
        (Some(value), Some(peer)) => format!("{:.3}x", value / peer),
        _ => "-".to_owned(),
    };
    println!("{name:<58} {:>9} {:>9} {:>9} {:>8} {:>8}", shown(p50), shown(p99), shown(peer), ratio(p50), ratio(p99));
}
