//! Joins calls that are made at the same time: while some are on their way, others gather and go together. Nobody waits for
//! company.

use crate::Error;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// Entries of one call (SQS, checked 2026-11-21).
const ENTRIES: usize = 10;
/// Calls on their way at the same time.
const CALLS: usize = 4;

type Answer = Result<(), Error>;

/// What waits to go along.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    waiting: Mutex<VecDeque<(T, oneshot::Sender<Answer>)>>,
    turns: Semaphore,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(CALLS) }
    }
}

impl<T> Batch<T> {
    /// Has `entry` done by `call`, with others if there are any. `call` answers each of its entries, in order.
    ///
    /// # Errors
    /// What `call` answers; [`Error::Unavailable`] if whoever made the call gave up half way.
    pub(crate) async fn add<F: Future<Output = Vec<Answer>>>(&self, entry: T, call: impl Fn(Vec<T>) -> F) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        self.lock().push_back((entry, answer));
        loop {
            // Never closed.
            let turn = self.turns.acquire().await;
            match answered.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => return Err(given_up()),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let taken = self.take();
            if taken.is_empty() {
                // It is in the hands of another call.
                drop(turn);
                return answered.await.unwrap_or_else(|_| Err(given_up()));
            }
            let (entries, answers): (Vec<T>, Vec<_>) = taken.into_iter().unzip();
            for (to, answer) in answers.into_iter().zip(call(entries).await) {
                // Whoever asked may be gone.
                let _ = to.send(answer);
            }
        }
    }

    fn take(&self) -> Vec<(T, oneshot::Sender<Answer>)> {
        let mut waiting = self.lock();
        let count = waiting.len().min(ENTRIES);
        waiting.drain(..count).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(T, oneshot::Sender<Answer>)>> {
        // No code that holds the lock can panic half way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn given_up() -> Error {
    Error::Unavailable {
        action: "sqs".to_owned(),
        resource: "a batch".to_owned(),
        reason: "whoever sent it gave up".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_comes_while_calls_are_on_their_way_goes_together() {
        let batch = Arc::new(Batch::<usize>::default());
        let (gate, sizes) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let adds = (0..34).map(|entry| {
            let (batch, gate, sizes) = (Arc::clone(&batch), Arc::clone(&gate), Arc::clone(&sizes));
            tokio::spawn(async move {
                let call = |entries: Vec<usize>| {
                    sizes.lock().unwrap().push(entries.len());
                    let gate = Arc::clone(&gate);
                    async move {
                        gate.acquire().await.unwrap().forget();
                        entries.iter().map(|entry| if *entry == 20 { Err(given_up()) } else { Ok(()) }).collect()
                    }
                };
                batch.add(entry, call).await
            })
        });
        let adds: Vec<_> = adds.collect();
        while sizes.lock().unwrap().len() < CALLS {
            tokio::task::yield_now().await;
        }
        gate.add_permits(100);
        for (entry, add) in adds.into_iter().enumerate() {
            assert_eq!(add.await.unwrap().is_err(), entry == 20, "{entry}: each gets its own answer");
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 1, 1, 1, 10, 10, 10]);
    }

    #[tokio::test]
    async fn one_that_gives_up_keeps_nobody_waiting() {
        let batch = Arc::new(Batch::<usize>::default());
        let reached = Arc::new(Semaphore::new(0));
        let stuck: Vec<_> = (0..CALLS)
            .map(|entry| {
                let (batch, reached) = (Arc::clone(&batch), Arc::clone(&reached));
                tokio::spawn(async move {
                    let call = |_: Vec<usize>| {
                        reached.add_permits(1);
                        std::future::pending::<Vec<Answer>>()
                    };
                    batch.add(entry, call).await
                })
            })
            .collect();
        reached.acquire_many(CALLS as u32).await.unwrap().forget();
        let waits = tokio::spawn({
            let batch = Arc::clone(&batch);
            async move { batch.add(9, async |entries| vec![Ok(()); entries.len()]).await }
        });
        tokio::task::yield_now().await;
        stuck.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(waits.await.unwrap(), Ok(()));
    }
}
