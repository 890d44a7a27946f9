//! `/healthz` and `/metrics`.

use axum::extract::State as From;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use errand_core::{CallId, RunId};
use errand_engine::ports::Watch;
use errand_tools::Workspaces;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a runner counts as it works.
#[derive(Default)]
pub(crate) struct Counts {
    begun: Counter,
    ended: Counter,
    under_way: Gauge,
    leaves: AtomicBool,
}

impl Counts {
    pub(super) fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }
}

impl Watch for Counts {
    fn calling(&self, _: RunId, _: CallId) {
        self.begun.inc();
        self.under_way.inc();
    }

    fn called(&self, _: RunId, _: CallId) {
        self.ended.inc();
        self.under_way.dec();
    }
}

/// What is told.
#[derive(Clone)]
pub(crate) struct State {
    pub(super) counts: Arc<Counts>,
    pub(super) workspaces: Arc<Workspaces>,
}

/// Answers on `listener` until it is dropped.
pub(crate) async fn serve(listener: tokio::net::TcpListener, state: State) -> std::io::Result<()> {
    let routes = Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state(state);
    axum::serve(listener, routes).await
}

/// 200 while it takes work, 503 once it leaves: for whoever replaces hosts.
async fn healthz(From(state): From<State>) -> impl IntoResponse {
    let leaves = state.counts.leaves.load(Ordering::Relaxed);
    let status = if leaves { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(serde_json::json!({"status": if leaves { "draining" } else { "ok" }})))
}

async fn metrics(From(state): From<State>) -> impl IntoResponse {
    match told(&state) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn told(state: &State) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("errand_runner");
    let Counts { begun, ended, under_way, .. } = &*state.counts;
    registry.register("calls_begun", "Calls that were begun", begun.clone());
    registry.register("calls_ended", "Calls that ended, well or not", ended.clone());
    registry.register("calls_under_way", "Calls that are under way", under_way.clone());
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    gauge("sessions", "Runs that have their workspaces here", state.workspaces.count() as u64);
    if let Some(pool) = state.workspaces.pool_stats() {
        gauge("kernels_ready", "Interpreters that wait for their first call", pool.parked as u64);
        gauge("kernel_claims", "Interpreters asked for since the start", pool.claims);
        gauge("kernel_misses", "Those among them that were not ready", pool.misses);
        gauge("kernel_failures", "Interpreters that could not be made ahead since the start", pool.failures);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
