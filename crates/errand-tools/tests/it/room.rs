//! How many runs have their workspaces on one machine.

use crate::support::{NOW, World, boxes, ok, spec};
use errand_core::{RunId, TenantId};
use errand_engine::ports::{Admission, Tools};
use errand_tools::{BoxSettings, Room};
use serde_json::json;
use std::time::Duration;

fn run(number: u128) -> RunId {
    RunId::new(NOW, number)
}

async fn admit(world: &World, number: u128) -> Admission {
    world.tools.admit(run(number), &TenantId::default(), &spec("files")).await.unwrap()
}

fn settings(sessions: usize) -> BoxSettings {
    BoxSettings { room: Room { sessions, ..Room::default() }, ..BoxSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_at_rest_makes_way_and_finds_its_files_again() {
    let mut world = World::with_boxes(settings(2));
    let mut snapshots = Vec::new();
    for number in [1, 2] {
        world.run = run(number);
        assert_eq!(admit(&world, number).await, Admission::Here);
        let write = json!({"action": "write", "path": "a.txt", "text": format!("of run {number}")});
        snapshots.push(world.call(0, "files", write, None).await.workspace);
    }
    assert_eq!(admit(&world, 3).await, Admission::Here);
    assert_eq!((world.workspaces.has(run(1)), world.workspaces.has(run(2))), (false, true), "the longest at rest");
    let left: Vec<_> = std::fs::read_dir(world.folder.path().join("sessions")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains(&run(1).to_string())), "{left:?}");
    world.run = run(1);
    assert_eq!(admit(&world, 1).await, Admission::Here);
    let read = world.call(1, "files", json!({"action": "read", "path": "a.txt"}), snapshots[0]).await;
    assert!(ok(&read).contains("of run 1"), "{}", ok(&read));
    let inline = spec("echo");
    let other = world.tools.admit(run(9), &TenantId::default(), &inline).await.unwrap();
    assert_eq!((other, world.workspaces.has(run(9))), (Admission::Here, false), "what needs no workspace takes no place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_an_interpreter_keeps_its_place_until_that_was_idle() {
    if !boxes() {
        return;
    }
    let idle = Duration::from_millis(300);
    let mut world = World::with_boxes(BoxSettings { idle, ..settings(1) });
    world.run = run(1);
    assert_eq!(admit(&world, 1).await, Admission::Here);
    ok(&world.call(0, "python", json!({"code": "n = 1"}), None).await);
    let Admission::Later { millis } = admit(&world, 2).await else { panic!("its variables were taken away") };
    assert!(millis > 0);
    tokio::time::timeout(Duration::from_secs(60), async {
        while admit(&world, 2).await != Admission::Here {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("room once the interpreter is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_goes_by_itself() {
    let mut world = World::with_boxes(BoxSettings { idle: Duration::from_millis(50), ..settings(100) });
    world.run = run(1);
    assert_eq!(admit(&world, 1).await, Admission::Here);
    let write = json!({"action": "write", "path": "a.txt", "text": "kept"});
    let kept = world.call(0, "files", write, None).await.workspace;
    tokio::time::timeout(Duration::from_secs(60), async {
        while world.workspaces.has(run(1)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it goes");
    let read = world.call(1, "files", json!({"action": "read", "path": "a.txt"}), kept).await;
    assert!(ok(&read).contains("kept"));
}
