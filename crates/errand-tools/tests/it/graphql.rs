//! The tool `graphql` against a server on loopback.

use crate::server::{Answer, Server};
use crate::support::{World, error, ok};
use errand_core::{Class, Outcome, Verdict};
use serde_json::{Value, json};

fn answer(body: &str) -> Answer {
    Answer::ok("application/graphql-response+json", body)
}

#[tokio::test]
async fn an_operation_goes_out_and_its_data_come_back() {
    let world = World::new();
    let server = Server::saying(answer(r#"{"data": {"user": {"name": "Ada"}}}"#)).await;
    let query = "query Q($id: ID!) { user(id: $id) { name } } mutation M { drop }";
    let arguments = json!({"url": server.url("/graphql"), "query": query, "operation": "Q", "variables": "{\"id\": 7}"});
    let reply = world.call(0, "graphql", arguments, None).await;
    assert_eq!(ok(&reply), "{\n  \"user\": {\n    \"name\": \"Ada\"\n  }\n}");
    let request = &server.requests()[0];
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body, json!({"query": query, "operationName": "Q", "variables": {"id": 7}}));
    assert!(!request.contains("idempotency-key"), "{request}");
}

#[tokio::test]
async fn a_mutation_is_a_change_and_may_be_unknown_but_a_query_may_not() {
    let world = World::new();
    let class = |query: &str| match world.check("graphql", &json!({"url": "https://a.example", "query": query}).to_string())
    {
        Verdict::Accepted { class, .. } => class,
        other => panic!("{other:?}"),
    };
    assert_eq!((class("{ a }"), class("mutation { a }")), (Some(Class::Pure), Some(Class::Effectful)));
    let dies = Server::saying(Answer::raw("")).await;
    let url = dies.url("/");
    let mutation = world.call(0, "graphql", json!({"url": url, "query": "mutation { a }"}), None).await;
    assert!(matches!(mutation.outcome, Outcome::Unknown { .. }), "{mutation:?}");
    assert!(dies.requests()[0].contains("idempotency-key: run_"));
    let query = world.call(1, "graphql", json!({"url": url, "query": "{ a }"}), None).await;
    assert_eq!(error(&query).0, "response_broken");
    let subscription = world.check("graphql", &json!({"url": url, "query": "subscription { a }"}).to_string());
    assert!(matches!(subscription, Verdict::Refused { .. }), "{subscription:?}");
}

#[tokio::test]
async fn what_the_server_refuses_is_an_error_the_model_can_act_on() {
    let world = World::new();
    let server = Server::start(|number, _| match number {
        0 => answer(r#"{"data": {"a": null}, "errors": [{"message": "no field b", "path": ["a", "b"]}]}"#),
        1 => Answer::new("404 Not Found", "content-type: text/html\r\n", "<h1>nothing here</h1>"),
        _ => Answer::ok("text/html", "<h1>a page</h1>"),
    })
    .await;
    for (wanted, said) in
        [("graphql_errors", "no field b (at a.b)"), ("http_status", "nothing here"), ("response_broken", "no GraphQL")]
    {
        let reply = world.call(0, "graphql", json!({"url": server.url("/"), "query": "{ a { b } }"}), None).await;
        let (code, text) = error(&reply);
        assert!(code == wanted && text.contains(said), "{code}: {text}");
    }
}

#[tokio::test]
async fn a_schema_is_summed_up() {
    let world = World::new();
    let schema = json!({"data": {"__schema": {"queryType": {"name": "Query"}, "types": [
        {"kind": "OBJECT", "name": "Query", "fields": [{"name": "now", "args": [], "type": {"kind": "SCALAR", "name": "String"}}]},
    ]}}});
    let server = Server::saying(answer(&schema.to_string())).await;
    let reply = world.call(0, "graphql", json!({"url": server.url("/"), "introspect": true}), None).await;
    assert_eq!(ok(&reply), "type Query {\n  now: String\n}");
    assert!(server.requests()[0].contains("__schema"));
}
