//! A thread of its own for steps. One task carries all of them out, so on threads that share their work it would only be
//! woken across them, with its connections: on one thread a step costs a quarter less, and nothing else keeps it waiting.

use crate::error::Error;
use errand_engine::ports::Inbox;
use errand_engine::{Driver, worker};
use futures::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Carries out the steps from `inbox`. The future ends when the inbox is closed and all that was begun is done; dropped
/// before, it stops what is under way.
pub(crate) fn serve(
    driver: Driver,
    inbox: Arc<dyn Inbox>,
    at_once: usize,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let failed = |error: std::io::Error| Error::new("engine_stopped", format!("no threads can be started: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut alive, ended) = oneshot::channel::<()>();
    let work = move || {
        runtime.block_on(async {
            let served = pin!(worker::serve(driver, inbox, at_once));
            if let Either::Right(_) = select(served, pin!(alive.closed())).await {
                tracing::debug!("steps under way were stopped");
            }
        });
        // Calls that a shutdown left behind on blocking threads end with the process.
        runtime.shutdown_background();
        // Nobody may be waiting any longer.
        let _ = alive.send(());
    };
    std::thread::Builder::new().name("errand-steps".to_owned()).spawn(work).map_err(failed)?;
    Ok(async move {
        // An error means that the thread is gone, which is an end too.
        let _ = ended.await;
    })
}
