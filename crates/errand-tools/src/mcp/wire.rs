//! Messages from a server: bounded in size and number, and none of them able to stop the others.

use rmcp::model::{ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Longest message, in bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Lines that are no messages: more than this, and nobody is there who speaks the protocol.
const RUBBISH_MAX: u32 = 1_000;
/// Messages that nobody asked for, at once and per second: what is above is dropped.
const UNASKED_AT_ONCE: f64 = 500.0;
const UNASKED_PER_SECOND: f64 = 100.0;
/// Dropped messages: more than this, and the server is cut off.
const DROPPED_MAX: u32 = 100_000;

/// The code of the answer that stands for one of the wrong form. Not the server's word: it may have done what it was asked.
/// No server has it: those of the protocol are near -32,000.
pub(super) const MALFORMED: ErrorCode = ErrorCode(i32::MIN);

/// Why no more messages come.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending(Arc<Mutex<Option<String>>>);

impl Ending {
    pub(super) fn set(&self, problem: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem.into());
    }

    /// What rule was broken, if one was.
    pub(super) fn problem(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads lines, each a message. Dropping a future loses nothing.
pub(super) struct Lines<R> {
    from: R,
    line: Vec<u8>,
    gate: Gate,
    ending: Ending,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(from: R, ending: Ending) -> Self {
        Self { from, line: Vec::new(), gate: Gate::new(ending.clone()), ending }
    }

    /// The next message; none at the end, or where a bound is passed.
    pub(super) async fn next(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let available = self.from.fill_buf().await.ok()?;
            if available.is_empty() {
                return None;
            }
            let (taken, whole) = match available.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (available.len(), false),
            };
            self.line.extend_from_slice(&available[..taken]);
            self.from.consume(taken);
            if self.line.len() > MESSAGE_BYTES_MAX {
                self.ending.set(format!("a message has more than {MESSAGE_BYTES_MAX} bytes"));
                return None;
            }
            if whole {
                let line = std::mem::take(&mut self.line);
                match self.gate.pass(line.trim_ascii()) {
                    Passed::Message(message) => return Some(*message),
                    Passed::Nothing => {}
                    Passed::Over => return None,
                }
            }
        }
    }
}

/// What became of a line.
pub(super) enum Passed {
    Message(Box<ServerJsonRpcMessage>),
    /// It is left out.
    Nothing,
    /// A bound is passed: the server is cut off.
    Over,
}

/// Lets messages through, as long as they are messages and not too many.
pub(super) struct Gate {
    rubbish: u32,
    dropped: u32,
    allowance: f64,
    since: Instant,
    ending: Ending,
}

impl Gate {
    pub(super) fn new(ending: Ending) -> Self {
        Self { rubbish: 0, dropped: 0, allowance: UNASKED_AT_ONCE, since: Instant::now(), ending }
    }

    pub(super) fn pass(&mut self, line: &[u8]) -> Passed {
        if line.is_empty() {
            return Passed::Nothing;
        }
        let Ok(value) = serde_json::from_slice::<Value>(line) else { return self.rubbish(line) };
        let is_unasked = value.get("method").is_some();
        if is_unasked && !self.allows(Instant::now()) {
            self.dropped += 1;
            if self.dropped > DROPPED_MAX {
                self.ending.set(format!("it sent over {DROPPED_MAX} messages that nobody asked for"));
                return Passed::Over;
            }
            return Passed::Nothing;
        }
        let id = value.get("id").cloned().and_then(|id| serde_json::from_value::<RequestId>(id).ok());
        match (serde_json::from_value::<ServerJsonRpcMessage>(value), id) {
            (Ok(message), _) => Passed::Message(Box::new(message)),
            // An answer that is none: whoever asked is told, and not left to wait.
            (Err(_), Some(id)) if !is_unasked => {
                let error = ErrorData::new(MALFORMED, "the answer does not have the form of one", None);
                Passed::Message(Box::new(JsonRpcMessage::error(error, Some(id))))
            }
            (Err(_), _) => self.rubbish(line),
        }
    }

    fn rubbish(&mut self, line: &[u8]) -> Passed {
        self.rubbish += 1;
        tracing::debug!(bytes = line.len(), "an MCP server wrote a line that is no message");
        if self.rubbish <= RUBBISH_MAX {
            return Passed::Nothing;
        }
        self.ending.set(format!("it wrote over {RUBBISH_MAX} lines that are no messages"));
        Passed::Over
    }

    fn allows(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.allowance = (self.allowance + passed * UNASKED_PER_SECOND).min(UNASKED_AT_ONCE);
        let allows = self.allowance >= 1.0;
        if allows {
            self.allowance -= 1.0;
        }
        allows
    }
}
