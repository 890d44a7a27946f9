//! Runs tasks one at a time in a seeded order: workers, people, the sweep, and time itself.

use crate::queue::VISIBILITY_MS;
use crate::world::{Sim, State, StoredRun};
use crate::{models, people, store, tools};
use errand_core::{
    Budget, CallState, ItemKey, Limits, ModelChoice, Next, OutputSchema, Parent, RunConfig, RunId, RunLog, Started,
    Timestamp, Usd, WhenExceeded,
};
use errand_engine::ports::{Delivery, Message};
use errand_engine::{Adapters, Bug, Bugs, Disposition, Driver, Settings};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

const SETTINGS: Settings = Settings { receives: 12, ..Settings::DEFAULT };

/// Most tasks at a time.
const WORKERS: usize = 10;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    id: usize,
    run: Option<RunId>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Woken>,
    started: Timestamp,
    /// Killed when its time is up, as a Lambda function is.
    bounded: bool,
}

pub(crate) struct Executor {
    sim: Sim,
    bug: Option<Bug>,
    records_per_message: u32,
    receives: u32,
    tasks: Vec<Task>,
    next_task: usize,
    next_sweep: Timestamp,
    /// The one process of an exclusive world.
    process: Option<Driver>,
    /// The task of the person who acts; one at a time once the faults have stopped.
    visitor: Option<usize>,
}

impl Executor {
    pub(crate) fn new(sim: Sim, bug: Option<Bug>) -> Self {
        let records_per_message = sim.lock().rng.between(1, 3) as u32;
        let receives = sim.lock().rng.between(3, 12) as u32;
        let next_sweep = sim.lock().now;
        Self {
            sim,
            bug,
            records_per_message,
            receives,
            tasks: Vec::new(),
            next_task: 1,
            next_sweep,
            process: None,
            visitor: None,
        }
    }

    pub(crate) fn live(mut self) -> Result<(), String> {
        let roots = self.sim.lock().rng.between(1, 3);
        for _ in 0..roots {
            self.start_run();
        }
        let turns = self.sim.lock().rng.between(200, 1_600);
        for _ in 0..turns {
            self.faulty_turn();
            self.check()?;
        }
        {
            let mut state = self.sim.lock();
            state.faults = state.faults.calm();
            state.calm = true;
        }
        for _ in 0..60_000 {
            if !self.calm_turn() {
                self.check()?;
                return Ok(());
            }
            self.check()?;
        }
        let state = self.sim.lock();
        let ended =
            state.runs.values().all(|stored| stored.records.last().is_some_and(|last| last.record.head.status.is_ended()));
        if ended {
            return Err(format!("all runs have ended and messages go on: {} sent", state.truth.sent));
        }
        Err("never comes to rest".to_owned())
    }

    fn check(&self) -> Result<(), String> {
        self.sim.lock().truth.violation().map_or(Ok(()), Err)
    }

    fn faulty_turn(&mut self) {
        let (people, process_crash) = {
            let mut state = self.sim.lock();
            let faults = state.faults.clone();
            (state.rng.chance(faults.people), state.rng.chance(faults.process_crash))
        };
        if process_crash {
            self.crash_process();
        }
        if people && let Some(act) = self.sim.whim() {
            self.spawn_act(act);
        }
        self.turn();
    }

    /// False once nothing is left to do.
    fn calm_turn(&mut self) -> bool {
        if self.visitor.is_none()
            && let Some(act) = self.sim.wanted(30)
        {
            self.spawn_act(act);
        }
        self.turn() || self.sim.wanted(1_000).is_some() || !self.is_at_rest()
    }

    fn is_at_rest(&self) -> bool {
        let state = self.sim.lock();
        let quiet = self.tasks.is_empty() && state.queue.is_empty();
        quiet && state.runs.values().all(|stored| stored.due.is_none())
    }

    /// Lets one thing happen. False if nothing can happen at this time or any later one.
    fn turn(&mut self) -> bool {
        self.sweep_if_due();
        let ready: Vec<usize> = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| task.woken.0.load(Ordering::Relaxed))
            .map(|(index, _)| index)
            .collect();
        let deliver = self.tasks.len() < WORKERS && {
            let mut state = self.sim.lock();
            ready.is_empty() || state.rng.chance(200)
        };
        if deliver && self.deliver() {
            return true;
        }
        if !ready.is_empty() {
            let index = self.sim.lock().rng.below(ready.len() as u64) as usize;
            self.poll(ready[index]);
            return true;
        }
        self.advance()
    }

    fn driver(&mut self) -> Driver {
        if let Some(driver) = &self.process {
            return driver.clone();
        }
        let sim = Arc::new(self.sim.clone());
        let adapters = Adapters {
            store: sim.clone(),
            queue: sim.clone(),
            models: sim.clone(),
            tools: sim.clone(),
            world: sim,
            watch: Arc::new(()),
        };
        // Who alone carries runs on, as on a laptop, sets the entry of a new run ahead at once.
        let begin_ms = if self.sim.lock().faults.exclusive { SETTINGS.lease_ms } else { SETTINGS.begin_ms };
        let settings = Settings { records_per_message: self.records_per_message, begin_ms, ..SETTINGS };
        let driver = Driver::new(adapters, settings).with_bugs(self.bug.map(Bugs::plant).unwrap_or_default());
        if self.sim.lock().faults.exclusive {
            self.process = Some(driver.clone());
        }
        driver
    }

    fn spawn(&mut self, run: Option<RunId>, bounded: bool, future: impl Future<Output = ()> + Send + 'static) {
        let id = self.next_task;
        self.next_task += 1;
        let mut state = self.sim.lock();
        if let Some(run) = run {
            state.truth.works_for(id, run);
        }
        let started = state.now;
        drop(state);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.tasks.push(Task { id, run, future: Box::pin(future), woken, started, bounded });
    }

    fn poll(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.woken.0.store(false, Ordering::Relaxed);
        {
            let mut state = self.sim.lock();
            state.current = task.id;
            state.crashed = false;
        }
        let waker = Waker::from(Arc::clone(&task.woken));
        let done = matches!(task.future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
        let crashed = self.sim.lock().crashed;
        if done || crashed {
            self.end(index);
        }
    }

    fn end(&mut self, index: usize) {
        let task = self.tasks.swap_remove(index);
        let id = task.id;
        if self.visitor == Some(id) {
            self.visitor = None;
        }
        drop(task);
        self.sim.lock().truth.model_ended(id);
    }

    fn start_run(&mut self) {
        let (run, started) = {
            let mut state = self.sim.lock();
            let entropy = u128::from(state.rng.next());
            let run = RunId::new(state.now, entropy);
            let pauses = state.rng.chance(300);
            let cents = state.rng.between(1, 60);
            let tokens = state.rng.between(2_000, 40_000);
            let many = state.faults.many_models;
            let context_tokens = (many && state.rng.chance(500)).then(|| state.rng.between(500, 3_000));
            let model = |name: &str| ModelChoice {
                name: name.to_owned(),
                price: Some(models::PRICE),
                context_tokens,
                endpoint: None,
                image_tokens: 0,
            };
            let form = OutputSchema { name: "answer".to_owned(), schema: "{}".to_owned() };
            let config = RunConfig {
                tenant: Default::default(),
                min_tier: None,
                model: model("sim"),
                fallbacks: if many && state.rng.chance(500) { vec![model("second"), model("third")] } else { Vec::new() },
                summarizers: if many && state.rng.chance(300) { vec![model("short")] } else { Vec::new() },
                output: (many && state.rng.chance(400)).then_some(form),
                assistant: None,
                instructions: "do it".to_owned(),
                tools: tools::specs(),
                limits: Limits {
                    output_tokens: 1_000,
                    output_tokens_min: 50,
                    depth: state.faults.depth,
                    ..Limits::default()
                },
                budget: Budget {
                    usd: Some(Usd::from_nanos(cents * 10_000_000)),
                    tokens: state.rng.chance(300).then_some(tokens),
                    steps: state.rng.between(1, 14) as u32,
                    active_ms: 100_000_000,
                    when_exceeded: if pauses { WhenExceeded::Pause } else { WhenExceeded::End },
                },
            };
            let started = Started {
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
            };
            (run, started)
        };
        let driver = self.driver();
        self.spawn(None, false, async move {
            drop(driver.create(run, started).await);
        });
    }

    fn spawn_act(&mut self, act: people::Act) {
        let driver = self.driver();
        let run = act.run();
        self.sim.trace(|| format!("somebody: {act:?}"));
        let sim = self.sim.clone();
        self.visitor = Some(self.next_task);
        self.spawn(Some(run), false, act.perform(sim, driver));
    }

    fn deliver(&mut self) -> bool {
        let Some(delivery) = self.sim.lock().receive() else { return false };
        let driver = self.driver();
        let sim = self.sim.clone();
        let run = delivery.message.run();
        let bounded = matches!(delivery.message, Message::Step { .. }) && !sim.lock().faults.exclusive;
        let dead = delivery.receives > self.receives;
        let wait = {
            let mut state = sim.lock();
            let late = state.faults.stall > 0 && state.rng.chance(30);
            if late { state.rng.below(VISIBILITY_MS / 2) } else { 0 }
        };
        sim.trace(|| format!("deliver {:?} (receive {})", delivery.message, delivery.receives));
        self.spawn(Some(run), bounded, async move {
            if wait > 0 {
                sim.sleep_ms(wait).await;
            }
            handle(&sim, &driver, &delivery, dead).await;
        });
        true
    }

    fn sweep_if_due(&mut self) {
        let now = self.sim.lock().now;
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now.plus(60_000);
        self.count_rescues();
        let driver = self.driver();
        self.spawn(None, false, async move {
            drop(driver.sweep(20).await);
        });
    }

    /// Counts runs that sweep is about to find overdue although no message and no worker is about them.
    fn count_rescues(&self) {
        let mut state = self.sim.lock();
        let now = state.now;
        let overdue = state.runs.iter().filter(|(_, stored)| stored.due.is_some_and(|due| due.at.plus(60_000) <= now));
        // Who begins a run from outside may die before the first message is sent, and nobody else knows of it.
        let orphaned = overdue.filter(|(run, stored)| stored.records.len() > 1 && is_stuck(&state, **run, stored)).filter(
            |(run, stored)| {
                // A sub-run's worker answers for telling the run above it.
                let below = stored.records.last().map(|last| last.record.head.due.calls()).unwrap_or_default();
                let below = below.iter().filter_map(|call| match call.state {
                    CallState::SubRun { run, .. } => Some(run),
                    _ => None,
                });
                !below.chain([**run]).any(|run| {
                    let queued = state.queue.iter().any(|queued| queued.message.run() == run);
                    queued || self.tasks.iter().any(|task| task.run == Some(run))
                })
            },
        );
        let count = orphaned.count() as u64;
        state.truth.rescued += count;
    }

    /// The process of an exclusive world is killed and started again.
    fn crash_process(&mut self) {
        self.sim.trace(|| "the process is killed".to_owned());
        while !self.tasks.is_empty() {
            self.end(0);
        }
        self.process = None;
        let unfinished = {
            let mut state = self.sim.lock();
            state.queue.clear();
            state.timers.clear();
            store::recover(&mut state);
            let unfinished = |stored: &StoredRun| {
                stored.due.is_some() || stored.records.last().is_some_and(|last| !last.record.head.status.is_ended())
            };
            state.runs.iter().filter(|(_, stored)| unfinished(stored)).map(|(run, _)| *run).collect::<Vec<_>>()
        };
        for run in unfinished {
            let driver = self.driver();
            let sim = self.sim.clone();
            self.spawn(Some(run), false, async move {
                while driver.revive(run).await.is_err() {
                    sim.sleep_ms(1_000).await;
                }
            });
        }
    }

    /// Moves time to the next thing that time brings.
    fn advance(&mut self) -> bool {
        let now = {
            let mut state = self.sim.lock();
            let timer = state.timers.iter().map(|(time, ..)| *time).min();
            let full = self.tasks.len() >= WORKERS;
            let message = state.queue.iter().map(|queued| queued.visible).filter(|_| !full).min();
            let wanted = state.runs.values().any(|stored| stored.due.is_some());
            let sweep = wanted.then_some(self.next_sweep);
            let Some(next) = [timer, message, sweep].into_iter().flatten().min() else { return false };
            state.now = state.now.max(next);
            let now = state.now;
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.timers).into_iter().partition(|(time, ..)| *time <= now);
            state.timers = later;
            drop(state);
            due.into_iter().for_each(|(_, _, waker)| waker.wake());
            now
        };
        while let Some(index) = self
            .tasks
            .iter()
            .position(|task| task.bounded && now.since(task.started) >= SETTINGS.step_ms + VISIBILITY_MS / 2)
        {
            self.end(index);
        }
        true
    }
}

/// True if a run that no message is about could go on, or owes somebody something.
fn is_stuck(state: &State, run: RunId, stored: &StoredRun) -> bool {
    let items = stored.items.values().chain(stored.volatile.values()).cloned();
    let Ok(log) = RunLog::fold(run, stored.records.clone(), items) else { return true };
    let mut owed = log.run.head.due.calls().iter().map(|call| match call.state {
        CallState::HandedOut { .. } => !log.run.head.status.is_ended() && log.result(call.id).is_none(),
        CallState::SubRun { run, .. } => !state.runs.contains_key(&run),
        _ => false,
    });
    let told = |parent: &Parent| {
        state.runs.get(&parent.run).is_some_and(|stored| stored.items.contains_key(&ItemKey::Result { call: parent.call }))
    };
    let untold = log.run.head.status.is_ended() && log.started().parent.as_ref().is_some_and(|parent| !told(parent));
    matches!(log.next(state.now), Next::Commit { .. } | Next::Model) || untold || owed.any(|owed| owed)
}

async fn handle(sim: &Sim, driver: &Driver, delivery: &Delivery, dead: bool) {
    let handled = if dead { driver.dead_letter(delivery).await } else { driver.handle(delivery).await };
    let mut state = sim.lock();
    match handled {
        Ok(Disposition::Acknowledge) => state.acknowledge(delivery),
        Ok(Disposition::GiveBack(at)) => state.give_back(delivery, at),
        Err(_) => {
            let at = state.now.plus(2_000);
            state.give_back(delivery, at);
        }
    }
}
