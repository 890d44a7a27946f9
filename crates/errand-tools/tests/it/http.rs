//! The tool `http` against a server on loopback.

use crate::server::{Answer, Server};
use crate::support::{World, error, ok};
use errand_core::{Class, Outcome, Verdict};
use errand_engine::ports::ToolReply;
use serde_json::{Value, json};

async fn call(world: &World, arguments: Value) -> ToolReply {
    world.call(0, "http", arguments, None).await
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_written_and_the_answer_is_shown() {
    let world = World::new();
    let answer =
        Answer::new("201 Created", "content-type: application/json\r\netag: \"7\"\r\nx-secret: no\r\n", r#"{"id": 7}"#);
    let server = Server::saying(answer).await;
    let arguments = json!({
        "method": "POST", "url": server.url("/things?a=1"), "json": "{\"name\": \"ü\"}",
        "query": [{"name": "q", "value": "a b&c"}], "headers": [{"name": "Authorization", "value": "Bearer k"}],
    });
    let reply = call(&world, arguments).await;
    assert_eq!(ok(&reply), "HTTP 201 Created\ncontent-type: application/json\netag: \"7\"\n\n{\"id\": 7}");
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /things?a=1&q=a+b%26c HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{\"name\": \"ü\"}"),
        "{request}"
    );
    for line in ["authorization: Bearer k", "content-type: application/json", "user-agent: errand/", "idempotency-key: run_"]
    {
        assert!(request.contains(line), "{line}: {request}");
    }
}

#[tokio::test]
async fn a_call_that_is_repeated_carries_the_same_key_and_another_call_another() {
    let world = World::new();
    let server = Server::saying(Answer::ok("text/plain", "done")).await;
    let arguments = json!({"method": "POST", "url": server.url("/"), "body": "x"});
    call(&world, arguments.clone()).await;
    call(&world, arguments.clone()).await;
    world.call(1, "http", arguments, None).await;
    let given = json!({"method": "PUT", "url": server.url("/"), "headers": [{"name": "idempotency-key", "value": "mine"}]});
    call(&world, given).await;
    call(&world, json!({"method": "GET", "url": server.url("/")})).await;
    let keys: Vec<Option<String>> = server
        .requests()
        .iter()
        .map(|request| request.lines().find_map(|line| line.strip_prefix("idempotency-key: ").map(str::to_owned)))
        .collect();
    assert!(keys[0].is_some() && keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    assert_eq!((keys[3].as_deref(), keys[4].as_deref()), (Some("mine"), None));
}

#[tokio::test]
async fn what_became_of_an_unsafe_request_is_unknown_once_it_may_have_been_received() {
    let world = World::new();
    let dies = Server::saying(Answer::raw("")).await;
    let reply = call(&world, json!({"method": "POST", "url": dies.url("/")})).await;
    let Outcome::Unknown { reason } = &reply.outcome else { panic!("{reply:?}") };
    assert!(reason.contains("response_broken"), "{reason}");
    assert_eq!(dies.requests().len(), 1);
    let cut = Server::saying(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!")).await;
    assert!(matches!(call(&world, json!({"method": "DELETE", "url": cut.url("/")})).await.outcome, Outcome::Unknown { .. }));
    let gateway = Server::saying(Answer::new("504 Gateway Timeout", "", "")).await;
    assert!(matches!(
        call(&world, json!({"method": "POST", "url": gateway.url("/")})).await.outcome,
        Outcome::Unknown { .. }
    ));
    assert_eq!(error(&call(&world, json!({"method": "GET", "url": dies.url("/")})).await).0, "response_broken");
    let refused = call(&world, json!({"method": "POST", "url": "http://10.0.0.1/"})).await;
    assert_eq!(error(&refused).0, "address_refused");
}

#[tokio::test]
async fn an_error_of_the_server_is_an_error_with_its_words() {
    let world = World::new();
    let server =
        Server::saying(Answer::new("422 Unprocessable", "content-type: application/problem+json\r\n", r#"{"title":"no"}"#))
            .await;
    let reply = call(&world, json!({"method": "POST", "url": server.url("/")})).await;
    let (code, text) = error(&reply);
    assert_eq!(code, "http_status");
    assert!(text.starts_with("HTTP 422") && text.ends_with(r#"{"title":"no"}"#), "{text}");
}

#[tokio::test]
async fn a_binary_or_long_body_becomes_a_file() {
    let world = World::new();
    let long = "line\n".repeat(10_000);
    let body = long.clone();
    let server = Server::start(move |number, _| match number {
        0 => Answer::ok("image/png", b"\x89PNG\r\n\x1a\n\0\0"),
        _ => Answer::ok("text/csv", &body),
    })
    .await;
    let reply = call(&world, json!({"method": "GET", "url": server.url("/logo")})).await;
    assert!(ok(&reply).contains("downloads/2-0-logo.png (image/png, 10 bytes)"), "{}", ok(&reply));
    let reply = world.call(1, "http", json!({"method": "GET", "url": server.url("/t.csv")}), reply.workspace).await;
    assert!(ok(&reply).contains("downloads/2-1-t.csv (text/csv, ") && ok(&reply).len() < 17_000, "{}", ok(&reply));
    let listed = world.call(2, "files", json!({"action": "list"}), reply.workspace).await;
    assert!(ok(&listed).contains("2-0-logo.png") && ok(&listed).contains("2-1-t.csv"), "{}", ok(&listed));
}

#[test]
fn the_arguments_decide_the_class() {
    let world = World::new();
    let class = |method: &str| match world.check("http", &json!({"method": method, "url": "https://a.example"}).to_string())
    {
        Verdict::Accepted { class, .. } => class,
        other => panic!("{other:?}"),
    };
    assert_eq!((class("GET"), class("POST")), (Some(Class::Pure), Some(Class::Effectful)));
    let refused =
        world.check("http", &json!({"method": "GET", "url": "x", "headers": [{"name": "Host", "value": "a"}]}).to_string());
    assert!(matches!(refused, Verdict::Refused { code, .. } if code == "arguments_invalid"));
}
