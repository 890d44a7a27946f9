//! The queue of one process: messages in memory, since the log knows all that is due and the queue is rebuilt from it at
//! start. It behaves as queues elsewhere do: what is not acknowledged comes again.

use async_trait::async_trait;
use errand_core::Timestamp;
use errand_engine::ports::{Delivery, Inbox, Message, PortError, Queue, World};
use std::collections::{BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::Notify;

/// Longest wait before the clock is looked at again, in milliseconds: it may have been set.
const LOOK_AGAIN_MS: u64 = 1_000;

/// How long deliveries stay hidden, and how often a message is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Time a worker has before the message is delivered again, in milliseconds.
    pub visibility_ms: u64,
    /// Deliveries after which a message that is still not acknowledged is put aside.
    pub receives_max: u32,
}

impl Default for QueueLimits {
    /// Longer than the longest step (300 s) and the longest tool call (15 min), and often enough to outlast passing
    /// trouble. A worker that dies takes the queue along, so nothing waits for this time.
    fn default() -> Self {
        Self { visibility_ms: 1_200_000, receives_max: 10 }
    }
}

/// The queue of one process: an inbox for steps and one for calls.
#[derive(Clone)]
pub struct LocalQueue {
    steps: Arc<LocalInbox>,
    calls: Arc<LocalInbox>,
}

impl LocalQueue {
    /// An empty queue.
    pub fn new(world: Arc<dyn World>, limits: QueueLimits) -> Self {
        let inbox = || Arc::new(LocalInbox::new(Arc::clone(&world), limits));
        Self { steps: inbox(), calls: inbox() }
    }

    /// Where messages for steps arrive.
    pub fn steps(&self) -> &Arc<LocalInbox> {
        &self.steps
    }

    /// Where messages for tool calls arrive.
    pub fn calls(&self) -> &Arc<LocalInbox> {
        &self.calls
    }

    /// True if nothing waits in it and nothing is in anybody's hands.
    pub fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.calls.is_empty()
    }

    /// Takes out the messages that were delivered too often.
    pub fn take_dead(&self) -> Vec<Message> {
        let mut dead = std::mem::take(&mut self.steps.lock().dead);
        dead.append(&mut self.calls.lock().dead);
        dead
    }

    /// Ends both inboxes: whoever receives gets `None`. What was not delivered is dropped; the log has it.
    pub fn close(&self) {
        self.steps.end();
        self.calls.end();
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn send(&self, message: Message) -> Result<(), PortError> {
        match &message {
            Message::Step { .. } => self.steps.send(message),
            Message::Call { .. } => self.calls.send(message),
        }
        Ok(())
    }
}

/// One inbox of the queue.
pub struct LocalInbox {
    world: Arc<dyn World>,
    limits: QueueLimits,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    /// Handles of all messages by the time they are due, for those in somebody's hands the time they come back.
    due: BTreeSet<(Timestamp, u64)>,
    messages: HashMap<u64, Held>,
    next_handle: u64,
    dead: Vec<Message>,
    is_closed: bool,
}

/// A message, waiting or in somebody's hands.
struct Held {
    message: Message,
    receives: u32,
    due: Timestamp,
}

enum Turn {
    Delivered(Delivery),
    Closed,
    Wait(Option<u64>),
}

impl LocalInbox {
    fn new(world: Arc<dyn World>, limits: QueueLimits) -> Self {
        Self { world, limits, state: Mutex::default(), arrived: Notify::new() }
    }

    /// How many messages wait or are in somebody's hands.
    pub fn len(&self) -> usize {
        self.lock().messages.len()
    }

    /// True if no message waits and none is in anybody's hands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn send(&self, message: Message) {
        let now = self.world.now();
        let due = message.not_before().unwrap_or(Timestamp::ZERO);
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let handle = state.next_handle;
        state.next_handle += 1;
        state.messages.insert(handle, Held { message, receives: 0, due });
        state.due.insert((due, handle));
        drop(state);
        self.wake(due > now);
    }

    /// Everybody has to know of a new time to wait for; for what is due, one is enough.
    fn wake(&self, is_later: bool) {
        if is_later { self.arrived.notify_waiters() } else { self.arrived.notify_one() }
    }

    fn end(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.due.clear();
        state.messages.clear();
        drop(state);
        self.arrived.notify_waiters();
    }

    fn turn(&self) -> Turn {
        let now = self.world.now();
        let mut state = self.lock();
        if state.is_closed {
            return Turn::Closed;
        }
        while let Some((due, handle)) = state.due.first().copied() {
            if due > now {
                return Turn::Wait(Some(due.since(now).min(LOOK_AGAIN_MS)));
            }
            if let Some(delivery) = state.deliver(handle, now, self.limits) {
                return Turn::Delivered(delivery);
            }
        }
        Turn::Wait(None)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Hands out the message that is due first, or puts it aside if that was done too often.
    fn deliver(&mut self, handle: u64, now: Timestamp, limits: QueueLimits) -> Option<Delivery> {
        self.due.pop_first();
        let held = self.messages.get_mut(&handle)?;
        if held.receives >= limits.receives_max {
            let held = self.messages.remove(&handle)?;
            self.dead.push(held.message);
            return None;
        }
        held.receives += 1;
        held.due = now.plus(limits.visibility_ms);
        self.due.insert((held.due, handle));
        Some(Delivery { message: held.message.clone(), hidden_until: held.due, receives: held.receives, handle })
    }

    /// True if the message is still in the hands that `delivery` put it in.
    fn is_in_hands(&self, delivery: &Delivery) -> bool {
        self.messages.get(&delivery.handle).is_some_and(|held| held.receives == delivery.receives)
    }

    /// Takes the message out of all hands.
    fn remove(&mut self, delivery: &Delivery) -> Option<Held> {
        let held = self.messages.remove(&delivery.handle)?;
        self.due.remove(&(held.due, delivery.handle));
        Some(held)
    }
}

#[async_trait]
impl Inbox for LocalInbox {
    async fn receive(&self) -> Option<Delivery> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // From here on nothing that arrives goes unnoticed.
            arrived.as_mut().enable();
            match self.turn() {
                Turn::Delivered(delivery) => return Some(delivery),
                Turn::Closed => return None,
                Turn::Wait(None) => arrived.await,
                Turn::Wait(Some(millis)) => either(arrived, self.world.sleep(millis)).await,
            }
        }
    }

    async fn ack(&self, delivery: &Delivery) {
        let mut state = self.lock();
        if state.is_in_hands(delivery) {
            state.remove(delivery);
        }
    }

    async fn give_back(&self, delivery: &Delivery, at: Timestamp) {
        let mut state = self.lock();
        if !state.is_in_hands(delivery) {
            return;
        }
        let Some(held) = state.remove(delivery) else { return };
        state.messages.insert(delivery.handle, Held { due: at, ..held });
        state.due.insert((at, delivery.handle));
        drop(state);
        self.wake(at > self.world.now());
    }

    async fn close(&self) {
        self.end();
    }
}

/// Ends with the first of the two.
async fn either(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|context| match a.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => b.as_mut().poll(context),
    })
    .await;
}
