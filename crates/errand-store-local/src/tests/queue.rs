use super::{TestWorld, sample};
use crate::{LocalQueue, QueueLimits};
use errand_engine::ports::{Delivery, Inbox, Message, Queue};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

const LIMITS: QueueLimits = QueueLimits { visibility_ms: 10_000, receives_max: 3 };

fn queue() -> (LocalQueue, Arc<TestWorld>) {
    let world = TestWorld::new();
    (LocalQueue::new(Arc::clone(&world) as _, LIMITS), world)
}

fn message(record: u64, not_before: Option<u64>) -> Message {
    Message::Step { run: sample::run(1), record, not_before: not_before.map(sample::at) }
}

/// What is there to receive at this very moment.
async fn now(queue: &LocalQueue) -> Option<Delivery> {
    let mut receive = pin!(queue.steps().receive());
    match receive.as_mut().poll(&mut Context::from_waker(futures::task::noop_waker_ref())) {
        Poll::Ready(delivery) => delivery,
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn messages_come_when_they_are_due_and_in_that_order() {
    let (queue, world) = queue();
    for (record, not_before) in [(1, Some(500)), (2, Some(300)), (3, None)] {
        queue.send(message(record, not_before)).await.unwrap();
    }
    assert_eq!(now(&queue).await.unwrap().message, message(3, None));
    assert_eq!(now(&queue).await, None);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.steps().receive().await.unwrap().message }
    });
    tokio::task::yield_now().await;
    world.pass(300);
    assert_eq!(waiting.await.unwrap(), message(2, Some(300)));
    assert_eq!(now(&queue).await, None);
    world.pass(200);
    assert_eq!(now(&queue).await.unwrap().message, message(1, Some(500)));
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_and_then_is_put_aside() {
    let (queue, world) = queue();
    queue.send(message(1, None)).await.unwrap();
    for receives in 1..=3 {
        let delivery = now(&queue).await.unwrap();
        assert_eq!((delivery.receives, delivery.hidden_until), (receives, sample::at(u64::from(receives) * 10_000)));
        assert_eq!(now(&queue).await, None, "nobody else receives it meanwhile");
        world.pass(10_000);
    }
    assert_eq!(queue.take_dead(), []);
    assert_eq!(now(&queue).await, None);
    assert_eq!(queue.take_dead(), [message(1, None)]);
    assert_eq!(queue.take_dead(), []);
    assert!(queue.steps().is_empty());
}

#[tokio::test]
async fn an_acknowledgement_that_comes_too_late_does_not_take_the_message_from_others() {
    let (queue, world) = queue();
    queue.send(message(1, None)).await.unwrap();
    let slow = now(&queue).await.unwrap();
    world.pass(10_000);
    let other = now(&queue).await.unwrap();
    queue.steps().ack(&slow).await;
    queue.steps().give_back(&slow, sample::at(0)).await;
    assert_eq!(now(&queue).await, None, "it is in the other's hands");
    assert_eq!(queue.steps().len(), 1);
    queue.steps().ack(&other).await;
    assert!(queue.steps().is_empty());
}

#[tokio::test]
async fn what_is_given_back_comes_at_its_time() {
    let (queue, world) = queue();
    queue.send(message(1, None)).await.unwrap();
    let delivery = now(&queue).await.unwrap();
    queue.steps().give_back(&delivery, sample::at(700)).await;
    assert_eq!(now(&queue).await, None);
    world.pass(700);
    assert_eq!(now(&queue).await.unwrap().receives, 2);
}

/// A clock that is set makes nobody wait for longer than it takes to look at it again.
#[tokio::test]
async fn a_clock_that_is_set_is_noticed_within_a_second() {
    let (queue, world) = queue();
    world.set(100_000);
    queue.send(message(1, Some(160_000))).await.unwrap();
    world.set(0);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.steps().receive().await.unwrap().message }
    });
    tokio::task::yield_now().await;
    world.set(160_000);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "setting the clock wakes nobody by itself");
    world.pass_without_clock(1_000);
    assert_eq!(waiting.await.unwrap(), message(1, Some(160_000)));
}

#[tokio::test]
async fn each_of_many_receivers_gets_a_message() {
    let (queue, world) = queue();
    let receivers: Vec<_> = (0..8)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.steps().receive().await.unwrap().handle })
        })
        .collect();
    tokio::task::yield_now().await;
    for record in 0..8 {
        queue.send(message(record, (record % 2 == 0).then_some(record * 10))).await.unwrap();
    }
    tokio::task::yield_now().await;
    world.pass(80);
    let mut handles: Vec<u64> = futures::future::join_all(receivers).await.into_iter().map(Result::unwrap).collect();
    handles.sort_unstable();
    assert_eq!(handles, (0..8).collect::<Vec<_>>());
}

/// A receiver that gives up must not take the news of a message with it.
#[tokio::test]
async fn a_receiver_that_is_dropped_loses_nothing() {
    let (queue, _) = queue();
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.steps().receive().await }
    });
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.steps().receive().await.unwrap().message }
    });
    tokio::task::yield_now().await;
    queue.send(message(1, None)).await.unwrap();
    first.abort();
    assert_eq!(second.await.unwrap(), message(1, None));
}

#[tokio::test]
async fn closing_ends_everybody_and_drops_what_was_not_delivered() {
    let (queue, _) = queue();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.calls().receive().await }
    });
    tokio::task::yield_now().await;
    queue.send(message(1, None)).await.unwrap();
    let delivery = now(&queue).await.unwrap();
    queue.close();
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(queue.steps().receive().await, None);
    queue.steps().ack(&delivery).await;
    queue.send(message(2, None)).await.unwrap();
    assert!(queue.steps().is_empty());
}
