//! The size of requests: what the core reserves is never less than what the model is sent.

use super::sample::*;
use crate::*;

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    /// Mostly short texts, and now and then one that no spare room hides.
    fn text(&mut self, most: u64) -> String {
        let most = if self.roll(10) == 0 { most * 20 } else { most };
        (0..self.roll(most)).map(|_| ["a", " ", "ß", "字", "\n"][self.0 as usize % 5]).collect()
    }
}

/// Bytes of everything a request sends.
fn bytes(request: &ModelRequest) -> u64 {
    let tools = request.tools.iter();
    let tools = tools.map(|tool| (tool.name.len() + tool.description.len() + tool.parameters.len()) as u64);
    request.messages.iter().map(Message::bytes).chain(tools).sum()
}

/// How a provider counts.
#[derive(Debug, Clone, Copy)]
enum Counting {
    /// It does not say.
    Silent,
    /// A token per byte, the most there is.
    Bytes,
    /// A token per four bytes; what follows is counted in bytes again.
    Quarters,
    /// Like `Bytes`, and every third reply comes without a count.
    Patchy,
}

impl Counting {
    fn usage(self, turn: u64, input: u64, output: u64) -> Option<Usage> {
        let divisor = match self {
            Counting::Silent => return None,
            Counting::Patchy if turn.is_multiple_of(3) => return None,
            Counting::Bytes | Counting::Patchy => 1,
            Counting::Quarters => 4,
        };
        let (input_tokens, output_tokens) = (input / divisor, output / divisor);
        Some(Usage { input_tokens, cached_input_tokens: 0, output_tokens, reasoning_tokens: 0 })
    }

    /// What the provider counts at most where the core must know it.
    fn tokens(self, bytes: u64) -> u64 {
        if matches!(self, Counting::Quarters) { bytes / 4 } else { bytes }
    }
}

/// A reply with random text and calls, some refused, as the engine would record it.
fn random_reply(log: &RunLog, dice: &mut Dice, turn: u64, counting: Counting, calls_max: u64) -> Event {
    // With very many calls, those that end at once: the others take as many events to be over.
    let names = if calls_max > 50 { &["quick", "nobody"][..] } else { &["quick", "look", "gate", "ask", "nobody"] };
    let request = log.request(&[]).unwrap();
    let calls: Vec<RequestedCall> = (0..dice.roll(calls_max + 1))
        .map(|_| RequestedCall {
            id: dice.text(9),
            name: names[dice.roll(names.len() as u64) as usize].to_owned(),
            arguments: dice.text(40),
        })
        .collect();
    let verdict = |call: &RequestedCall, dice: &mut Dice| match call.name.as_str() {
        "nobody" => Verdict::Refused { code: "unknown_tool".to_owned(), error: dice.text(60) },
        _ if dice.roll(4) == 0 => Verdict::Refused { code: "arguments_invalid".to_owned(), error: dice.text(60) },
        _ => Verdict::Accepted { class: None, until: None, share: None },
    };
    let verdicts: Vec<Verdict> = calls.iter().map(|call| verdict(call, dice)).collect();
    let quick = (0..)
        .zip(calls.iter().zip(&verdicts))
        .filter(|(_, (call, verdict))| call.name == "quick" && matches!(verdict, Verdict::Accepted { .. }));
    let observations = quick.map(|(index, _)| observation(log.run.number + 1, index, ok(&dice.text(200)))).collect();
    // Most replies must not end the run: without a call they are cut off.
    let finish = if calls.is_empty() { Finish::Length } else { Finish::Stop };
    let text = dice.text(120);
    let output = text.len() + calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>();
    let usage = counting.usage(turn, bytes(&request), output as u64);
    let reply = ModelReply { opaque: None, model: "m".to_owned(), text, reasoning: String::new(), calls, finish, usage };
    Event::ModelReplied(Box::new(ModelReplied { misfit: None, request: request.digest(), reply, verdicts, observations }))
}

/// Something that ends or decides a pending call, or is said.
fn random_event(log: &RunLog, dice: &mut Dice) -> Event {
    let Due::Calls { calls } = &log.run.head.due else {
        if dice.roll(4) == 0 {
            let mut event = forked(Some("And now?"), Vec::new());
            if let Event::Forked(forked) = &mut event {
                forked.model = Some(ModelChoice {
                    image_tokens: 0,
                    name: dice.text(9),
                    price: Some(PRICE),
                    context_tokens: None,
                    endpoint: None,
                });
            }
            return event;
        }
        let texts = 1 + dice.roll(3);
        let messages = (0..texts).map(|id| UserMessage { id: id.to_string(), text: dice.text(90) }).collect();
        return Event::Messaged(Messaged { messages });
    };
    let open: Vec<&PendingCall> = calls.iter().filter(|call| call.state != CallState::Done).collect();
    let call = open[dice.roll(open.len() as u64) as usize];
    let decision = match (&call.state, dice.roll(3)) {
        (CallState::Approval, 0) => Decision::Approve,
        (CallState::Approval, 1) => Decision::Edit { arguments: dice.text(200) },
        (CallState::Approval, _) => Decision::Reject { reason: dice.text(90) },
        (CallState::Unknown, 0) => Decision::Happened { note: dice.text(90) },
        (CallState::Unknown, _) => Decision::NotHappened { note: dice.text(90) },
        _ => {
            let outcome = match dice.roll(4) {
                0 => Outcome::error("broken", dice.text(90)),
                1 => Outcome::Unknown { reason: dice.text(90) },
                _ => ok(&dice.text(300)),
            };
            return observed(call.id.record, call.id.index, outcome);
        }
    };
    decided(call.id.record, call.id.index, decision)
}

/// Lives a random run and looks at every request on the way. Returns how many there were.
fn live(seed: u64, counting: Counting, calls_max: u64) -> u64 {
    let mut dice = Dice(seed);
    let mut started = started();
    started.task = format!("x{}", dice.text(400));
    started.files = vec![InputFile { path: dice.text(30), bytes: dice.roll(1 << 40), sha256: Hash::default() }];
    started.config.limits.malformed_replies = u32::MAX;
    started.config.budget = Budget { usd: None, ..budget() };
    let mut log = RunLog::begin(run_id(1), started, at(0), making());
    let mut requests = 0;
    let (mut asked, mut before) = (None::<Asked>, None);
    for turn in 0..40 {
        if let Some(request) = log.request(&[]) {
            // Gone on from the one before, it is the same to the byte.
            let gone_on = asked.take().and_then(|earlier| log.ask_on(earlier));
            let way = Some((log.run.head.due.task(), request.model.clone()));
            let is_same_way = way == before && log.run.head.due.task() == Some(ModelTask::Turn);
            assert!(gone_on.is_some() || !is_same_way, "seed {seed}, record {}: made anew", log.run.number);
            before = way;
            let made = gone_on.or_else(|| log.ask(&[])).unwrap();
            assert_eq!((made.request(), made.request().digest()), (&request, request.digest()), "seed {seed}");
            asked = Some(made);
            let bound = log.run.head.context.token_bound(0);
            let sent = counting.tokens(bytes(&request));
            assert!(bound >= sent, "seed {seed}, {counting:?}, record {}: {sent} sent, bound {bound}", log.run.number);
            requests += 1;
        }
        let event = match (&log.run.head.due, dice.roll(4)) {
            (Due::Model { .. }, 1..) => random_reply(&log, &mut dice, turn, counting, calls_max),
            (Due::Model { .. } | Due::Calls { .. }, _) => random_event(&log, &mut dice),
            _ => break,
        };
        push(&mut log, event);
    }
    replay(&log, &[]).unwrap();
    requests
}

#[test]
fn no_request_is_larger_than_what_is_reserved_for_it() {
    let mut requests = 0;
    for counting in [Counting::Silent, Counting::Bytes, Counting::Quarters, Counting::Patchy] {
        requests += (0..40).map(|seed| live(seed, counting, 6)).sum::<u64>();
    }
    assert!(requests > 1_500, "{requests}");
}

#[test]
fn no_number_of_calls_in_a_reply_outgrows_the_reserve() {
    for counting in [Counting::Silent, Counting::Bytes] {
        assert!((0..3).map(|seed| live(seed, counting, 120)).sum::<u64>() > 90);
    }
}

/// What one model counted in its tokens says nothing of another's.
#[test]
fn a_fork_to_another_model_is_counted_anew() {
    let mut started = started();
    started.task = "字".repeat(10_000);
    let mut log = RunLog::begin(run_id(1), started, at(0), making());
    let mut event = reply(&log, "I look.", &["quick"]);
    if let Event::ModelReplied(replied) = &mut event {
        replied.reply.usage = Some(Usage { input_tokens: 10_000, output_tokens: 9, ..Usage::default() });
    }
    push(&mut log, event);
    assert!(log.run.head.context.token_bound(0) < 11_000);
    let mut event = forked(None, Vec::new());
    if let Event::Forked(forked) = &mut event {
        forked.model = Some(ModelChoice {
            image_tokens: 0,
            name: "other".to_owned(),
            price: Some(PRICE),
            context_tokens: None,
            endpoint: None,
        });
    }
    push(&mut log, event);
    let request = log.request(&[]).unwrap();
    assert!(log.run.head.context.token_bound(0) >= bytes(&request));
}

/// Numbers from outside, as large as they get: nothing overflows, and no next call seems cheap.
#[test]
fn absurd_numbers_from_outside_stop_the_run() {
    let usage = |input, cached, output| {
        let usage =
            Usage { input_tokens: input, cached_input_tokens: cached, output_tokens: output, reasoning_tokens: u64::MAX };
        let mut log = begun();
        for _ in 0..2 {
            if !matches!(log.run.head.due, Due::Model { .. }) {
                break;
            }
            let mut event = reply(&log, "", &["quick"]);
            if let Event::ModelReplied(replied) = &mut event {
                replied.reply.usage = Some(usage);
            }
            push(&mut log, event);
        }
        log.run.head
    };
    for (input, output) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        assert_eq!(usage(input, 0, output).status, Status::Paused, "{input} {output}");
    }
    assert_eq!(usage(1, u64::MAX, 2).totals.cached_tokens, u64::MAX);
    let mut log = called(&["look", "look"]);
    let slow = |index| Observation { sandbox_ms: u64::MAX, ..observation(2, index, ok("seen")) };
    push(&mut log, Event::Observed(Observed { observations: vec![slow(0), slow(1)] }));
    assert_eq!(log.run.head.totals.sandbox_ms, u64::MAX);
    let mut started = started();
    started.history =
        Some(History { images: 0, run: run_id(9), number: 2, hash: Hash::default(), bytes: u64::MAX, messages: u64::MAX });
    assert_eq!(started.head().status, Status::Paused);
}

/// A thread's earlier runs are counted in bytes, whatever they were counted in there.
#[test]
fn the_history_of_a_thread_is_reserved_for() {
    let said = vec![
        Message::User { images: Vec::new(), text: "x".repeat(5_000) },
        Message::Assistant { opaque: None, text: "y".repeat(70), calls: vec![] },
    ];
    let mut started = started();
    started.history = Some(History {
        images: 0,
        run: run_id(9),
        number: 2,
        hash: Hash::default(),
        bytes: said.iter().map(Message::bytes).sum(),
        messages: 2,
    });
    let log = RunLog::begin(run_id(1), started, at(0), making());
    let request = log.request(&said).unwrap();
    assert!(log.run.head.context.token_bound(0) >= bytes(&request));
    assert_eq!(request.messages.len(), 4);
}

/// The most output that fits: by money, by tokens, by the model's context, and never less than is worth a call.
#[test]
fn output_shrinks_to_what_fits() {
    let due = |change: fn(&mut RunConfig)| {
        let mut started = started();
        change(&mut started.config);
        let log = RunLog::begin(run_id(1), started, at(0), making());
        let input = log.run.head.context.token_bound(0);
        let Due::Model { max_output_tokens, reserve, timeout_ms, .. } = log.run.head.due else {
            return (input, log.run.head.status.code().to_owned(), Amount::ZERO, 0);
        };
        (input, max_output_tokens.to_string(), reserve, timeout_ms)
    };
    let (input, all, reserve, _) = due(|_| {});
    assert_eq!((all.as_str(), reserve.tokens, reserve.usd.nanos()), ("1000", input + 1_000, input + 2_000));
    // Input costs a nanodollar a token, output two.
    let (input, by_money, reserve, _) = due(|config| config.budget.usd = Some(Usd::from_nanos(1_900)));
    assert_eq!(by_money, ((1_900 - input) / 2).to_string());
    assert!(reserve.usd <= Usd::from_nanos(1_900) && reserve.usd >= Usd::from_nanos(1_899));
    let (input, by_tokens, reserve, _) = due(|config| config.budget.tokens = Some(1_400));
    assert_eq!((by_tokens, reserve.tokens), ((1_400 - input).to_string(), 1_400));
    let (_, by_context, ..) = due(|config| config.model.context_tokens = Some(100));
    assert_eq!(by_context, "256", "the bound on the input is generous, so something is always asked for");
    let (input, least, ..) = due(|config| config.budget.usd = Some(Usd::from_nanos(1_360)));
    assert!(least == "paused" || least.parse::<u64>().unwrap() >= 256, "{least} at {input}");
    assert_eq!(due(|config| config.budget.usd = Some(Usd::ZERO)).1, "paused");
    assert_eq!(due(|config| config.budget.steps = 0).1, "paused");
    assert_eq!(due(|config| config.budget.active_ms = 0).1, "paused");
    assert_eq!(due(|config| config.budget.tokens = Some(0)).1, "paused");
    assert_eq!(due(|config| config.budget.active_ms = 7).3, 7, "a call gets no more time than is left");
    let free = |config: &mut RunConfig| {
        config.model.price = Some(Price::FREE);
        config.budget.usd = Some(Usd::ZERO);
    };
    assert_eq!(due(free).1, "1000", "what costs nothing fits into nothing");
}

#[test]
fn images_are_known_by_their_first_bytes() {
    assert_eq!(crate::Image::media_type_of(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
    assert_eq!(crate::Image::media_type_of(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
    assert_eq!(crate::Image::media_type_of(b"GIF89a"), Some("image/gif"));
    assert_eq!(crate::Image::media_type_of(b"RIFF\x01\x02\x03\x04WEBPVP8 "), Some("image/webp"));
    for other in [&b""[..], b"\x89PNG", b"RIFF1234WAVE", b"<svg", b"%PDF-1.7", b"BM"] {
        assert_eq!(crate::Image::media_type_of(other), None, "{other:?}");
    }
}

#[test]
fn a_summary_keeps_the_rules_and_costs_nothing_of_the_answer() {
    let log = compacted(ModelReply { text: "in short".to_owned(), ..summary() });
    let request = log.request(&[]).unwrap();
    let rules = request.messages.iter().filter(|message| matches!(message, Message::System { .. })).count();
    assert_eq!(rules, 2, "{:?}", request.messages);
    assert!(!request.messages.contains(&Message::user(crate::SUMMARY_PROMPT)));
    let totals = log.run.head.totals;
    assert_eq!((totals.summary_tokens, totals.said_tokens()), (900, totals.output_tokens - 900));
    assert_eq!(log.run.head.due.task(), Some(ModelTask::Turn), "the summary used up the answer");

    let silent = compacted(summary());
    assert!(silent.compacted().is_none());
    assert_eq!(silent.run.head.faults.malformed, 1);
    assert!(matches!(silent.run.head.due.task(), Some(ModelTask::Compact { .. })));
}
