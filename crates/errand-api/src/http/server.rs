//! Accepts connections and serves each, within bounds, until asked to stop.

use crate::Api;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long requests under way may take once the server is asked to stop.
const LAST_REQUESTS: Duration = Duration::from_millis(400);
/// How long to wait before accepting is tried again, where it failed: most often no more files can be opened.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the routes on `listener` until [`crate::Stop::stop`]. Then streams end and what is under way gets a moment.
pub async fn serve(listener: TcpListener, api: Api) {
    let router = crate::routes::router(api.clone());
    let room = Arc::new(Semaphore::new(api.limits.connections));
    let graceful = GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(api.limits.head).max_headers(128);
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = api.stopped() => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = api.stopped() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Events are small and each is to arrive when it happens.
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were cut at the end");
    }
}
