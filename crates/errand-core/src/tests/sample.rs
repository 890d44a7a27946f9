//! Runs in every state, made by events as the engine makes them.

use crate::*;
use std::collections::BTreeSet;

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

pub(super) fn making() -> Making {
    Making { made_under: 0, attempt: 0, maker: Nonce(7) }
}

/// A price at which the numbers are easy: a token of input costs 1 nanodollar, one of output 2.
pub(super) const PRICE: Price = Price { input: 1_000_000, cached_input: 500_000, output: 2_000_000 };

/// A tool per executor, and `gate`, which a person must allow.
pub(super) fn tools() -> Vec<ToolSpec> {
    let kinds = [
        ("quick", Class::Pure, Executor::Inline, Approval::Never),
        ("look", Class::Pure, Executor::Worker, Approval::Never),
        ("pay", Class::Effectful, Executor::Worker, Approval::Never),
        ("gate", Class::Effectful, Executor::Worker, Approval::Always),
        ("ask", Class::Pure, Executor::Person, Approval::Never),
        ("wait", Class::Pure, Executor::Timer, Approval::Never),
        ("delegate", Class::Pure, Executor::SubRun, Approval::Never),
    ];
    let tool = |(name, class, executor, approval): (&str, Class, Executor, Approval)| ToolSpec {
        definition: ToolDefinition {
            name: name.to_owned(),
            description: format!("does {name}"),
            parameters: r#"{"type":"object"}"#.to_owned(),
        },
        class,
        executor,
        approval,
        timeout_ms: 30_000,
        taint_out: vec![format!("from_{name}")],
        source: None,
        min_tier: None,
        egress: None,
    };
    kinds.into_iter().map(tool).collect()
}

pub(super) fn budget() -> Budget {
    Budget {
        usd: Some(Usd::from_nanos(1_000_000)),
        tokens: None,
        steps: 50,
        active_ms: 600_000,
        when_exceeded: WhenExceeded::Pause,
    }
}

pub(super) fn started() -> Started {
    Started {
        images: Vec::new(),
        config: RunConfig {
            tenant: Default::default(),
            min_tier: None,
            fallbacks: Vec::new(),
            summarizers: Vec::new(),
            output: None,
            assistant: None,
            model: ModelChoice {
                image_tokens: 0,
                name: "m".to_owned(),
                price: Some(PRICE),
                context_tokens: None,
                endpoint: None,
            },
            instructions: "Be brief.".to_owned(),
            tools: tools(),
            limits: Limits { output_tokens: 1_000, ..Limits::default() },
            budget: budget(),
        },
        task: "Do the errand.".to_owned(),
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

pub(super) fn run_id(number: u128) -> RunId {
    RunId::new(at(0), number)
}

/// A new run whose model call is due.
pub(super) fn begun() -> RunLog {
    RunLog::begin(run_id(1), started(), at(0), making())
}

/// The same with another budget.
pub(super) fn begun_with(budget: Budget) -> RunLog {
    let mut started = started();
    started.config.budget = budget;
    RunLog::begin(run_id(1), started, at(0), making())
}

/// Lets an event happen a second after the last record.
pub(super) fn push(log: &mut RunLog, event: Event) {
    push_with(log, event, Vec::new(), Vec::new());
}

pub(super) fn push_with(log: &mut RunLog, event: Event, books: Vec<Booked>, consumed: Vec<Consumed>) {
    let input = Input { event, books, at: log.run.at.plus(1_000), began: None };
    let sealed = log.make(input, consumed, making()).unwrap();
    log.push(sealed);
}

/// A reply that says `text` and makes one call of each of `tools`, each accepted.
pub(super) fn reply(log: &RunLog, text: &str, tools: &[&str]) -> Event {
    let calls: Vec<RequestedCall> = (0..)
        .zip(tools)
        .map(|(index, name)| RequestedCall { id: format!("c{index}"), name: (*name).to_owned(), arguments: "{}".to_owned() })
        .collect();
    let until = Some(at(3_600_000));
    let verdicts =
        tools.iter().map(|tool| Verdict::Accepted { class: None, until: until.filter(|_| *tool == "wait"), share: None });
    let quick = (0..).zip(tools).filter(|(_, tool)| **tool == "quick");
    Event::ModelReplied(Box::new(ModelReplied {
        misfit: None,
        request: log.request(&[]).map(|request| request.digest()).unwrap_or_default(),
        reply: ModelReply {
            opaque: None,
            model: "m".to_owned(),
            text: text.to_owned(),
            reasoning: String::new(),
            calls,
            finish: Finish::Stop,
            usage: Some(Usage { input_tokens: 100, cached_input_tokens: 40, output_tokens: 10, reasoning_tokens: 3 }),
        },
        verdicts: verdicts.collect(),
        observations: quick.map(|(index, _)| observation(log.run.number + 1, index, ok("seen"))).collect(),
    }))
}

pub(super) fn ok(text: &str) -> Outcome {
    Outcome::Ok { text: text.to_owned() }
}

pub(super) fn observation(record: u64, index: u32, outcome: Outcome) -> Observation {
    Observation::free(CallId { record, index }, outcome)
}

pub(super) fn observed(record: u64, index: u32, outcome: Outcome) -> Event {
    Event::Observed(Observed { observations: vec![observation(record, index, outcome)] })
}

pub(super) fn decided(record: u64, index: u32, decision: Decision) -> Event {
    Event::Decided(Decided { call: CallId { record, index }, decision, by: "ann".to_owned() })
}

pub(super) fn failed(kind: ModelErrorKind, retry_after_ms: Option<u64>) -> Event {
    let message = "it failed".to_owned();
    Event::ModelFailed(ModelFailed { error: ModelError { kind, message, retry_after_ms, may_be_charged: false } })
}

pub(super) fn cancelled() -> Event {
    Event::Cancelled(Cancelled { reason: "enough".to_owned(), by: "ann".to_owned() })
}

pub(super) fn forked(message: Option<&str>, carried: Vec<Observation>) -> Event {
    Event::Forked(Box::new(Forked {
        run: run_id(2),
        origin: run_id(1),
        at: 2,
        model: None,
        budget: None,
        message: message.map(str::to_owned),
        carried,
    }))
}

/// A run whose reply made one call of each of `tools`; the calls are `2.0` and on.
pub(super) fn called(tools: &[&str]) -> RunLog {
    let mut log = begun();
    let event = reply(&log, "", tools);
    push(&mut log, event);
    log
}

/// A run in each state there is, by name. Where a call is pending, it is `2.0`.
pub(super) fn states() -> Vec<(&'static str, RunLog)> {
    let after = |mut log: RunLog, event: Event| {
        push(&mut log, event);
        log
    };
    let answered = reply(&begun(), "42", &[]);
    let exceeded = Event::BudgetExceeded(BudgetExceeded { bound: BudgetBound::Usd });
    let ending = Budget { when_exceeded: WhenExceeded::End, ..budget() };
    let unknown = observed(2, 0, Outcome::Unknown { reason: "lost".to_owned() });
    let mut withdrawn = started();
    withdrawn.withdrawn = Some("run above it has ended".to_owned());
    let states = vec![
        ("model", begun()),
        ("model, later", after(begun(), failed(ModelErrorKind::Unavailable, None))),
        ("handed out", called(&["look"])),
        ("approval", called(&["gate"])),
        ("approval, other", called(&["gate", "look"])),
        ("person", called(&["ask"])),
        ("timer", called(&["wait"])),
        ("sub-run", called(&["delegate"])),
        ("unknown", after(called(&["pay"]), unknown)),
        ("done, other", after(called(&["look", "pay"]), observed(2, 0, ok("seen")))),
        ("paused", after(begun(), exceeded.clone())),
        ("done", after(begun(), answered)),
        ("failed", after(begun(), Event::Failed(Failed { code: "c".to_owned(), message: "m".to_owned() }))),
        ("cancelled", after(begun(), cancelled())),
        ("cancelled, calls", after(called(&["pay"]), cancelled())),
        ("budget", after(begun_with(ending), exceeded)),
        ("withdrawn", RunLog::begin(run_id(1), withdrawn, at(0), making())),
    ];
    let statuses: BTreeSet<&str> = states.iter().map(|(_, log)| log.run.head.status.code()).collect();
    assert_eq!(statuses.len(), 7, "a state of each status: {statuses:?}");
    states
}

/// What a summarizer says: nothing yet, in 900 tokens.
pub(super) fn summary() -> ModelReply {
    ModelReply {
        model: "sample".to_owned(),
        text: String::new(),
        reasoning: String::new(),
        calls: Vec::new(),
        opaque: None,
        finish: Finish::Stop,
        usage: Some(Usage { input_tokens: 100, cached_input_tokens: 0, output_tokens: 900, reasoning_tokens: 0 }),
    }
}

/// A log whose conversation a summarizer shortened with `reply`, because the model would not take it.
pub(super) fn compacted(reply: ModelReply) -> RunLog {
    let mut started = started();
    started.given = vec![Message::System { text: "a rule of the caller".to_owned() }, Message::user("do it")];
    started.config.limits.answer_tokens = 1_000;
    let mut log = RunLog::begin(run_id(9), started, at(0), making());
    let event = self::reply(&log, "I look.", &["quick"]);
    push(&mut log, event);
    push(&mut log, failed(ModelErrorKind::ContextFull, None));
    let request = log.request(&[]).expect("a summary is due");
    let event = Event::Compacted(Box::new(log.compact(&request, reply)));
    push(&mut log, event);
    log
}
