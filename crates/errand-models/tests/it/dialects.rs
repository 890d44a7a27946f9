//! The same for every dialect: published exchanges whole and cut, and everything that may come in their place.

use crate::exchange::{Exchange, exchanges};
use crate::server::{Answer, Server};
use crate::support::{KEY, Pieces, ask, call, check_every_cut, request, settings};
use errand_core::{ModelError, ModelErrorKind, ModelReply};
use errand_engine::ports::Models;
use errand_models::{Dialect, Providers, Settings, Timeouts};
use serde_json::{Value, json};
use std::time::Duration;

/// Holds for every kind of answer: it is a reply, or an error that says something and holds no key.
fn is_sane(exchange: &Exchange, result: &Result<ModelReply, ModelError>, what: &dyn std::fmt::Debug) {
    if let Err(error) = result {
        assert!(
            error.kind.is_retryable() || error.kind == ModelErrorKind::BadRequest,
            "{} {what:?}: {error:?}",
            exchange.name
        );
        assert!(error.may_be_charged && !error.message.is_empty() && !error.message.contains(KEY), "{error:?}");
    }
}

/// Chat Completions and Responses are cut in files of their own.
async fn check_cuts(name: &str) {
    let exchange = exchanges().into_iter().find(|exchange| exchange.name == name).unwrap();
    check_every_cut(&exchange.stream, exchange.dialect, &exchange.reply, exchange.whole_at).await;
}

#[tokio::test]
async fn anthropic_makes_the_same_reply_wherever_it_is_cut_and_none_where_it_breaks() {
    check_cuts("anthropic").await;
}

#[tokio::test]
async fn anthropic_thinking_makes_the_same_reply_wherever_it_is_cut_and_none_where_it_breaks() {
    check_cuts("anthropic, thinking").await;
}

#[tokio::test]
async fn gemini_makes_the_same_reply_wherever_it_is_cut_and_none_where_it_breaks() {
    check_cuts("gemini").await;
}

#[tokio::test]
async fn ollama_makes_the_same_reply_wherever_it_is_cut_and_none_where_it_breaks() {
    check_cuts("ollama").await;
}

#[tokio::test]
async fn web_pages_halves_and_compressed_answers_are_told_apart() {
    for exchange in exchanges() {
        let page = "<!doctype html><title>Sign in</title>";
        let html = |status: &str| Answer::new(status, "content-type: text/html; charset=utf-8\r\n", page);
        let error = ask(html("200 OK"), exchange.dialect).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Garbled, true), "{error}");
        assert!(error.message.contains("web page"), "{error}");
        let error = ask(html("502 Bad Gateway"), exchange.dialect).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Unavailable, true), "{error}");

        let event = exchange.events().remove(0).to_string();
        let half = &event[..event.len() / 2];
        let error = ask(Answer::json("200 OK", half), exchange.dialect).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Garbled, "{error}");
        let error = ask(Answer::chunks(&[half.as_bytes(), b"\n\n"], true), exchange.dialect).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Garbled, "{error}");

        // The first bytes of gzip, RFC 1952.
        let mut zipped = Answer::new("200 OK", "content-encoding: gzip\r\ncontent-type: text/event-stream\r\n", "");
        zipped.bytes.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        let error = ask(zipped, exchange.dialect).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Garbled, "{error}");
        assert!(error.message.contains("compressed"), "{error}");
    }
}

/// Every value in `event`, one after another, put in place of another kind of value or taken away.
fn spoilt(event: &Value) -> Vec<Value> {
    fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
            _ => Vec::new(),
        };
        for (name, child) in children {
            pointers(child, format!("{at}/{name}"), all);
        }
        all.push(at);
    }
    let mut all = Vec::new();
    pointers(event, String::new(), &mut all);
    let others = [Value::Null, json!(-1), json!(1e300), json!("x"), json!([[]]), json!({"type": {}}), json!(true)];
    let spoil = |pointer: String, other: &Value| {
        let mut event = event.clone();
        *event.pointer_mut(&pointer).unwrap() = other.clone();
        event
    };
    all.iter().flat_map(|pointer| others.iter().map(|other| spoil(pointer.clone(), other))).collect()
}

#[tokio::test]
async fn values_of_other_kinds_never_panic_or_hang() {
    for exchange in exchanges() {
        let events = exchange.events();
        let mut streams = Vec::new();
        for (position, event) in events.iter().enumerate() {
            for spoilt in spoilt(event) {
                let mut events = events.clone();
                events[position] = spoilt;
                streams.push(exchange.wire(&events));
            }
        }
        let served = streams.clone();
        let server = Server::start(move |number| Answer::chunks(&[served[number].as_bytes()], true)).await;
        let providers = Providers::new(&settings(&server.base, exchange.dialect)).unwrap();
        for stream in streams {
            let result = providers.call(&request(), &()).await;
            is_sane(&exchange, &result, &stream);
        }
    }
}

#[tokio::test]
async fn events_that_are_doubled_swapped_lost_or_unknown_never_panic() {
    for exchange in exchanges() {
        let events = exchange.events();
        for position in 0..events.len() {
            let mut doubled = events.clone();
            doubled.insert(position, events[position].clone());
            let mut swapped = events.clone();
            swapped.swap(position, (position + 1) % events.len());
            let mut lost = events.clone();
            lost.remove(position);
            for changed in [doubled, swapped, lost] {
                let stream = exchange.wire(&changed);
                is_sane(&exchange, &ask(Answer::chunks(&[stream.as_bytes()], true), exchange.dialect).await, &stream);
            }
            let mut more = events.clone();
            more.insert(position, json!({"type": "something_of_next_year", "data": [1]}));
            let stream = exchange.wire(&more);
            let mut reply = ask(Answer::chunks(&[stream.as_bytes()], true), exchange.dialect).await.unwrap();
            if let (Some(found), Some(_)) = (&mut reply.opaque, &exchange.reply.opaque) {
                found.origin.clear();
            }
            assert_eq!(reply, exchange.reply, "{} at {position}", exchange.name);
        }
    }
}

#[tokio::test]
async fn a_pause_that_is_too_long_ends_the_call() {
    for exchange in exchanges() {
        let events: Vec<Value> = exchange.before.iter().chain([&exchange.hello]).cloned().collect();
        let stream = exchange.wire(&events).replace("data: [DONE]\n\n", "");
        let server = Server::saying(Answer::unframed(stream.as_bytes()).hold()).await;
        let timeouts = Timeouts { idle: Duration::from_millis(60), ..Timeouts::default() };
        let settings = Settings { timeouts, ..settings(&server.base, exchange.dialect) };
        let pieces = Pieces::default();
        let error = Providers::new(&settings).unwrap().call(&request(), &pieces).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::TimedOut, true), "{error}");
        assert!(error.message.contains("no next piece within 60ms"), "{error}");
        assert_eq!(pieces.sums().0, "hello", "{}", exchange.name);
    }
}

#[tokio::test]
async fn one_huge_event_is_cut_off() {
    for exchange in exchanges() {
        let huge = exchange.hello.to_string().replace("hello", &"y".repeat(50_000));
        let events: Vec<Value> = exchange.before.iter().cloned().chain([serde_json::from_str(&huge).unwrap()]).collect();
        let server = Server::saying(Answer::unframed(exchange.wire(&events).as_bytes()).hold()).await;
        let error =
            call(&Settings { reply_bytes_max: 10_000, ..settings(&server.base, exchange.dialect) }).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Garbled, true));
        assert!(error.message.contains("longer than 10000 bytes"), "{error}");
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_passed_on_without_the_key() {
    for exchange in exchanges() {
        let (error, kind) = &exchange.error;
        let error: Value = serde_json::from_str(&error.to_string().replace("KEY", KEY)).unwrap();
        let events: Vec<Value> = exchange.before.iter().chain([&exchange.hello, &error]).cloned().collect();
        let stream = exchange.wire(&events);
        let error = ask(Answer::chunks(&[stream.as_bytes()], true), exchange.dialect).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (*kind, true), "{}: {error}", exchange.name);
        assert!(error.message.contains("[key]") && !error.message.contains(KEY), "{error}");
    }
}

#[tokio::test]
async fn missing_usage_is_no_usage() {
    fn forget(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let counts = ["usage", "usageMetadata", "prompt_eval_count", "eval_count"];
                fields.retain(|name, _| !counts.contains(&name.as_str()));
                fields.values_mut().for_each(forget);
            }
            Value::Array(items) => items.iter_mut().for_each(forget),
            _ => {}
        }
    }
    for exchange in exchanges() {
        let mut events = exchange.events();
        events.iter_mut().for_each(forget);
        let stream = exchange.wire(&events);
        let reply = ask(Answer::chunks(&[stream.as_bytes()], true), exchange.dialect).await.unwrap();
        assert_eq!((reply.usage, &reply.text), (None, &exchange.reply.text), "{}", exchange.name);
    }
}

#[tokio::test]
async fn nobody_takes_the_answer_of_another_dialect_for_a_reply() {
    for exchange in exchanges() {
        for other in exchanges().into_iter().filter(|other| other.dialect != exchange.dialect) {
            let answer = Answer::chunks(&[exchange.stream.as_bytes()], true);
            let result = ask(answer, other.dialect).await;
            assert!(result.is_err(), "{} read as {}: {result:?}", exchange.name, other.name);
        }
    }
    let mixed = [Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama];
    for dialect in mixed {
        assert!(ask(Answer::json("200 OK", "{}"), dialect).await.is_err());
    }
}
