//! What a sandbox costs whoever waits for it: claims from the warm pool, forks of a zygote, fresh boxes, what runs in a live
//! one; each beside its peer in the same round, and the memory of what is kept ready.

mod egress;
mod memory;
mod peers;
mod table;

use anyhow::{Context, ensure};
use errand_sandbox::t0::{ScriptConfig, ScriptEngine};
use errand_sandbox::{Cell, CellEnd, Engine, EngineConfig, Exec, Kernel, Language, Limits, Pool, PoolConfig, Sessions};
use peers::{Forker, bwrap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use table::{Goal, Times, row};

/// Longest pause before a claim: faster than the pool makes kernels at times, slower at others.
const PAUSE_MAX: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(60);
/// Kernels that wait while memory is measured, twice: what one more takes is the difference.
const FEW: usize = 8;
const MANY: usize = 40;
/// Programs in one go, so that telling the time weighs nothing.
const EXECS: u32 = 40;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each is done.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// An empty folder for the sessions.
    #[arg(long)]
    data: PathBuf,
    /// A program that can be a worker of tier T0; without it that tier is not measured.
    #[arg(long)]
    worker: Option<PathBuf>,
    /// What leads it there.
    #[arg(long, default_value = "")]
    worker_argument: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let preload = ["numpy", "pandas"].map(str::to_owned).to_vec();
    let config = EngineConfig { preload, ..EngineConfig::default() };
    let engine = Arc::new(Engine::start(&config).context("this machine makes no T1 boxes")?);
    let sessions = Arc::new(Sessions::at(args.data.join("sessions"))?);
    let workspace = args.data.join("workspace");
    std::fs::create_dir(&workspace)?;
    ensure!(engine.is_ahead_within(PATIENCE), "no boxes are made ahead on this machine");
    let parked = parked(&engine, &sessions)?;
    let limits = Limits::default();
    let pool = pool(&engine, &sessions, 4..=16)?;
    let empty = pool_of_nothing(&engine, &sessions)?;
    let mut live = Live::start(&engine, &sessions, &limits)?;
    let mut forker = Forker::start(&engine)?;
    let fresh = sessions.create("fresh")?;
    let has_bwrap = bwrap(&workspace, &["/usr/bin/true"]).is_ok();
    let has_numpy = pool_knows_numpy(&pool, &limits)?;

    let mut chance = 0x9e37_79b9_7f4a_7c15u64;
    let mut ours: [Times; 8] = Default::default();
    let mut theirs: [Times; 6] = Default::default();
    let [ready, missed, forked, cold, cell, whole, inside, numpy] = &mut ours;
    let [bwrap_python, bare_fork, bwrap_true, bare_true, outside, cold_numpy] = &mut theirs;
    for round in 0..args.rounds.max(1) {
        pause(&mut chance);
        let began = Instant::now();
        let mut claimed = pool.claim(&format!("claim-{round}"), Language::Python, &limits)?;
        let first = first_output(&mut claimed.kernel)?;
        if claimed.was_ready { &mut *ready } else { &mut *missed }.push(first - began);
        end(&sessions, claimed.kernel)?;
        if has_bwrap {
            bwrap_python.take(|| bwrap(&workspace, &["/usr/bin/python3", "-c", "print(1)"]))?;
        }

        pause(&mut chance);
        // What the other pool makes anew does not take the processor from this.
        ensure!(pool.is_filled_within(PATIENCE) && engine.is_ahead_within(PATIENCE), "nothing is made ahead any more");
        let began = Instant::now();
        let mut claimed = empty.claim(&format!("fork-{round}"), Language::Python, &limits)?;
        forked.push(first_output(&mut claimed.kernel)? - began);
        end(&sessions, claimed.kernel)?;
        bare_fork.take(|| forker.fork())?;

        pause(&mut chance);
        cold.take(|| {
            let outcome = engine.run(&fresh, Exec::new(["/usr/bin/true"]))?;
            ensure!(outcome.success(), "`true` failed in a box: {outcome:?}");
            Ok(())
        })?;
        if has_bwrap {
            bwrap_true.take(|| bwrap(&workspace, &["/usr/bin/true"]))?;
        }
        bare_true.take(|| {
            ensure!(Command::new("/usr/bin/true").env_clear().stdin(Stdio::null()).status()?.success(), "`true` failed");
            Ok(())
        })?;

        let began = Instant::now();
        cell.push(first_output(&mut live.python)? - began);
        whole.since(began);
        if round % 4 == 0 {
            inside.push(live.execs()?);
            outside.push(peers::execs(EXECS)?);
        }
        if has_numpy && round % 10 == 0 {
            pause(&mut chance);
            let began = Instant::now();
            let mut claimed = pool.claim(&format!("numpy-{round}"), Language::Python, &limits)?;
            let outcome =
                claimed.kernel.run(Cell::new("import numpy, pandas\nprint(pandas.Series(numpy.arange(5)).sum())"))?;
            ensure!(outcome.stdout.kept == b"10\n", "a cell went wrong: {outcome:?}");
            numpy.since(began);
            end(&sessions, claimed.kernel)?;
            cold_numpy.take(|| peers::python("import numpy, pandas"))?;
        }
    }
    let (stats, unmet) = (pool.stats(), empty.stats());
    println!("{} rounds; {} of {} claims found no kernel ready", args.rounds, stats.misses, stats.claims);
    println!("of the pool that keeps none, {} of {} were forked by a zygote", unmet.forked, unmet.claims);
    table::head();
    let goal = |p50, p99| Goal { p50, p99 };
    row(
        "claim of a ready kernel to its first output / bwrap python3",
        ready,
        Some(bwrap_python),
        goal(Some(0.02), Some(0.3)),
    );
    row("claim that found none ready / bwrap python3", missed, Some(bwrap_python), goal(None, None));
    row("pool empty: fork into a fresh box / bare fork, to the output", forked, Some(bare_fork), goal(Some(2.0), None));
    row("`true` in a fresh box / bwrap", cold, Some(bwrap_true), goal(Some(0.6), None));
    row("`true` in a fresh box / bare fork and exec", cold, Some(bare_true), goal(None, None));
    row("`true` by the shell of a live box / of the host", inside, Some(outside), goal(Some(1.1), None));
    row("cell of a live kernel to its first output", cell, None, goal(None, None));
    row("cell of a live kernel to its end", whole, None, goal(None, None));
    match has_numpy {
        true => row("claim, numpy and pandas used / cold import", numpy, Some(cold_numpy), goal(Some(0.01), None)),
        false => println!("numpy and pandas: not measured, this host's Python has not both"),
    }
    match &args.worker {
        Some(worker) => t0(worker, &args.worker_argument)?,
        None => println!("cells of tier T0: not measured, no worker was named"),
    }
    egress::measure(args.rounds)?;
    parked.print();
    crowd(&engine, &sessions)
}

fn pool(engine: &Arc<Engine>, sessions: &Arc<Sessions>, parked: std::ops::RangeInclusive<usize>) -> anyhow::Result<Pool> {
    let config = PoolConfig { languages: vec![Language::Python], parked, limits: Limits::default() };
    let pool = Pool::start(Arc::clone(engine), Arc::clone(sessions), config)?;
    ensure!(pool.is_filled_within(PATIENCE), "the pool does not fill: {:?}", pool.stats());
    Ok(pool)
}

/// Every claim finds it empty, but there is a zygote.
fn pool_of_nothing(engine: &Arc<Engine>, sessions: &Arc<Sessions>) -> anyhow::Result<Pool> {
    let pool = pool(engine, sessions, 0..=0)?;
    for number in 0..1000 {
        end(sessions, pool.claim(&format!("first-{number}"), Language::Python, &Limits::default())?.kernel)?;
        if pool.stats().forked > 0 {
            return Ok(pool);
        }
    }
    anyhow::bail!("no zygote forks here: {:?}", pool.stats())
}

/// What a parked kernel takes: processes and kernel, as the difference between many and few.
fn parked(engine: &Arc<Engine>, sessions: &Arc<Sessions>) -> anyhow::Result<memory::Each> {
    let few = pool(engine, sessions, FEW..=FEW)?;
    let with_few = memory::Use::now()?;
    drop(few);
    let many = pool(engine, sessions, MANY..=MANY)?;
    let with_many = memory::Use::now()?;
    drop(many);
    Ok(with_many.each(&with_few, MANY - FEW))
}

fn pool_knows_numpy(pool: &Pool, limits: &Limits) -> anyhow::Result<bool> {
    let mut kernel = pool.claim("numpy", Language::Python, limits)?.kernel;
    Ok(kernel.run(Cell::new("import numpy, pandas"))?.end == CellEnd::Done)
}

/// Kernels that stay through the rounds.
struct Live {
    python: Kernel,
    shell: Kernel,
}

impl Live {
    fn start(engine: &Arc<Engine>, sessions: &Sessions, limits: &Limits) -> anyhow::Result<Live> {
        let python = engine.kernel(&Arc::new(sessions.create("live")?), Language::Python, limits)?;
        let shell = engine.kernel(&Arc::new(sessions.create("shell")?), Language::Shell, limits)?;
        Ok(Live { python, shell })
    }

    /// Time of one program, by the clock of the shell in the box.
    fn execs(&mut self) -> anyhow::Result<Duration> {
        let outcome = self.shell.run(Cell::new(peers::loop_of(EXECS)))?;
        ensure!(outcome.end == CellEnd::Done, "a cell went wrong: {outcome:?}");
        peers::told(&outcome.stdout.text(), EXECS)
    }
}

/// When the first output of a cell came.
fn first_output(kernel: &mut Kernel) -> anyhow::Result<Instant> {
    let first = Arc::new(OnceLock::new());
    let seen = Arc::clone(&first);
    let on_output: errand_sandbox::OnOutput = Box::new(move |_, _: &[u8]| {
        // Only the first counts.
        let _ = seen.set(Instant::now());
    });
    let outcome = kernel.run(Cell { on_output: Some(on_output), ..Cell::new("print(1)") })?;
    ensure!(outcome.end == CellEnd::Done && outcome.stdout.kept == b"1\n", "a cell went wrong: {outcome:?}");
    first.get().copied().context("no output came")
}

fn end(sessions: &Sessions, kernel: Kernel) -> anyhow::Result<()> {
    let session = Arc::clone(kernel.session());
    drop(kernel);
    Arc::into_inner(session).map_or(Ok(()), |session| sessions.destroy(session)).map_err(anyhow::Error::from)
}

fn t0(worker: &Path, argument: &str) -> anyhow::Result<()> {
    let engine = ScriptEngine::start(ScriptConfig::new(worker, [argument].into_iter().filter(|one| !one.is_empty())))?;
    let mut session = engine.session(&Limits::default())?;
    let mut cells = Times::default();
    for number in 0..2_000 {
        let code = format!("x = [n * {number} for n in range(10)]\nprint(sum(x))");
        let began = Instant::now();
        ensure!(session.run(code.as_bytes(), None, None)?.outcome.success(), "a cell of tier T0 failed");
        if number >= 100 {
            cells.since(began);
        }
    }
    table::limit("cell of a live interpreter of tier T0", &mut cells, 0.1);
    Ok(())
}

/// Two hundred boxes at a concurrency of 16.
fn crowd(engine: &Engine, sessions: &Sessions) -> anyhow::Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= 200 {
                    return Ok(());
                }
                let session = sessions.create(&format!("crowd-{number}"))?;
                ensure!(engine.run(&session, Exec::shell("echo x > file"))?.success(), "a box failed");
                sessions.destroy(session)?;
            }
        };
        let workers: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    println!("200 boxes made, used, destroyed at concurrency 16: {seconds:.2} s, {:.0} a second", 200.0 / seconds);
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
