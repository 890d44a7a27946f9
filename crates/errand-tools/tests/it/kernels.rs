//! The code tools on kernels that stay for a run: what lives between calls, what is lost and how the model is told.

use crate::support::{World, boxes, error, has, ok};
use errand_core::RunId;
use errand_engine::ports::{ToolReply, Tools};
use errand_sandbox::CancelToken;
use errand_tools::BoxSettings;
use serde_json::json;
use std::time::{Duration, Instant};

const FORGOTTEN: &str = "this is a new interpreter: variables, functions and imports of earlier calls are gone";

fn settings(change: impl FnOnce(&mut BoxSettings)) -> BoxSettings {
    let mut settings = BoxSettings::default();
    change(&mut settings);
    settings
}

/// A call of a conversation that has called the tool before.
async fn again(world: &World, index: u32, tool: &str, code: &str) -> ToolReply {
    let arguments = if tool == "shell" { json!({"script": code}) } else { json!({"code": code}) };
    world.call_with(index, tool, arguments, None, |job| job.has_called_before = true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_defines_later_calls_find() {
    if !boxes() {
        return;
    }
    for (tool, defines, asks, shown) in [
        ("python", "import math\ndef f(x): return x + 1\nn = 41", "f(n)", "value: 42"),
        ("node", "const n = 41; function f(x) { return x + 1 }", "const n2 = n; f(n2)", "value: 42"),
        ("shell", "n=41; f() { echo $(($1 + 1)); }; mkdir -p d; cd d", "f $n; pwd", "stdout:\n42\n/workspace/d"),
    ] {
        if !has(tool) {
            continue;
        }
        let world = World::new();
        let first = again(&world, 0, tool, defines).await;
        assert!(ok(&first).starts_with("exit code 0 after "), "{}", ok(&first));
        let second =
            world.call_with(1, tool, arguments(tool, asks), first.workspace, |job| job.has_called_before = true).await;
        assert!(ok(&second).ends_with(shown), "{tool}: {}", ok(&second));
        assert!(!ok(&second).contains("this is a new"), "{tool}: {}", ok(&second));
        // Begun anew on purpose: there is nothing to tell.
        let mut fresh = arguments(tool, if tool == "shell" { "echo [$n]" } else { "n" });
        fresh["fresh"] = json!(true);
        let third = world.call_with(2, tool, fresh, first.workspace, |job| job.has_called_before = true).await;
        match tool {
            "shell" => assert!(ok(&third).ends_with("stdout:\n[]"), "{}", ok(&third)),
            _ => assert!(error(&third).1.contains("not defined") && !error(&third).1.contains("this is a new"), "{third:?}"),
        }
    }
}

fn arguments(tool: &str, code: &str) -> serde_json::Value {
    if tool == "shell" { json!({"script": code}) } else { json!({"code": code}) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_costs_the_variables_and_is_told_once() {
    if !boxes() {
        return;
    }
    let world = World::new();
    // The first call of a conversation has nothing to miss.
    let first = world.call(0, "python", json!({"code": "n = 1; open('kept', 'w').write('x')"}), None).await;
    assert!(!ok(&first).contains("new interpreter"), "{}", ok(&first));
    let now = first.workspace;
    let call = async |index, code| {
        world.call_with(index, "python", json!({"code": code}), now, |job| job.has_called_before = true).await
    };
    // The call that loses it says so, and the next one need not.
    let lost = call(1, "import os; os._exit(5)").await;
    let (code, text) = error(&lost);
    assert!(code == "non_zero_exit" && text.starts_with("exit code 5 "), "{code}: {text}");
    assert!(text.contains("the interpreter ended, and what was defined in it is gone; files stay"), "{text}");
    let next = call(2, "n = 2; open('kept').read()").await;
    assert!(ok(&next).ends_with("value: 'x'") && !ok(&next).contains("new interpreter"), "{}", ok(&next));
    // One that is lost between two calls is told by the next, once.
    let killed =
        call(3, "import os\nif os.fork() == 0:\n    import time\n    time.sleep(0.2)\n    os.kill(os.getppid(), 9)").await;
    assert!(killed.sandbox_ms > 0);
    let begun = Instant::now();
    let mut index = 4;
    let told = loop {
        let reply = call(index, "1").await;
        let text = match &reply.outcome {
            errand_core::Outcome::Ok { text } | errand_core::Outcome::Error { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        if text.contains(FORGOTTEN) || text.contains("is gone; files stay") {
            break text;
        }
        index += 1;
        assert!(begun.elapsed() < Duration::from_secs(20), "it is not lost");
    };
    assert!(!told.is_empty());
    let after = call(index + 1, "2").await;
    assert!(ok(&after).ends_with("value: 2") && !ok(&after).contains("gone"), "{}", ok(&after));
    // Another process knows nothing of it.
    let world = world.restarted();
    let told = world.call_with(index + 2, "python", json!({"code": "1"}), now, |job| job.has_called_before = true).await;
    assert!(ok(&told).contains(FORGOTTEN), "{}", ok(&told));
    let after = world.call_with(index + 3, "python", json!({"code": "1"}), now, |job| job.has_called_before = true).await;
    assert!(!ok(&after).contains(FORGOTTEN), "{}", ok(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_after_one_that_was_told_and_a_new_beginning_is_told_as_well() {
    if !boxes() {
        return;
    }
    let mut world = World::new();
    let origin = world.run;
    world.run = RunId::new(crate::support::NOW, 8);
    let elsewhere = world.call(0, "python", json!({"code": "open('kept', 'w').write('x')"}), None).await.workspace;
    assert!(elsewhere.is_some());
    world.run = origin;
    let lost = again(&world, 0, "python", "import os; os._exit(5)").await;
    assert!(error(&lost).1.contains("is gone; files stay"), "{}", error(&lost).1);
    // The model was told, and begins anew by itself.
    let fresh = json!({"code": "n = 1", "fresh": true});
    let fresh = world.call_with(1, "python", fresh, None, |job| job.has_called_before = true).await;
    assert!(!ok(&fresh).contains(FORGOTTEN), "{}", ok(&fresh));
    // Files that come from another machine end that one, too.
    let code = json!({"code": "'n' in globals()"});
    let next = world.call_with(2, "python", code, elsewhere, |job| job.has_called_before = true).await;
    assert!(ok(&next).contains(FORGOTTEN) && ok(&next).ends_with("value: False"), "{}", ok(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_share_no_kernel_and_a_fork_begins_with_the_files_alone() {
    if !boxes() {
        return;
    }
    let mut world = World::new();
    let code = "secret = 'of the first'; open('kept', 'w').write('file')";
    let first = world.call(0, "python", json!({"code": code}), None).await;
    let origin = world.run;
    world.run = RunId::new(crate::support::NOW, 8);
    let fork = world
        .call_with(1, "python", json!({"code": "open('kept').read(), 'secret' in globals()"}), first.workspace, |job| {
            job.has_called_before = true
        })
        .await;
    assert!(ok(&fork).contains(FORGOTTEN) && ok(&fork).ends_with("value: ('file', False)"), "{}", ok(&fork));
    world.run = origin;
    let origin = world.call(1, "python", json!({"code": "secret"}), first.workspace).await;
    assert!(ok(&origin).ends_with("value: 'of the first'"), "{}", ok(&origin));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_handed_out_again_runs_no_cell_again() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let first = world.call(0, "python", json!({"code": "n = globals().get('n', 0) + 1; n"}), None).await;
    assert!(ok(&first).ends_with("value: 1"), "{}", ok(&first));
    assert_eq!(world.call(0, "python", json!({"code": "n = globals().get('n', 0) + 1; n"}), None).await, first);
    let second = world.call(1, "python", json!({"code": "n"}), first.workspace).await;
    assert!(ok(&second).ends_with("value: 1"), "{}", ok(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_use_one_kernel_one_after_the_other() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let code = |index: u32| {
        json!({"code": format!(
            "import time\nbusy = globals().get('busy', 0) + 1\nassert busy == 1\ntime.sleep(0.02)\nbusy -= 1\nseen = globals().get('seen', []) + [{index}]\nlen(seen)"
        )})
    };
    let calls: Vec<_> = (0..5).map(|index| world.call(index, "python", code(index), None)).collect();
    let replies = futures::future::join_all(calls).await;
    let mut lengths: Vec<char> = replies.iter().filter_map(|reply| ok(reply).chars().last()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, ['1', '2', '3', '4', '5']);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_call_takes_its_kernel_and_its_files_back() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let first = world.call(0, "python", json!({"code": "n = 1; open('n', 'w').write('1')"}), None).await;
    let code = json!({"code": "n = 2; open('n', 'w').write('2')\nimport time; time.sleep(600)"});
    let endless = world.call(1, "python", code, first.workspace);
    assert!(tokio::time::timeout(Duration::from_secs(2), endless).await.is_err());
    let next = world
        .call_with(2, "python", json!({"code": "open('n').read(), 'n' in globals()"}), first.workspace, |job| {
            job.has_called_before = true
        })
        .await;
    assert!(ok(&next).contains(FORGOTTEN) && ok(&next).ends_with("value: ('1', False)"), "{}", ok(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_is_up_costs_no_variables() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let code = json!({"code": "n = 7\nprint('begun', flush=True)\nwhile True: pass"});
    let reply = world.call_with(0, "python", code, None, |job| job.timeout_ms = 6000).await;
    let (code, text) = error(&reply);
    assert!(code == "timed_out" && text.starts_with("interrupted after ") && text.contains("begun"), "{code}: {text}");
    let next = world.call(1, "python", json!({"code": "n"}), None).await;
    assert!(ok(&next).ends_with("value: 7"), "{}", ok(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_ended_and_a_daemon_with_it() {
    if !boxes() {
        return;
    }
    let marker = format!("{}.5", 200_000 + std::process::id());
    let world = World::with_boxes(settings(|settings| settings.idle = Duration::from_millis(300)));
    let script = format!("n=1; (trap '' TERM INT HUP; sleep {marker}) </dev/null >/dev/null 2>&1 & disown; echo left");
    let first = again(&world, 0, "shell", &script).await;
    assert!(ok(&first).contains("left") && crate::support::running(&marker), "{}", ok(&first));
    let begun = Instant::now();
    while crate::support::running(&marker) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still running");
        tokio::task::yield_now().await;
    }
    let next = again(&world, 1, "shell", "echo [$n]").await;
    assert!(ok(&next).contains("this is a new shell") && ok(&next).ends_with("stdout:\n[]"), "{}", ok(&next));
    // What a run leaves when it ends is gone at once, however it clings.
    again(&world, 2, "shell", &script).await;
    world.tools.release(world.run).await;
    assert!(!crate::support::running(&marker));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_back_as_files() {
    if !boxes() {
        return;
    }
    // In the place of pandas, which hosts need not have: what counts is how a table looks to the driver.
    let code = "class DataFrame:\n    def __init__(self, text): self.text = text\n    def to_csv(self, path): open(path, 'w').write(self.text)\n    def __repr__(self): return 'a table'\nDataFrame('a,b')";
    let world = World::new();
    let first = world.call(0, "python", json!({"code": code}), None).await;
    assert!(
        ok(&first).ends_with("value: a table\nresults as files: table-1.csv\nfiles created: table-1.csv"),
        "{}",
        ok(&first)
    );
    // A new interpreter counts from one again, and overwrites nothing.
    let code = format!("{code}\n");
    let second = world.call(1, "python", json!({"code": code, "fresh": true}), first.workspace).await;
    assert!(ok(&second).ends_with("files created: table-1-2.csv"), "{}", ok(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_of_a_run_finds_a_kernel_that_is_ready() {
    if !boxes() {
        return;
    }
    let world = World::with_boxes(settings(|settings| settings.warm = 1));
    world.workspaces.prepare(&CancelToken::new().unwrap()).unwrap();
    let begun = Instant::now();
    while world.workspaces.pool_stats().unwrap().parked < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", world.workspaces.pool_stats());
        tokio::task::yield_now().await;
    }
    // Files of a run that goes on are put beneath it.
    let kept = world.call(0, "files", json!({"action": "write", "path": "kept", "text": "x"}), None).await.workspace;
    world.tools.release(world.run).await;
    let first = world.call(1, "python", json!({"code": "import os; n = 1; open('kept').read(), os.listdir()"}), kept).await;
    assert!(
        ok(&first).ends_with("value: ('x\\n', ['kept'])") || ok(&first).ends_with("value: ('x', ['kept'])"),
        "{}",
        ok(&first)
    );
    let stats = world.workspaces.pool_stats().unwrap();
    assert_eq!((stats.claims, stats.misses), (1, 0), "{stats:?}");
    let second = world.call(2, "python", json!({"code": "n"}), kept).await;
    assert!(ok(&second).ends_with("value: 1"), "{}", ok(&second));
}
