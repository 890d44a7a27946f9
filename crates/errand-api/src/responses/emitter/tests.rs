use super::*;
use errand_core::{
    Budget, Finish, Hash, Input, Limits, Making, ModelChoice, ModelError, ModelErrorKind, ModelFailed, ModelReply, Nonce,
    OutputSchema, Started, Timestamp, WhenExceeded,
};

fn begun(output: Option<OutputSchema>) -> RunLog {
    let model = ModelChoice { image_tokens: 0, name: "m".to_owned(), price: None, context_tokens: None, endpoint: None };
    let config = RunConfig {
        tenant: Default::default(),
        min_tier: None,
        model,
        fallbacks: Vec::new(),
        summarizers: Vec::new(),
        instructions: String::new(),
        tools: Vec::new(),
        limits: Limits::default(),
        budget: Budget { usd: None, tokens: None, steps: 9, active_ms: 90_000, when_exceeded: WhenExceeded::End },
        output,
        assistant: None,
    };
    let started = Started {
        config,
        task: "t".to_owned(),
        images: Vec::new(),
        files: Vec::new(),
        workspace: None,
        history: None,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata: BTreeMap::new(),
        surface: None,
    };
    let at = Timestamp::from_millis(1);
    RunLog::begin(RunId::new(at, 1), started, at, Making { made_under: 0, attempt: 0, maker: Nonce(1) })
}

fn push(log: &mut RunLog, event: Event, attempt: u32) {
    let input = Input { event, books: Vec::new(), at: log.run.at.plus(10), began: None };
    let sealed = log.make(input, Vec::new(), Making { made_under: 0, attempt, maker: Nonce(1) }).unwrap();
    log.push(sealed);
}

fn replied(text: &str, reasoning: &str, finish: Finish, misfit: Option<&str>) -> Event {
    let reply = ModelReply {
        model: "m".to_owned(),
        text: text.to_owned(),
        reasoning: reasoning.to_owned(),
        calls: Vec::new(),
        opaque: None,
        finish,
        usage: None,
    };
    Event::ModelReplied(Box::new(ModelReplied {
        request: Hash::default(),
        reply,
        verdicts: Vec::new(),
        observations: Vec::new(),
        misfit: misfit.map(str::to_owned),
    }))
}

fn failed() -> Event {
    let message = "it broke off".to_owned();
    let error = ModelError { kind: ModelErrorKind::Garbled, message, retry_after_ms: None, may_be_charged: false };
    Event::ModelFailed(ModelFailed { error })
}

fn emitter(log: &RunLog) -> Emitter {
    let mut emitter = Emitter::new(log.run.id, &log.run.config);
    emitter.walk(log);
    emitter
}

/// Index, status and text of each message.
fn messages(emitter: &Emitter) -> Vec<(usize, String, String)> {
    let text = |item: &Value| item["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    let message = |(index, item): (usize, &Value)| {
        (item["type"] == "message").then(|| (index, item["status"].as_str().unwrap().to_owned(), text(item)))
    };
    emitter.items.iter().enumerate().filter_map(message).collect()
}

/// What the pieces told of each item add up to.
fn deltas(told: &[Told]) -> BTreeMap<u64, String> {
    let mut texts = BTreeMap::new();
    for event in told.iter().filter(|event| event.name.ends_with("text.delta")) {
        let index = event.data["output_index"].as_u64().unwrap();
        texts.entry(index).or_insert_with(String::new).push_str(event.data["delta"].as_str().unwrap());
    }
    texts
}

fn of(texts: &[(u64, &str)]) -> BTreeMap<u64, String> {
    texts.iter().map(|(index, text)| (*index, (*text).to_owned())).collect()
}

#[test]
fn an_attempt_that_died_closes_its_item_and_another_opens() {
    let mut log = begun(None);
    let mut live = emitter(&log);
    live.attempt(2, 1);
    live.text("The first");
    push(&mut log, failed(), 1);
    live.walk(&log);
    live.attempt(3, 1);
    live.text("The sec");
    push(&mut log, replied("The second.", "", Finish::Stop, None), 1);
    live.walk(&log);
    let row = |index, status: &str, text: &str| (index, status.to_owned(), text.to_owned());
    assert_eq!(messages(&live), [row(0, "incomplete", "The first"), row(1, "completed", "The second.")]);
    let told = live.take();
    assert_eq!(deltas(&told), of(&[(0, "The first"), (1, "The second.")]));
    assert!(told.windows(2).all(|pair| pair[0].number < pair[1].number), "a number came twice");
    assert_ne!(live.items[0]["id"], live.items[1]["id"]);
    // Whoever reads it later is shown the answer alone.
    assert_eq!(messages(&emitter(&log)), [row(0, "completed", "The second.")]);
}

#[test]
fn however_a_reply_came_its_pieces_add_up_and_its_numbers_are_the_same() {
    let mut log = begun(None);
    push(&mut log, replied("Ünïcode 漢字 text", "I think.", Finish::Stop, None), 1);
    let late = emitter(&log).take();
    let whole = of(&[(0, "I think."), (1, "Ünïcode 漢字 text")]);
    assert_eq!(deltas(&late), whole);
    type Play = fn(&mut Emitter);
    let plays: [Play; 4] = [
        |live| {
            live.reasoning("I th");
            live.reasoning("ink.");
            live.text("Ünïcode ");
            live.text("漢字 text");
        },
        |live| live.reasoning("I think."),
        |live| {
            live.reasoning("I ");
            live.lost();
            live.text("lost");
        },
        |_| (),
    ];
    for (index, play) in plays.into_iter().enumerate() {
        let mut live = Emitter::new(log.run.id, &log.run.config);
        live.attempt(2, 1);
        play(&mut live);
        live.walk(&log);
        let told = live.take();
        assert_eq!(deltas(&told), whole, "play {index}");
        assert_eq!(told.last(), late.last(), "play {index}");
    }
}

#[test]
fn pieces_that_are_not_of_the_reply_are_no_part_of_it() {
    let mut log = begun(None);
    let mut live = emitter(&log);
    live.attempt(2, 1);
    live.text("Something else");
    push(&mut log, replied("The answer.", "", Finish::Stop, None), 2);
    live.walk(&log);
    let statuses: Vec<String> = messages(&live).into_iter().map(|(_, status, _)| status).collect();
    assert_eq!(statuses, ["incomplete", "completed"]);
    // A late piece of a record that is there already changes nothing.
    live.attempt(2, 1);
    live.text("late");
    assert_eq!(messages(&live).len(), 2);
}

#[test]
fn where_the_answer_has_a_form_nothing_else_is_shown_as_one() {
    let schema = OutputSchema { name: "a".to_owned(), schema: "{}".to_owned() };
    let mut log = begun(Some(schema));
    let mut live = emitter(&log);
    live.attempt(2, 1);
    live.text("Let me see: ");
    push(&mut log, replied("Let me see: {", "", Finish::Stop, Some("not JSON")), 1);
    live.walk(&log);
    assert_eq!(messages(&live), []);
    push(&mut log, replied("{\"a\":1}", "", Finish::Stop, None), 1);
    live.walk(&log);
    assert_eq!(messages(&live), [(0, "completed".to_owned(), "{\"a\":1}".to_owned())]);
}

#[test]
fn what_comes_after_a_number_begins_within_a_piece() {
    let told = || Told { number: 14, name: "response.output_text.delta", data: json!({"delta": "hällo"}) };
    let rest = |after| told().after(after).map(|told| told.data["delta"].as_str().unwrap().to_owned());
    assert_eq!(rest(None).as_deref(), Some("hällo"));
    assert_eq!(rest(Some(9)).as_deref(), Some("hällo"));
    assert_eq!(rest(Some(11)).as_deref(), Some("llo"));
    assert_eq!(rest(Some(13)).as_deref(), Some("o"));
    assert_eq!(rest(Some(14)), None);
}
