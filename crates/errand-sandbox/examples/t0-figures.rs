//! What tier T0 costs on this machine. It is its own worker:
//! `cargo run --release -p errand-sandbox --features t0 --example t0-figures`

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use errand_sandbox::Limits;
use errand_sandbox::t0::{CountingAllocator, ScriptConfig, ScriptEngine, worker};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return worker();
    }
    match figures() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "in the pause the next worker is made ready, as between real calls")]
fn figures() -> Result<(), Box<dyn std::error::Error>> {
    let config = ScriptConfig::new(std::env::current_exe()?, ["worker"]);
    let engine = ScriptEngine::start(config)?;
    let limits = Limits::default();
    let mut out = std::io::stdout().lock();
    write!(out, "{}", engine.report().to_string().lines().take(2).fold(String::new(), |all, line| all + line + "\n"))?;

    let mut session = engine.session(&limits)?;
    let mut cells = Vec::new();
    for number in 0..5000 {
        let code = format!("x = [n * {number} for n in range(10)]\nprint(sum(x))");
        let started = Instant::now();
        let cell = session.run(code.as_bytes(), None, None)?;
        cells.push(started.elapsed());
        if !cell.outcome.success() {
            return Err(cell.outcome.stderr.text().into());
        }
    }
    writeln!(out, "{}", told("cell in a live interpreter", cells.split_off(100)))?;

    let (mut warm, mut back_to_back) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        // Time for the next worker to be made ready.
        std::thread::sleep(Duration::from_millis(30));
        for times in [&mut warm, &mut back_to_back] {
            let started = Instant::now();
            engine.run_script(b"print(1)", &limits, None, None)?;
            times.push(started.elapsed());
        }
    }
    writeln!(out, "{}", told("script, a worker is ready", warm))?;
    writeln!(out, "{}", told("script right after another", back_to_back))?;

    let loops = b"total = 0\nfor n in range(1_000_000):\n    total += n % 7\nprint(total)";
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(session.run(loops, None, None)?.outcome.wall);
    }
    writeln!(out, "{}", told("loop of a million steps", times))?;
    Ok(())
}

fn told(what: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000].as_secs_f64() * 1000.0;
    let (least, middle, rare, most) = (at(0), at(500), at(990), at(1000));
    format!("{what:<30} n {:>5}  min {least:.3}  p50 {middle:.3}  p99 {rare:.3}  max {most:.3} ms", times.len())
}
