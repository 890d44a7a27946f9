use crate::support::{World, ok};
use errand_engine::ports::Tools;
use serde_json::json;

fn append(path: &str, text: &str) -> serde_json::Value {
    json!({"action": "write", "path": path, "text": text})
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_take_turns_and_lose_nothing() {
    let world = World::new();
    let first = world.call(0, "files", append("base", "x"), None).await.workspace;
    let calls = (1..=8).map(|index| world.call(index, "files", append(&format!("f{index}"), "x"), first));
    let replies = futures_all(calls).await;
    let mut turns: Vec<u64> = replies.iter().map(|reply| reply.workspace.unwrap().turn).collect();
    turns.sort_unstable();
    assert_eq!(turns, [1, 2, 3, 4, 5, 6, 7, 8]);
    let newest = replies.iter().filter_map(|reply| reply.workspace).max().unwrap();
    let listed = world.call(9, "files", json!({"action": "list"}), Some(newest)).await;
    assert_eq!(ok(&listed).lines().count(), 9, "{}", ok(&listed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_handed_out_again_is_not_carried_out_again() {
    let world = World::new();
    let first = world.call(0, "files", append("a", "1"), None).await;
    let second = world.call(1, "files", append("a", "2"), first.workspace).await;
    let again = world.call(0, "files", append("a", "1"), None).await;
    assert_eq!(again, first);
    let read = world.call(2, "files", json!({"action": "read", "path": "a"}), second.workspace).await;
    assert_eq!(ok(&read), "2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_begins_at_its_snapshot_whatever_the_folder_holds() {
    let world = World::new();
    let first = world.call(0, "files", append("a", "1"), None).await.workspace;
    let second = world.call(1, "files", append("b", "2"), first).await.workspace;
    assert!(second.is_some());
    // Another process, which knows nothing of call 1.
    let world = world.restarted();
    let listed = world.call(2, "files", json!({"action": "list"}), first).await;
    assert_eq!(ok(&listed), "a  1 bytes");
    let world = world.restarted();
    let listed = world.call(3, "files", json!({"action": "list"}), second).await;
    assert_eq!(ok(&listed), "a  1 bytes\nb  1 bytes");
    let world = world.restarted();
    let listed = world.call(4, "files", json!({"action": "list"}), None).await;
    assert_eq!(ok(&listed), "the folder is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_run_leaves_nothing_but_its_snapshots() {
    let world = World::new();
    let kept = world.call(0, "files", append("a", "1"), None).await.workspace;
    let sessions = world.folder.path().join("sessions");
    assert_eq!(std::fs::read_dir(&sessions).unwrap().count(), 1);
    world.tools.release(world.run).await;
    assert_eq!(std::fs::read_dir(&sessions).unwrap().count(), 0);
    world.tools.release(world.run).await;
    let read = world.call(1, "files", json!({"action": "read", "path": "a"}), kept).await;
    assert_eq!(ok(&read), "1\n");
    let world = world.restarted();
    assert_eq!(std::fs::read_dir(world.folder.path().join("sessions")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_snapshot_is_an_error_and_not_an_empty_folder() {
    let world = World::new();
    let kept = world.call(0, "files", append("a", "1"), None).await.workspace;
    world.blobs.remove(&kept.unwrap().manifest);
    let world = world.restarted();
    let reply = world.call(1, "files", json!({"action": "list"}), kept).await;
    assert_eq!(crate::support::error(&reply).0, "blob_unavailable");
}

async fn futures_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in pending.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if pending.iter().all(|(_, done)| done.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, done)| done).collect()
}
