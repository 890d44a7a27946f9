//! What is tried from inside real workers before the tier is offered.

use std::time::{Duration, Instant};

use super::call::{Called, Worker};
use super::{ScriptConfig, harden};
use crate::error::{Result, Tier};
use crate::exec::{CancelToken, Exit};
use crate::limits::Limits;
use crate::report::{Check, Quotas, Report, Strength};

/// One attempt: what is run, and the sign by which it is known to have been stopped.
struct Attempt {
    id: &'static str,
    what: &'static str,
    code: &'static str,
    expected: Expected,
}

enum Expected {
    /// It prints this and ends well.
    Prints(&'static str),
    /// It raises an exception of this name.
    Raises(&'static str),
    /// It is ended for this reason.
    Ends(Exit),
    /// Anything but success, within the time.
    Fails,
    /// It ends well, and of its output no more is kept than was allowed.
    IsCut,
}

const MEMORY_BYTES: u64 = 32 << 20;
const OUTPUT_BYTES: u64 = 64 << 10;

const fn attempt(id: &'static str, what: &'static str, code: &'static str, expected: Expected) -> Attempt {
    Attempt { id, what, code, expected }
}

use Expected::{Ends, Fails, IsCut, Prints, Raises};

const ATTEMPTS: &[Attempt] = &[
    attempt("A01", "run a script (it must work)", "print(sum(x * x for x in range(10)))", Prints("285\n")),
    attempt("F01", "read a file", "open('/etc/passwd').read()", Raises("PermissionError")),
    attempt("F02", "write a file", "open('t0-probe', 'w').write('x')", Raises("PermissionError")),
    attempt(
        "F03",
        "read a file by its path",
        "import pathlib\npathlib.Path('/etc/passwd').read_text()",
        Raises("PermissionError"),
    ),
    attempt("F04", "list a folder", "import os\nos.listdir('/')", Raises("PermissionError")),
    attempt("F05", "remove a file", "import os\nos.remove('/tmp/t0-probe')", Raises("PermissionError")),
    attempt("M01", "import socket", "import socket", Raises("ModuleNotFoundError")),
    attempt("M02", "import subprocess", "import subprocess", Raises("ModuleNotFoundError")),
    attempt("M03", "import ctypes", "import ctypes", Raises("ModuleNotFoundError")),
    attempt("M04", "import threading", "import threading", Raises("ModuleNotFoundError")),
    attempt("M05", "import multiprocessing", "import multiprocessing", Raises("ModuleNotFoundError")),
    attempt("M06", "import importlib", "import importlib", Raises("ModuleNotFoundError")),
    attempt("M07", "import urllib.request", "import urllib.request", Raises("ModuleNotFoundError")),
    attempt("P01", "run a command", "import os\nos.system('true')", Raises("AttributeError")),
    attempt("P02", "fork", "import os\nos.fork()", Raises("AttributeError")),
    attempt("P03", "signal the engine", "import os\nos.kill(os.getppid(), 9)", Raises("AttributeError")),
    attempt("E01", "see the environment", "import os\nprint(dict(os.environ), os.getenv('PATH'))", Prints("{} None\n")),
    attempt("L01", "evaluate text as code", "eval('1')", Raises("NameError")),
    attempt("L02", "import by name", "__import__('os')", Raises("NameError")),
    attempt("L03", "climb to all classes", "().__class__.__base__.__subclasses__()", Raises("AttributeError")),
    attempt("R01", "loop for ever", "while True:\n    pass", Ends(Exit::TimedOut)),
    attempt(
        "R02",
        "loop for ever and catch all",
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        Ends(Exit::TimedOut),
    ),
    attempt(
        "R03",
        "take all memory",
        "x = []\nwhile True:\n    x.append('y' * 100_000 + str(len(x)))",
        Ends(Exit::OutOfMemory),
    ),
    attempt(
        "R04",
        "take all memory and catch all",
        "x = []\nwhile True:\n    try:\n        x.append('y' * 100_000 + str(len(x)))\n    except BaseException:\n        pass",
        Ends(Exit::OutOfMemory),
    ),
    attempt("R05", "make one huge number", "x = 7 ** (10 ** 9)", Fails),
    attempt("R06", "make one huge text", "x = 'x' * (10 ** 12)", Fails),
    attempt("R07", "recurse without end", "def f(n):\n    return f(n + 1)\nf(0)", Raises("RecursionError")),
    attempt("R08", "flood the output", "for i in range(2000):\n    print('x' * 1000)", IsCut),
    attempt(
        "R09",
        "search for ever in one expression",
        "import re\nre.match(r'(a*)*(b*)*\\1c', 'a' * 40)\nwhile True:\n    pass",
        Fails,
    ),
];

/// Attempts made at one time.
const LANES: usize = 4;

/// Makes every attempt in a worker of its own.
pub(crate) fn probe(config: &ScriptConfig) -> Report {
    let started = Instant::now();
    // Without the first, nothing else says anything.
    let (first, walls) = try_once(config, &ATTEMPTS[0]);
    let mut checks = vec![first];
    if checks[0].pass {
        checks.extend(all_but_the_first(config));
        checks.extend([killed(config), cancelled(config)]);
    }
    let failed = checks.iter().filter(|check| !check.pass);
    let reasons: Vec<String> = failed.map(|check| format!("{} {}: {}", check.id, check.what, check.found)).collect();
    let available = reasons.is_empty();
    let quotas = if available { quotas(walls) } else { Quotas::absent() };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Report { tier: Tier::T0, available, reasons, quotas, checks, elapsed_ms }
}

/// In their order, each lane with every fourth of them: those that last stand together.
fn all_but_the_first(config: &ScriptConfig) -> Vec<Check> {
    let lane = |number: usize| -> Vec<(usize, Check)> {
        let mine = ATTEMPTS.iter().enumerate().skip(1 + number).step_by(LANES);
        mine.map(|(place, attempt)| (place, try_once(config, attempt).0)).collect()
    };
    let mut checks = std::thread::scope(|scope| {
        let lanes: Vec<_> = (1..LANES).map(|number| scope.spawn(move || lane(number))).collect();
        let mut checks = lane(0);
        for lane in lanes {
            // A lane that panicked leaves its checks out, and the count below tells.
            checks.extend(lane.join().unwrap_or_default());
        }
        checks
    });
    checks.sort_by_key(|(place, _)| *place);
    let missing = (checks.len() + 1 != ATTEMPTS.len()).then(|| Check {
        id: "X01".to_owned(),
        what: "make every attempt".to_owned(),
        expected: format!("{} attempts", ATTEMPTS.len()),
        found: format!("{} attempts", checks.len() + 1),
        pass: false,
    });
    checks.into_iter().map(|(_, check)| check).chain(missing).collect()
}

/// What the kernel holds is hard. What only the interpreter holds, which code might break, is soft.
fn quotas(walls: u32) -> Quotas {
    let hard_if = |wall| if walls & wall == wall { Strength::Hard } else { Strength::Soft };
    let memory = if walls & (harden::LIMITED | harden::COUNTED) == 0 { Strength::Absent } else { hard_if(harden::LIMITED) };
    let filtered = hard_if(harden::FILTERED);
    // One thread cannot use more than one processor, and no file can be written.
    let (processes, cpu, workspace) = (filtered, filtered, filtered);
    Quotas { memory, processes, cpu, workspace, output: Strength::Hard, time: Strength::Hard }
}

fn limits(wall: Duration) -> Limits {
    let grace = Duration::from_millis(500);
    Limits { wall, grace, memory_bytes: MEMORY_BYTES, output_bytes: OUTPUT_BYTES, ..Limits::default() }
}

/// The check, and what bounds the worker that made it.
fn try_once(config: &ScriptConfig, attempt: &Attempt) -> (Check, u32) {
    let mut walls = 0;
    let (id, what) = (attempt.id.to_owned(), attempt.what.to_owned());
    // Those that must run into the time have little of it, all others plenty.
    let wall = if matches!(attempt.expected, Ends(Exit::TimedOut) | Fails) { 50 } else { 10_000 };
    let called = Worker::start(config).and_then(|mut worker| {
        let called = worker.call(attempt.code, &limits(Duration::from_millis(wall)), &mut None, None);
        walls = worker.walls().unwrap_or(0);
        called
    });
    let (expected, pass) = judge(&attempt.expected, &called);
    (Check { id, what, expected, found: told(&called), pass }, walls)
}

fn judge(expected: &Expected, called: &Result<Called>) -> (String, bool) {
    let outcome = called.as_ref().ok().map(|called| &called.outcome);
    let is = |test: &dyn Fn(&crate::exec::ExecOutcome) -> bool| outcome.is_some_and(test);
    match expected {
        Prints(text) => (format!("prints {text:?}"), is(&|it| it.success() && it.stdout.kept == text.as_bytes())),
        Raises(name) => {
            let line = format!("{name}:");
            (format!("raises {name}"), is(&|it| it.exit == Exit::Code(1) && last_line(&it.stderr.text()).starts_with(&line)))
        }
        Ends(exit) => (format!("{exit:?}"), is(&|it| it.exit == *exit)),
        Fails => ("no success".to_owned(), is(&|it| !it.success())),
        IsCut => {
            let cut = |it: &crate::exec::ExecOutcome| {
                it.success() && it.stdout.kept.len() as u64 == OUTPUT_BYTES && it.stdout.total_bytes == 2000 * 1001
            };
            (format!("{OUTPUT_BYTES} of 2002000 bytes kept"), is(&cut))
        }
    }
}

fn told(called: &Result<Called>) -> String {
    match called {
        Err(error) => {
            let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        }
        Ok(Called { outcome, .. }) => {
            let said = last_line(&outcome.stderr.text());
            let said: String = if said.is_empty() { last_line(&outcome.stdout.text()) } else { said };
            let said: String = said.chars().take(80).collect();
            format!(
                "{:?} in {} ms, {} bytes of output, {said:?}",
                outcome.exit,
                outcome.wall.as_millis(),
                outcome.stdout.total_bytes
            )
        }
    }
}

fn last_line(text: &str) -> String {
    text.lines().next_back().unwrap_or_default().to_owned()
}

/// A worker that dies while it works is told as that, and the next call has another.
fn killed(config: &ScriptConfig) -> Check {
    let called = Worker::start(config).and_then(|mut worker| {
        worker.kill();
        let _ = worker.call("print(1)", &limits(Duration::from_secs(10)), &mut None, None);
        Worker::start(config)?.call("print(2)", &limits(Duration::from_secs(10)), &mut None, None)
    });
    let (expected, pass) = judge(&Prints("2\n"), &called);
    let what = "go on after a worker was killed".to_owned();
    Check { id: "W01".to_owned(), what, expected, found: told(&called), pass }
}

fn cancelled(config: &ScriptConfig) -> Check {
    let called = CancelToken::new().map_err(|source| crate::Error::Io {
        action: "making a cancel token",
        path: config.program.clone(),
        source,
    });
    let called = called.and_then(|token| {
        token.cancel();
        Worker::start(config)?.call("while True:\n    pass", &limits(Duration::from_secs(10)), &mut None, Some(&token))
    });
    let (expected, pass) = judge(&Ends(Exit::Cancelled), &called);
    Check { id: "W02".to_owned(), what: "stop when cancelled".to_owned(), expected, found: told(&called), pass }
}
