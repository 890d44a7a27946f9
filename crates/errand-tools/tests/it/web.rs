//! A small HTTP server on loopback that keeps what it was asked.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) struct Web {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, both) = (Arc::clone(&asked), Arc::new(Barrier::new(2)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&kept), Arc::clone(&both)));
            }
        });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, kept: Arc<Mutex<Vec<Asked>>>, both: Arc<Barrier>) {
    while let Some(asked) = read(&mut stream).await {
        kept.lock().unwrap().push(asked.clone());
        let target = asked.line.split(' ').nth(1).unwrap().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let (status, answer) = match path {
            "/v1/weather/Graz" => (200, json!({ "current": { "temp": 7, "sky": "rain", "wind": 3 } }).to_string()),
            "/v1/issues" if body["title"].is_string() => (201, json!({ "number": 17 }).to_string()),
            "/v1/people" => (200, json!({ "query": query }).to_string()),
            "/graphql" if body["variables"]["code"] == "AT" => {
                (200, json!({ "data": { "country": { "capital": "Vienna", "currency": "EUR" } } }).to_string())
            }
            "/graphql" => (200, json!({ "data": null, "errors": [{ "message": "no such country" }] }).to_string()),
            "/echo" => (200, format!("{}\n{}", asked.head, asked.body)),
            "/both" => {
                // Answers when two are here at the same time, and not before.
                both.wait().await;
                (200, "both".to_owned())
            }
            "/mcp" => {
                let answer = mcp(&asked, &body);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            "/hang" => std::future::pending().await,
            "/cut" => return,
            "/short" => {
                let _ = stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 10\r\n\r\nfive!").await;
                return;
            }
            "/lost" => (502, json!({ "errors": [{ "message": "nobody there" }] }).to_string()),
            "/late" => (504, String::new()),
            _ => (404, format!("nothing at {path}")),
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
            let head = head.to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Some(Asked { line: line.to_owned(), head, body: body.to_owned() });
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&more[..read]),
            _ => return None,
        }
    }
}

/// An MCP server behind a URL: it opens a session, answers the list as JSON and calls as a stream.
fn mcp(asked: &Asked, body: &Value) -> String {
    let answer = |status: u16, more: &str, text: &str| {
        format!("HTTP/1.1 {status} X\r\n{more}Content-Length: {}\r\n\r\n{text}", text.len())
    };
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": body["id"], "result": result }).to_string();
    let is_known = asked.head.contains("mcp-session-id: s-1") && asked.head.contains("mcp-protocol-version: 2025-11-25");
    match body["method"].as_str() {
        Some("initialize") if asked.head.contains("authorization: bearer hush-hush-hush") => {
            let info = json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "web", "version": "1" }
            });
            answer(200, "Content-Type: application/json\r\nMcp-Session-Id: s-1\r\n", &result(info))
        }
        Some("initialize") => answer(401, "", "who are you?"),
        _ if !is_known => answer(404, "", "no such session"),
        Some("tools/list") => {
            let tool = json!({ "name": "greet", "description": "Greets.", "inputSchema": { "type": "object" } });
            answer(200, "Content-Type: application/json\r\n", &result(json!({ "tools": [tool] })))
        }
        Some("tools/call") if body["params"]["arguments"]["name"] == "nobody" => answer(403, "", "not for nobody"),
        Some("tools/call") => {
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 1, "progress": 1 } });
            let name = body["params"]["arguments"]["name"].as_str().unwrap_or_default();
            let text = json!({ "content": [{ "type": "text", "text": format!("hello {name}") }] });
            let stream =
                format!(": here it comes\n\nevent: message\ndata: {progress}\n\nid: 2\r\ndata: {}\r\n\r\n", result(text));
            answer(200, "Content-Type: text/event-stream\r\n", &stream)
        }
        _ => answer(202, "", ""),
    }
}
