//! What the tests stand on: a table and queues of their own, runs in it, and what Lambda does between a queue and a function.

use crate::emulator::{aws, sqs};
use crate::lambda::Function;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use errand_core::{Budget, Limits, ModelChoice, Price, RunConfig, RunId, RunLog, Started, WhenExceeded};
use errand_engine::Driver;
use errand_engine::ports::{Message, World as _};
use errand_functions::Cloud;
use errand_models::ScriptedModels;
use errand_store_aws::{Aws, Settings};
use errand_store_local::SystemWorld;
use errand_tools::Registry;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time-out of the functions here.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);
pub(crate) const STEP: &str = env!("CARGO_BIN_EXE_step");

/// Calls a tool, then answers with what it said.
const SCRIPT: &str = r#"
about = "a sum, then the answer"
[[turn]]
say = "I add them up."
[[turn.call]]
id = "sum"
tool = "calculate"
arguments = { expression = "20 + 22" }
bind.sum = { regex = '(42)' }
[[turn]]
say = "It is {{ sum }}."
"#;

/// Calls a tool that reaches out, then one that needs a box.
const OUT: &str = r#"
about = "a page, then a program"
[[turn]]
say = "I look."
[[turn.call]]
tool = "fetch"
arguments = { url = "http://127.0.0.1:9/secret" }
[[turn]]
say = "I run it."
[[turn.call]]
tool = "python"
arguments = { code = "print(1)" }
[[turn]]
say = "done"
"#;

/// A table, a bucket, queues, and what begins runs there.
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) driver: Driver,
    pub(crate) folder: tempfile::TempDir,
    sqs: aws_sdk_sqs::Client,
}

/// A message as Lambda has it from a queue.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) receipt: String,
    pub(crate) body: String,
    pub(crate) receives: String,
}

impl World {
    /// `None` without an emulator.
    pub(crate) async fn new() -> Option<Self> {
        let aws = aws().await?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sum.toml"), SCRIPT).unwrap();
        let mut models = ScriptedModels::built_in();
        models.add("sum", SCRIPT).unwrap();
        std::fs::write(folder.path().join("out.toml"), OUT).unwrap();
        models.add("out", OUT).unwrap();
        let driver = Cloud::with(aws.clone(), Arc::new(models)).unwrap().driver();
        let sqs = sqs(aws.settings()).await;
        Some(Self { aws, driver, folder, sqs })
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.aws.settings()
    }

    pub(crate) async fn function(&self, program: &str) -> Function {
        Function::start(program, self.settings(), self.folder.path(), &[]).await
    }

    /// Begins a run; its first message is in the queue.
    pub(crate) async fn begin(&self, model: &str, task: &str) -> RunId {
        self.driver.create(some_run(), started(model, task)).await.unwrap()
    }

    pub(crate) async fn log(&self, run: RunId) -> RunLog {
        self.driver.load(run).await.unwrap()
    }

    /// Puts a body into the queue of steps.
    pub(crate) async fn send(&self, body: &str) {
        self.sqs.send_message().queue_url(&self.settings().steps).message_body(body).send().await.unwrap();
    }

    /// Takes messages out of a queue; waits for the first one, for a while.
    pub(crate) async fn receive(&self, queue: &str) -> Vec<Received> {
        let receive = self.sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(5);
        let receive = receive.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let received = receive.message_attribute_names("All").visibility_timeout(330).send().await.unwrap();
        let received = received.messages.unwrap_or_default().into_iter().map(|message| Received {
            id: message.message_id.unwrap(),
            receipt: message.receipt_handle.unwrap(),
            body: message.body.unwrap(),
            receives: message.attributes.unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount].clone(),
        });
        received.collect()
    }

    /// Exactly so many messages of the queue of steps.
    pub(crate) async fn steps(&self, count: usize) -> Vec<Received> {
        let mut all = Vec::new();
        while all.len() < count {
            let received = self.receive(&self.settings().steps).await;
            assert!(!received.is_empty(), "{} of {count} messages came", all.len());
            all.extend(received);
        }
        assert_eq!(all.len(), count);
        all
    }

    /// Deletes what a function did not name as failed.
    pub(crate) async fn settle(&self, messages: &[Received], answer: &Value) {
        for message in messages.iter().filter(|message| !failures(answer).contains(&message.id)) {
            let delete = self.sqs.delete_message().queue_url(&self.settings().steps);
            delete.receipt_handle(&message.receipt).send().await.unwrap();
        }
    }

    /// The same until something is true of a run.
    pub(crate) async fn carry_until(&self, function: &mut Function, run: RunId, is_so: impl Fn(&RunLog) -> bool) {
        while !is_so(&self.log(run).await) {
            let messages = self.receive(&self.settings().steps).await;
            assert!(!messages.is_empty(), "nothing is under way for {run}");
            let told = function.invoke(event(&messages), TIMEOUT).await;
            assert_eq!(told.what, "response", "{}", told.body);
            self.settle(&messages, &told.body).await;
        }
    }

    /// What Lambda does: hands messages to the function until all `runs` have ended.
    pub(crate) async fn carry_on(&self, function: &mut Function, runs: &[RunId]) {
        for run in runs {
            self.carry_until(function, *run, |log| log.run.head.status.is_ended()).await;
        }
    }
}

/// A run that is nobody's yet.
pub(crate) fn some_run() -> RunId {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    RunId::new(SystemWorld.now(), u128::from(NUMBER.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) fn started(model: &str, task: &str) -> Started {
    let tools = Registry::built_in().unwrap().specs(&["calculate", "fetch", "python"]).unwrap();
    let config = RunConfig {
        tenant: Default::default(),
        min_tier: None,
        fallbacks: Vec::new(),
        summarizers: Vec::new(),
        output: None,
        assistant: None,
        model: ModelChoice {
            image_tokens: 0,
            name: model.to_owned(),
            price: Some(Price::FREE),
            context_tokens: None,
            endpoint: None,
        },
        instructions: "do it".to_owned(),
        tools,
        limits: Limits::default(),
        budget: Budget { usd: None, tokens: None, steps: 100, active_ms: 3_600_000, when_exceeded: WhenExceeded::End },
    };
    Started {
        images: Vec::new(),
        config,
        task: task.to_owned(),
        files: Vec::new(),
        workspace: None,
        history: None,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata: Default::default(),
        surface: None,
    }
}

/// An event of SQS.
pub(crate) fn event(messages: &[Received]) -> Value {
    let record = |message: &Received| {
        json!({
            "messageId": message.id, "receiptHandle": message.receipt, "body": message.body,
            "attributes": { "ApproximateReceiveCount": message.receives, "SentTimestamp": "1", "SenderId": "x" },
            "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:steps", "awsRegion": "us-east-1",
        })
    };
    json!({ "Records": messages.iter().map(record).collect::<Vec<_>>() })
}

/// The body of a message.
pub(crate) fn body(message: &Message) -> String {
    json!({ "v": 1, "body": message }).to_string()
}

/// The messages that a function named as failed.
pub(crate) fn failures(answer: &Value) -> Vec<String> {
    let failures = answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("{answer}"));
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
}
