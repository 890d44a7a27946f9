//! The loop of a worker that pulls its messages, for processes that stay.

use crate::Driver;
use crate::driver::Disposition;
use crate::ports::{Delivery, Inbox};
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
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
    let handled = if dead { driver.dead_letter(&delivery).await } else { driver.handle(&delivery).await };
    match handled {
        Ok(Disposition::Acknowledge) => inbox.ack(&delivery).await,
        Ok(Disposition::GiveBack(at)) => inbox.give_back(&delivery, at).await,
        Err(error) => {
            let wait = 250u64 << delivery.receives.min(6);
            tracing::warn!(run = %delivery.message.run(), code = error.code(), error = %error, "message given back");
            inbox.give_back(&delivery, driver.world.now().plus(wait)).await;
        }
    }
}
