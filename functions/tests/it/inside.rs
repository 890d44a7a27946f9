//! What cannot be had from outside of a function: a model that panics.

use crate::world::{TIMEOUT, World, event};
use async_trait::async_trait;
use errand_core::{Finish, Message, ModelError, ModelReply, ModelRequest, Price, Usage};
use errand_engine::ports::{DeltaSink, ModelFacts, Models, World as _};
use errand_functions::batch::{Batch, Failure};
use errand_functions::{Cloud, Step};
use errand_store_local::SystemWorld;
use std::sync::Arc;

struct Model;

#[async_trait]
impl Models for Model {
    fn facts(&self, _: &str) -> Result<ModelFacts, ModelError> {
        Ok(ModelFacts { price: Some(Price::FREE), context_tokens: None, image_tokens: 0, endpoint: None, scripted: true })
    }

    async fn call(&self, request: &ModelRequest, _: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        let asks = |message: &Message| format!("{message:?}").contains("panic!");
        assert!(!request.messages.iter().any(asks), "a planted panic");
        Ok(ModelReply {
            opaque: None,
            model: "sample".to_owned(),
            text: "fine".to_owned(),
            reasoning: String::new(),
            calls: vec![],
            finish: Finish::Stop,
            usage: Some(Usage { input_tokens: 1, cached_input_tokens: 0, output_tokens: 1, reasoning_tokens: 0 }),
        })
    }
}

#[tokio::test]
async fn a_panic_is_an_error_of_one_message() {
    let Some(world) = World::new().await else { return };
    let step = Step::new(Cloud::with(world.aws.clone(), Arc::new(Model)).unwrap());
    let bad = world.begin("any", "panic!").await;
    let bad_message = world.steps(1).await;
    let good = world.begin("any", "go on").await;
    let mut messages = world.steps(1).await;
    messages.extend(bad_message.clone());
    let deadline = SystemWorld.now().plus(TIMEOUT.as_millis() as u64);
    let batch: Batch = serde_json::from_value(event(&messages)).unwrap();
    let failures = step.handle(batch, deadline).await;
    assert_eq!(failures.batch_item_failures, [Failure { item_identifier: bad_message[0].id.clone() }]);
    assert_eq!(world.log(good).await.answer(), Some("fine"));
    assert_eq!(world.log(bad).await.records.len(), 1);
    // It was put off for a moment, and comes again for somebody else to try.
    assert_eq!(world.steps(1).await[0].id, bad_message[0].id);
}
