//! What goes wrong on the way, and what is said of it.

use crate::server::{Answer, Server, Then};
use crate::support::{KEY, Pieces, ask, call, request, settings};
use errand_core::{ModelError, ModelErrorKind};
use errand_engine::ports::Models;
use errand_models::{Dialect, Providers, Settings, Timeouts};
use std::time::Duration;
use tokio::net::TcpListener;

fn complaint(code: &str, message: &str) -> String {
    serde_json::json!({"error": {"message": message, "type": "t", "param": null, "code": code}}).to_string()
}

async fn refused(status: &str, headers: &str, body: &str) -> ModelError {
    let answer = Answer::new(status, &format!("content-type: application/json\r\n{headers}"), body);
    let error = ask(answer, Dialect::Chat).await.unwrap_err();
    assert!(!error.message.contains(KEY), "{error}");
    error
}

#[tokio::test]
async fn statuses_become_kinds() {
    use ModelErrorKind::*;
    let key = complaint("invalid_api_key", &format!("Incorrect API key provided: {KEY}."));
    for (status, body, kind, may_be_charged) in [
        ("401 Unauthorized", key.as_str(), Auth, false),
        ("404 Not Found", &complaint("model_not_found", "The model `test-model` does not exist"), UnknownModel, false),
        ("400 Bad Request", &complaint("context_length_exceeded", "too long"), ContextFull, false),
        ("400 Bad Request", &complaint("", "no"), BadRequest, false),
        ("429 Too Many Requests", &complaint("rate_limit_exceeded", "slow"), RateLimited, false),
        ("429 Too Many Requests", &complaint("insufficient_quota", "pay"), QuotaExhausted, false),
        ("500 Internal Server Error", "<html>oops</html>", Unavailable, true),
        ("503 Service Unavailable", "", Unavailable, false),
        ("504 Gateway Timeout", "", TimedOut, true),
    ] {
        let error = refused(status, "", body).await;
        assert_eq!((error.kind, error.may_be_charged), (kind, may_be_charged), "{status}: {error}");
        assert!(error.message.contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn the_wait_asked_for_is_passed_on() {
    let body = complaint("rate_limit_exceeded", "slow");
    for (header, least, most) in [
        ("retry-after: 3600\r\n", 3_600_000, 3_600_000),
        ("retry-after-ms: 1500\r\nretry-after: 2\r\n", 1_500, 1_500),
        ("retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 0, 0),
        ("retry-after: Tue, 31 Dec 2999 23:59:59 GMT\r\n", 86_400_000, u64::MAX),
    ] {
        let wait = refused("429 Too Many Requests", header, &body).await.retry_after_ms.unwrap();
        assert!((least..=most).contains(&wait), "{header}: {wait}");
    }
    assert_eq!(refused("503 Service Unavailable", "retry-after: 7\r\n", "").await.retry_after_ms, Some(7_000));
    assert_eq!(refused("429 Too Many Requests", "", &body).await.retry_after_ms, None);
}

#[tokio::test]
async fn an_endless_error_body_is_not_read_to_its_end() {
    let body = complaint("x", &"y".repeat(100_000));
    let error = refused("500 Internal Server Error", "", &body).await;
    assert!(error.message.len() < 400, "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::saying(Answer::json("200 OK", "{}")).await;
    let headers = format!("location: {}/chat/completions\r\n", elsewhere.base);
    let error = refused("307 Temporary Redirect", &headers, "").await;
    assert_eq!(error.kind, ModelErrorKind::BadRequest);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = call(&settings(&base, Dialect::Chat)).await.unwrap_err();
    assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Connect, false), "{error}");
}

#[tokio::test]
async fn hanging_up_without_an_answer_may_be_charged() {
    let error = ask(Answer { bytes: Vec::new(), then: Then::Close }, Dialect::Chat).await.unwrap_err();
    assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Garbled, true), "{error}");
}

fn impatient(base: &str, first_token: u64, idle: u64) -> Settings {
    let timeouts = Timeouts {
        first_token: Duration::from_millis(first_token),
        idle: Duration::from_millis(idle),
        ..Timeouts::default()
    };
    Settings { timeouts, ..settings(base, Dialect::Chat) }
}

const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n";

#[tokio::test]
async fn silence_is_noticed_before_and_after_the_first_token() {
    let nothing = Answer { bytes: Vec::new(), then: Then::Hold };
    let only_head = Answer::unframed(b"").hold();
    // Signs of life that say nothing are no token.
    let only_comments = Answer::unframed(b": wait\n\ndata: {\"choices\":[]}\n\n").hold();
    let drip = Answer { then: Then::Drip("data: {\"choices\":[]}\n\n"), ..Answer::unframed(b"") };
    for answer in [nothing, only_head, only_comments, drip] {
        let server = Server::saying(answer).await;
        let error = call(&impatient(&server.base, 60, 60_000)).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::TimedOut, true), "{error}");
        assert!(error.message.contains("no first token within 60ms"), "{error}");
    }
    let server = Server::saying(Answer::unframed(HELLO.as_bytes()).hold()).await;
    let pieces = Pieces::default();
    let providers = Providers::new(&impatient(&server.base, 60_000, 60)).unwrap();
    let error = providers.call(&request(), &pieces).await.unwrap_err();
    assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::TimedOut, true), "{error}");
    assert!(error.message.contains("no next piece within 60ms"), "{error}");
    assert_eq!(pieces.sums().0, "hello");
}

#[tokio::test]
async fn a_held_body_that_is_not_streamed_is_noticed_too() {
    let mut answer = Answer::json("200 OK", "{\"choices\":[]}").hold();
    answer.bytes.truncate(answer.bytes.len() - 3);
    let server = Server::saying(answer).await;
    let error = call(&impatient(&server.base, 60, 60_000)).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn an_endless_reply_is_cut_off() {
    let stream = HELLO.repeat(1_000);
    let server = Server::saying(Answer::unframed(stream.as_bytes()).hold()).await;
    let settings = Settings { reply_bytes_max: 10_000, ..settings(&server.base, Dialect::Chat) };
    let error = call(&settings).await.unwrap_err();
    assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Garbled, true));
    assert!(error.message.contains("longer than 10000 bytes"), "{error}");
    let server = Server::saying(Answer::json("200 OK", &format!("\"{stream}\""))).await;
    let error = call(&Settings { base_url: Some(server.base.clone()), ..settings }).await.unwrap_err();
    assert!(error.message.contains("longer than 10000 bytes"), "{error}");
}

#[tokio::test]
async fn nonsense_is_garbled_and_errors_in_a_stream_keep_no_key() {
    for stream in ["data: {oops\n\n", "data: \u{0}\n\n", "<html>", ""] {
        let error = ask(Answer::unframed(stream.as_bytes()), Dialect::Chat).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Garbled, true), "{stream}: {error}");
    }
    let invalid = Answer::unframed(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n");
    assert_eq!(ask(invalid, Dialect::Chat).await.unwrap_err().kind, ModelErrorKind::Garbled);
    let stream = format!("{HELLO}data: {}\n\n", complaint("server_error", &format!("echo {KEY}")));
    let error = ask(Answer::unframed(stream.as_bytes()), Dialect::Chat).await.unwrap_err();
    assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Unavailable, true));
    assert!(error.message.contains("echo [key]"), "{error}");
    assert!(!format!("{:?}", Providers::new(&settings("https://h/v1", Dialect::Chat))).contains(KEY));
}
