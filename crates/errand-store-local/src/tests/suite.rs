use super::{TestWorld, conformance, own};
use crate::{LocalAssistants, LocalHeads, LocalQueue, QueueLimits};
use errand_engine::ports::{Assistants, Blobs, Heads, Inbox, Queue, Store};
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms() {
    let folders = Mutex::new(Vec::new());
    conformance::store(async || {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::clone(own(folder.path(), &TestWorld::new()).unwrap().store());
        folders.lock().unwrap().push(folder);
        store as Arc<dyn Store>
    })
    .await;
    assert!(folders.into_inner().unwrap().len() >= 12);
}

#[tokio::test]
async fn the_blobs_conform() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    conformance::blobs(async || Arc::clone(opened.blobs()) as Arc<dyn Blobs>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heads_conform() {
    let folder = tempfile::tempdir().unwrap();
    conformance::heads(async || Arc::new(LocalHeads::of(folder.path())) as Arc<dyn Heads>).await;
}

#[tokio::test]
async fn the_assistants_conform() {
    let folder = tempfile::tempdir().unwrap();
    conformance::assistants(async || Arc::new(LocalAssistants::of(folder.path())) as Arc<dyn Assistants>).await;
}

#[tokio::test]
async fn the_queue_conforms() {
    conformance::queue(async || {
        let queue = LocalQueue::new(TestWorld::new(), QueueLimits::default());
        let inboxes = [queue.steps(), queue.calls()].map(|inbox| Arc::clone(inbox) as Arc<dyn Inbox>);
        let [steps, calls] = inboxes;
        (Arc::new(queue) as Arc<dyn Queue>, steps, calls)
    })
    .await;
}
