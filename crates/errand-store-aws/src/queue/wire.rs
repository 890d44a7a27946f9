//! What a message looks like on its way: `{"v": 1, "body": …}`.

use errand_core::Timestamp;
use errand_engine::ports::Message;
use serde::{Deserialize, Serialize};

/// The version that this code writes, and the newest that it reads.
const VERSION: u64 = 1;
/// Longest body that is looked at, in bytes. Ours have some 200; SQS carries a mebibyte.
const BODY_MAX: usize = 64 << 10;
/// How much too early a message may come and still be handed out, in milliseconds: delays are whole seconds.
const EARLY_MS: u64 = 1_000;

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u64,
    body: Message,
}

/// What is to be done with a body that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sorted {
    /// Handle it.
    Due(Message),
    /// It is not due yet, since a delay is 15 minutes at most: send it again, then delete this one.
    Early(Message),
    /// Newer code wrote it: leave it to that, unless none takes it.
    Newer(u64),
    /// Nobody can make use of it; with the reason.
    Unusable(String),
}

/// A message as a body.
pub(crate) fn body(message: &Message) -> String {
    // Plain data with text keys only.
    serde_json::to_string(&Envelope { v: VERSION, body: message.clone() }).unwrap_or_default()
}

/// Sorts a body that was received from a queue at `now`. Pure.
pub fn sort(body: &str, now: Timestamp) -> Sorted {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    if body.len() > BODY_MAX {
        return Sorted::Unusable(format!("it has {} bytes; a message has {BODY_MAX} at most", body.len()));
    }
    match serde_json::from_str(body) {
        Ok(Version { v }) if v > VERSION => return Sorted::Newer(v),
        Ok(_) => {}
        Err(error) => return Sorted::Unusable(format!("it is no message of Errand: {error}")),
    }
    match serde_json::from_str(body) {
        Ok(Envelope { body: message, .. }) if is_early(&message, now) => Sorted::Early(message),
        Ok(Envelope { body: message, .. }) => Sorted::Due(message),
        Err(error) => Sorted::Unusable(format!("it is no message of Errand: {error}")),
    }
}

fn is_early(message: &Message, now: Timestamp) -> bool {
    message.not_before().is_some_and(|due| due > now.plus(EARLY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use errand_core::{CallId, RunId};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn what_was_sent_is_what_is_received() {
        let run = RunId::new(at(1), 7);
        let call = CallId { record: 2, index: 0 };
        let step = Message::Step { run, record: u64::MAX, not_before: None };
        let call = Message::Call { run, call, sandbox: true, not_before: Some(at(5_000)) };
        assert_eq!(sort(&body(&step), at(0)), Sorted::Due(step));
        assert_eq!(sort(&body(&call), at(4_000)), Sorted::Due(call.clone()));
        assert_eq!(sort(&body(&call), at(3_999)), Sorted::Early(call));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let unusable = |body: &str| matches!(sort(body, at(0)), Sorted::Unusable(_));
        for body in ["", "hello", "{}", "[]", "null", r#"{"v":1}"#, r#"{"v":-1,"body":{}}"#, r#"{"v":"1"}"#] {
            assert!(unusable(body), "{body}");
        }
        assert!(unusable(r#"{"v":1,"body":{"message":"step","run":"run_1","record":2}}"#), "no run has that id");
        assert!(unusable(&format!(r#"{{"v":1,"x":"{}"}}"#, "x".repeat(BODY_MAX))));
        assert!(unusable(&"[".repeat(10_000)), "deep nesting");
        assert_eq!(sort(r#"{"v":2,"whatever":{}}"#, at(0)), Sorted::Newer(2));
    }
}
