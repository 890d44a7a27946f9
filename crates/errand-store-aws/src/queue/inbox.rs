//! Receiving, for workers that pull.

use super::receipts::Receipts;
use super::send::AwsQueue;
use super::wire::{Sorted, sort};
use crate::error::sorted;
use crate::{Aws, Error};
use async_trait::async_trait;
use aws_sdk_sqs::types::{Message as Received, MessageSystemAttributeName as Attribute};
use errand_core::Timestamp;
use errand_engine::ports::{Delivery, Inbox, Message, World};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The longest that SQS waits for a message, in seconds (checked 2026-11-21).
const WAIT: i32 = 20;
/// The longest that a message can be hidden, in seconds, counted from its receipt: 12 hours (SQS, checked 2026-11-21).
const HIDDEN_MAX: u64 = 43_200;
/// Beyond this time a message that is given back is sent anew, in seconds; some of those 12 hours may be used.
const GIVE_BACK_MAX: u64 = 36_000;
/// How often newer messages are left to newer code, and for how long, in seconds.
const LEFT_TIMES: u32 = 20;
const LEFT_FOR: i32 = 30;
/// Longest pause after a failure, in milliseconds; the first is 250.
const PAUSE_MAX_MS: u64 = 30_000;
/// Deliveries that are remembered at most; beyond it those that came back to the queue are forgotten.
const HANDLES_MAX: usize = 10_000;

/// An inbox over one queue. Cheap to clone; clones share what was received.
#[derive(Clone)]
pub struct AwsInbox {
    inner: Arc<Inner>,
}

struct Inner {
    aws: Aws,
    queue: AwsQueue,
    world: Arc<dyn World>,
    url: String,
    at_once: i32,
    /// How long what is received stays hidden.
    visibility: Duration,
    /// Over dead letters: what comes was delivered too often, and what nobody can use stays.
    is_dead: bool,
    state: Mutex<State>,
    polling: AtomicBool,
    failures: AtomicU32,
    next_handle: AtomicU64,
    changed: Notify,
    receipts: Receipts,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arrived>,
    handles: HashMap<u64, Handle>,
    is_closed: bool,
}

/// A message that nobody has looked at yet.
struct Arrived {
    message: Received,
    hidden_until: Timestamp,
    at: Timestamp,
}

/// A message in somebody's hands.
struct Handle {
    receipt: String,
    hidden_until: Timestamp,
}

impl AwsInbox {
    pub(crate) fn new(aws: Aws, world: Arc<dyn World>, url: &str, at_once: usize, visibility: Duration) -> Self {
        let is_dead = url == aws.settings.dead;
        let receipts = aws.clone();
        let inner = Inner {
            queue: AwsQueue::new(aws.clone(), Arc::clone(&world)),
            aws,
            world,
            url: url.to_owned(),
            at_once: at_once.clamp(1, 10) as i32,
            visibility,
            is_dead,
            state: Mutex::default(),
            polling: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            next_handle: AtomicU64::new(1),
            changed: Notify::new(),
            receipts: Receipts::new(receipts, url),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    /// One long poll, in a task of its own: a receiver that is dropped takes nothing along.
    async fn poll(self: Arc<Self>) {
        let began = self.world.now();
        // Counted from before the call, so that it ends too early rather than too late.
        let visibility = self.visibility;
        let receive = self.aws.sqs.receive_message().queue_url(&self.url).max_number_of_messages(self.at_once);
        let receive = receive.wait_time_seconds(WAIT).visibility_timeout(visibility.as_secs().min(HIDDEN_MAX) as i32);
        let receive = receive.message_system_attribute_names(Attribute::ApproximateReceiveCount);
        match receive.send().await {
            Ok(received) => {
                self.failures.store(0, Ordering::Relaxed);
                let hidden_until = began.plus(visibility.as_millis() as u64);
                let at = self.world.now();
                let arrived = received.messages.unwrap_or_default().into_iter();
                self.arrive(arrived.map(|message| Arrived { message, hidden_until, at }).collect()).await;
            }
            Err(error) => {
                let error = sorted(self.aws.at_queue("sqs:ReceiveMessage", &self.url), &error);
                let failures = self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(code = error.code(), %error, "messages could not be received; it is tried again");
                self.world.sleep((250u64 << failures.min(10)).min(PAUSE_MAX_MS)).await;
            }
        }
        self.polling.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    async fn arrive(&self, arrived: VecDeque<Arrived>) {
        let late = {
            let mut state = self.lock();
            if state.is_closed {
                arrived
            } else {
                state.waiting.extend(arrived);
                VecDeque::new()
            }
        };
        self.release(late).await;
    }

    /// Lets others have messages that nobody here looked at.
    async fn release(&self, messages: VecDeque<Arrived>) {
        for arrived in messages {
            self.receipts.hide(arrived.message.receipt_handle().unwrap_or_default(), 0).await;
        }
    }

    /// A message as a delivery, if it is for anybody.
    async fn open(&self, arrived: Arrived) -> Option<Delivery> {
        let Arrived { message, hidden_until, at } = arrived;
        let receipt = message.receipt_handle.unwrap_or_default();
        let now = self.world.now();
        // Its time must be for work, not for waiting here.
        if now.since(at) > hidden_until.since(at) / 4 {
            self.receipts.hide(&receipt, 0).await;
            return None;
        }
        let attributes = message.attributes.unwrap_or_default();
        let receives = attributes.get(&Attribute::ApproximateReceiveCount).and_then(|count| count.parse().ok()).unwrap_or(1);
        let body = message.body.unwrap_or_default();
        match sort(&body, now) {
            Sorted::Due(message) => Some(self.hand_out(message, receipt, hidden_until, receives)),
            Sorted::Early(message) if self.is_dead => Some(self.hand_out(message, receipt, hidden_until, receives)),
            Sorted::Early(message) => {
                match self.queue.send_to(&self.url, &message).await {
                    Ok(()) => self.receipts.delete(receipt).await,
                    Err(error) => self.keep(&receipt, "a message that is due later could not be sent on", &error).await,
                }
                None
            }
            _ if self.is_dead => {
                // For people to look at; it goes when its time in the queue is over.
                self.receipts.hide(&receipt, HIDDEN_MAX).await;
                None
            }
            Sorted::Newer(_) if receives < LEFT_TIMES => {
                self.receipts.hide(&receipt, LEFT_FOR as u64).await;
                None
            }
            Sorted::Newer(version) => {
                self.put_aside(&body, &format!("it has version {version}, which no worker here knows"), receipt).await;
                None
            }
            Sorted::Unusable(reason) => {
                self.put_aside(&body, &reason, receipt).await;
                None
            }
        }
    }

    fn hand_out(&self, message: Message, receipt: String, hidden_until: Timestamp, receives: u32) -> Delivery {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let now = self.world.now();
        let mut state = self.lock();
        if state.handles.len() >= HANDLES_MAX {
            state.handles.retain(|_, handle| handle.hidden_until > now);
        }
        state.handles.insert(handle, Handle { receipt, hidden_until });
        // Dead letters were delivered as often as messages may be, whatever this queue has counted.
        let receives = if self.is_dead { u32::MAX } else { receives };
        Delivery { message, hidden_until, receives, handle }
    }

    async fn put_aside(&self, body: &str, reason: &str, receipt: String) {
        tracing::warn!(queue = self.url, reason, "a message that nobody can make use of is put among the dead letters");
        match self.queue.put_aside(body, reason).await {
            Ok(()) => self.receipts.delete(receipt).await,
            Err(error) => self.keep(&receipt, "a message could not be put among the dead letters", &error).await,
        }
    }

    async fn keep(&self, receipt: &str, what: &str, error: &Error) {
        tracing::warn!(code = error.code(), %error, what);
        self.receipts.hide(receipt, LEFT_FOR as u64).await;
    }

    /// The receipt of a message that is still in the hands that `delivery` put it in. Whoever comes too late takes it from
    /// nobody: it is delivered again, or was.
    fn take_handle(&self, delivery: &Delivery) -> Option<String> {
        let handle = self.lock().handles.remove(&delivery.handle)?;
        (handle.hidden_until > self.world.now()).then_some(handle.receipt)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Inbox for AwsInbox {
    async fn receive(&self) -> Option<Delivery> {
        loop {
            let changed = self.inner.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let arrived = {
                let mut state = self.inner.lock();
                if state.is_closed {
                    return None;
                }
                state.waiting.pop_front()
            };
            match arrived {
                Some(arrived) => {
                    // Another receiver may wait for what is left.
                    self.inner.changed.notify_waiters();
                    if let Some(delivery) = self.inner.open(arrived).await {
                        return Some(delivery);
                    }
                }
                None => {
                    if !self.inner.polling.swap(true, Ordering::SeqCst) {
                        tokio::spawn(Arc::clone(&self.inner).poll());
                    }
                    changed.await;
                }
            }
        }
    }

    async fn ack(&self, delivery: &Delivery) {
        if let Some(receipt) = self.inner.take_handle(delivery) {
            self.inner.receipts.delete(receipt).await;
        }
    }

    async fn give_back(&self, delivery: &Delivery, at: Timestamp) {
        let Some(receipt) = self.inner.take_handle(delivery) else { return };
        let seconds = at.since(self.inner.world.now()).div_ceil(1_000);
        if seconds <= GIVE_BACK_MAX {
            return self.inner.receipts.hide(&receipt, seconds).await;
        }
        match self.inner.queue.send_to(&self.inner.url, &delivery.message.at(at)).await {
            Ok(()) => self.inner.receipts.delete(receipt).await,
            Err(error) => self.inner.keep(&receipt, "a message that is due later could not be sent on", &error).await,
        }
    }

    async fn close(&self) {
        let waiting = {
            let mut state = self.inner.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.inner.changed.notify_waiters();
        self.inner.release(waiting).await;
    }
}
