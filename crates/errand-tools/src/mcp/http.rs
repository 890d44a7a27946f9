//! A server behind a URL: streamable HTTP, through the guarded client.
//!
//! Each message is a POST; what it answers with is a message, or a stream of them. The stream that a server may offer for
//! messages nobody asked for is not opened: the tools are listed anew for each run instead.

use super::wire::{Ending, Gate, MESSAGE_BYTES_MAX, Passed};
use crate::net::{Network, Request, Response};
use bytes::Bytes;
use errand_core::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use url::Url;

/// Longest time for the answer to a request: no call takes longer.
const ANSWER: Duration = Duration::from_secs(900);
/// Longest time for a notification, and for the end of a session.
const NOTICE: Duration = Duration::from_secs(10);
/// Messages that wait to be taken in.
const WAITING_MAX: usize = 1_000;
/// Of a refusal, so much is shown, in bytes.
const REFUSAL_BYTES: usize = 500;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The connection to a server behind a URL.
pub(super) struct Remote {
    shared: Arc<Shared>,
    received: Receiver<ServerJsonRpcMessage>,
    sender: Sender<ServerJsonRpcMessage>,
}

struct Shared {
    network: Arc<Network>,
    url: Url,
    headers: HeaderMap,
    /// What the server wants to be told with each message, once it has said so.
    agreed: Mutex<HeaderMap>,
    gate: Mutex<Gate>,
    ending: Ending,
}

/// Why a message was not sent, or not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(super) struct Unsent {
    problem: String,
    /// Whether the server may have acted on it.
    pub(super) is_sent: bool,
}

impl Remote {
    pub(super) fn new(network: Arc<Network>, url: Url, headers: HeaderMap) -> (Self, Ending) {
        let ending = Ending::default();
        let (agreed, gate) = (Mutex::default(), Mutex::new(Gate::new(ending.clone())));
        let shared = Arc::new(Shared { network, url, headers, agreed, gate, ending: ending.clone() });
        let (sender, received) = channel(WAITING_MAX);
        (Self { shared, received, sender }, ending)
    }
}

impl Transport<RoleClient> for Remote {
    type Error = Unsent;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = Result<(), Unsent>> + Send + 'static {
        let (shared, sender) = (Arc::clone(&self.shared), self.sender.clone());
        async move { shared.post(message, sender).await }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        match self.shared.ending.problem() {
            Some(_) => None,
            None => self.received.recv().await,
        }
    }

    async fn close(&mut self) -> Result<(), Unsent> {
        let has_session = self.shared.agreed().contains_key(SESSION);
        if has_session {
            // A server that does not end sessions on request ends them by itself.
            let request = self.shared.request(Method::DELETE, None, NOTICE);
            let _ = self.shared.network.send(request, now(), NOTICE.min(Duration::from_millis(800))).await;
        }
        Ok(())
    }
}

impl Shared {
    async fn post(&self, message: ClientJsonRpcMessage, sender: Sender<ServerJsonRpcMessage>) -> Result<(), Unsent> {
        let wants_answer = matches!(message, JsonRpcMessage::Request(_));
        let body = serde_json::to_vec(&message).map_err(|error| unsent(error.to_string(), false))?;
        let time = if wants_answer { ANSWER } else { NOTICE };
        let request = self.request(Method::POST, Some(body.into()), time);
        let answered = self.network.send(request, now(), time).await;
        let response = answered.map_err(|failure| unsent(failure.error.to_string(), failure.sent))?;
        if !response.status.is_success() {
            return Err(refused(response).await);
        }
        self.agree(&response.headers);
        let kind = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => self.stream(response, &sender).await,
            "application/json" => self.single(response, &sender).await,
            _ if !wants_answer => Ok(()),
            other => Err(unsent(format!("its answer is of the kind {other:?}, not JSON and no stream of events"), true)),
        }
    }

    /// A tool that works for long says nothing until it is done: `time` is all that ends it.
    fn request(&self, method: Method, body: Option<Bytes>, time: Duration) -> Request {
        let mut headers = self.headers.clone();
        headers.extend(self.agreed().clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Request { body, silence: Some(time), ..Request::new(method, self.url.clone(), headers) }
    }

    fn agreed(&self) -> std::sync::MutexGuard<'_, HeaderMap> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the session that the server opened.
    fn agree(&self, headers: &HeaderMap) {
        if let Some(session) = headers.get(SESSION) {
            self.agreed().insert(SESSION, session.clone());
        }
    }

    async fn single(&self, response: Response, sender: &Sender<ServerJsonRpcMessage>) -> Result<(), Unsent> {
        let read = response.body.read(MESSAGE_BYTES_MAX).await.map_err(|error| unsent(error.to_string(), true))?;
        if !read.whole {
            return Err(self.too_long());
        }
        self.take(&read.bytes, sender).await
    }

    /// Events of a stream, each a message.
    async fn stream(&self, mut response: Response, sender: &Sender<ServerJsonRpcMessage>) -> Result<(), Unsent> {
        let mut events = Events::default();
        loop {
            let chunk = response.body.chunk().await.map_err(|error| unsent(error.to_string(), true))?;
            let Some(chunk) = chunk else { return Ok(()) };
            for message in events.push(&chunk) {
                self.take(&message, sender).await?;
            }
            if events.waiting() > MESSAGE_BYTES_MAX {
                return Err(self.too_long());
            }
        }
    }

    async fn take(&self, bytes: &[u8], sender: &Sender<ServerJsonRpcMessage>) -> Result<(), Unsent> {
        let passed = self.gate.lock().unwrap_or_else(PoisonError::into_inner).pass(bytes);
        match passed {
            Passed::Message(message) => {
                if let JsonRpcMessage::Response(response) = &*message
                    && let rmcp::model::ServerResult::InitializeResult(result) = &response.result
                    && let Ok(version) = HeaderValue::from_str(&result.protocol_version.to_string())
                {
                    self.agreed().insert(VERSION, version);
                }
                sender.send(*message).await.map_err(|_| unsent("the connection was closed".to_owned(), true))
            }
            Passed::Nothing => Ok(()),
            Passed::Over => Err(unsent(self.ending.problem().unwrap_or_default(), true)),
        }
    }

    fn too_long(&self) -> Unsent {
        let problem = format!("a message has more than {MESSAGE_BYTES_MAX} bytes");
        self.ending.set(problem.clone());
        unsent(problem, true)
    }
}

/// A stream of events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>, checked 2026-11-21). Only the data
/// of an event counts.
#[derive(Default)]
struct Events {
    /// Lines that were not read, the last of them not whole.
    rest: Vec<u8>,
    /// So much of it has no end of a line: it is not searched again with each piece that comes.
    searched: usize,
    data: Vec<u8>,
}

impl Events {
    /// Takes in what came, and gives the data of the events that ended with it.
    fn push(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut ended = Vec::new();
        self.rest.extend_from_slice(chunk);
        let mut begin = 0;
        while let Some(length) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + length;
            let line = self.rest[begin..end].trim_ascii_end();
            (begin, self.searched) = (end + 1, end + 1);
            if let Some(text) = line.strip_prefix(b"data:") {
                self.data.extend_from_slice(text.strip_prefix(b" ").unwrap_or(text));
                self.data.push(b'\n');
            } else if line.is_empty() && !self.data.is_empty() {
                ended.push(std::mem::take(&mut self.data).trim_ascii_end().to_vec());
            }
        }
        self.rest.drain(..begin);
        self.searched = self.rest.len();
        ended
    }

    /// Bytes that wait for the end of their event.
    fn waiting(&self) -> usize {
        self.rest.len() + self.data.len()
    }
}

async fn refused(response: Response) -> Unsent {
    let status = response.status;
    let said = response.body.read(REFUSAL_BYTES).await.map(|read| String::from_utf8_lossy(&read.bytes).into_owned());
    let said = said.unwrap_or_default();
    // A server that is in trouble may have done what it was asked before.
    unsent(format!("it answered with status {}: {}", status.as_u16(), said.trim()), status.is_server_error())
}

fn unsent(problem: String, is_sent: bool) -> Unsent {
    Unsent { problem, is_sent }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let stream = b": hello\r\n\r\nevent: message\r\ndata: {\"a\":\ndata:1}\n\ndata: x\n\nid: 7\n\ndata: cut off";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let all: Vec<Vec<u8>> = stream.chunks(size).flat_map(|chunk| events.push(chunk)).collect();
            assert_eq!(all, [b"{\"a\":\n1}".to_vec(), b"x".to_vec()], "{size}");
            assert_eq!(events.waiting(), "data: cut off".len());
        }
    }

    #[test]
    fn a_long_line_in_small_pieces_is_searched_once() {
        let begun = Instant::now();
        let mut events = Events::default();
        assert!((0..1 << 17).all(|_| events.push(b"x").is_empty()));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_stream_may_be_silent_for_as_long_as_a_call_may_take() {
        let network = Arc::new(Network::new::<&str>(&[]).unwrap());
        let (remote, _) = Remote::new(network, "https://mcp.example/".parse().unwrap(), HeaderMap::new());
        assert_eq!(remote.shared.request(Method::POST, Some(Bytes::new()), ANSWER).silence, Some(ANSWER));
    }
}
