//! Streams: the same numbers live, later, from the middle, and as a list.

use super::{Server, request, run_of, sse};
use crate::cli::{User, one_call};
use serde_json::{Value, json};

#[test]
fn a_runs_events_are_the_same_as_a_list_as_a_stream_and_on_the_command_line() {
    let user = User::new();
    user.script("calc", &one_call("calculate", "{ expression = \"6*7\" }"));
    let server = Server::start(&user, &[]);
    let response = server.respond(json!({"model": "scripted/calc", "input": "t", "tools": [{"type": "errand:calculate"}]}));
    let run = run_of(response["id"].as_str().unwrap());
    let path = format!("/v1/runs/{run}/events");
    let list = server.get(&path);
    let listed = list["data"].as_array().unwrap();
    let streamed = sse(&mut server.stream(&request("GET", &path, "", b"")));
    assert_eq!(streamed.iter().map(|(_, _, data)| data.clone()).collect::<Vec<Value>>(), *listed);
    assert!(streamed.iter().all(|(id, name, data)| data["seq"].as_u64() == *id && data["type"] == **name));
    let rest = sse(&mut server.stream(&request("GET", &path, "last-event-id: 3\r\n", b"")));
    assert_eq!(rest.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), (4..=listed.len() as u64).map(Some).collect::<Vec<_>>());
    let page = server.get(&format!("{path}?after=1&limit=2"));
    assert_eq!((&page["data"][0]["seq"], &page["has_more"], &page["after"]), (&json!(2), &json!(true), &json!(3)));
    assert_eq!(user.json(0, &["events", &run]), *listed);
}

#[test]
fn a_streams_numbers_do_not_depend_on_when_it_is_read() {
    let user = User::new();
    user.script("calc", &one_call("calculate", "{ expression = \"6*7\" }"));
    let server = Server::start(&user, &[]);
    let body = json!({"model": "scripted/calc", "input": "t", "stream": true, "tools": [{"type": "errand:calculate"}]});
    let headers = "content-type: application/json\r\n";
    let live = sse(&mut server.stream(&request("POST", "/v1/responses", headers, body.to_string().as_bytes())));
    let whole = &live.last().unwrap().2["response"];
    assert_eq!(whole["status"], "completed", "{whole}");
    let id = whole["id"].as_str().unwrap();
    assert_eq!(&server.get(&format!("/v1/responses/{id}")), whole, "the stream and the stored response differ");
    let told = characters(&live, 0);
    let last = live.last().unwrap().2["sequence_number"].as_u64().unwrap();
    // From every number on: exactly the rest, no gap, nothing twice.
    for after in 0..=last {
        let path = format!("/v1/responses/{id}?stream=true&starting_after={after}");
        let later = sse(&mut server.stream(&request("GET", &path, "", b"")));
        let rest: Vec<_> = told.iter().filter(|(number, _)| *number > after).cloned().collect();
        assert_eq!(characters(&later, after), rest, "after {after}");
    }
}

/// Each event by its number; a piece of text as its characters, each with a number of its own.
fn characters(events: &[(Option<u64>, String, Value)], after: u64) -> Vec<(u64, String)> {
    let mut told = Vec::new();
    for (_, name, data) in events {
        let number = data["sequence_number"].as_u64().unwrap();
        match data["delta"].as_str() {
            Some(delta) => {
                let count = delta.chars().count() as u64;
                let each = delta.chars().zip(number + 1 - count..).map(|(letter, number)| (number, letter.to_string()));
                told.extend(each);
            }
            None => told.push((number, name.clone())),
        }
    }
    told.retain(|(number, _)| after == 0 || *number > after);
    told
}
