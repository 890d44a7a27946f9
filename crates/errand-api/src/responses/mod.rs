//! The OpenAI Responses surface. A response is a run: the digits of `resp_…` are those of its `run_…`.
//!
//! Reading order: `request` and `input` and `tools` (what is asked), `begin` (request → run), `emitter` (records → items
//! and events), `object` (the response), `follow` (waiting and streaming), the routes here.

mod begin;
mod emitter;
mod follow;
pub(crate) mod id;
mod image;
mod input;
mod listed;
mod object;
mod request;
mod tools;

use crate::http::{body, sse};
use crate::query::Query;
use crate::{Api, Failure};
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use errand_core::{RunId, RunLog};
use errand_keys::Principal;
use serde_json::Value;

/// The routes.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/{id}", get(retrieve))
        .route("/v1/responses/{id}/cancel", post(cancel))
        .route("/v1/responses/{id}/input_items", get(listed::input_items))
}

async fn create(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (value, bytes) = body::json(&api, &headers, body).await?;
    let key = begin::key(&headers)?;
    let request = request::Request::read(value)?;
    let (stream, background) = (request.stream, request.shown.background);
    // A client that goes away does not stop half of it, and the run goes on: it is durable.
    let begun = tokio::spawn({
        let (api, who) = (api.clone(), who.clone());
        async move { begin::begin(&api, &who, request, key, &bytes).await }
    });
    let run = begun.await.map_err(|_| Failure::new(500, "internal", "the run could not be begun; the log tells more"))??;
    if stream {
        return Ok(sse::response(follow::stream(api, who, run, None)));
    }
    let log = if background { api.load(&who, run).await? } else { follow::settled(&api, &who, run).await? };
    Ok(json(follow::stored(&api, &log)))
}

async fn retrieve(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::read(query)?;
    let (stream, after) = (query.flag("stream")?.unwrap_or(false), query.count("starting_after")?);
    query.flag("include_obfuscation")?;
    query.end()?;
    let (run, log) = known(&api, &who, &id).await?;
    if stream {
        return Ok(sse::response(follow::stream(api, who, run, after)));
    }
    if after.is_some() {
        return Err(Failure::bad("parameter_invalid", "`starting_after` needs `stream=true`").at("starting_after"));
    }
    Ok(json(follow::stored(&api, &log)))
}

async fn cancel(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let (run, _) = known(&api, &who, &id).await?;
    api.driver.cancel(run, "the caller cancelled the response", &crate::runs::by(&who)).await?;
    Ok(json(follow::stored(&api, &api.load(&who, run).await?)))
}

/// The run of a response.
async fn known(api: &Api, who: &Principal, id: &str) -> Result<(RunId, RunLog), Failure> {
    let unknown = || {
        let shown: String = id.chars().take(80).collect();
        Failure::new(404, "response_not_found", format!("there is no response `{shown}`")).at("response_id")
    };
    let run = id::run_of(id).ok_or_else(unknown)?;
    match api.load(who, run).await {
        Ok(log) => Ok((run, log)),
        Err(errand_engine::Error::UnknownRun { .. }) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn json(value: Value) -> Response {
    let mut response = value.to_string().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
