//! Whole runs as text: each file in `tests/cases` says what happens, and below a line what must come of it.
//!
//! To write the part below the line anew: `ERRAND_BLESS=1 cargo test -p errand-tests --test it cases` (then read the
//! difference). `tests/cases/README.md` tells the form. [`check`] is the only code that plays a case; every case is also
//! exported, verified, replayed, altered and cut off (`bundles.rs`), and some are forked at every record (`forks.rs`).

mod bundles;
mod engine;
mod forks;
mod format;
mod histories;
mod play;
mod show;
mod stage;

use engine::Manner;
use errand_core::Class;
use format::{Act, Case, LINE};
use play::Played;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread;
use tokio::runtime::{Builder, Runtime};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// All cases, by name.
fn cases() -> Vec<Case> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "sim_seeds.txt"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        Case::parse(name, &fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{error}"))
    };
    paths.iter().map(read).collect()
}

/// Plays a case.
fn check(case: &Case, manner: Manner) -> Played {
    runtime().block_on(play::play(case, manner))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// All cases with what they came to, played once for all tests, a few at a time.
static PLAYED: LazyLock<Vec<(Case, Played)>> = LazyLock::new(|| each(|case| check(case, Manner::Plain)));

/// Does something with every case, on threads that carry its name.
fn each<T: Send>(act: impl Fn(&Case) -> T + Sync) -> Vec<(Case, T)> {
    let mut done = Vec::new();
    let all = cases();
    for few in all.chunks(4) {
        thread::scope(|scope| {
            let spawn = |case: &'_ Case| {
                let (case, act) = (case.clone(), &act);
                let named = thread::Builder::new().name(case.name.clone());
                let worker = move || {
                    let came = act(&case);
                    (case, came)
                };
                named.spawn_scoped(scope, worker).unwrap()
            };
            let workers: Vec<_> = few.iter().map(spawn).collect();
            done.extend(workers.into_iter().map(|worker| worker.join().expect("the thread with the case's name says why")));
        });
    }
    done
}

#[test]
fn every_case_comes_to_what_it_says() {
    let mut wrong = Vec::new();
    for (case, played) in PLAYED.iter().filter(|(case, played)| played.shown != case.expected) {
        if blesses() {
            let text = format!("{}\n{LINE}\n{}", case.above.trim_end(), played.shown);
            fs::write(folder().join(format!("{}.txt", case.name)), text).unwrap();
        } else {
            wrong.push(format!("{}: expected\n{}\ncame to\n{}", case.name, case.expected, played.shown));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} cases differ", wrong.join("\n"), wrong.len());
}

#[test]
fn a_stop_after_every_message_changes_no_record() {
    let restless = each(|case| check(case, Manner::Restless));
    let mut restarts = 0;
    for ((case, played), (_, again)) in PLAYED.iter().zip(&restless) {
        assert_eq!(again.records(), played.records(), "{}", case.name);
        restarts += again.restarts;
    }
    assert!(restarts as usize > 3 * restless.len(), "the engine was stopped only {restarts} times");
}

#[test]
fn many_records_per_message_are_the_same_records() {
    // Cases that count messages would stop elsewhere.
    let counts = |case: &Case| case.script.iter().any(|line| matches!(line.act, Act::Step));
    let laptop = each(|case| (!counts(case)).then(|| check(case, Manner::Laptop)));
    for ((case, played), (_, again)) in PLAYED.iter().zip(&laptop) {
        assert!(again.as_ref().is_none_or(|again| again.records() == played.records()), "{}", case.name);
    }
    assert!(laptop.iter().filter(|(_, again)| again.is_some()).count() > 50);
}

#[test]
fn no_effect_is_repeated_and_no_budget_is_exceeded() {
    let mut effects = 0;
    for (case, played) in PLAYED.iter() {
        for (key, one) in played.executed.iter().filter(|(_, one)| one.class == Class::Effectful) {
            assert_eq!(one.times, 1, "{}: {key}", case.name);
            effects += 1;
        }
        for log in &played.runs {
            let (budget, raised) = (log.run.config.budget, log.run.head.raised.amount);
            let bill = log.bill().total();
            assert!(budget.usd.is_none_or(|usd| bill.usd <= usd + raised.usd), "{}: {}", case.name, log.run.id);
            assert!(budget.tokens.is_none_or(|most| bill.tokens <= most + raised.tokens), "{}: {}", case.name, log.run.id);
        }
    }
    assert!(effects > 10, "{effects}");
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests, no setting of the product")]
fn blesses() -> bool {
    std::env::var_os("ERRAND_BLESS").is_some()
}
