//! Every parser that reads what a box wrote, fed with what a hostile box could write.
//!
//! A target starts from words that are right (its seeds), changes them at random and must neither panic nor break its own rules. The
//! tests try a fixed number of inputs from a fixed start, so that they come out alike everywhere; `cargo xtask fuzz` goes on from a
//! start of its own for as long as it is told. proptest draws the changes and makes a failing input small.
//! What restores and walks real folders is in [`workspace`], all else in [`words`].

mod words;
mod workspace;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// How long to go on, for `cargo xtask fuzz`.
const SECONDS: &str = "ERRAND_FUZZ_SECONDS";
/// Where to start, 64 hex digits.
const SEED: &str = "ERRAND_FUZZ_SEED";
/// No target takes longer in the tests, however slow the machine.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How much to try, and from where.
struct Plan {
    seed: [u8; 32],
    cases: u32,
    until: Instant,
}

/// Feeds a target; `cases` is how many inputs the tests try.
pub(crate) fn fuzz<T: std::fmt::Debug>(
    name: &str,
    cases: u32,
    inputs: impl Strategy<Value = T>,
    target: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let plan = plan(cases);
    let config =
        Config { cases: plan.cases.min(256), failure_persistence: None, max_shrink_iters: 5000, ..Config::default() };
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &plan.seed);
    let mut tried = 0;
    while tried < plan.cases && Instant::now() < plan.until {
        // One runner tries its number of cases once.
        let mut runner = TestRunner::new_with_rng(config.clone(), rng);
        let done = runner.run(&inputs, &target);
        rng = runner.new_rng();
        if let Err(TestError::Fail(why, input)) = &done {
            let seed: String = plan.seed.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name}: {why}\nfor {input:?}\nafter {tried} inputs from {seed}");
        }
        assert!(done.is_ok(), "{name}: {done:?}");
        tried += config.cases;
    }
    tell(&format!("{name}: {tried} inputs"));
}

#[expect(clippy::print_stdout, reason = "a test tells how much it tried")]
fn tell(line: &str) {
    println!("{line}");
}

#[expect(clippy::disallowed_methods, reason = "how `cargo xtask fuzz` speaks to the tests that it runs")]
fn plan(cases: u32) -> Plan {
    let now = Instant::now();
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    let seed = std::env::var(SEED).ok().filter(|text| text.len() == 64 && text.is_ascii());
    let digits = |text: String| std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap_or(0));
    let seed = seed.map_or([7; 32], digits);
    match seconds {
        Some(seconds) => Plan { seed, cases: u32::MAX - 256, until: now + Duration::from_secs(seconds) },
        None => Plan { seed, cases, until: now + TIME_MAX },
    }
}

/// One change to a word.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    /// A number at a place, as lengths are written.
    Number(usize, u32),
    Cut(usize),
    /// Another seed after this.
    Join(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    let numbers = prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), Just(i32::MAX as u32), 0u32..300, 65_000u32..70_000];
    let tokens = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..12),
        prop::sample::select(vec![
            "..", "/", "\0", "\n", "{", "}", "[", "]", "\"", "\\u0000", "-1", "1e999", "null", "true", "é", "\u{202e}"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), tokens).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1usize..20).prop_map(|(at, count)| Change::Remove(at, count)),
        (at(), 1usize..40).prop_map(|(at, count)| Change::Repeat(at, count)),
        (at(), numbers).prop_map(|(at, number)| Change::Number(at, number)),
        at().prop_map(Change::Cut),
        at().prop_map(Change::Join),
    ]
}

/// Seeds with a few changes each, and now and then bytes of no sense at all.
fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let count = seeds.len();
    let from_seed = (0..count, proptest::collection::vec(change(), 0..6)).prop_map(move |(number, changes)| {
        let mut word = seeds[number].clone();
        changes.iter().for_each(|change| apply(&mut word, change, &seeds));
        word
    });
    prop_oneof![9 => from_seed, 1 => proptest::collection::vec(any::<u8>(), 0..300)]
}

fn apply(word: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let place = |at: &usize, length: usize| at % length.max(1);
    let length = word.len();
    match change {
        Change::Join(number) => word.extend_from_slice(&seeds[number % seeds.len()]),
        Change::Insert(at, bytes) => drop(word.splice(place(at, length + 1)..place(at, length + 1), bytes.iter().copied())),
        _ if length == 0 => {}
        Change::Set(at, byte) => word[place(at, length)] = *byte,
        Change::Flip(at, bit) => word[place(at, length)] ^= 1 << bit,
        Change::Remove(at, count) => drop(word.drain(place(at, length)..(place(at, length) + count).min(length))),
        Change::Repeat(at, count) => {
            let part = word[place(at, length)..(place(at, length) + count).min(length)].to_vec();
            (0..3).for_each(|_| word.extend_from_slice(&part));
        }
        Change::Number(at, number) => {
            for (byte, new) in word.iter_mut().skip(place(at, length)).zip(number.to_le_bytes()) {
                *byte = new;
            }
        }
        Change::Cut(at) => word.truncate(place(at, length)),
    }
}

/// Feeds a target with changed seeds.
pub(crate) fn fuzz_bytes(name: &str, seeds: Vec<Vec<u8>>, target: impl Fn(&[u8]) -> Result<(), TestCaseError>) {
    assert!(!seeds.is_empty());
    for seed in &seeds {
        target(seed).unwrap_or_else(|error| panic!("{name}: a seed is refused: {error}"));
    }
    fuzz(name, 4_000, changed(seeds), |bytes| target(&bytes));
}

#[test]
fn a_target_that_breaks_its_rule_is_found_and_told_small() {
    let caught = std::panic::catch_unwind(|| {
        fuzz_bytes("broken", vec![b"a right word".to_vec()], |bytes| {
            prop_assert!(bytes.len() < 14, "too long");
            Ok(())
        });
    });
    let told = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(told.starts_with("broken: too long") && told.contains("inputs from 0707"), "{told}");
}
