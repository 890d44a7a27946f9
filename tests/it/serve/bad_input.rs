//! What a server is sent and cannot use: refused with a code, nothing begun, the server as well as before.

use super::{Server, request};
use crate::cli::User;
use serde_json::{Value, json};

const JSON: &str = "content-type: application/json\r\n";

/// Method, path, headers, body; status and code.
type Raw<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);

/// Bodies that are refused with 400: code and `param`.
fn bodies() -> Vec<(Value, &'static str, Option<&'static str>)> {
    let with = |more: Value| {
        let mut body = json!({"model": "scripted/hello", "input": "t"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let item = |item: Value| json!({"model": "scripted/hello", "input": [item]});
    let image = |url: &str| item(json!({"role": "user", "content": [{"type": "input_image", "image_url": url}]}));
    vec![
        (json!([]), "parameter_type", None),
        (json!({"model": "scripted/hello"}), "parameter_missing", Some("input")),
        (json!({"input": 7}), "parameter_type", Some("input")),
        (json!({"input": ""}), "task_empty", Some("input")),
        (json!({"input": []}), "task_empty", Some("input")),
        (with(json!({"model": 7})), "parameter_type", Some("model")),
        (with(json!({"model": "nope/x"})), "model_unknown", Some("model")),
        (with(json!({"strem": true})), "unknown_parameter", Some("strem")),
        (with(json!({"stream": "yes"})), "parameter_type", Some("stream")),
        (with(json!({"store": false})), "unsupported_parameter", Some("store")),
        (with(json!({"temperature": 0.5})), "unsupported_parameter", Some("temperature")),
        (with(json!({"reasoning": {"effort": "high"}})), "unsupported_parameter", Some("reasoning.effort")),
        (with(json!({"tool_choice": "required"})), "unsupported_parameter", Some("tool_choice")),
        (with(json!({"max_tool_calls": 3})), "unsupported_parameter", Some("max_tool_calls")),
        (with(json!({"max_output_tokens": 3})), "parameter_invalid", Some("max_output_tokens")),
        (with(json!({"max_output_tokens": -3})), "parameter_type", Some("max_output_tokens")),
        (with(json!({"metadata": {"a": 1}})), "parameter_type", Some("metadata.a")),
        (with(json!({"metadata": []})), "parameter_type", Some("metadata")),
        (with(json!({"previous_response_id": "resp_x"})), "previous_response_not_found", Some("previous_response_id")),
        (
            with(json!({"previous_response_id": "resp_01HZZZZZZZZZZZZZZZZZZZZZZZ"})),
            "previous_response_not_found",
            Some("previous_response_id"),
        ),
        (with(json!({"tools": [{"type": "errand:nope"}]})), "unknown_tool", Some("tools[0]")),
        (with(json!({"tools": [{"type": "errand:wait"}, {"type": "errand:wait"}]})), "tool_named_twice", Some("tools[1]")),
        (with(json!({"tools": [{"type": "file_search"}]})), "unsupported_tool", Some("tools[0].type")),
        (with(json!({"tools": [{"type": "function"}]})), "parameter_missing", Some("tools[0].name")),
        (with(json!({"tools": [{"type": "function", "name": "a b"}]})), "parameter_invalid", Some("tools[0].name")),
        (
            with(json!({"tools": [{"type": "function", "name": "f", "parameters": 1}]})),
            "parameter_type",
            Some("tools[0].parameters"),
        ),
        (with(json!({"tools": [{"type": "errand:wait", "x": 1}]})), "unknown_parameter", Some("tools[0].x")),
        (
            with(json!({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": 7}}}})),
            "output_schema_invalid",
            Some("text.format.schema"),
        ),
        (with(json!({"text": {"format": {"type": "xml"}}})), "parameter_invalid", Some("text.format.type")),
        (item(json!({"role": "robot", "content": "x"})), "parameter_invalid", Some("input[0].role")),
        (item(json!({"role": "user"})), "parameter_missing", Some("input[0].content")),
        (
            item(json!({"role": "user", "content": [{"type": "input_text", "txt": "x"}]})),
            "parameter_missing",
            Some("input[0].content[0].text"),
        ),
        (
            item(json!({"role": "user", "content": [{"type": "input_file", "file_id": "x"}]})),
            "unsupported_parameter",
            Some("input[0].content[0].type"),
        ),
        (item(json!({"type": "mcp_call"})), "parameter_invalid", Some("input[0].type")),
        (item(json!({"type": "function_call_output", "call_id": "c", "output": "x"})), "tool_call_unknown", Some("input")),
        (
            json!({"input": [{"role": "user", "content": "x"},
                             {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]}),
            "tool_output_missing",
            Some("input"),
        ),
        (image("https://example.com/a.png"), "unsupported_parameter", Some("input[0].content[0].image_url")),
        (image("data:image/png;base64,????"), "image_invalid", Some("input[0].content[0].image_url")),
        (image("data:image/png;base64,R0lGODlh"), "image_invalid", Some("input[0].content[0].image_url")),
        (image("data:image/png;base64,aGVsbG8="), "image_invalid", Some("input[0].content[0].image_url")),
    ]
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let user = User::new();
    let server = Server::start(&user, &[]);
    for (body, code, param) in bodies() {
        let answer = server.post("/v1/responses", &body);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, error["code"].as_str(), error["param"].as_str()), (400, Some(code), param), "{body}");
        assert!(answer.head.contains("x-request-id: req_"), "{answer:?}");
        let page = format!("{}/../docs/errors/{code}.md", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&page).is_file(), "there is no {page}");
    }
    let deep = format!("{{\"input\": {}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let raw: [Raw; 20] = [
        ("POST", "/v1/responses", JSON, b"{", 400, "json_invalid"),
        ("POST", "/v1/responses", JSON, b"{\"input\": \"\xff\"}", 400, "json_invalid"),
        ("POST", "/v1/responses", JSON, deep.as_bytes(), 400, "json_invalid"),
        ("POST", "/v1/responses", JSON, b"  ", 400, "body_empty"),
        ("POST", "/v1/responses", "", b"", 400, "body_empty"),
        ("POST", "/v1/responses", "content-type: text/plain\r\n", b"{}", 415, "content_type_unsupported"),
        ("POST", "/v1/responses", "host: evil.example\r\n", b"{}", 403, "host_refused"),
        ("POST", "/v1/responses", "origin: https://evil.example\r\n", b"{}", 403, "origin_refused"),
        ("POST", "/v1/responses", "origin: null\r\n", b"{}", 403, "origin_refused"),
        ("POST", "/v1/responses", "origin: http://127.0.0.1:1\r\n", b"{}", 403, "origin_refused"),
        ("POST", "/v1/responses", "sec-fetch-site: same-site\r\n", b"{}", 403, "origin_refused"),
        ("GET", "/v1/responses", "", b"", 405, "method_not_allowed"),
        ("GET", "/v1/responses/resp_x", "", b"", 404, "response_not_found"),
        ("GET", "/v1/responses/resp_x?strem=1", "", b"", 400, "unknown_parameter"),
        ("POST", "/v1/chat/nothing", JSON, b"{}", 404, "route_not_found"),
        ("GET", "/nothing", "", b"", 404, "route_not_found"),
        ("GET", "/v1/runs/run_x", "", b"", 400, "run_id_invalid"),
        ("GET", "/v1/runs/run_01HZZZZZZZZZZZZZZZZZZZZZZZ/events", "", b"", 404, "run_not_found"),
        ("GET", "/v1/runs?limit=0", "", b"", 400, "parameter_invalid"),
        ("GET", "/v1/runs?status=happy", "", b"", 400, "parameter_invalid"),
    ];
    for (method, path, headers, body, status, code) in raw {
        let answer = server.ask(method, path, headers, body);
        let json = answer.json();
        let is_problem = answer.head.contains("content-type: application/problem+json");
        let found = if is_problem { &json["code"] } else { &json["error"]["code"] };
        assert_eq!((answer.status, found.as_str()), (status, Some(code)), "{method} {path}: {answer:?}");
        assert_eq!(is_problem, path.starts_with("/v1/runs") || !path.starts_with("/v1"), "{path}");
    }
    assert_eq!(server.get("/healthz")["status"], "ok");
    assert_eq!(server.get("/v1/runs")["data"], json!([]), "something was begun");
}

#[test]
fn a_large_body_is_refused_before_it_is_read() {
    let user = User::new();
    let server = Server::start(&user, &[]);
    // Only the head is sent, so an answer proves that nobody waited for the rest.
    let head = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 52428800\r\n\r\n";
    let answer = server.raw(head);
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("body_too_large")), "{answer:?}");
    // Without a length, as much as is allowed is read and no more.
    let mut chunked = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    chunked.extend_from_slice(format!("{:x}\r\n", 33 << 20).as_bytes());
    chunked.extend(std::iter::repeat_n(b' ', (32 << 20) + 1));
    let answer = server.raw(&chunked);
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("body_too_large")), "{answer:?}");
    assert_eq!(server.raw(&request("GET", "/healthz", "", b"")).status, 200);
}

#[test]
fn addresses_that_cannot_be_served() {
    let user = User::new();
    user.refused(2, "listen_invalid", &["serve", "--listen", "nowhere"]);
    user.refused(2, "listen_invalid", &["serve", "--listen", "example.com:80"]);
    let server = Server::start(&user, &[]);
    let other = User::new();
    other.refused(1, "port_taken", &["serve", "--listen", &server.address.to_string()]);
    user.refused(1, "data_held", &["serve", "--listen", "127.0.0.1:0"]);
}
