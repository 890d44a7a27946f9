//! A server on loopback that says what a test wants and remembers what it was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a connection is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The bytes, status line and all.
    pub(crate) bytes: Vec<u8>,
    /// What then becomes of the connection.
    pub(crate) then: Then,
}

/// What becomes of a connection after the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// It is closed.
    Close,
    /// It stays open until the client closes it.
    Hold,
    /// The same, and every 5 ms comes this.
    Drip(&'static str),
}

impl Answer {
    /// An answer whose length is known.
    pub(crate) fn new(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        Self { bytes: [head.as_bytes(), body.as_bytes()].concat(), then: Then::Close }
    }

    /// A JSON answer.
    pub(crate) fn json(status: &str, body: &str) -> Self {
        Self::new(status, "content-type: application/json\r\n", body)
    }

    /// An event stream in the given chunks; `whole` tells whether the last chunk, which ends it, is sent.
    pub(crate) fn chunks(chunks: &[&[u8]], whole: bool) -> Self {
        let kind = content_type(chunks.iter().find_map(|chunk| chunk.first()));
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
                .into_bytes();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        if whole {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Self { bytes, then: Then::Close }
    }

    /// An event stream that ends when the connection does.
    pub(crate) fn unframed(body: &[u8]) -> Self {
        let kind = content_type(body.first());
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
        Self { bytes: [head.as_bytes(), body].concat(), then: Then::Close }
    }

    /// The same, but the connection stays open.
    pub(crate) fn hold(self) -> Self {
        Self { then: Then::Hold, ..self }
    }
}

/// Lines of JSON begin with a brace, server-sent events never do.
fn content_type(first: Option<&u8>) -> &'static str {
    if first == Some(&b'{') { "application/x-ndjson" } else { "text/event-stream; charset=utf-8" }
}

/// What Ollama tells of a model, in the form of <https://docs.ollama.com/api-reference/show-model-details> (2026-11-21).
pub(crate) const SHOWN: &str = r#"{"capabilities":["completion","tools","vision","thinking"],
    "model_info":{"general.architecture":"qwen3","qwen3.context_length":40960}}"#;

/// The server; gone with the runtime of its test.
pub(crate) struct Server {
    /// Its base URL.
    pub(crate) base: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts one that gives the n-th request `answer(n)`, not counting what Ollama is asked about a model first.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let number = AtomicUsize::new(0);
        let answers = Arc::new(move |request: &str| match request.starts_with("POST /api/show ") {
            true => Answer::json("200 OK", SHOWN),
            false => answer(number.fetch_add(1, Ordering::Relaxed)),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        Self { base, requests }
    }

    /// Starts one that always says the same.
    pub(crate) async fn saying(answer: Answer) -> Self {
        Self::start(move |_| answer.clone()).await
    }

    /// The requests so far, head and body each.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The body of the only request, as JSON.
    pub(crate) fn body(&self) -> serde_json::Value {
        let requests = self.requests();
        assert_eq!(requests.len(), 1);
        serde_json::from_str(requests[0].split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<impl Fn(&str) -> Answer>, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !is_whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let answer = answers(&request);
    if !request.starts_with("POST /api/show ") {
        seen.lock().unwrap().push(request);
    }
    // The client may hang up early; that is its right.
    let _ = stream.write_all(&answer.bytes).await;
    match answer.then {
        Then::Close => {}
        Then::Hold => while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {},
        Then::Drip(piece) => {
            while stream.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let _ = stream.shutdown().await;
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= head.len() + 4 + length.unwrap_or(0)
}
