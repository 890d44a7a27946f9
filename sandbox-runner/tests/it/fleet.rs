//! Runs whose steps are made in this process and whose calls are carried out by `sandbox-runner` processes, which are killed.

use crate::emulator::{aws, emulator};
use errand_core::{
    Budget, Event, Limits, ModelChoice, Outcome, Price, RunConfig, RunId, RunLog, Sealed, Started, Status, ToolSpec,
    WhenExceeded,
};
use errand_engine::fleet::{Fleet, FleetSettings};
use errand_engine::ports::{Blobs, Inbox, Watch, World};
use errand_engine::{Adapters, Driver, Settings, worker};
use errand_models::ScriptedModels;
use errand_store_aws::Aws;
use errand_store_local::SystemWorld;
use errand_tools::{Network, Registry, ToolBox, Workspaces};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const RUNS: usize = 4;
/// Calls of each run.
const CALLS: usize = 25;
/// A runner is killed when so many records were made.
const KILLS: [usize; 3] = [21, 58, 97];
const ALIVE: Duration = Duration::from_secs(2);

/// Checks that all files of the calls before are there, none twice, and leaves one more.
const CODE: &str = r#"
from pathlib import Path
log = Path("log.txt")
before = log.read_text().split() if log.exists() else []
assert before == [str(n) for n in range(NUMBER)], before
log.write_text("".join(f"{line}\n" for line in [*before, "NUMBER"]))
Path("file-NUMBER.txt").write_text("kept")
print("files:", len(list(Path(".").glob("file-*"))))
"#;

fn script() -> String {
    let mut script = "about = \"one call after the other, then an answer\"\n".to_owned();
    for number in 0..CALLS {
        let code = CODE.replace("NUMBER", &number.to_string());
        write!(
            script,
            "[[turn]]\nsay = \"next\"\n[[turn.call]]\ntool = \"python\"\narguments = {{ code = '''{code}''' }}\n"
        )
        .unwrap();
    }
    script + "[[turn]]\nsay = \"done\"\n"
}

/// A runner of its own process, killed when it is dropped.
struct Runner {
    process: Child,
}

/// The command that starts a runner. `None` without an emulator.
fn command(aws: &Aws, folder: &Path, number: usize, more: &[&str]) -> Option<Command> {
    let settings = aws.settings();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-runner"));
    command
        .arg("serve")
        .args(["--table", &settings.table, "--bucket", &settings.bucket])
        .args(["--steps-queue", &settings.steps, "--calls-queue", &settings.calls, "--dead-queue", &settings.dead])
        .args(["--aws-region", "us-east-1", "--aws-endpoint", &emulator()?.endpoint])
        .args(["--id", &format!("runner-{number}"), "--alive", &ALIVE.as_secs().to_string(), "--warm", "0"])
        .arg("--workspaces")
        .arg(folder.join(number.to_string()))
        .arg("--images")
        .arg(folder.join("images"))
        .args(more)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Some(command)
}

impl Runner {
    /// Starts one; returns when it works. `None` without an emulator.
    fn start(aws: &Aws, folder: &Path, number: usize, more: &[&str]) -> Option<Self> {
        let mut process = command(aws, folder, number, more)?.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(&format!("runner runner-{number} works")), "{line:?}");
        Some(Self { process })
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Asks it to stop and waits until it has.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Default)]
struct Progress {
    records: AtomicUsize,
    changed: Notify,
}

impl Watch for Progress {
    fn recorded(&self, _: RunId, _: &Sealed) {
        self.records.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
    }
}

/// What makes the steps of runs, and looks after what runners leave.
struct Station {
    driver: Driver,
    fleet: Fleet,
    progress: Arc<Progress>,
    tool: ToolSpec,
    tasks: tokio::task::JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Station {
    fn start(aws: &Aws) -> Self {
        let clock = Arc::new(SystemWorld);
        let folder = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(aws.blobs());
        let settings = FleetSettings { alive_ms: ALIVE.as_millis() as u64, margin_ms: 500 };
        let fleet = Fleet::new(
            Arc::new(aws.heads()),
            Arc::new(aws.runner_queues(clock.clone(), 1)),
            Arc::new(aws.queue(clock.clone())),
            clock.clone(),
            settings,
        );
        let registry = Registry::built_in().unwrap();
        let mut tool = registry.specs(&["python"]).unwrap().remove(0);
        // A killed call is over for certain that much sooner.
        tool.timeout_ms = 10_000;
        let boxes = errand_tools::BoxSettings::default();
        let workspaces = Workspaces::at(folder.path().join("none"), boxes, blobs).unwrap();
        let network = Arc::new(Network::new::<&str>(&[]).unwrap());
        let mut models = ScriptedModels::built_in();
        models.add("hundred", &script()).unwrap();
        let progress = Arc::new(Progress::default());
        let adapters = Adapters {
            store: Arc::new(aws.store()),
            queue: Arc::new(fleet.clone()),
            models: Arc::new(models),
            tools: Arc::new(ToolBox::new(Arc::new(registry), Arc::new(workspaces), network)),
            world: clock.clone(),
            watch: progress.clone(),
        };
        let driver = Driver::new(adapters, Settings::default());
        let mut tasks = tokio::task::JoinSet::new();
        let steps: Arc<dyn Inbox> = Arc::new(aws.inbox(&aws.settings().steps, clock.clone(), 10));
        tasks.spawn(worker::serve(driver.clone(), steps, 8));
        let (its, buried) = (driver.clone(), fleet.clone());
        tasks.spawn(async move {
            loop {
                clock.sleep(500).await;
                let revive = |run| {
                    let its = its.clone();
                    async move { its.revive(run).await }
                };
                buried.bury(revive).await.unwrap();
            }
        });
        Self { driver, fleet, progress, tool, tasks, _folder: folder }
    }

    async fn begin(&self, number: usize) -> RunId {
        let run = RunId::new(SystemWorld.now(), number as u128 + 1);
        let model = ModelChoice {
            image_tokens: 0,
            name: "scripted/hundred".to_owned(),
            price: Some(Price::FREE),
            context_tokens: None,
            endpoint: None,
        };
        let config = RunConfig {
            tenant: Default::default(),
            min_tier: None,
            fallbacks: Vec::new(),
            summarizers: Vec::new(),
            output: None,
            assistant: None,
            model,
            instructions: "do it".to_owned(),
            tools: vec![self.tool.clone()],
            limits: Limits::default(),
            budget: Budget { usd: None, tokens: None, steps: 100, active_ms: 3_600_000, when_exceeded: WhenExceeded::End },
        };
        let started = Started {
            images: Vec::new(),
            config,
            task: "count".to_owned(),
            files: Vec::new(),
            workspace: None,
            history: None,
            parent: None,
            withdrawn: None,
            given: Vec::new(),
            metadata: Default::default(),
            surface: None,
        };
        self.driver.create(run, started).await.unwrap();
        run
    }

    /// Ready when so many records were made.
    async fn reach(&self, records: usize) {
        while self.progress.records.load(Ordering::SeqCst) < records {
            self.progress.changed.notified().await;
        }
    }

    async fn ended(&self, run: RunId) -> RunLog {
        loop {
            let log = self.driver.load(run).await.unwrap();
            if log.run.head.status.is_ended() {
                return log;
            }
            self.progress.changed.notified().await;
        }
    }
}

/// The outcomes of a run's calls, in order.
fn outcomes(log: &RunLog) -> Vec<Outcome> {
    let mut all = Vec::new();
    for sealed in &log.records {
        if let Event::ModelReplied(replied) = &sealed.record.event {
            for index in 0..replied.reply.calls.len() {
                let call = errand_core::CallId { record: sealed.record.number, index: index as u32 };
                all.push(log.result(call).expect("every call has a result").outcome.clone());
            }
        }
    }
    all
}

fn assert_whole(log: &RunLog) {
    assert_eq!(log.run.head.status, Status::Done);
    let outcomes = outcomes(log);
    assert_eq!(outcomes.len(), CALLS);
    for (number, outcome) in outcomes.iter().enumerate() {
        let Outcome::Ok { text } = outcome else { panic!("call {number}: {outcome:?}") };
        assert!(text.contains(&format!("files: {}", number + 1)), "call {number}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_that_are_killed_lose_no_file_and_double_no_call() {
    let Some(aws) = aws().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let station = Station::start(&aws);
    let mut runs = Vec::new();
    for number in 0..RUNS {
        runs.push(station.begin(number).await);
    }
    let mut runners: Vec<Runner> = (0..2).filter_map(|number| Runner::start(&aws, folder.path(), number, &[])).collect();
    for (kill, records) in KILLS.into_iter().enumerate() {
        station.reach(records).await;
        let mut doomed = runners.remove(0);
        doomed.kill();
        runners.extend(Runner::start(&aws, folder.path(), 2 + kill, &[]));
    }
    for run in runs {
        assert_whole(&station.ended(run).await);
    }
    let alive = station.fleet.runners().await.unwrap();
    assert!(alive.contains(&"runner-4".to_owned()), "{alive:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_cannot_keep_what_it_is_asked_for_takes_no_call() {
    let Some(aws) = aws().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let refused = |aws: &Aws, more: &[&str]| {
        let output = command(aws, folder.path(), 0, more).unwrap().stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = refused(&aws, &["--min-tier", "t2"]);
    assert!(error.contains("error [sandbox_tier_unavailable]") || error.contains("error [sandbox_unavailable]"), "{error}");
    let station = Station::start(&aws);
    assert_eq!(station.fleet.runners().await.unwrap(), Vec::<String>::new());
    let mut lacking = crate::emulator::settings(&emulator().unwrap().endpoint);
    lacking.table = "no-such-table".to_owned();
    let error = refused(&crate::emulator::clients(lacking).await, &[]);
    assert!(error.contains("error [aws_table_missing]") && error.contains("no-such-table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_asked_to_stop_hands_over() {
    let Some(aws) = aws().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut station = Station::start(&aws);
    let run = station.begin(0).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = port.to_string();
    let first = Runner::start(&aws, folder.path(), 0, &["--metrics-listen", &listen]).unwrap();
    station.reach(10).await;
    assert_eq!(
        station.fleet.leases().await.unwrap().iter().map(|lease| lease.runner.as_str()).collect::<Vec<_>>(),
        ["runner-0"]
    );
    assert!(get(port, "/healthz").contains("200 OK"));
    let metrics = get(port, "/metrics");
    assert!(
        metrics.contains("errand_runner_calls_begun_total ") && metrics.contains("errand_runner_sessions 1"),
        "{metrics}"
    );
    first.stop();
    let left = (station.fleet.runners().await.unwrap(), station.fleet.leases().await.unwrap());
    assert_eq!(left, (Vec::new(), Vec::new()));
    let _second = Runner::start(&aws, folder.path(), 1, &[]).unwrap();
    assert_whole(&station.ended(run).await);
    station.tasks.abort_all();
}

/// The answer to a request, with its head.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
