//! One run on the real store, whose process dies at every write there is, before and after it takes hold. Whoever starts
//! again finishes the run, and no effect happens twice.

use async_trait::async_trait;
use errand_core::{
    Approval, Budget, CallId, CallState, Class, Decision, Due, Executor, Limits, ModelChoice, Outcome, Price, RunConfig,
    RunId, RunLog, Sealed, Started, Status, Timestamp, ToolDefinition, ToolSpec, Verdict, WhenExceeded, replay,
};
use errand_engine::ports::{Inbox, Store, ToolJob, ToolReply, Tools, Watch, World};
use errand_engine::{Adapters, Driver, Settings, worker};
use errand_models::ScriptedModels;
use errand_store_local::{DataFolder, FaultPlan, LocalQueue, Mode, Moment, QueueLimits, SystemWorld};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use tokio::sync::Notify;

const SCRIPT: &str = r#"
about = "calls of every class, one of them approved, then an answer"

[[turn]]
say = "first"
[[turn.call]]
tool = "fetch"
arguments = { what = "a" }
[[turn.call]]
tool = "save"
arguments = { what = "b" }
[[turn.call]]
tool = "pay"
arguments = { what = "c" }

[[turn]]
say = "second"
[[turn.call]]
tool = "wire"
arguments = { what = "d" }

[[turn]]
say = "done"
"#;

/// The world outside: a file to which every execution of a tool adds a line.
struct Outside {
    journal: PathBuf,
}

#[async_trait]
impl Tools for Outside {
    fn check(&self, _: &ToolSpec, _: &str, _: Timestamp) -> Verdict {
        Verdict::Accepted { class: None, until: None, share: None }
    }

    fn check_answer(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        let mut journal = OpenOptions::new().append(true).create(true).open(&self.journal).unwrap();
        writeln!(journal, "{} {}", job.call.tool, job.call.idempotency_key()).unwrap();
        ToolReply::free(Outcome::Ok { text: "done".to_owned() })
    }

    async fn release(&self, _: RunId) {}
}

/// Wakes whoever waits for the run to go on.
struct Progress(Notify);

impl Watch for Progress {
    fn recorded(&self, _: RunId, _: &Sealed) {
        self.0.notify_one();
    }
}

fn spec(name: &str, class: Class, approval: Approval) -> ToolSpec {
    let definition = ToolDefinition {
        name: name.to_owned(),
        description: "a tool".to_owned(),
        parameters: r#"{"type":"object"}"#.to_owned(),
    };
    ToolSpec {
        definition,
        class,
        executor: Executor::Worker,
        approval,
        timeout_ms: 10_000,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    }
}

fn started() -> Started {
    let config = RunConfig {
        tenant: Default::default(),
        min_tier: None,
        fallbacks: Vec::new(),
        summarizers: Vec::new(),
        output: None,
        assistant: None,
        model: ModelChoice {
            image_tokens: 0,
            name: "scripted/every_write".to_owned(),
            price: Some(Price::FREE),
            context_tokens: None,
            endpoint: None,
        },
        instructions: "do it".to_owned(),
        tools: vec![
            spec("fetch", Class::Pure, Approval::Never),
            spec("save", Class::Idempotent, Approval::Never),
            spec("pay", Class::Effectful, Approval::Never),
            spec("wire", Class::Effectful, Approval::Always),
        ],
        limits: Limits::default(),
        budget: Budget { usd: None, tokens: None, steps: 20, active_ms: 600_000, when_exceeded: WhenExceeded::End },
    };
    Started {
        images: Vec::new(),
        config,
        task: "an errand".to_owned(),
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

fn the_run() -> RunId {
    RunId::new(Timestamp::from_millis(1_790_000_000_000), 7)
}

/// Carries the run to its end, or dies on the way.
async fn carry(folder: &Path, faults: FaultPlan) -> u64 {
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let faults = Arc::new(faults);
    let mode = Mode::Own { command: "test".to_owned() };
    let opened = DataFolder::open_with_faults(&folder.join("data"), mode, Arc::clone(&world), Arc::clone(&faults)).unwrap();
    let queue = LocalQueue::new(Arc::clone(&world), QueueLimits::default());
    let mut models = ScriptedModels::built_in();
    models.add("every_write", SCRIPT).unwrap();
    let progress = Arc::new(Progress(Notify::new()));
    let adapters = Adapters {
        store: Arc::clone(opened.store()) as Arc<dyn Store>,
        queue: Arc::new(queue.clone()),
        models: Arc::new(models),
        tools: Arc::new(Outside { journal: journal(folder) }),
        world,
        watch: Arc::clone(&progress) as Arc<dyn Watch>,
    };
    let driver = Driver::new(adapters, Settings { records_per_message: 100, ..Settings::default() });
    let steps = tokio::spawn(worker::serve(driver.clone(), Arc::clone(queue.steps()) as Arc<dyn Inbox>, 4));
    let calls = tokio::spawn(worker::serve(driver.clone(), Arc::clone(queue.calls()) as Arc<dyn Inbox>, 4));
    for run in opened.store().unfinished().await.unwrap() {
        driver.revive(run).await.unwrap();
    }
    if opened.store().load(the_run()).await.unwrap().is_none() {
        driver.create(the_run(), started()).await.unwrap();
    }
    loop {
        let log = driver.load(the_run()).await.unwrap();
        if log.run.head.status.is_ended() {
            break;
        }
        match wanted(&log, folder) {
            Some((call, decision)) => driver.decide(the_run(), call, decision, "somebody").await.unwrap(),
            None => progress.0.notified().await,
        }
    }
    queue.close();
    steps.await.unwrap();
    calls.await.unwrap();
    opened.close().await.unwrap();
    faults.writes()
}

/// What a person has to decide: to allow the one call that asks, and to say what came of calls nobody knows of.
fn wanted(log: &RunLog, folder: &Path) -> Option<(CallId, Decision)> {
    let Due::Calls { calls } = &log.run.head.due else { return None };
    calls.iter().find_map(|call| {
        let decision = match call.state {
            CallState::Approval => Decision::Approve,
            CallState::Unknown if executed(folder, call.id) > 0 => Decision::Happened { note: String::new() },
            CallState::Unknown => Decision::NotHappened { note: String::new() },
            _ => return None,
        };
        let said = log.items.values().any(|item| match item.key {
            errand_core::ItemKey::Approval { call: of } => of == call.id && decision == Decision::Approve,
            errand_core::ItemKey::Resolution { call: of } => of == call.id,
            _ => false,
        });
        (!said).then_some((call.id, decision))
    })
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("journal")
}

fn executed(folder: &Path, call: CallId) -> usize {
    let key = format!("{}/{call}", the_run());
    let journal = fs::read_to_string(journal(folder)).unwrap_or_default();
    journal.lines().filter(|line| line.split_once(' ').is_some_and(|(_, of)| of == key)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "carried out by `a_crash_at_any_write_loses_nothing` as a process that dies"]
async fn carries_a_run() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    let (crash, folder) = line.trim_end().split_once(' ').unwrap();
    let faults = match crash.split_once('/') {
        Some(("before", write)) => FaultPlan::crash_at(write.parse().unwrap(), Moment::Before),
        Some(("after", write)) => FaultPlan::crash_at(write.parse().unwrap(), Moment::After),
        _ => FaultPlan::none(),
    };
    let writes = carry(Path::new(folder), faults).await;
    fs::write(Path::new(folder).join("writes"), writes.to_string()).unwrap();
}

fn child(folder: &Path, crash: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "every_write::carries_a_run", "--ignored", "--nocapture"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{crash} {}", folder.to_str().unwrap()).unwrap();
    child.wait().unwrap()
}

#[test]
fn a_crash_at_any_write_loses_nothing() {
    let untouched = tempfile::tempdir().unwrap();
    assert!(child(untouched.path(), "none").success());
    let writes: u64 = fs::read_to_string(untouched.path().join("writes")).unwrap().parse().unwrap();
    assert!(writes > 15, "the scenario wrote only {writes} times");
    let (mut crashes, mut unknown) = (0, 0);
    for moment in ["before", "after"] {
        for write in 1..=writes {
            let folder = tempfile::tempdir().unwrap();
            let ended = child(folder.path(), &format!("{moment}/{write}"));
            // Writes that happen to share a transaction make a run with fewer of them.
            crashes += u32::from(ended.signal().is_some());
            assert!(ended.success() || ended.signal().is_some(), "{moment} write {write}: the first process failed");
            assert!(child(folder.path(), "none").success(), "{moment} write {write}: the second process failed");
            unknown += check(folder.path(), &format!("{moment} write {write}"));
        }
    }
    assert!(crashes > 30, "only {crashes} processes died");
    assert!(unknown > 0, "no crash fell between a fence and its receipt");
}

/// Checks what is left, and returns how many outcomes were unknown.
fn check(folder: &Path, when: &str) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let opened = DataFolder::open(&folder.join("data"), Mode::Read, Arc::new(SystemWorld)).unwrap();
    let log = runtime.block_on(opened.store().load(the_run())).unwrap().unwrap().log;
    assert_eq!(log.run.head.status, Status::Done, "{when}");
    assert_eq!(log.answer(), Some("done"), "{when}");
    replay(&log, &[]).unwrap_or_else(|error| panic!("{when}: {error}"));
    let mut unknown = 0;
    for (call, effectful) in [((2, 0), false), ((2, 1), false), ((2, 2), true)] {
        let call = CallId { record: call.0, index: call.1 };
        let times = executed(folder, call);
        let outcome = log.result(call).map(|observation| observation.outcome.clone());
        match outcome {
            Some(Outcome::Ok { .. }) => assert!(times >= 1, "{when}: {call} is said to have been made"),
            Some(Outcome::Unknown { .. }) => unknown += 1,
            other => panic!("{when}: {call} came to {other:?}"),
        }
        assert!(!effectful || times <= 1, "{when}: {call} took hold {times} times");
    }
    unknown
}
