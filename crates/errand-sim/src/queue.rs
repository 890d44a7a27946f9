//! The queue of the simulated world: at least once, in any order, sometimes late.

use crate::world::{Queued, Sim, State};
use async_trait::async_trait;
use errand_core::Timestamp;
use errand_engine::ports::{Delivery, Message, PortError, Queue, World};

/// How long a delivered message is hidden, in milliseconds: longer than a worker's time-out by the start delay.
pub(crate) const VISIBILITY_MS: u64 = 400_000;

#[async_trait]
impl Queue for Sim {
    async fn send(&self, message: Message) -> Result<(), PortError> {
        self.turn().await;
        if self.chance(|faults| faults.throttle) {
            return Err(PortError::Retry { message: "a send was throttled".to_owned() });
        }
        self.trace(|| format!("send {message:?}"));
        let sender = self.now();
        {
            let mut state = self.lock();
            state.enqueue(message.clone(), sender);
            let double = state.faults.double;
            if state.rng.chance(double) {
                state.enqueue(message, sender);
            }
        }
        self.turn().await;
        if self.chance(|faults| faults.lost_reply) {
            return Err(PortError::Retry { message: "the answer to a send was lost".to_owned() });
        }
        Ok(())
    }
}

impl State {
    pub(crate) fn enqueue(&mut self, message: Message, sender: Timestamp) {
        let delay = self.faults.delay;
        let late = if self.rng.chance(delay) { self.rng.between(100, 400_000) } else { self.rng.below(20) };
        // Queues delay by whole seconds, 15 minutes at most, so a message may come before its time.
        let asked = message.not_before().map_or(0, |time| time.since(sender)).div_ceil(1_000).min(900) * 1_000;
        let visible = self.now.plus(late + asked);
        let handle = self.next_handle;
        self.next_handle += 1;
        self.truth.sent += 1;
        self.queue.push(Queued { handle, message, visible, receives: 0 });
    }

    /// Takes a message that is due, any of them, and hides it.
    pub(crate) fn receive(&mut self) -> Option<Delivery> {
        let now = self.now;
        let due: Vec<usize> =
            self.queue.iter().enumerate().filter(|(_, queued)| queued.visible <= now).map(|(index, _)| index).collect();
        if due.is_empty() {
            return None;
        }
        let index = due[self.rng.below(due.len() as u64) as usize];
        let early = self.faults.early_redelivery;
        let hidden_until = now.plus(VISIBILITY_MS);
        let visible = if self.rng.chance(early) { now.plus(self.rng.below(5_000)) } else { hidden_until };
        let queued = &mut self.queue[index];
        queued.receives += 1;
        queued.visible = visible;
        Some(Delivery { message: queued.message.clone(), hidden_until, receives: queued.receives, handle: queued.handle })
    }

    pub(crate) fn acknowledge(&mut self, delivery: &Delivery) {
        let lost = self.faults.lost_ack;
        if !self.rng.chance(lost) {
            self.queue.retain(|queued| queued.handle != delivery.handle);
        }
    }

    pub(crate) fn give_back(&mut self, delivery: &Delivery, at: Timestamp) {
        if let Some(queued) = self.queue.iter_mut().find(|queued| queued.handle == delivery.handle) {
            queued.visible = at;
        }
    }
}
