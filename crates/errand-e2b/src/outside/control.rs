//! The control plane: sandboxes as they are made, told of, and ended.

use super::network::{self, Network};
use super::sandbox::{Order, Sandbox};
use super::{Refused, Service};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use errand_keys::Principal;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a sandbox lives when nobody says otherwise, and at most, in seconds.
const TIMEOUT: u64 = 300;
const TIMEOUT_MAX: u64 = 24 * 3600;
/// Sandboxes on a page when nobody says otherwise, and at most.
const PAGE: usize = 100;
/// Most bytes of metadata and of variables, each.
const MAP_BYTES_MAX: usize = 64 << 10;
/// Templates that stand for a box without an image; all others are names of images.
const PLAIN: [&str; 3] = ["base", "code-interpreter-v1", "code-interpreter"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    #[serde(rename = "templateID", default)]
    template: String,
    timeout: Option<u64>,
    #[serde(default)]
    auto_pause: bool,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    #[serde(rename = "allow_internet_access")]
    internet: Option<bool>,
    network: Option<Network>,
    mcp: Option<Value>,
    iam: Option<Value>,
    volume_mounts: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Until {
    timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    state: Option<String>,
    metadata: Option<String>,
    limit: Option<usize>,
    next_token: Option<String>,
    order: Option<String>,
}

/// The one route that needs no key.
pub(super) const HEALTH: &str = "/health";

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/v2/sandboxes", get(list).post(create))
        .route("/sandboxes", get(list).post(create))
        .route("/sandboxes/{id}", get(one).delete(end))
        .route("/sandboxes/{id}/timeout", post(extend))
        .route("/sandboxes/{id}/refreshes", post(extend))
        .route("/sandboxes/{id}/network", put(replace))
        .route("/sandboxes/{id}/pause", post(pause))
        .route("/sandboxes/{id}/resume", post(resume))
        .route("/sandboxes/{id}/connect", post(resume))
        .route("/v2/sandboxes/{id}/connect", post(resume))
        .route("/sandboxes/{id}/{*other}", get(unsupported).post(unsupported).put(unsupported))
        .route("/v2/sandboxes/{id}/{*other}", get(unsupported).post(unsupported).put(unsupported))
        .route(HEALTH, get(|| async { StatusCode::NO_CONTENT }))
}

async fn create(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    body: Bytes,
) -> Result<Response, Refused> {
    let order = order(read(&body)?, &service)?;
    let maker = who.clone();
    let sandbox = to_the_end(async move { service.create(&maker, order).await }).await?;
    Ok((StatusCode::CREATED, Json(sandbox.access(&who))).into_response())
}

fn order(new: New, service: &Service) -> Result<Order, Refused> {
    let bad = |message: String| Refused::new(StatusCode::BAD_REQUEST, message);
    let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
    let unsupported = [("mcp", given(&new.mcp)), ("iam", given(&new.iam)), ("volumeMounts", given(&new.volume_mounts))];
    if let Some((name, _)) = unsupported.into_iter().find(|(_, given)| *given) {
        return Err(bad(format!("{name} is not supported by this server")));
    }
    let mut network = new.network.unwrap_or_default();
    network.internet = new.internet.or(network.internet);
    let grant = network.grant(&service.terms)?;
    for (name, map) in [("metadata", &new.metadata), ("envVars", &new.env_vars)] {
        if map.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAP_BYTES_MAX {
            return Err(bad(format!("{name} has over {MAP_BYTES_MAX} bytes")));
        }
    }
    let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
    if !new.env_vars.iter().all(|(name, value)| is_name(name) && !value.contains('\0')) {
        return Err(bad("envVars: a name must not be empty or hold '=', and neither name nor value a NUL".to_owned()));
    }
    let image = Some(new.template.clone()).filter(|name| !PLAIN.contains(&&**name));
    Ok(Order {
        template: new.template,
        image,
        metadata: new.metadata,
        variables: new.env_vars,
        timeout: seconds(new.timeout.unwrap_or(TIMEOUT))?,
        pauses: new.auto_pause,
        grant,
    })
}

async fn list(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refused> {
    let bad = |message: &str| Refused::new(StatusCode::BAD_REQUEST, message);
    let states: Vec<&str> = wanted.state.as_deref().map_or(vec!["running", "paused"], |states| states.split(',').collect());
    let metadata: BTreeMap<String, String> = match &wanted.metadata {
        None => BTreeMap::new(),
        Some(text) => {
            Query::try_from_uri(&format!("/?{text}").parse().map_err(|_| bad("metadata is no query"))?)
                .map_err(|_| bad("metadata is no query"))?
                .0
        }
    };
    let skipped = match &wanted.next_token {
        None => 0,
        Some(token) => token.parse::<usize>().map_err(|_| bad("nextToken is none of this server's"))?,
    };
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(bad("limit must be 1 to 100"));
    }
    let own = |sandbox: &&Arc<Sandbox>| sandbox.tenant == who.tenant;
    let mut all: Vec<Arc<Sandbox>> = service.lock().values().filter(own).map(Arc::clone).collect();
    all.sort_by_key(|sandbox| (sandbox.started(), sandbox.id.clone()));
    if wanted.order.as_deref() != Some("asc") {
        all.reverse();
    }
    let fits = |sandbox: &Arc<Sandbox>| {
        let state = if sandbox.is_running() { "running" } else { "paused" };
        states.contains(&state) && metadata.iter().all(|(key, value)| sandbox.order.metadata.get(key) == Some(value))
    };
    let told: Vec<Value> = all
        .iter()
        .filter(|sandbox| fits(sandbox))
        .skip(skipped)
        .take(limit + 1)
        .map(|one| one.told(&service.settings.limits))
        .collect();
    let has_more = told.len() > limit;
    let page: Vec<Value> = told.into_iter().take(limit).collect();
    let mut response = Json(page).into_response();
    if has_more && let Ok(token) = (skipped + limit).to_string().parse() {
        response.headers_mut().insert("x-next-token", token);
    }
    Ok(response)
}

async fn one(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let sandbox = service.find(&who, &id)?;
    let mut told = sandbox.told(&service.settings.limits);
    let grant = sandbox.grant();
    told["allowInternetAccess"] = (!grant.hosts.is_empty()).into();
    told["network"] = network::told(&grant);
    Ok(Json(told).into_response())
}

async fn end(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let sandbox = service.find(&who, &id)?;
    to_the_end(async move { service.end(&sandbox).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn extend(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let Until { timeout } = read(&body)?;
    let sandbox = service.find(&who, &id)?;
    sandbox.extend(seconds(timeout.unwrap_or(TIMEOUT))?);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Puts another network in place of the one that a sandbox has; what is left out is as if it had never been asked for.
async fn replace(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let sandbox = service.find(&who, &id)?;
    let network: Network = read(&body)?;
    sandbox.replace(network.grant(&service.terms)?);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn pause(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let sandbox = service.find(&who, &id)?;
    match to_the_end(async move { service.pause(&sandbox).await }).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refused::new(StatusCode::CONFLICT, "the sandbox is paused already")),
    }
}

async fn resume(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let Until { timeout } = if body.is_empty() { Until::default() } else { read(&body)? };
    let timeout = timeout.map(seconds).transpose()?;
    let sandbox = service.find(&who, &id)?;
    let sandbox = to_the_end(async move { service.resume(sandbox, timeout).await }).await?;
    Ok(Json(sandbox.access(&who)).into_response())
}

async fn unsupported(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Principal>,
    Path((id, other)): Path<(String, String)>,
) -> Refused {
    match service.find(&who, &id) {
        Ok(_) => {
            Refused::new(StatusCode::NOT_IMPLEMENTED, format!("'{other}' of sandboxes is not supported by this server"))
        }
        Err(refused) => refused,
    }
}

/// Does it whole, also when whoever asked for it goes away meanwhile.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    let failed = |error: tokio::task::JoinError| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    tokio::spawn(work).await.map_err(failed)?
}

fn seconds(timeout: u64) -> Result<Duration, Refused> {
    if timeout > TIMEOUT_MAX {
        return Err(Refused::new(StatusCode::BAD_REQUEST, format!("timeout must be at most {TIMEOUT_MAX} seconds")));
    }
    Ok(Duration::from_secs(timeout))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    let failed = |error| Refused::new(StatusCode::BAD_REQUEST, format!("the body is not as expected: {error}"));
    serde_json::from_slice(body).map_err(failed)
}
