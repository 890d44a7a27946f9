//! What several tests use.

use crate::server::{Answer, Server};
use errand_core::{Message, ModelError, ModelErrorKind, ModelReply, ModelRequest, RequestedCall, ToolDefinition};
use errand_engine::ports::{Delta, DeltaSink, Models};
use errand_models::{Dialect, Providers, Secret, Settings, Timeouts};
use std::sync::Mutex;
use std::time::Duration;

/// The key that must never be seen in a message.
pub(crate) const KEY: &str = "topsecret-0123456789abcdef";

/// Settings for a server on loopback.
pub(crate) fn settings(base: &str, dialect: Dialect) -> Settings {
    Settings {
        base_url: Some(base.to_owned()),
        api_key: Some(Secret::new(KEY)),
        dialect,
        timeouts: Timeouts { first_token: Duration::from_secs(30), idle: Duration::from_secs(30), ..Timeouts::default() },
        ..Settings::default()
    }
}

/// A request with everything a conversation can hold.
pub(crate) fn request() -> ModelRequest {
    let call = |id: &str, name: &str, arguments: &str| RequestedCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    ModelRequest {
        cache_key: String::new(),
        memo: errand_core::Memo::default(),
        output: None,
        model: "test-model".to_owned(),
        messages: vec![
            Message::System { text: "Be brief.".to_owned() },
            Message::User { images: Vec::new(), text: "What is in a.csv?".to_owned() },
            Message::Assistant {
                opaque: None,
                text: "I look.".to_owned(),
                calls: vec![call("c1", "files", r#"{"action":"read"}"#), call("c2", "no.such", r#"{"broken": "#)],
            },
            Message::Tool { call_id: "c1".to_owned(), name: "files".to_owned(), text: "x,y".to_owned(), is_error: false },
            Message::Tool { call_id: "c2".to_owned(), name: "no.such".to_owned(), text: "no".to_owned(), is_error: true },
        ],
        tools: vec![ToolDefinition {
            name: "files".to_owned(),
            description: "Reads files.".to_owned(),
            parameters: r#"{"type":"object"}"#.to_owned(),
        }],
        max_output_tokens: 100,
    }
}

/// Keeps the pieces of a reply.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Mutex<Vec<Delta>>);

impl DeltaSink for Pieces {
    fn delta(&self, delta: Delta) {
        self.0.lock().unwrap().push(delta);
    }
}

impl Pieces {
    /// Visible text, reasoning and names of calls, as they were streamed.
    pub(crate) fn sums(&self) -> (String, String, Vec<String>) {
        let mut sums = (String::new(), String::new(), Vec::new());
        for delta in self.0.lock().unwrap().iter() {
            match delta {
                Delta::Text(text) => sums.0.push_str(text),
                Delta::Reasoning(text) => sums.1.push_str(text),
                Delta::Call { name } => sums.2.push(name.clone()),
            }
        }
        sums
    }

    /// How many pieces came.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Sends [`request`] to `server`.
pub(crate) async fn call(settings: &Settings) -> Result<ModelReply, ModelError> {
    Providers::new(settings).unwrap().call(&request(), &()).await
}

/// Sends [`request`] to a server that says `answer`.
pub(crate) async fn ask(answer: Answer, dialect: Dialect) -> Result<ModelReply, ModelError> {
    let server = Server::saying(answer).await;
    call(&settings(&server.base, dialect)).await
}

/// The same reply; whom it comes from has a port that changes.
pub(crate) fn without_origin(mut reply: ModelReply) -> ModelReply {
    if let Some(opaque) = &mut reply.opaque {
        assert!(opaque.origin.ends_with(" test-model") && opaque.origin.contains(" 127.0.0.1:"), "{}", opaque.origin);
        opaque.origin.clear();
    }
    reply
}

/// How a stream is handed over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// Whole, in two chunks.
    InTwo(usize),
    /// In chunks of one byte.
    ByteByByte,
    /// The connection breaks within a chunked body.
    Broken(usize),
    /// The connection closes, which is all that ends the body.
    Closed(usize),
}

impl Cut {
    fn answer(self, stream: &[u8]) -> Answer {
        match self {
            Cut::InTwo(at) => Answer::chunks(&[&stream[..at], &stream[at..]], true),
            Cut::ByteByByte => Answer::chunks(&stream.chunks(1).collect::<Vec<_>>(), true),
            Cut::Broken(at) => Answer::chunks(&[&stream[..at]], false),
            Cut::Closed(at) => Answer::unframed(&stream[..at]),
        }
    }

    fn is_whole(self, whole_at: usize) -> bool {
        match self {
            Cut::InTwo(_) | Cut::ByteByByte => true,
            Cut::Broken(at) | Cut::Closed(at) => at >= whole_at,
        }
    }
}

/// Holds `stream` against `expected`, cut in two and broken off at every byte.
///
/// `whole_at` is the number of bytes from which on nothing of the reply is missing, even if the connection then breaks.
/// A closed connection looks to the reader like a broken one, so it is tried at fewer places, and at all near the end.
pub(crate) async fn check_every_cut(stream: &str, dialect: Dialect, expected: &ModelReply, whole_at: usize) {
    let bytes = stream.as_bytes().to_vec();
    let everywhere = 0..=bytes.len();
    let mut cuts = vec![Cut::ByteByByte];
    cuts.extend(everywhere.clone().map(Cut::InTwo));
    cuts.extend(everywhere.clone().map(Cut::Broken));
    cuts.extend(everywhere.filter(|at| at % 13 == 0 || at + 40 > whole_at).map(Cut::Closed));
    // Most of the time goes by in waiting, so several go at once.
    let shares =
        cuts.chunks(cuts.len().div_ceil(8)).map(|cuts| check_cuts(cuts.to_vec(), &bytes, dialect, expected, whole_at));
    futures::future::join_all(shares).await;
}

async fn check_cuts(cuts: Vec<Cut>, bytes: &[u8], dialect: Dialect, expected: &ModelReply, whole_at: usize) {
    let (served, bytes) = (cuts.clone(), bytes.to_vec());
    let server = Server::start(move |number| served[number].answer(&bytes)).await;
    let providers = Providers::new(&settings(&server.base, dialect)).unwrap();
    for cut in cuts {
        let pieces = Pieces::default();
        match (providers.call(&request(), &pieces).await, cut.is_whole(whole_at)) {
            (Ok(reply), true) => {
                assert_eq!(&without_origin(reply.clone()), expected, "{cut:?}");
                let (said, reasoning, names) = pieces.sums();
                assert_eq!((said, reasoning), (reply.text, reply.reasoning), "{cut:?}");
                assert_eq!(names, reply.calls.into_iter().map(|call| call.name).collect::<Vec<_>>());
            }
            (Err(error), false) => {
                assert_eq!((error.kind, error.may_be_charged), (ModelErrorKind::Garbled, true), "{cut:?}: {error}");
            }
            (other, _) => panic!("{cut:?} of {whole_at}: {other:?}"),
        }
    }
}
