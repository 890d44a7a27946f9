//! The loop of a worker that pulls its messages, for processes that stay.

use crate::Driver;
use crate::driver::Disposition;
use crate::ports::{Delivery, Inbox};
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Handles messages from `inbox`, at most `concurrency` at a time, until it is closed and all that were begun are done.
pub async fn serve(driver: Driver, inbox: Arc<dyn Inbox>, concurrency: usize) {
    let mut jobs = FuturesUnordered::new();
    let mut receive = inbox.receive();
    let mut open = true;
    while open || !jobs.is_empty() {
        if !open || jobs.len() >= concurrency.max(1) {
            jobs.next().await;
            continue;
        }
        if jobs.is_empty() {
            match receive.await {
                Some(delivery) => jobs.push(handle(&driver, &*inbox, delivery)),
                None => open = false,
            }
            receive = inbox.receive();
            continue;
        }
        match select(receive, jobs.next()).await {
            Either::Left((Some(delivery), _)) => {
                jobs.push(handle(&driver, &*inbox, delivery));
                receive = inbox.receive();
            }
            Either::Left((None, _)) => {
                open = false;
                receive = inbox.receive();
            }
            Either::Right((_, unfinished)) => receive = unfinished,
        }
    }
}

async fn handle(driver: &Driver, inbox: &dyn Inbox, delivery: Delivery) {
    let dead = delivery.receives > driver.settings.receives;
    let work = async { if dead { driver.dead_letter(&delivery).await } else { driver.handle(&delivery).await } };
    // A panic is an error of one message: the others go on, and one that always panics becomes a dead letter.
    let Ok(handled) = AssertUnwindSafe(work).catch_unwind().await else {
        tracing::error!(run = %delivery.message.run(), "a worker panicked; its message is given back");
        return inbox.give_back(&delivery, driver.world.now().plus(back_off(&delivery))).await;
    };
    match handled {
        Ok(Disposition::Acknowledge) => inbox.ack(&delivery).await,
        Ok(Disposition::GiveBack(at)) => inbox.give_back(&delivery, at).await,
        Err(error) => {
            tracing::warn!(run = %delivery.message.run(), code = error.code(), error = %error, "message given back");
            inbox.give_back(&delivery, driver.world.now().plus(back_off(&delivery))).await;
        }
    }
}

/// How long a message that failed is put off, in milliseconds.
fn back_off(delivery: &Delivery) -> u64 {
    250 << delivery.receives.min(6)
}
