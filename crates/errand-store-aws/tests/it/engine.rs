//! The real driver and its workers on AWS: runs go from their beginning to their answer by messages, processes stop on the way,
//! and what a step asks of AWS is counted.

use crate::conformance::sample;
use crate::emulator::{clients, emulator, make, settings};
use crate::proxy::{Call as Seen, Fault, Proxy};
use crate::world::Clock;
use async_trait::async_trait;
use errand_core::{
    Finish, Message, ModelError, ModelReply, ModelRequest, Outcome, Price, RequestedCall, RunId, Sealed, Timestamp,
    ToolSpec, Usage, Verdict,
};
use errand_engine::ports::{DeltaSink, Inbox, ModelFacts, Models, Store, ToolJob, ToolReply, Tools, Watch};
use errand_engine::{Adapters, Driver, Settings, worker};
use errand_store_aws::{Aws, AwsInbox};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Turns with a tool call before the answer.
const TURNS: usize = 4;
const WORKERS: usize = 3;

/// A model that calls a tool some times and then answers.
struct Model;

#[async_trait]
impl Models for Model {
    fn facts(&self, _: &str) -> Result<ModelFacts, ModelError> {
        Ok(ModelFacts { price: Some(Price::FREE), context_tokens: None, image_tokens: 0, endpoint: None, scripted: true })
    }

    async fn call(&self, request: &ModelRequest, _: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        let turns = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
        let call = RequestedCall { id: format!("c{turns}"), name: "echo".to_owned(), arguments: "{}".to_owned() };
        Ok(ModelReply {
            opaque: None,
            model: "sample".to_owned(),
            text: if turns < TURNS { String::new() } else { "done".to_owned() },
            reasoning: String::new(),
            calls: if turns < TURNS { vec![call] } else { vec![] },
            finish: Finish::Stop,
            usage: Some(Usage { input_tokens: 10, cached_input_tokens: 0, output_tokens: 10, reasoning_tokens: 0 }),
        })
    }
}

struct Tool;

#[async_trait]
impl Tools for Tool {
    fn check(&self, _: &ToolSpec, _: &str, _: Timestamp) -> Verdict {
        Verdict::Accepted { until: None, share: None, class: None }
    }

    fn check_answer(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn run(&self, _: ToolJob<'_>) -> ToolReply {
        ToolReply::free(Outcome::Ok { text: "echoed".to_owned() })
    }

    async fn release(&self, _: RunId) {}
}

/// Tells who has ended.
struct Ended(watch::Sender<BTreeMap<RunId, String>>);

impl Watch for Ended {
    fn recorded(&self, run: RunId, record: &Sealed) {
        if record.record.head.status.is_ended() {
            self.0.send_modify(|ended| drop(ended.insert(run, record.record.head.status.code().to_owned())));
        }
    }
}

/// A process with workers over AWS.
struct Process {
    driver: Driver,
    inbox: AwsInbox,
    job: JoinHandle<()>,
}

impl Process {
    fn start(aws: &Aws, ended: &watch::Sender<BTreeMap<RunId, String>>) -> Self {
        let clock = Clock::new();
        let adapters = Adapters {
            store: Arc::new(aws.store()),
            queue: Arc::new(aws.queue(clock.clone())),
            models: Arc::new(Model),
            tools: Arc::new(Tool),
            world: clock.clone(),
            watch: Arc::new(Ended(ended.clone())),
        };
        // Long enough ahead that nothing of the due index is due while the test runs.
        let driver = Driver::new(adapters, Settings { begin_ms: 900_000, receives: 100, ..Settings::DEFAULT });
        let inbox = aws.inbox(&aws.settings().steps, clock, WORKERS);
        let job = tokio::spawn(worker::serve(driver.clone(), Arc::new(inbox.clone()) as Arc<dyn Inbox>, WORKERS));
        Self { driver, inbox, job }
    }

    async fn stop(self) {
        self.inbox.close().await;
        self.job.await.unwrap();
    }
}

async fn behind(proxy: &Proxy) -> Aws {
    let mut settings = settings(&emulator().unwrap().endpoint);
    make(&settings).await;
    settings.endpoint = Some(proxy.endpoint.clone());
    clients(settings).await
}

async fn all_ended(ended: &watch::Sender<BTreeMap<RunId, String>>, count: usize) {
    let mut seen = ended.subscribe();
    let is_late = tokio::time::timeout(Duration::from_secs(120), seen.wait_for(|ended| ended.len() == count)).await.is_err();
    assert!(!is_late, "some never end: {:?}", ended.borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_step_asks_of_aws() {
    let Some(emulator) = emulator() else { return };
    let proxy = Proxy::start(&emulator.endpoint).await;
    let (aws, ended) = (behind(&proxy).await, watch::Sender::new(BTreeMap::new()));
    let process = Process::start(&aws, &ended);
    let run = sample::run(1);
    process.driver.create(run, sample::started("a task")).await.unwrap();
    all_ended(&ended, 1).await;
    process.stop().await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in proxy.take_calls() {
        *counts.entry(call.action).or_default() += 1;
    }
    println!("{} paid steps: {counts:?}", TURNS + 1);
    // The claim and the record of each step, and nothing else.
    assert_eq!(counts["PutItem"], 2 * (TURNS + 1), "{counts:?}");
    assert_eq!(counts["TransactWriteItems"], 1, "only the beginning: {counts:?}");
    assert_eq!(counts["SendMessageBatch"], TURNS + 1, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_come_to_their_end_though_processes_stop_and_calls_fail() {
    const RUNS: usize = 6;
    let Some(emulator) = emulator() else { return };
    let proxy = Proxy::start(&emulator.endpoint).await;
    let turn = AtomicU32::new(0);
    proxy.plan(move |call: &Seen| match (call.attempt, turn.fetch_add(1, Ordering::Relaxed) % 40) {
        (1, 7) => Fault::throttled(&call.action),
        (1, 17) => Fault::Cut,
        // A message whose receipt was lost is hidden for as long as one in somebody's hands: nobody waits for that here.
        _ if call.action == "ReceiveMessage" => Fault::None,
        (1, 27) => Fault::Lose,
        (1, 37) => Fault::Twice,
        _ => Fault::None,
    });
    let (aws, ended) = (behind(&proxy).await, watch::Sender::new(BTreeMap::new()));
    let mut process = Process::start(&aws, &ended);
    let runs: Vec<RunId> = (1..=RUNS as u64).map(sample::run).collect();
    for run in &runs {
        process.driver.create(*run, sample::started("a task")).await.unwrap();
    }
    // Another process takes over from one that stops in the middle of its work.
    let mut seen = ended.subscribe();
    seen.wait_for(|ended| !ended.is_empty()).await.unwrap();
    process.stop().await;
    process = Process::start(&aws, &ended);
    all_ended(&ended, RUNS).await;
    process.stop().await;
    let ended = ended.borrow().clone();
    assert!(ended.values().all(|status| status == "done"), "{ended:?}");
    for run in runs {
        let log = aws.store().load(run).await.unwrap().unwrap().log;
        assert_eq!((log.run.number as usize, log.answer()), (TURNS + 2, Some("done")));
        assert!(log.items.len() <= 3 * (TURNS + 1), "claims, and what was spent for nothing: {:?}", log.items.keys());
    }
}
