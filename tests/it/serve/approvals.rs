//! Runs that wait for a person: no request hangs on them, and a word over HTTP brings them forward.

use super::{Server, ended, last_text, run_of, wait_for};
use crate::cli::{User, one_call};
use serde_json::json;

#[test]
fn a_plain_response_that_waits_is_incomplete_until_somebody_decides() {
    let user = User::new();
    user.script("asks", &one_call("shell", "{ script = \"echo hi\" }"));
    let server = Server::start(&user, &["--approve", "shell"]);
    let ask = json!({"model": "scripted/asks", "input": "t", "tools": [{"type": "errand:shell"}]});
    let response = server.respond(ask.clone());
    assert_eq!(response["status"], "incomplete", "{response}");
    assert_eq!(response["incomplete_details"]["reason"], "waits_for_person");
    let run = run_of(response["id"].as_str().unwrap());
    let waits = server.get(&format!("/v1/runs/{run}"));
    assert_eq!(waits["waits_for"][0]["what"], "approval", "{waits}");
    // What comes after must wait for its end.
    let next = server.post("/v1/responses", &json!({"input": "t", "previous_response_id": response["id"]}));
    assert_eq!(next.json()["error"]["code"], "run_not_ended");
    assert_eq!(server.post(&format!("/v1/runs/{run}/answer"), &json!({"text": "x"})).json()["code"], "not_waiting");
    let missing = server.post(&format!("/v1/runs/{run}/reject"), &json!({}));
    assert_eq!((missing.status, missing.json()["param"].as_str()), (400, Some("reason")));
    assert_eq!(server.post(&format!("/v1/runs/{run}/reject"), &json!({"reason": "not today"})).status, 200);
    // The same response completes.
    let done = ended(&server, response["id"].as_str().unwrap());
    assert_eq!(done["status"], "completed", "{done}");
    assert!(last_text(&done).contains("not today"));
    assert_eq!(done["output"][1]["type"], "errand:shell");
    assert_eq!(done["output"][1]["status"], "failed");

    let mut background = ask;
    background["background"] = true.into();
    let response = server.respond(background);
    let id = response["id"].as_str().unwrap();
    wait_for(&server, id, "approval_needed");
    let waits = server.get(&format!("/v1/responses/{id}"));
    assert_eq!(waits["status"], "in_progress");
    let cancelled = server.post(&format!("/v1/responses/{id}/cancel"), &json!({}));
    assert_eq!(cancelled.json()["status"], "cancelled");
    let again = server.post(&format!("/v1/responses/{id}/cancel"), &json!({}));
    assert_eq!(again.json()["status"], "cancelled");
}
