use super::*;
use errand_core::{
    Approval, Budget, Class, Event, Executor, Finish, Input, Limits, Making, ModelChoice, ModelReply, Nonce, Observed,
    Price, RequestedCall, RunConfig, RunLog, Timestamp, ToolDefinition, ToolSpec, WhenExceeded,
};

const MAKING: Making = Making { made_under: 0, attempt: 0, maker: Nonce(1) };

fn tool(name: &str, executor: Executor, approval: Approval) -> ToolSpec {
    let definition = ToolDefinition { name: name.to_owned(), description: String::new(), parameters: "{}".to_owned() };
    ToolSpec {
        definition,
        class: Class::Pure,
        executor,
        approval,
        timeout_ms: 1_000,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    }
}

fn begun() -> RunLog {
    let config = RunConfig {
        tenant: Default::default(),
        min_tier: None,
        fallbacks: Vec::new(),
        summarizers: Vec::new(),
        output: None,
        assistant: None,
        model: ModelChoice {
            image_tokens: 0,
            name: "scripted/x".to_owned(),
            price: Some(Price::FREE),
            context_tokens: None,
            endpoint: None,
        },
        instructions: String::new(),
        tools: vec![
            tool("shell", Executor::Worker, Approval::Always),
            tool("ask_user", Executor::Person, Approval::Never),
            tool("wait", Executor::Timer, Approval::Never),
        ],
        limits: Limits::default(),
        budget: Budget { usd: None, tokens: None, steps: 9, active_ms: 90_000, when_exceeded: WhenExceeded::End },
    };
    let started = Started {
        images: Vec::new(),
        config,
        task: "t".to_owned(),
        files: Vec::new(),
        workspace: None,
        history: None,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata: Default::default(),
        surface: None,
    };
    RunLog::begin(RunId::new(Timestamp::from_millis(1), 1), started, Timestamp::from_millis(1), MAKING)
}

fn push(log: &mut RunLog, event: Event) {
    let at = log.run.at.plus(10);
    let sealed = log.make(Input { event, books: Vec::new(), at, began: None }, Vec::new(), MAKING).unwrap();
    log.push(sealed);
}

fn replied(names: &[&str], text: &str) -> Event {
    let calls: Vec<RequestedCall> = names
        .iter()
        .map(|name| RequestedCall { id: (*name).to_owned(), name: (*name).to_owned(), arguments: "{}".to_owned() })
        .collect();
    let verdict = |name: &&str| match *name {
        "nothing" => Verdict::Refused { code: "unknown_tool".to_owned(), error: "no".to_owned() },
        "wait" => Verdict::Accepted { class: None, until: Some(Timestamp::from_millis(5_000)), share: None },
        _ => Verdict::Accepted { class: None, until: None, share: None },
    };
    let verdicts = names.iter().map(verdict).collect();
    let reply = ModelReply {
        opaque: None,
        model: "x".to_owned(),
        text: text.to_owned(),
        reasoning: "hm".to_owned(),
        calls,
        finish: Finish::Stop,
        usage: None,
    };
    let request = errand_core::Hash::default();
    Event::ModelReplied(Box::new(ModelReplied { misfit: None, request, reply, verdicts, observations: Vec::new() }))
}

fn decided(index: u32, decision: Decision) -> Event {
    let call = CallId { record: 2, index };
    Event::Decided(errand_core::Decided { call, decision, by: "me".to_owned() })
}

/// A run that meets everything a person or the clock can owe.
fn eventful() -> RunLog {
    let mut log = begun();
    push(&mut log, replied(&["shell", "ask_user", "wait", "nothing"], "I ask."));
    push(&mut log, decided(0, Decision::Edit { arguments: "{\"a\":1}".to_owned() }));
    let unknown = Outcome::Unknown { reason: "it died".to_owned() };
    let observation = |index, outcome| Observation::free(CallId { record: 2, index }, outcome);
    push(&mut log, Event::Observed(Observed { observations: vec![observation(0, unknown)] }));
    push(&mut log, decided(0, Decision::Happened { note: String::new() }));
    let answered = vec![
        observation(1, Outcome::Ok { text: "blue".to_owned() }),
        observation(2, Outcome::Ok { text: "the time has come".to_owned() }),
    ];
    push(&mut log, Event::Observed(Observed { observations: answered }));
    push(&mut log, replied(&[], "Done."));
    log
}

fn projected(log: &RunLog) -> Vec<PublicEvent> {
    let mut projector = Projector::new(log.run.id);
    log.records.iter().flat_map(|sealed| projector.push(&sealed.record)).collect()
}

fn types(events: &[PublicEvent]) -> Vec<String> {
    let word = |event: &PublicEvent| serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned();
    events.iter().map(word).collect()
}

#[test]
fn every_record_tells_what_happened_and_what_is_owed() {
    let expected = [
        "run_started",
        "reasoning",
        "text",
        "tool_call",
        "tool_call",
        "tool_call",
        "tool_call_refused",
        "approval_needed",
        "question_asked",
        "timer_set",
        "decided",
        "tool_result",
        "outcome_unknown",
        "decided",
        "tool_result",
        "tool_result",
        "reasoning",
        "text",
        "usage",
        "run_done",
    ];
    assert_eq!(types(&projected(&eventful())), expected);
}

#[test]
fn numbers_depend_on_the_records_before_and_on_nothing_else() {
    let log = eventful();
    let all = projected(&log);
    assert!(all.iter().zip(1..).all(|(event, number)| event.seq == number));
    for number in 1..=log.run.number {
        let prefix = projected(&log.prefix(log.run.id, number).unwrap());
        assert_eq!(prefix, all[..prefix.len()], "up to record {number}");
    }
}

#[test]
fn a_call_is_named_as_commands_take_it_and_edited_arguments_are_shown() {
    let events = projected(&eventful());
    let json = serde_json::to_value(&events[7]).unwrap();
    assert_eq!((json["call"].as_str(), json["tool"].as_str()), (Some("2.0"), Some("shell")));
    let Kind::OutcomeUnknown { arguments, .. } = &events[12].kind else { panic!("{:?}", events[12]) };
    assert_eq!(arguments, "{\"a\":1}");
}

#[test]
fn every_type_is_documented() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/events.md")).unwrap();
    let source = include_str!("../events.rs");
    let body = source.split("pub enum Kind {").nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
    let variants = body.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"));
    let mut count = 0;
    for variant in variants.filter(|variant| variant.starts_with(char::is_uppercase)) {
        let word = variant.chars().fold(String::new(), |mut word, letter| {
            if letter.is_uppercase() && !word.is_empty() {
                word.push('_');
            }
            word.extend(letter.to_lowercase());
            word
        });
        assert!(guide.contains(&format!("| `{word}` |")), "docs/guide/events.md does not tell of `{word}`");
        count += 1;
    }
    assert!(count > 15, "the search for types has gone blind");
}
