use async_trait::async_trait;
use errand_core::{ModelError, ModelErrorKind, ModelReply, ModelRequest};
use errand_engine::ports::{DeltaSink, ModelFacts, Models};

/// A runner asks no model.
pub(super) struct NoModels;

fn none(model: &str) -> ModelError {
    ModelError {
        kind: ModelErrorKind::UnknownModel,
        message: format!("a host of boxes asks no model, so it has no {model}"),
        retry_after_ms: None,
        may_be_charged: false,
    }
}

#[async_trait]
impl Models for NoModels {
    fn facts(&self, model: &str) -> Result<ModelFacts, ModelError> {
        Err(none(model))
    }

    async fn call(&self, request: &ModelRequest, _: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        Err(none(&request.model))
    }
}
