//! Bad input and bad luck at the level of the tools: each is an answer, nothing hangs, nothing is lost.

use crate::support::{World, boxes, error, ok, running};
use errand_core::{Outcome, Verdict};
use errand_engine::ports::{ToolReply, Tools};
use serde_json::json;
use std::time::{Duration, Instant};

fn text(reply: &ToolReply) -> &str {
    match &reply.outcome {
        Outcome::Ok { text } | Outcome::Error { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_100_megabytes_is_refused_before_anything_happens() {
    let world = World::new();
    let code = json!({"code": "x".repeat(100 << 20)}).to_string();
    let begun = Instant::now();
    match world.check("python", &code) {
        Verdict::Refused { code, error } => {
            assert_eq!(code, "arguments_invalid");
            assert!(error.len() < 10_000, "{} bytes of error", error.len());
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_no_text_is_shown_as_text() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let bytes = "import os; os.write(1, b'a\\x00b\\xff\\xfec\\x1b[31m'); os.write(2, b'\\xc3')";
    let reply = world.call(0, "python", json!({"code": bytes}), None).await;
    assert!(
        ok(&reply).contains("a\0b\u{fffd}\u{fffd}c\u{1b}[31m") && ok(&reply).contains("stderr:\n\u{fffd}"),
        "{:?}",
        ok(&reply)
    );
    let value = world.call(1, "python", json!({"code": "'\\ud800' + chr(0)"}), None).await;
    assert!(ok(&value).contains("value: "), "{:?}", ok(&value));
    // A script cannot hold one, and says so.
    let script = world.call(2, "shell", json!({"script": "echo a\0b"}), None).await;
    assert_eq!(error(&script), ("sandbox_exec_refused", text(&script)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_of_output_is_bounded_and_costs_no_variables() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let code = "n = 5\nimport os\nb = b'x' * (1 << 20)\nfor _ in range(1024): os.write(1, b)";
    let reply = world.call_with(0, "python", json!({"code": code}), None, |job| job.timeout_ms = 100_000).await;
    assert!(text(&reply).len() <= 16 << 10, "{} bytes", text(&reply).len());
    assert!(text(&reply).contains("bytes left out"), "{}", &text(&reply)[..500]);
    let next = world.call(1, "python", json!({"code": "n"}), reply.workspace).await;
    assert!(ok(&next).ends_with("value: 5"), "{}", ok(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_that_ignores_every_signal_ends_with_its_kernel() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let marker = format!("{}.75", 300_000 + std::process::id());
    let script = format!("trap '' TERM INT HUP QUIT; while :; do sleep {marker}; done");
    let begun = Instant::now();
    let reply = world.call_with(0, "shell", json!({"script": script}), None, |job| job.timeout_ms = 6_000).await;
    let (code, text) = error(&reply);
    assert!(code == "timed_out" && text.contains("the shell ended, and what was defined in it is gone"), "{code}: {text}");
    assert!(begun.elapsed() < Duration::from_secs(20) && !running(&marker));
    let next = world.call(1, "shell", json!({"script": "echo well"}), None).await;
    assert!(ok(&next).contains("well") && !ok(&next).contains("gone"), "{}", ok(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_deleted_under_a_kernel_is_an_error_and_comes_back() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let first = world.call(0, "python", json!({"code": "n = 1; open('kept', 'w').write('precious')"}), None).await;
    let sessions = world.folder.path().join("sessions");
    let workspace = std::fs::read_dir(&sessions).unwrap().flatten().next().unwrap().path().join("workspace");
    // By code in the box: what it may, it may; and the snapshot holds the rest.
    let emptied =
        world.call(1, "shell", json!({"script": "rm -rf /workspace/* /workspace; ls -A /workspace"}), first.workspace).await;
    assert!(text(&emptied).contains("files removed: kept"), "{}", text(&emptied));
    let back = world.call(2, "python", json!({"code": "import os; os.listdir('/workspace')"}), emptied.workspace).await;
    assert!(ok(&back).ends_with("value: []"), "{}", ok(&back));
    // By somebody on the host: the call says what is wrong, or does without; a process that starts anew has the files.
    std::fs::remove_dir_all(&workspace).unwrap();
    let lost = world.call(3, "python", json!({"code": "open('new', 'w').write('x')"}), first.workspace).await;
    assert!(!text(&lost).is_empty());
    world.tools.release(world.run).await;
    let world = world.restarted();
    let again = world.call(4, "python", json!({"code": "open('kept').read()"}), first.workspace).await;
    assert!(ok(&again).ends_with("value: 'precious'"), "{}", ok(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_climb_and_names_that_are_long_are_refused_or_kept() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let with = |path: &str| json!({"code": "import os; sorted(os.listdir('.'))", "files": [{"path": path, "text": "x"}]});
    for (index, path) in (0u32..).zip(["../out", "/etc/out", "a/../../out", "a\0b"]) {
        let reply = world.call(index, "python", with(path), None).await;
        assert_eq!(error(&reply).0, "sandbox_path_refused", "{path}: {}", text(&reply));
    }
    let longest = "n".repeat(255);
    let kept = world.call(10, "python", with(&longest), None).await;
    assert!(ok(&kept).contains(&longest) && kept.workspace.is_some(), "{}", ok(&kept));
    let world = world.restarted();
    let there = world
        .call(11, "python", json!({"code": "import os; [len(name) for name in os.listdir('.')]"}), kept.workspace)
        .await;
    assert!(ok(&there).ends_with("value: [255]"), "{}", ok(&there));
    let too_long = world.call(12, "python", with(&"n".repeat(256)), kept.workspace).await;
    assert!(matches!(too_long.outcome, Outcome::Error { .. }), "{too_long:?}");
    // Code may make links that lead out; nothing outside follows them.
    let linked =
        world.call(13, "shell", json!({"script": "ln -s /etc/passwd link; ln -s .. up; echo made"}), kept.workspace).await;
    assert!(ok(&linked).contains("made"), "{}", ok(&linked));
    let written = world.call(14, "python", with("up/out"), linked.workspace).await;
    assert_eq!(error(&written).0, "sandbox_not_plain", "{}", text(&written));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_harms_nobody_else() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let mut neighbour = World::new();
    neighbour.run = errand_core::RunId::new(crate::support::NOW, 9);
    let bomb = json!({"script": "bomb() { bomb | bomb & }; bomb; sleep 1; echo survived"});
    let bomb = world.call_with(0, "shell", bomb, None, |job| job.timeout_ms = 9_000);
    let other = neighbour.call(0, "python", json!({"code": "6 * 7"}), None);
    let (bomb, other) = futures::join!(bomb, other);
    assert!(ok(&other).ends_with("value: 42"), "{}", ok(&other));
    assert!(!text(&bomb).is_empty());
    let next = world.call_with(1, "shell", json!({"script": "echo well", "fresh": true}), None, |_| {}).await;
    assert!(ok(&next).contains("well"), "{}", text(&next));
}
