//! Errand's own surface for runs: lists, how one stands, its numbered events, and a person's word on what waits for one.

mod act;
mod events;
mod show;

pub(crate) use act::by;

use crate::query::Query;
use crate::responses::json;
use crate::{Api, Failure};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use errand_core::RunId;
use errand_engine::ports::RunFilter;
use errand_keys::Principal;
use serde_json::json as object;

/// Runs of a page, if nobody says how many; and at most.
const PAGE: (u64, u64) = (20, 1_000);

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/runs", get(list))
        .route("/v1/runs/{id}", get(one))
        .route("/v1/runs/{id}/events", get(events::events))
        .route("/v1/runs/{id}/cancel", post(act::cancel))
        .route("/v1/runs/{id}/approve", post(act::approve))
        .route("/v1/runs/{id}/reject", post(act::reject))
        .route("/v1/runs/{id}/answer", post(act::answer))
}

async fn list(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    const STATUSES: [&str; 7] = ["running", "waiting", "paused", "done", "failed", "cancelled", "budget_exceeded"];
    let mut query = Query::read(query)?;
    let status = query.text("status");
    if status.as_ref().is_some_and(|status| !STATUSES.contains(&status.as_str())) {
        let message = format!("`status` is one of {}", STATUSES.join(", "));
        return Err(Failure::bad("parameter_invalid", message).at("status"));
    }
    let before = query.text("before").map(|id| run_id(&id).map_err(|failure| failure.at("before"))).transpose()?;
    let limit = page(&mut query, PAGE)?;
    query.end()?;
    let filter = RunFilter { tenant: who.tenant, status, before, limit: u32::try_from(limit).unwrap_or(u32::MAX) };
    let page = api.store.list(&filter).await?;
    let next = page.runs.last().filter(|_| page.has_more).map(|run| run.run);
    let runs: Vec<_> = page.runs.iter().map(show::line).collect();
    Ok(json(object!({"data": runs, "has_more": page.has_more, "before": next})))
}

async fn one(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let log = api.load(&who, run_id(&id)?).await?;
    Ok(json(show::run(&log, api.now())))
}

fn page(query: &mut Query, (usual, most): (u64, u64)) -> Result<u64, Failure> {
    let limit = query.count("limit")?.unwrap_or(usual);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Failure::bad("parameter_invalid", format!("`limit` is a number from 1 to {most}")).at("limit"))
}

fn run_id(id: &str) -> Result<RunId, Failure> {
    id.parse().map_err(|_| {
        let shown: String = id.chars().take(80).collect();
        Failure::bad("run_id_invalid", format!("`{shown}` is no run: expected run_ and 26 digits"))
    })
}
