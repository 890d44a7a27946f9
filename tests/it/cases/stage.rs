//! The world of a case: a clock that stands still until it is moved, tools with canned outcomes, and a model that a
//! script plays. All of it survives the engine, as the world outside does.

use super::format::{Answer, Case, ToolLine};
use async_trait::async_trait;
use errand_core::{
    Amount, Class, Executor, Hash, ModelError, ModelReply, ModelRequest, Nonce, Outcome, RunId, Timestamp, ToolSpec, Usd,
    Verdict,
};
use errand_engine::ports::{DeltaSink, ModelFacts, Models, ToolJob, ToolReply, Tools, World};
use errand_models::ScriptedModels;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

tokio::task_local! {
    /// How far the worker at hand has come.
    pub(super) static STANDING: Arc<AtomicU8>;
}

/// The worker goes on by itself.
pub(super) const BUSY: u8 = 0;
/// It waits for a model or a tool that takes time.
pub(super) const PARKED: u8 = 1;
/// It is held up where nothing but a crash ends it.
pub(super) const HELD: u8 = 2;

/// When every case begins, in milliseconds.
pub(super) const BEGIN: u64 = 1_790_000_000_000;

/// The clock, and who waits for it.
pub(super) struct Clock {
    state: Mutex<Times>,
    /// Told whenever a worker is done or begins to wait for a model or a tool.
    pub(super) quiet: Notify,
    /// Set to hold up whoever sends the next message.
    pub(super) hold: AtomicBool,
}

#[derive(Default)]
struct Times {
    /// By this clock sleeps end; it is never set back.
    steady: u64,
    /// How far the clock on the wall was set back.
    behind: u64,
    nonces: u64,
    timers: BTreeMap<(u64, u64), Sleeper>,
    next_timer: u64,
    /// Times at which a message may be due.
    alarms: BTreeSet<u64>,
}

/// Who sleeps, and how far the worker it belongs to has come, if it is one.
type Sleeper = (Waker, Option<Arc<AtomicU8>>);

impl Clock {
    fn new() -> Self {
        Self { state: Mutex::default(), quiet: Notify::new(), hold: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.state.lock().unwrap()
    }

    /// Notes that something may be due then.
    pub(super) fn note(&self, at: Timestamp) {
        self.lock().alarms.insert(at.as_millis());
    }

    /// Sets the clock on the wall back.
    pub(super) fn set_back(&self, millis: u64) {
        self.lock().behind += millis;
    }

    pub(super) fn steady(&self) -> u64 {
        self.lock().steady
    }

    /// Moves on to the next time at which something happens, `end` at the latest.
    pub(super) fn advance(&self, end: u64) -> Passed {
        let mut times = self.lock();
        let timer = times.timers.keys().next().copied().filter(|(at, _)| *at <= end);
        let wall = BEGIN + times.steady - times.behind;
        let alarm = times.alarms.iter().find(|at| **at > wall).copied();
        let alarm = alarm.map(|at| times.steady + (at - wall)).filter(|at| *at <= end);
        match (timer, alarm) {
            (Some(timer), alarm) if alarm.is_none_or(|alarm| timer.0 <= alarm) => {
                times.steady = times.steady.max(timer.0);
                if let Some((waker, standing)) = times.timers.remove(&timer) {
                    standing.inspect(|standing| standing.store(BUSY, Ordering::Relaxed));
                    waker.wake();
                }
                Passed::Timer
            }
            (_, Some(alarm)) => {
                times.steady = alarm;
                Passed::Alarm
            }
            _ => {
                times.steady = end;
                Passed::End
            }
        }
    }
}

/// What came first as time went on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// Somebody's sleep ended.
    Timer,
    /// A message may be due.
    Alarm,
    /// Nothing more until the end.
    End,
}

#[async_trait]
impl World for Clock {
    fn now(&self) -> Timestamp {
        let times = self.lock();
        Timestamp::from_millis(BEGIN + times.steady - times.behind)
    }

    fn nonce(&self) -> Nonce {
        let mut times = self.lock();
        times.nonces += 1;
        Nonce(times.nonces)
    }

    async fn sleep(&self, millis: u64) {
        let end = self.lock().steady + millis;
        Sleep { clock: self, end, id: None }.await;
    }
}

struct Sleep<'a> {
    clock: &'a Clock,
    end: u64,
    id: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut times = self.clock.lock();
        if times.steady >= self.end {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            times.next_timer += 1;
            times.next_timer
        });
        let standing = STANDING.try_with(Arc::clone).ok();
        times.timers.insert((self.end, id), (context.waker().clone(), standing));
        drop(times);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.lock().timers.remove(&(self.end, id));
        }
    }
}

/// Everything that is outside the engine.
pub(super) struct Stage {
    pub(super) clock: Arc<Clock>,
    pub(super) models: Arc<Scripts>,
    pub(super) tools: Arc<Canned>,
}

impl Stage {
    pub(super) fn of(case: &Case) -> Self {
        let clock = Arc::new(Clock::new());
        let mut scripts = ScriptedModels::default();
        for (name, text) in &case.models {
            scripts.add(name, text).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
        let models = Scripts {
            clock: Arc::clone(&clock),
            scripts,
            seen: Mutex::default(),
            delays: Mutex::new(case.model_takes.iter().rev().copied().collect()),
        };
        let tools = Canned { clock: Arc::clone(&clock), tools: case.tools.clone(), executed: Mutex::default() };
        Self { clock, models: Arc::new(models), tools: Arc::new(tools) }
    }
}

/// Time something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// None.
    Nothing,
    /// So many milliseconds.
    Millis(u64),
    /// It never ends.
    Forever,
}

impl Clock {
    async fn take(&self, takes: Takes) {
        if takes == Takes::Nothing {
            return;
        }
        self.stand(PARKED);
        match takes {
            Takes::Millis(millis) => self.sleep(millis).await,
            _ => pending().await,
        }
    }

    /// Holds the worker at hand up, if that was asked for.
    pub(super) async fn may_hold(&self) {
        if self.hold.swap(false, Ordering::Relaxed) {
            self.stand(HELD);
            pending::<()>().await;
        }
    }

    fn stand(&self, standing: u8) {
        STANDING.with(|own| own.store(standing, Ordering::Relaxed));
        self.quiet.notify_one();
    }
}

/// The scripted models, with each request they were sent.
pub(super) struct Scripts {
    clock: Arc<Clock>,
    scripts: ScriptedModels,
    seen: Mutex<BTreeMap<Hash, ModelRequest>>,
    delays: Mutex<Vec<Takes>>,
}

impl Scripts {
    /// The request with this digest, if it was sent.
    pub(super) fn seen(&self, digest: &Hash) -> Option<ModelRequest> {
        self.seen.lock().unwrap().get(digest).cloned()
    }
}

#[async_trait]
impl Models for Scripts {
    fn facts(&self, model: &str) -> Result<ModelFacts, ModelError> {
        self.scripts.facts(model)
    }

    async fn call(&self, request: &ModelRequest, deltas: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        self.seen.lock().unwrap().insert(request.digest(), request.clone());
        let takes = self.delays.lock().unwrap().pop().unwrap_or(Takes::Nothing);
        self.clock.take(takes).await;
        self.scripts.call(request, deltas).await
    }
}

/// A tool's executions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Executed {
    pub(super) born: RunId,
    pub(super) call: errand_core::CallId,
    pub(super) tool: String,
    pub(super) arguments: String,
    pub(super) class: Class,
    pub(super) times: u32,
}

/// Tools whose outcomes are written in the case.
pub(super) struct Canned {
    clock: Arc<Clock>,
    tools: Vec<ToolLine>,
    executed: Mutex<BTreeMap<String, Executed>>,
}

impl Canned {
    /// What was executed, by idempotency key.
    pub(super) fn executed(&self) -> BTreeMap<String, Executed> {
        self.executed.lock().unwrap().clone()
    }

    fn line(&self, name: &str) -> Option<&ToolLine> {
        self.tools.iter().find(|line| line.spec.definition.name == name)
    }

    /// Counts the execution and finds its outcome: the first execution of any call of the tool gets the first outcome,
    /// and so on; the last one stays.
    fn execute(&self, job: &ToolJob<'_>) -> Answer {
        let mut executed = self.executed.lock().unwrap();
        let before: u32 = executed.values().filter(|one| one.tool == job.call.tool).map(|one| one.times).sum();
        let entry = executed.entry(job.call.idempotency_key()).or_insert_with(|| Executed {
            born: job.call.born,
            call: job.call.id,
            tool: job.call.tool.to_owned(),
            arguments: job.call.arguments.to_owned(),
            class: job.spec.class,
            times: 0,
        });
        entry.times += 1;
        let answers = self.line(job.call.tool).map_or(&[][..], |line| &line.answers);
        let last = answers.len().saturating_sub(1);
        answers.get((before as usize).min(last)).cloned().unwrap_or_else(Answer::nothing)
    }
}

#[async_trait]
impl Tools for Canned {
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict {
        match check(spec, arguments, now) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Refused { code: "arguments_invalid".to_owned(), error },
        }
    }

    /// Stands for a schema: the answer must contain its text.
    fn check_answer(&self, schema: &str, answer: &str) -> Result<(), String> {
        if answer.contains(schema) { Ok(()) } else { Err(format!("it does not contain {schema}")) }
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        let answer = self.execute(&job);
        self.clock.take(answer.takes).await;
        let outcome = match answer.outcome {
            Outcome::Ok { text } => Outcome::Ok { text: text.replace("{arguments}", job.call.arguments) },
            other => other,
        };
        ToolReply { spent: Amount { usd: Usd::from_nanos(answer.nanos), tokens: 0 }, ..ToolReply::free(outcome) }
    }

    async fn release(&self, _: RunId) {}
}

/// Checks arguments against the `required` and `properties` of the tool's schema, and reads what the core must know.
fn check(spec: &ToolSpec, arguments: &str, now: Timestamp) -> Result<Verdict, String> {
    let arguments: Value = serde_json::from_str(arguments).map_err(|error| format!("not JSON: {error}"))?;
    let arguments = arguments.as_object().ok_or("not a JSON object")?;
    let schema: Value = serde_json::from_str(&spec.definition.parameters).map_err(|error| error.to_string())?;
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let value = arguments.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        let wanted = schema["properties"][name]["type"].as_str().unwrap_or("string");
        let fits = match wanted {
            "integer" => value.is_u64(),
            _ => value.is_string(),
        };
        if !fits {
            return Err(format!("`{name}` must be of type {wanted}"));
        }
    }
    let seconds = |name: &str| arguments.get(name).and_then(Value::as_u64).map(|seconds| now.plus(seconds * 1_000));
    let until = match spec.executor {
        Executor::Timer => Some(seconds("seconds").ok_or("`seconds` is missing")?),
        Executor::Person => seconds("timeout_s"),
        _ => None,
    };
    let nanos = arguments.get("share_nanos").and_then(Value::as_u64).filter(|_| spec.executor == Executor::SubRun);
    let share = nanos.map(|nanos| Amount { usd: Usd::from_nanos(nanos), tokens: 100_000 });
    Ok(Verdict::Accepted { class: None, until, share })
}
