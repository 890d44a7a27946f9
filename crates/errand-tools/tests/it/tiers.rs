//! The tier that code runs in: never a weaker one than anybody asked for, and on the record.

use crate::support::{World, boxes, error, ok};
use errand_core::{Strength, Tier};
use errand_sandbox::Tier as Least;
use errand_tools::BoxSettings;
use serde_json::json;

#[cfg(feature = "t0")]
fn without_namespaces(min_tier: Least) -> BoxSettings {
    let missing = vec!["/nonexistent/for/this/test".into()];
    let engine = errand_sandbox::EngineConfig { read_only: missing, ..Default::default() };
    BoxSettings { engine, min_tier, ..BoxSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_call_tells_its_box() {
    if !boxes() {
        return;
    }
    let world = World::new();
    let reply = world.call(0, "python", json!({"code": "1"}), None).await;
    let sandbox = reply.sandbox.unwrap();
    assert_eq!((sandbox.tier, sandbox.time, sandbox.output), (Tier::T1, Strength::Hard, Strength::Hard));
    let none = world.call(1, "files", json!({"action": "list"}), None).await;
    assert_eq!(none.sandbox, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_weaker_than_asked_for_is_taken() {
    // By the run or the tool, whatever the settings say; and by the settings, whatever the run says.
    for (setting, asked) in
        [(Least::T0, Some(Tier::T2)), (Least::T1, Some(Tier::T2)), (Least::T2, None), (Least::T2, Some(Tier::T1))]
    {
        let world = World::with_boxes(BoxSettings { min_tier: setting, ..BoxSettings::default() });
        for (index, tool, arguments) in
            [(0, "python", json!({"code": "open('ran', 'w')"})), (1, "shell", json!({"script": "touch ran"}))]
        {
            let reply = world.call_with(index, tool, arguments, None, |job| job.min_tier = asked).await;
            let (code, text) = error(&reply);
            assert_eq!(code, "sandbox_tier_unavailable", "{text}");
            assert!(text.contains("t2") && text.contains("no such tier is configured"), "{text}");
            assert_eq!((reply.workspace, reply.sandbox), (None, None));
        }
        let listed = world.call(2, "files", json!({"action": "list"}), None).await;
        assert_eq!(ok(&listed), "the folder is empty");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_that_must_be_hard_are_hard_or_nothing_runs() {
    if !boxes() {
        return;
    }
    let world = World::with_boxes(BoxSettings { hard_quotas: true, ..BoxSettings::default() });
    let reply = world.call(0, "python", json!({"code": "1"}), None).await;
    match reply.sandbox {
        Some(sandbox) => assert_eq!([sandbox.memory, sandbox.processes, sandbox.cpu], [Strength::Hard; 3]),
        None => assert_eq!(error(&reply).0, "sandbox_quota_too_weak"),
    }
}

#[cfg(feature = "t0")]
#[tokio::test(flavor = "multi_thread")]
async fn a_small_python_takes_the_place_of_boxes_only_where_that_was_allowed() {
    let worker = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("errand-t0-worker");
    if !worker.is_file() {
        println!("skipped: there is no {}", worker.display());
        return;
    }
    let scripts = || Some(errand_sandbox::t0::ScriptConfig::new(worker.clone(), Vec::<String>::new()));
    let refused = World::with_boxes(BoxSettings { scripts: scripts(), ..without_namespaces(Least::T1) });
    assert_eq!(error(&refused.call(0, "python", json!({"code": "1"}), None).await).0, "sandbox_unavailable");

    let world = World::with_boxes(BoxSettings { scripts: scripts(), ..without_namespaces(Least::T0) });
    let reply = world.call(0, "python", json!({"code": "print(sum(n * n for n in range(10)))"}), None).await;
    assert!(ok(&reply).contains("tier t0: this ran in Monty") && ok(&reply).ends_with("stdout:\n285"), "{}", ok(&reply));
    assert_eq!(reply.sandbox.unwrap().tier, Tier::T0);
    // What it is not made for, and what was asked to be more, does not run.
    assert_eq!(error(&world.call(1, "shell", json!({"script": "true"}), None).await).0, "sandbox_unavailable");
    let more = world.call_with(2, "python", json!({"code": "1"}), None, |job| job.min_tier = Some(Tier::T1)).await;
    assert_eq!(error(&more).0, "sandbox_unavailable");
    if boxes() {
        // Where there are boxes, they are taken.
        let both = BoxSettings { scripts: scripts(), min_tier: Least::T0, ..BoxSettings::default() };
        let reply = World::with_boxes(both).call(0, "python", json!({"code": "import csv; 1"}), None).await;
        assert_eq!(reply.sandbox.unwrap().tier, Tier::T1);
    }
}
