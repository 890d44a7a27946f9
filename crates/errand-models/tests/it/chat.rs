//! Chat Completions.

use crate::server::{Answer, Server};
use crate::support::{KEY, ask, call, check_every_cut, settings};
use errand_core::{Finish, ModelErrorKind, ModelReply, RequestedCall, Usage};
use errand_models::Dialect;
use serde_json::json;

fn requested(id: &str, name: &str, arguments: &str) -> RequestedCall {
    RequestedCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
}

/// In the form of <https://developers.openai.com/api/reference/resources/chat>, with the reasoning that DeepSeek and
/// vLLM add, a comment that OpenRouter sends while it waits, and text beyond ASCII.
const STREAM: &str = concat!(
    ": PROCESSING\n\n",
    r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"model":"m-1","choices":[{"index":0,"delta":{"reasoning_content":"Hm, "},"finish_reason":null}]}"#,
    "\r\n\r\n",
    r#"data: {"model":"m-1","choices":[{"index":0,"delta":{"reasoning":"yes."},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"model":"m-1","choices":[{"index":0,"delta":{"content":"Grüße "},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"model":"m-1","choices":[{"index":0,"delta":{"content":"🚀"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"files","arguments":""}}]},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"type":"function","function":{"name":"python","arguments":"{\"code\""}}]},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}},{"index":1,"function":{"arguments":":\"é\"}"}}]},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    "\n\n",
    r#"data: {"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":4}}}"#,
    "\n\n",
    "data: [DONE]\n\n",
);

fn expected() -> ModelReply {
    ModelReply {
        opaque: None,
        model: "m-1".to_owned(),
        text: "Grüße 🚀".to_owned(),
        reasoning: "Hm, yes.".to_owned(),
        // The second came without an id; one reply came before this one.
        calls: vec![requested("call_a", "files", r#"{"a":1}"#), requested("call_1_1", "python", r#"{"code":"é"}"#)],
        finish: Finish::Stop,
        usage: Some(Usage { input_tokens: 20, cached_input_tokens: 16, output_tokens: 9, reasoning_tokens: 4 }),
    }
}

#[tokio::test]
async fn a_stream_makes_the_same_reply_wherever_it_is_cut_and_none_where_it_breaks() {
    // All has come once the usage has: only the mark of the end follows.
    let whole_at = STREAM.len() - "data: [DONE]\n\n".len();
    check_every_cut(STREAM, Dialect::Chat, &expected(), whole_at).await;
}

#[tokio::test]
async fn the_request_says_all_there_is_to_say() {
    let server = Server::saying(Answer::unframed(STREAM.as_bytes())).await;
    call(&settings(&server.base, Dialect::Auto)).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")), "{request}");
    assert!(request.contains(concat!("user-agent: errand/", env!("CARGO_PKG_VERSION"), "\r\n")), "{request}");
    let expected = json!({
        "model": "test-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is in a.csv?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "files", "arguments": "{\"action\":\"read\"}"}},
                {"id": "c2", "type": "function", "function":
                    {"name": "no_such", "arguments": "{\"malformed\":\"{\\\"broken\\\": \"}"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "x,y"},
            {"role": "tool", "tool_call_id": "c2", "content": "no"},
        ],
        "tools": [{"type": "function", "function":
            {"name": "files", "description": "Reads files.", "parameters": {"type": "object"}}}],
        "max_tokens": 100,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(server.body(), expected);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = json!({
        "model": "m-1",
        "choices": [{"index": 0, "finish_reason": "length", "message": {
            "role": "assistant", "content": "so", "reasoning_content": "why",
            "tool_calls": [
                {"type": "function", "function": {"name": "files", "arguments": {"a": 1}}},
                {"type": "function", "function": {"name": "files", "arguments": "{\"a\":2}"}},
            ],
        }}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 9, "prompt_cache_hit_tokens": 1},
    });
    let reply = ask(Answer::json("200 OK", &body.to_string()), Dialect::Chat).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.reasoning.as_str(), reply.finish), ("so", "why", Finish::Length));
    let calls = vec![requested("call_1_0", "files", r#"{"a":1}"#), requested("call_1_1", "files", r#"{"a":2}"#)];
    assert_eq!(reply.calls, calls);
    // Four tokens are in the total and in neither part: reasoning that the server leaves out of the output.
    let usage = Usage { input_tokens: 3, cached_input_tokens: 1, output_tokens: 6, reasoning_tokens: 0 };
    assert_eq!(reply.usage, Some(usage));
}

fn events(chunks: &[serde_json::Value], done: bool) -> String {
    let mut stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    if done {
        stream.push_str("data: [DONE]\n\n");
    }
    stream
}

fn says(text: &str, finish: Option<&str>) -> serde_json::Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})
}

#[tokio::test]
async fn missing_usage_is_no_usage_and_the_model_asked_for_stands_in() {
    let reply = ask(Answer::unframed(events(&[says("hi", Some("stop"))], true).as_bytes()), Dialect::Chat).await.unwrap();
    assert_eq!((reply.usage, reply.model.as_str(), reply.text.as_str()), (None, "test-model", "hi"));
}

#[tokio::test]
async fn without_a_mark_of_the_end_only_framing_vouches_for_it() {
    let stream = events(&[says("hi", Some("stop"))], false);
    assert!(ask(Answer::chunks(&[stream.as_bytes()], true), Dialect::Chat).await.is_ok());
    let error = ask(Answer::unframed(stream.as_bytes()), Dialect::Chat).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Garbled);
    let unfinished = events(&[says("hi", None)], false);
    assert!(ask(Answer::chunks(&[unfinished.as_bytes()], true), Dialect::Chat).await.is_err());
}

#[tokio::test]
async fn refusals_and_limits_are_told_apart() {
    for (finish, expected) in [("stop", Finish::Stop), ("length", Finish::Length), ("content_filter", Finish::Refused)] {
        let stream = events(&[says("hi", Some(finish))], true);
        assert_eq!(ask(Answer::unframed(stream.as_bytes()), Dialect::Chat).await.unwrap().finish, expected);
    }
    let refusal = json!({"choices": [{"index": 0, "delta": {"refusal": "I will not."}, "finish_reason": "stop"}]});
    let reply = ask(Answer::unframed(events(&[refusal], true).as_bytes()), Dialect::Chat).await.unwrap();
    assert_eq!((reply.finish, reply.text.as_str()), (Finish::Refused, "I will not."));
}

#[tokio::test]
async fn what_a_model_got_wrong_passes_through() {
    let nothing = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let reply = ask(Answer::unframed(events(&[nothing], true).as_bytes()), Dialect::Chat).await.unwrap();
    assert!(reply.text.is_empty() && reply.calls.is_empty());
    let broken = json!({"choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {"tool_calls": [
        {"index": 0, "id": "x", "function": {"name": "no such tool", "arguments": "{\"a\": oops"}},
    ]}}]});
    let reply = ask(Answer::unframed(events(&[broken], true).as_bytes()), Dialect::Chat).await.unwrap();
    assert_eq!(reply.calls, vec![requested("x", "no such tool", "{\"a\": oops")]);
}

#[tokio::test]
async fn odd_events_never_panic() {
    for event in [
        "null",
        "[]",
        "7",
        "{}",
        r#"{"choices":7}"#,
        r#"{"choices":[{"delta":[]}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[null,{"index":-1}]}}]}"#,
        r#"{"usage":{"prompt_tokens":-5}}"#,
    ] {
        let stream = format!("data: {event}\n\ndata: [DONE]\n\n");
        // Whether such a reply counts as empty or as broken does not matter here.
        let _ = ask(Answer::unframed(stream.as_bytes()), Dialect::Chat).await;
        let _ = ask(Answer::json("200 OK", event), Dialect::Chat).await;
        let _ = ask(Answer::json("200 OK", event), Dialect::Responses).await;
        let _ = ask(Answer::json("429 Too Many Requests", event), Dialect::Chat).await;
    }
}
