//! Histories as older code stored them: newer code must open and replay them. `tests/fixtures/histories/README.md` tells
//! how they come about; one that is there is never written again.

use super::{PLAYED, blesses};
use errand_core::{Hash, RunLog, SCHEMA, replay, verify};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Cases of which a history is kept, with the number of the run (from 1). None of them continues a thread.
const KEPT: [(&str, usize); 9] = [
    ("approval_edited", 1),
    ("budget_usd_pause", 1),
    ("effectful_crash_happened", 1),
    ("fork_points", 5),
    ("malformed_corrected", 1),
    ("message_during_work", 1),
    ("model_called_crash", 1),
    ("subrun", 1),
    ("subrun_cancelled_deep", 2),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/histories")
}

#[test]
fn histories_of_every_schema_open_and_replay() {
    if blesses() {
        KEPT.iter().for_each(|(case, run)| keep(case, *run));
    }
    let mut count = 0;
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let log = read(&fs::read_to_string(&path).unwrap(), &name);
        let replayed = replay(&log, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((replayed.records, replayed.hash), (log.run.number, log.run.hash), "{name}");
        count += 1;
    }
    assert!(count >= KEPT.len(), "{count} histories");
}

fn read(text: &str, name: &str) -> RunLog {
    let lines: Vec<(String, Hash)> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["record"].as_str().unwrap().to_owned(), line["hash"].as_str().unwrap().parse().unwrap())
        })
        .collect();
    let records = verify(lines.iter().map(|(bytes, hash)| (bytes.as_str(), *hash)));
    let records = records.unwrap_or_else(|error| panic!("{name}: {error}"));
    let run = records[records.len() - 1].record.run;
    RunLog::fold(run, records, []).unwrap()
}

/// Writes down what a case comes to now, unless a history of it in this schema is there.
fn keep(case: &str, run: usize) {
    let path = folder().join(format!("v{SCHEMA}-{case}.jsonl"));
    if path.exists() {
        return;
    }
    let (_, played) = PLAYED.iter().find(|(one, _)| one.name == case).unwrap_or_else(|| panic!("there is no case {case}"));
    let lines = played.runs[run - 1].records.iter();
    let lines = lines.map(|sealed| json!({ "hash": sealed.hash, "record": &*sealed.bytes }).to_string() + "\n");
    fs::write(path, lines.collect::<String>()).unwrap();
}
