//! The suite that every adapter passes.

use crate::conformance;
use crate::emulator::aws;
use crate::world::Clock;
use errand_engine::ports::{Assistants, Blobs, Heads, Inbox, Queue, Store};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms() {
    if aws().await.is_none() {
        return;
    }
    conformance::store(async || Arc::new(aws().await.unwrap().store()) as Arc<dyn Store>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blobs_conform() {
    let Some(aws) = aws().await else { return };
    conformance::blobs(async || Arc::new(aws.blobs()) as Arc<dyn Blobs>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heads_conform() {
    let Some(aws) = aws().await else { return };
    conformance::heads(async || Arc::new(aws.heads()) as Arc<dyn Heads>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_assistants_conform() {
    let Some(aws) = aws().await else { return };
    conformance::assistants(async || Arc::new(aws.assistants()) as Arc<dyn Assistants>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_conforms() {
    if aws().await.is_none() {
        return;
    }
    conformance::queue(async || {
        let (aws, clock) = (aws().await.unwrap(), Clock::new());
        let inbox = |url: &str| Arc::new(aws.inbox(url, clock.clone(), 10)) as Arc<dyn Inbox>;
        let (steps, calls) = (inbox(&aws.settings().steps), inbox(&aws.settings().calls));
        (Arc::new(aws.queue(clock)) as Arc<dyn Queue>, steps, calls)
    })
    .await;
}
