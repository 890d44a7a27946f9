//! Export, verify, replay and fork.

use super::{User, one_call};
use std::path::PathBuf;

fn exported(user: &User) -> (String, PathBuf) {
    user.script("write", &one_call("files", "{ action = \"write\", path = \"made.txt\", text = \"made\" }"));
    user.expect(0, &["run", "t", "--model", "scripted/write"]);
    let run = user.newest();
    user.expect(0, &["export", &run, "--output", "run.errand"]);
    (run, user.path("run.errand"))
}

#[test]
fn a_bundle_verifies_and_replays_elsewhere() {
    let user = User::new();
    let (run, bundle) = exported(&user);
    let here = user.json(0, &["replay", &run]).remove(0);
    let stranger = User::new();
    let bundle = bundle.to_str().unwrap();
    let there = stranger.json(0, &["replay", bundle]).remove(0);
    assert_eq!(here, there);
    assert_eq!(there["requests"], 2);
    let verified = stranger.json(0, &["verify", bundle]).remove(0);
    assert_eq!(verified["ledger"], there["ledger"]);
    assert!(!stranger.data().exists(), "looking at a bundle makes no data folder");
    user.refused(2, "output_exists", &["export", &run, "--output", "run.errand"]);
    user.expect(0, &["export", &run, "--output", "small.errand", "--without-files"]);
    stranger.expect(0, &["replay", user.path("small.errand").to_str().unwrap()]);
}

#[test]
fn a_doctored_bundle_is_refused_and_the_record_named() {
    let user = User::new();
    let (_, bundle) = exported(&user);
    let good = std::fs::read(&bundle).unwrap();
    let text = String::from_utf8_lossy(&good).into_owned();
    let cases = [
        ("cut.errand", good[..good.len() / 2].to_vec(), 2, "bundle_truncated", ""),
        ("empty.errand", Vec::new(), 2, "bundle_truncated", ""),
        (
            "newer.errand",
            text.replacen("\"errand_bundle\":1", "\"errand_bundle\":9", 1).into_bytes(),
            2,
            "bundle_newer",
            "9",
        ),
        ("forged.errand", text.replacen("I call files.", "I call piles.", 1).into_bytes(), 1, "bundle_forged", "record 2"),
        ("other.errand", b"PK\x03\x04 something else\n".to_vec(), 2, "bundle_unreadable", ""),
    ];
    for (name, bytes, exit, code, named) in cases {
        std::fs::write(user.path(name), bytes).unwrap();
        for command in ["verify", "replay"] {
            let ended = user.refused(exit, code, &[command, name]);
            assert!(ended.stderr.contains(named), "{name}: {ended:#?}");
        }
    }
    user.refused(2, "bundle_not_found", &["verify", "nothing.errand"]);
}

#[test]
fn one_altered_byte_in_the_database_is_noticed_and_the_record_named() {
    let user = User::new();
    let (run, _) = exported(&user);
    // Bring everything from the write-ahead log into the database first.
    let database = user.data().join("errand.db");
    let wal = user.data().join("errand.db-wal");
    for path in [&database, &wal] {
        let Ok(mut bytes) = std::fs::read(path) else { continue };
        let old = b"I call files.";
        let places: Vec<usize> =
            (0..bytes.len().saturating_sub(old.len())).filter(|at| bytes[*at..].starts_with(old)).collect();
        places.iter().for_each(|at| bytes[*at] = b'J');
        std::fs::write(path, bytes).unwrap();
    }
    let ended = user.errand(&["verify", &run]);
    // In the log SQLite's own checksum may notice first; then the record is simply not there.
    assert_ne!(ended.code, Some(0), "{ended:#?}");
    if ended.stderr.contains("ledger_broken") {
        assert!(ended.stderr.contains("record 2"), "{ended:#?}");
    }
}

#[test]
fn a_fork_goes_on_with_another_model_and_repeats_nothing() {
    let user = User::new();
    let (run, _) = exported(&user);
    let other = "[[turn]]\nsay = \"First.\"\nnext = [{ goto = \"answer\" }]\n\n[[turn]]\nid = \"answer\"\nsay = \"Another answer altogether.\"\n";
    user.script("other", other);
    let ended = user.expect(0, &["fork", &run, "--at", "3", "--model", "scripted/other"]);
    assert!(ended.stdout.contains("Another answer"), "{ended:#?}");
    let fork = user.newest();
    let types = user.event_types(&fork);
    assert_eq!(types.iter().filter(|kind| *kind == "tool_call").count(), 1, "{types:?}");
    assert!(types.contains(&"run_forked".to_owned()));
    assert!(user.expect(0, &["files", &fork]).stdout.contains("made.txt"));
    user.expect(0, &["verify", &fork]);
    user.expect(0, &["replay", &fork]);
    user.refused(2, "record_not_found", &["fork", &run, "--at", "99"]);
    user.refused(2, "record_not_found", &["fork", &run, "--at", "0"]);
    user.refused(1, "rejected", &["fork", &run, "--at", "4"]);
    user.expect(0, &["fork", &run, "--at", "4", "--message", "and now?", "--model", "scripted/other"]);
}
