//! `errand serve`, driven over a socket as programs drive it, and by the stock OpenAI SDK.

mod approvals;
mod bad_input;
mod ends;
mod events;
mod keys;
mod sdk;

use crate::cli::{Ended, Running, User, one_call};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server over a user's data folder.
pub(crate) struct Server {
    running: Running,
    pub(crate) address: SocketAddr,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    pub(crate) fn start(user: &User, options: &[&str]) -> Self {
        Self::at(user, "127.0.0.1:0", options)
    }

    /// Listening there, and spoken to from this machine.
    pub(crate) fn at(user: &User, listen: &str, options: &[&str]) -> Self {
        let mut running = user.start(&[&["serve", "--listen", listen, "--model", "scripted/hello"], options].concat());
        let line = running.wait_for("listening on ");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches("/v1").parse().unwrap();
        Self { running, address: SocketAddr::from(([127, 0, 0, 1], address.port())) }
    }

    /// Sends bytes as they are and reads all that comes back.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has seen enough may not read the rest.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Answer::read(&String::from_utf8_lossy(&answer))
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.raw(&request(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "accept: application/json\r\n", b"");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    /// The response that a request comes to.
    pub(crate) fn respond(&self, body: Value) -> Value {
        let answer = self.post("/v1/responses", &body);
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        answer.json()
    }

    /// A connection on which `bytes` were sent, past the head of the answer.
    pub(crate) fn stream(&self, bytes: &[u8]) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "no head");
        }
        reader
    }

    pub(crate) fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    pub(crate) fn end(self) -> Ended {
        self.running.end()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }
}

/// A request that closes the connection behind it.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
    let head = format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{length}{headers}\r\n");
    [head.as_bytes(), body].concat()
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The events of a stream: `id`, `event`, `data`, as far as each has them.
pub(crate) fn sse(reader: &mut impl BufRead) -> Vec<(Option<u64>, String, Value)> {
    let mut events = Vec::new();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    // The lines that tell how long a chunk is stand between.
    for event in text.split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
            let id = field("id:").map(|id| id.parse().unwrap());
            events.push((id, name.to_owned(), serde_json::from_str(data).unwrap()));
        }
    }
    events
}

/// The response once its run has ended.
pub(crate) fn ended(server: &Server, id: &str) -> Value {
    sse(&mut events(server, id));
    server.get(&format!("/v1/responses/{id}"))
}

/// Waits until the run of a response has an event of this type.
pub(crate) fn wait_for(server: &Server, id: &str, name: &str) {
    let wanted = format!("event: {name}");
    let mut lines = events(server, id).lines();
    assert!(lines.any(|line| line.unwrap().trim_end() == wanted), "{id} ended without `{name}`");
}

fn events(server: &Server, id: &str) -> BufReader<TcpStream> {
    server.stream(&request("GET", &format!("/v1/runs/{}/events", run_of(id)), "", b""))
}

/// The run that a response is.
pub(crate) fn run_of(id: &str) -> String {
    id.replace("resp_", "run_")
}

/// The text of a response's last message.
pub(crate) fn last_text(response: &Value) -> &str {
    let mut items = response["output"].as_array().unwrap().iter().rev();
    items
        .find(|item| item["type"] == "message")
        .and_then(|message| message["content"][0]["text"].as_str())
        .unwrap_or_default()
}

#[test]
fn the_same_request_with_a_key_is_one_response() {
    let user = User::new();
    let server = Server::start(&user, &[]);
    let ask = |key: &str, text: &str| {
        let headers = format!("content-type: application/json\r\nidempotency-key: {key}\r\n");
        let body = json!({"model": "scripted/hello", "input": text}).to_string();
        server.ask("POST", "/v1/responses", &headers, body.as_bytes())
    };
    let first = ask("a", "one").json();
    assert_eq!(ask("a", "one").json()["id"], first["id"]);
    assert_ne!(ask("b", "one").json()["id"], first["id"]);
    let other = ask("a", "two");
    assert_eq!((other.status, other.json()["error"]["code"].as_str()), (409, Some("idempotency_key_reused")));
    assert_eq!(ask("", "one").json()["error"]["code"], "idempotency_key_invalid");
    assert_eq!(server.get("/v1/runs")["data"].as_array().unwrap().len(), 2);
}

#[test]
fn an_answer_ends_where_the_request_says() {
    let user = User::new();
    user.script("endless", "[[turn]]\nsay = \"on and on \"\nendless = true\n");
    let server = Server::start(&user, &[]);
    let response = server.respond(json!({"model": "scripted/endless", "input": "t", "max_output_tokens": 40}));
    assert_eq!(response["status"], "incomplete", "{response}");
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(response["usage"]["output_tokens"], 40);
    assert!(last_text(&response).starts_with("on and on"));
    // What is on the books is the run's, in every surface.
    let run = run_of(response["id"].as_str().unwrap());
    assert_eq!(user.status(&run), "budget_exceeded");
}

#[test]
fn parallel_background_runs_all_complete() {
    let user = User::new();
    user.script("calc", &one_call("calculate", "{ expression = \"{{ task }}*2\" }"));
    let server = Server::start(&user, &[]);
    let begun: Vec<Value> = (1..=16)
        .map(|number| {
            server.respond(json!({"model": "scripted/calc", "input": number.to_string(), "background": true,
                "tools": [{"type": "errand:calculate"}]}))
        })
        .collect();
    for (number, response) in (1..=16).zip(&begun) {
        let done = ended(&server, response["id"].as_str().unwrap());
        assert_eq!(last_text(&done), format!("It said: {}", number * 2), "{done}");
    }
}

#[test]
fn a_model_may_be_an_assistant_that_is_kept() {
    let user = User::new();
    user.script("adds", &super::cli::one_call("calculate", "{ expression = \"40 + 2\" }"));
    let clerk = "name = \"clerk\"\nmodel = \"scripted/adds\"\ntools = [\"calculate\"]\n[profile]\nrules = [\"Add up.\"]\n";
    std::fs::write(user.path("clerk.toml"), clerk).unwrap();
    user.expect(0, &["assistants", "add", "clerk.toml"]);
    let server = Server::start(&user, &[]);
    let response = server.respond(json!({"model": "assistant/clerk", "input": "What is 40 + 2?"}));
    assert_eq!(response["status"], "completed");
    assert!(last_text(&response).contains("42"), "{response}");
    let run = server.get(&format!("/v1/runs/{}/events", run_of(response["id"].as_str().unwrap())));
    assert!(run.to_string().contains("\"clerk@1\""), "{run}");
    for named in ["assistant/nobody", "assistant/../clerk", "assistant/clerk.toml", "assistant/"] {
        let answer = server.post("/v1/responses", &json!({"model": named, "input": "x"}));
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("model")), "{named}");
    }
}
