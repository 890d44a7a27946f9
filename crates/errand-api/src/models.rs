//! `/v1/models`: the models that can be named, in OpenAI's form.

use crate::responses::json;
use crate::{Api, Failure};
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json as object};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*model}", get(retrieve))
}

async fn list(State(api): State<Api>) -> Response {
    json(object!({"object": "list", "data": models(&api)}))
}

async fn retrieve(State(api): State<Api>, Path(model): Path<String>) -> Result<Response, Failure> {
    let found = models(&api).into_iter().find(|listed| listed["id"] == *model);
    found.map(json).ok_or_else(|| {
        let shown: String = model.chars().take(80).collect();
        Failure::new(404, "model_unknown", format!("no model `{shown}` is listed here")).at("model")
    })
}

fn models(api: &Api) -> Vec<Value> {
    let model = |listed: crate::catalog::Listed| object!({"id": listed.name, "object": "model", "created": 0, "owned_by": listed.owner});
    api.catalog.models().into_iter().map(model).collect()
}
