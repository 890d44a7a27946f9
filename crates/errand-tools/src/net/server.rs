//! A server on loopback that says what a test wants and remembers what it was asked.

use std::sync::{Arc, Mutex};
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
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// It is closed.
    Close,
    /// It stays open until the client closes it.
    Hold,
    /// This is sent so many times, as long as the client takes it.
    Repeat(Vec<u8>, u64),
}

impl Answer {
    /// An answer whose length is known. `headers`: lines that end with `\r\n`.
    pub(crate) fn new(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        Self { bytes: [head.as_bytes(), body].concat(), then: Then::Close }
    }

    /// 200 with a content type.
    pub(crate) fn ok(content_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("200 OK", &format!("content-type: {content_type}\r\n"), body)
    }

    /// A redirect.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::new(&format!("{status} Moved"), &format!("location: {location}\r\n"), "")
    }

    /// Exactly these bytes.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), then: Then::Close }
    }

    /// The same, but then this happens.
    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

/// The server; gone with the runtime of its test.
pub(crate) struct Server {
    /// Its address: `127.0.0.1:PORT`.
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts one that answers the n-th request by its head and body.
    pub(crate) async fn start(answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(serve(stream, seen, answer));
            }
        });
        Self { address, requests }
    }

    /// Starts one that always says the same.
    pub(crate) async fn saying(answer: Answer) -> Self {
        Self::start(move |_, _| answer.clone()).await
    }

    /// A URL there.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far, head and body each.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<impl Fn(usize, &str) -> Answer + Send + Sync + 'static>,
) {
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !is_whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let answer = answer(number, &request);
    // The client may hang up early; that is its right.
    let _ = stream.write_all(&answer.bytes).await;
    match answer.then {
        Then::Close => {}
        Then::Hold => while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {},
        Then::Repeat(piece, times) => {
            for _ in 0..times {
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
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
