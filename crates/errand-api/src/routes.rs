//! All routes, and what is wrapped around each.

use crate::http::around::around;
use crate::{Api, Failure, models, responses, runs};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

/// The one route that needs no key.
pub(crate) const HEALTH: &str = "/healthz";

/// The routes over `api`.
pub fn router(api: Api) -> Router {
    Router::new()
        .merge(responses::routes())
        .merge(models::routes())
        .merge(runs::routes())
        .route(HEALTH, get(healthz))
        // Routes that do not exist are wrapped as well.
        .fallback(|| async { axum::http::StatusCode::NOT_FOUND })
        .layer(axum::middleware::from_fn_with_state(api.clone(), around))
        .with_state(api)
}

/// Whether the store answers and runs are being carried on.
async fn healthz(State(api): State<Api>) -> Result<Response, Failure> {
    (api.health)()?;
    let one = errand_engine::ports::RunFilter { limit: 1, ..Default::default() };
    api.store.list(&one).await?;
    Ok(responses::json(json!({"status": "ok"})))
}
