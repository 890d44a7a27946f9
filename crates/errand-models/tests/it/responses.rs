//! Responses.

use crate::server::{Answer, Server};
use crate::support::{ask, call, check_every_cut, settings};
use errand_core::{Finish, ModelErrorKind, ModelReply, RequestedCall, Usage};
use errand_models::{Dialect, Settings};
use serde_json::{Value, json};

/// One event as the server sends it: its type twice, and numbered.
fn event(kind: &str, mut fields: Value) -> String {
    fields["type"] = kind.into();
    fields["sequence_number"] = 0.into();
    format!("event: {kind}\ndata: {fields}\n\n")
}

fn response(status: &str, output: Value) -> Value {
    json!({"response": {
        "id": "resp_1", "object": "response", "status": status, "model": "m-2", "output": output, "error": null,
        "incomplete_details": null,
        "usage": {"input_tokens": 30, "input_tokens_details": {"cached_tokens": 10}, "output_tokens": 12,
                  "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 42},
    }})
}

fn output() -> Value {
    json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Grüße 🚀", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "files", "arguments": "{\"a\":1}"},
        {"type": "function_call", "id": "fc_2", "call_id": "call_b", "name": "python", "arguments": "{}"},
    ])
}

/// In the form of <https://developers.openai.com/api/reference/resources/responses>.
fn stream(last: &str) -> String {
    [
        event("response.created", response("in_progress", json!([]))),
        event("response.output_item.added", json!({"output_index": 0, "item": {"type": "reasoning", "summary": []}})),
        event("response.reasoning_summary_part.added", json!({"output_index": 0, "summary_index": 0})),
        event("response.reasoning_summary_text.delta", json!({"output_index": 0, "delta": "Hm."})),
        event("response.output_item.added", json!({"output_index": 1, "item": {"type": "message", "content": []}})),
        event("response.output_text.delta", json!({"output_index": 1, "content_index": 0, "delta": "Grüße "})),
        event("response.output_text.delta", json!({"output_index": 1, "content_index": 0, "delta": "🚀"})),
        event("response.output_text.done", json!({"output_index": 1, "text": "Grüße 🚀"})),
        event(
            "response.output_item.added",
            json!({"output_index": 2, "item": {"type": "function_call", "call_id": "call_a", "name": "files", "arguments": ""}}),
        ),
        event(
            "response.output_item.added",
            json!({"output_index": 3, "item": {"type": "function_call", "call_id": "call_b", "name": "python", "arguments": ""}}),
        ),
        event("response.function_call_arguments.delta", json!({"output_index": 2, "delta": "{\"a\""})),
        event("response.function_call_arguments.delta", json!({"output_index": 3, "delta": "{}"})),
        event("response.function_call_arguments.delta", json!({"output_index": 2, "delta": ":1}"})),
        event("response.function_call_arguments.done", json!({"output_index": 2, "arguments": "{\"a\":1}"})),
        event(
            "response.output_item.done",
            json!({"output_index": 2, "item": {"type": "function_call", "call_id": "call_a", "name": "files", "arguments": "{\"a\":1}"}}),
        ),
        last.to_owned(),
    ]
    .concat()
}

fn expected() -> ModelReply {
    let call = |id: &str, name: &str, arguments: &str| RequestedCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    ModelReply {
        opaque: None,
        model: "m-2".to_owned(),
        text: "Grüße 🚀".to_owned(),
        reasoning: "Hm.".to_owned(),
        calls: vec![call("call_a", "files", "{\"a\":1}"), call("call_b", "python", "{}")],
        finish: Finish::Stop,
        usage: Some(Usage { input_tokens: 30, cached_input_tokens: 10, output_tokens: 12, reasoning_tokens: 5 }),
    }
}

#[tokio::test]
async fn a_stream_makes_the_same_reply_wherever_it_is_cut_and_none_where_it_breaks() {
    let stream = stream(&event("response.completed", response("completed", output())));
    check_every_cut(&stream, Dialect::Responses, &expected(), stream.len()).await;
}

#[tokio::test]
async fn a_last_event_without_output_leaves_what_was_streamed() {
    let stream = stream(&event("response.completed", response("completed", json!([]))));
    assert_eq!(ask(Answer::unframed(stream.as_bytes()), Dialect::Responses).await.unwrap(), expected());
}

#[tokio::test]
async fn the_request_says_all_there_is_to_say() {
    let stream = stream(&event("response.completed", response("completed", output())));
    let server = Server::saying(Answer::unframed(stream.as_bytes())).await;
    let settings = Settings { reasoning_summaries: true, ..settings(&server.base, Dialect::Responses) };
    call(&settings).await.unwrap();
    assert!(server.requests()[0].starts_with("POST /v1/responses HTTP/1.1\r\n"));
    let expected = json!({
        "model": "test-model",
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is in a.csv?"},
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "c1", "name": "files", "arguments": "{\"action\":\"read\"}"},
            {"type": "function_call", "call_id": "c2", "name": "no_such",
             "arguments": "{\"malformed\":\"{\\\"broken\\\": \"}"},
            {"type": "function_call_output", "call_id": "c1", "output": "x,y"},
            {"type": "function_call_output", "call_id": "c2", "output": "no"},
        ],
        "tools": [{"type": "function", "name": "files", "description": "Reads files.",
                   "parameters": {"type": "object"}, "strict": false}],
        "reasoning": {"summary": "auto"},
        "max_output_tokens": 100,
        "store": false,
        "stream": true,
    });
    assert_eq!(server.body(), expected);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = response("completed", output())["response"].to_string();
    let reply = ask(Answer::json("200 OK", &body), Dialect::Responses).await.unwrap();
    // Summaries of reasoning come in events only.
    assert_eq!(reply, ModelReply { reasoning: String::new(), ..expected() });
}

#[tokio::test]
async fn limits_refusals_and_failures_are_told_apart() {
    let ends = |response: Value| Answer::unframed(stream(&event("response.incomplete", response)).as_bytes());
    let mut cut = response("incomplete", output());
    cut["response"]["incomplete_details"] = json!({"reason": "max_output_tokens"});
    assert_eq!(ask(ends(cut.clone()), Dialect::Responses).await.unwrap().finish, Finish::Length);
    cut["response"]["incomplete_details"] = json!({"reason": "content_filter"});
    assert_eq!(ask(ends(cut), Dialect::Responses).await.unwrap().finish, Finish::Refused);
    let refusal = json!([{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]);
    let reply = ask(ends(response("completed", refusal)), Dialect::Responses).await.unwrap();
    assert_eq!((reply.finish, reply.text.as_str()), (Finish::Refused, "No."));

    for (code, kind) in [
        ("server_error", ModelErrorKind::Unavailable),
        ("rate_limit_exceeded", ModelErrorKind::RateLimited),
        ("insufficient_quota", ModelErrorKind::QuotaExhausted),
        ("context_length_exceeded", ModelErrorKind::ContextFull),
        ("invalid_prompt", ModelErrorKind::BadRequest),
    ] {
        let mut failed = response("failed", json!([]));
        failed["response"]["error"] = json!({"code": code, "message": "it broke"});
        let answer = Answer::unframed(stream(&event("response.failed", failed)).as_bytes());
        let error = ask(answer, Dialect::Responses).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_charged), (kind, true), "{error}");
        let event = event("error", json!({"code": code, "message": "it broke", "param": null}));
        let error = ask(Answer::unframed(event.as_bytes()), Dialect::Responses).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
    }
}
