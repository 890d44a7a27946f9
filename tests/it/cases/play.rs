//! Plays a case: starts its run, lets happen what its script says, and gathers what came of it.

use super::engine::{Engine, Manner};
use super::format::{Act, Case, Line};
use super::show;
use super::stage::{BEGIN, Executed};
use errand_core::{
    Budget, Message, ModelChoice, ModelRequest, OutputSchema, Price, RunConfig, RunId, RunLog, Started, Timestamp,
};
use errand_engine::ports::{Models, World};
use errand_engine::{Error, ForkOptions};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// What came of a case.
pub(super) struct Played {
    /// What is shown, to be compared with what is expected.
    pub(super) shown: String,
    /// All runs by the name a case gives them: `R1` is the first, and so on.
    pub(super) runs: Vec<RunLog>,
    /// The conversation of the thread before each run.
    pub(super) histories: Vec<Vec<Message>>,
    /// What tools executed.
    pub(super) executed: BTreeMap<String, Executed>,
    /// How often the engine was stopped and started again.
    pub(super) restarts: u32,
}

impl Played {
    /// The records of all runs, a line each.
    pub(super) fn records(&self) -> String {
        let names: Vec<RunId> = self.runs.iter().map(|log| log.run.id).collect();
        self.runs.iter().map(|log| show::records(log, &names)).collect()
    }
}

/// A case under way.
pub(super) struct Play<'a> {
    case: &'a Case,
    pub(super) engine: Engine,
    /// Runs in the order of their names.
    names: Vec<RunId>,
    told: Vec<String>,
}

/// Plays the whole script.
pub(super) async fn play(case: &Case, manner: Manner) -> Played {
    let mut play = Play::begin(case, manner).await;
    for line in &case.script {
        play.act(line).await;
    }
    play.finish().await
}

impl<'a> Play<'a> {
    /// Creates the case's run.
    pub(super) async fn begin(case: &'a Case, manner: Manner) -> Self {
        let engine = Engine::start(case, manner);
        let run = RunId::new(Timestamp::from_millis(BEGIN), 1);
        let mut play = Self { case, engine, names: Vec::new(), told: Vec::new() };
        let started = play.started();
        let created = play.engine.driver().create(run, started).await;
        play.tell("create", created.map(|_| ()));
        play.name_new().await;
        play
    }

    fn started(&self) -> Started {
        let config = RunConfig {
            tenant: Default::default(),
            min_tier: None,
            fallbacks: self.case.fallbacks.iter().map(|name| self.model(name)).collect(),
            summarizers: self.case.summarizers.iter().map(|name| self.model(name)).collect(),
            output: self.case.output.clone().map(|schema| OutputSchema { name: "answer".to_owned(), schema }),
            assistant: None,
            model: self.model("main"),
            instructions: "Be brief.".to_owned(),
            tools: self.case.tools.iter().map(|line| line.spec.clone()).collect(),
            limits: self.case.limits,
            budget: self.case.budget,
        };
        Started {
            images: Vec::new(),
            config,
            task: self.case.task.clone(),
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

    /// A model of the case as a run is pinned to it.
    pub(super) fn model(&self, name: &str) -> ModelChoice {
        let name = format!("scripted/{name}");
        // A model that nobody plays is one that the provider does not know.
        let facts = self.engine.stage.models.facts(&name).ok();
        let price = facts.as_ref().map_or(Some(Price::FREE), |facts| facts.price).filter(|_| !self.case.price_unknown);
        ModelChoice {
            image_tokens: 0,
            name,
            price,
            context_tokens: facts.and_then(|facts| facts.context_tokens),
            endpoint: None,
        }
    }

    /// Lets one line of the script happen.
    pub(super) async fn act(&mut self, line: &Line) {
        match &line.act {
            Act::Work => self.engine.work().await,
            Act::Step => assert!(self.engine.step().await, "{}: no message is due", self.case.name),
            Act::Wait(millis) => self.engine.wait(*millis).await,
            Act::Sweep => self.engine.sweep().await,
            Act::HoldSend => self.engine.stage.clock.hold.store(true, Ordering::Relaxed),
            Act::Crash => self.engine.crash().await,
            Act::Restart => self.engine.restart().await,
            Act::ClockBack(millis) => self.engine.stage.clock.set_back(*millis),
            _ => {
                let said = self.ask(line).await;
                self.tell(&line.text, said);
                self.engine.settle().await;
            }
        }
        self.name_new().await;
    }

    /// Asks the engine for something, as people do.
    async fn ask(&mut self, line: &Line) -> Result<(), Error> {
        let (driver, run) = (self.engine.driver(), self.run(line));
        match &line.act {
            Act::Decide(call, decision) => driver.decide(run, *call, decision.clone(), "ann").await,
            Act::Answer(call, text) => driver.answer(run, *call, text).await,
            Act::Message(id, text) => driver.message(run, id, text).await.map(|_| ()),
            Act::Raise(id, by) => driver.raise(run, id, *by, "ann").await,
            Act::Cancel(reason) => {
                let cancelled = driver.cancel(run, reason, "ann").await?;
                self.told.push(format!("> {}\n  {}", line.text, show::cancellation(&cancelled)));
                Ok(())
            }
            Act::Fork { at, model, budget, message } => {
                let budget = budget.map(|usd| Budget { usd: Some(usd), ..self.case.budget });
                let model = model.as_ref().map(|name| self.model(name));
                let options = ForkOptions { model, budget, message: message.clone() };
                self.fork(run, *at, options).await.map(|_| ())
            }
            other => unreachable!("{other:?} is no question"),
        }
    }

    /// Forks a run.
    pub(super) async fn fork(&mut self, origin: RunId, at: u64, options: ForkOptions) -> Result<RunId, Error> {
        let run = RunId::new(self.engine.stage.clock.now(), 1_000 + self.names.len() as u128);
        self.engine.driver().fork(origin, at, run, options).await
    }

    fn run(&self, line: &Line) -> RunId {
        let number: usize = line.run[1..].parse().unwrap();
        *self.names.get(number - 1).unwrap_or_else(|| panic!("{}: there is no {}", self.case.name, line.run))
    }

    fn tell(&mut self, what: &str, said: Result<(), Error>) {
        if let Err(error) = said {
            self.told.push(format!("> {what}\n  refused: {}", error.code()));
        }
    }

    /// Names runs that have come up, parents before their sub-runs.
    async fn name_new(&mut self) {
        let mut new: Vec<RunLog> =
            self.engine.logs().await.into_iter().filter(|log| !self.names.contains(&log.run.id)).collect();
        let begun = |log: &RunLog| log.records.iter().find(|one| one.record.run == log.run.id).map(|one| one.record.at);
        new.sort_by_key(|log| (log.run.head.depth, begun(log), log.started().parent.as_ref().map(|p| p.call), log.run.id));
        self.names.extend(new.iter().map(|log| log.run.id));
    }

    /// Gathers what came of it.
    pub(super) async fn finish(self) -> Played {
        let (mut runs, mut histories) = (Vec::new(), Vec::new());
        for run in &self.names {
            let log = self.engine.load(*run).await;
            histories.push(self.engine.driver().history(&log).await.unwrap());
            runs.push(log);
        }
        let requests: Vec<Option<ModelRequest>> =
            runs.iter().zip(&histories).map(|(log, history)| self.last_request(log, history)).collect();
        let executed = self.engine.stage.tools.executed();
        let shown = show::all(&self.told, &self.names, &runs, &requests, &executed);
        Played { shown, runs, histories, executed, restarts: self.engine.restarts }
    }

    /// What the model was sent for the last record it made, as it arrived there.
    fn last_request(&self, log: &RunLog, history: &[Message]) -> Option<ModelRequest> {
        let own = log.records.iter().rev().filter(|one| one.record.run == log.run.id);
        let made = own.map(|one| &one.record).find(|record| record.event.kind().starts_with("model_"))?;
        let before = log.prefix(made.run, made.number - 1).unwrap();
        let request = before.request(history)?;
        let sent = self.engine.stage.models.seen(&request.digest());
        assert!(sent.is_some(), "{}: the model was sent something else than record {} says", self.case.name, made.number);
        sent
    }
}
