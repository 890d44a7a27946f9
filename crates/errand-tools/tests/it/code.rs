use crate::support::{World, boxes, error, ok, running};
use errand_sandbox::{Engine, EngineConfig};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn python_works_on_the_files_of_the_workspace() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let code = "import csv\nrows = list(csv.DictReader(open('in.csv')))\nopen('out.txt', 'w').write(rows[0]['a'])\nprint(len(rows))";
    let files = json!([{"path": "in.csv", "text": "a,b\n7,8\n9,10\n"}]);
    let first = world.call(0, "python", json!({"code": code, "files": files}), None).await;
    assert!(ok(&first).starts_with("exit code 0 after "), "{}", ok(&first));
    assert!(ok(&first).ends_with("stdout:\n2\nfiles created: in.csv, out.txt"), "{}", ok(&first));
    assert_eq!(first.workspace.unwrap().turn, 0);
    assert!(first.sandbox_ms > 0);
    let second =
        world.call(1, "shell", json!({"script": "cat out.txt; rm in.csv; echo more >> out.txt"}), first.workspace).await;
    assert!(ok(&second).contains("stdout:\n7\nfiles changed: out.txt\nfiles removed: in.csv"), "{}", ok(&second));
    assert_eq!(second.workspace.unwrap().turn, 1);
    let third = world.call(2, "shell", json!({"script": "true"}), second.workspace).await;
    assert!(ok(&third).ends_with("it printed nothing"), "{}", ok(&third));
    assert_eq!(third.workspace, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_works_on_the_files_of_the_workspace() {
    if !boxes() || !Engine::start(&EngineConfig::default()).unwrap().interpreters().iter().any(|one| one.name == "node") {
        return;
    }
    let world = World::new();
    let code = "import fs from 'node:fs';\nimport { twice } from './lib.mjs';\nawait null;\n\
                fs.writeFileSync('out.txt', String(twice(21)));\nconsole.log(twice(4), require('./old.cjs').name, process.cwd());\n\
                console.error('to', 'stderr');";
    let files = json!([{"path": "lib.mjs", "text": "export const twice = (x) => 2 * x;"}, {"path": "old.cjs", "text": "exports.name = 'old';"}]);
    let first = world.call(0, "node", json!({"code": code, "files": files}), None).await;
    assert!(
        ok(&first).contains("stdout:\n8 old /workspace\nstderr:\nto stderr\nfiles created: lib.mjs, old.cjs, out.txt"),
        "{}",
        ok(&first)
    );
    let second = world.call(1, "shell", json!({"script": "cat out.txt"}), first.workspace).await;
    assert!(ok(&second).contains("stdout:\n42"), "{}", ok(&second));

    let broken = world.call(2, "node", json!({"code": "console.log('so far');\nnothing.at.all"}), second.workspace).await;
    let (code, text) = error(&broken);
    assert!(
        code == "non_zero_exit" && text.contains("so far") && text.contains("ReferenceError") && text.contains(":2"),
        "{text}"
    );
    // Much is allocated and many threads are started: V8 reserves far more address space than it uses.
    let heavy = "const list = []; for (let i = 0; i < 200; i++) list.push(new Float64Array(100_000).fill(i));\n\
                 const { Worker } = await import('node:worker_threads');\n\
                 const done = await Promise.all([1, 2, 3, 4].map((n) => new Promise((good, bad) => {\n\
                   const worker = new Worker(`require('worker_threads').parentPort.postMessage(${n} * 2)`, { eval: true });\n\
                   worker.on('message', good); worker.on('error', bad); })));\nconsole.log(list.length, done.join());";
    let heavy = world.call(3, "node", json!({"code": heavy}), second.workspace).await;
    assert!(ok(&heavy).contains("200 2,4,6,8"), "{}", ok(&heavy));
    let full = "const all = []; while (true) all.push(new Array(1_000_000).fill(1.5));";
    let full = world.call(4, "node", json!({"code": full}), second.workspace).await;
    let (code, text) = error(&full);
    assert!(code == "out_of_memory" || text.contains("heap"), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_codes_and_keep_what_was_printed() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let reply = world.call(0, "python", json!({"code": "print('so far'); open('kept', 'w').write('x'); 1/0"}), None).await;
    let (code, text) = error(&reply);
    assert_eq!(code, "non_zero_exit");
    assert!(text.contains("exit code 1 ") && text.contains("so far") && text.contains("ZeroDivisionError"), "{text}");
    assert!(text.contains("files created: kept") && reply.workspace.is_some(), "{text}");

    let script = "echo begun; sleep 60";
    let reply = world.call_with(1, "shell", json!({"script": script}), reply.workspace, |job| job.timeout_ms = 6500).await;
    let (code, text) = error(&reply);
    assert_eq!(code, "timed_out");
    assert!(text.contains("begun") && text.contains("do less in one call"), "{text}");

    let reply = world
        .call(
            2,
            "python",
            json!({"code": "print('x', flush=True)\nb = []\nwhile True: b.append(bytearray(10_000_000))"}),
            None,
        )
        .await;
    let (code, text) = error(&reply);
    // Without a control group for memory the allocation fails inside the program.
    assert!(code == "out_of_memory" || text.contains("MemoryError"), "{code}: {text}");

    let reply = world.call(3, "shell", json!({"script": "kill -9 $$"}), None).await;
    assert_eq!(error(&reply).0, "killed_by_signal");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overfull_workspace_is_put_back() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let first = world.call(0, "shell", json!({"script": "echo precious > kept"}), None).await;
    let script = "for i in $(seq 60000); do : > f$i; done; echo done";
    let reply = world.call(1, "shell", json!({"script": script}), first.workspace).await;
    let (code, text) = error(&reply);
    assert_eq!(code, "over_quota", "{text}");
    assert_eq!(reply.workspace, None);
    let after = world.call(2, "shell", json!({"script": "ls; cat kept"}), first.workspace).await;
    assert!(ok(&after).ends_with("stdout:\nkept\nprecious"), "{}", ok(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_output_is_shown_from_both_ends_and_kept_whole() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let code = "import sys\nfor n in range(20000): print('line', n)\nprint('the problem', file=sys.stderr)";
    let reply = world.call_with(0, "python", json!({"code": code}), None, |job| job.observation_bytes = 4000).await;
    let text = ok(&reply);
    assert!(text.len() <= 4000, "{}", text.len());
    assert!(text.contains("line 0\n") && text.contains("line 19999\n") && text.contains("the problem"), "{text}");
    assert!(text.contains(" bytes left out, all is in .errand/outputs/"), "{text}");
    let file = text.split("all is in ").nth(1).unwrap().split(' ').next().unwrap();
    let whole = world.call(1, "shell", json!({"script": format!("wc -l < {file}")}), reply.workspace).await;
    assert!(ok(&whole).contains("20000"), "{}", ok(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_boxes_no_code_runs_and_other_tools_do() {
    let world = World::without_boxes();
    let reply = world.call(0, "python", json!({"code": "print(1)"}), None).await;
    let (code, text) = error(&reply);
    assert_eq!(code, "sandbox_unavailable");
    assert!(text.contains("errand doctor") && text.contains("/nonexistent/for/this/test"), "{text}");
    assert_eq!(reply.workspace, None);
    assert_eq!(ok(&world.call(1, "calculate", json!({"expression": "6*7"}), None).await), "42");
    assert_eq!(ok(&world.call(2, "echo", json!({"text": "hello"}), None).await), "hello");
    let written = world.call(3, "files", json!({"action": "write", "path": "a", "text": "b"}), None).await;
    assert_eq!(ok(&written), "created a: 1 bytes, 1 lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_call_kills_its_box_and_undoes_it() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let first = world.call(0, "shell", json!({"script": "echo 1 > n"}), None).await;
    let marker = format!("{}.25", 100_000 + std::process::id());
    let script = format!("echo 2 > n; sleep {marker}");
    let endless = world.call(1, "shell", json!({"script": script}), first.workspace);
    assert!(tokio::time::timeout(Duration::from_secs(2), endless).await.is_err());
    // The next call gets its turn only when the box is gone.
    let begun = Instant::now();
    let next = world.call(2, "shell", json!({"script": "cat n"}), first.workspace).await;
    assert!(ok(&next).ends_with("stdout:\n1"), "{}", ok(&next));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(!running(&marker), "sleep {marker} is still running");
}
