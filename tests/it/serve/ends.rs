//! Servers that end, planned or not, and what becomes of the runs.

use super::{Server, ended, last_text, request, run_of, sse, wait_for};
use crate::cli::{User, one_call};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a_killed_server_goes_on_with_its_runs_when_it_is_started_again() {
    let user = User::new();
    user.script("slow", &one_call("shell", "{ script = \"sleep 1; echo slept\" }"));
    let server = Server::start(&user, &[]);
    let ask = json!({"model": "scripted/slow", "input": "t", "background": true, "tools": [{"type": "errand:shell"}],
                     "metadata": {"order": "77"}});
    let response = server.respond(ask);
    let id = response["id"].as_str().unwrap().to_owned();
    wait_for(&server, &id, "tool_call");
    server.signal("KILL");
    server.end();
    let server = Server::start(&user, &[]);
    let done = ended(&server, &id);
    assert_eq!(done["status"], "completed", "{done}");
    assert!(last_text(&done).contains("slept"));
    assert_eq!(done["metadata"], json!({"order": "77"}));
    assert_eq!(done["tools"], json!([{"type": "errand:shell"}]));
    drop(server);
    user.expect(0, &["verify", &run_of(&id)]);
}

#[test]
fn a_server_that_is_asked_to_stop_ends_its_streams_and_hands_over() {
    let user = User::new();
    user.script("waits", &one_call("wait", "{ seconds = 600 }"));
    let server = Server::start(&user, &[]);
    let body = json!({"model": "scripted/waits", "input": "t", "stream": true, "tools": [{"type": "errand:wait"}]});
    let headers = "content-type: application/json\r\n";
    let mut stream = server.stream(&request("POST", "/v1/responses", headers, body.to_string().as_bytes()));
    wait_for(&server, server.get("/v1/runs")["data"][0]["response"].as_str().unwrap(), "timer_set");
    let begun = Instant::now();
    server.signal("TERM");
    let events = sse(&mut stream);
    let (_, name, data) = events.last().unwrap();
    assert_eq!((name.as_str(), data["code"].as_str()), ("error", Some("server_stopping")), "{events:#?}");
    let left = server.end();
    assert_eq!(left.code, Some(0), "{left:#?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(user.status(&user.newest()), "waiting");
}
