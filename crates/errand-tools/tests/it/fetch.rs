//! The tool `fetch` against a server on loopback, and the cache before it.

use crate::server::{Answer, Server, Then};
use crate::support::{NOW, World, error, ok};
use errand_engine::ports::ToolReply;
use serde_json::{Value, json};

async fn call(world: &World, arguments: Value) -> ToolReply {
    world.call(0, "fetch", arguments, None).await
}

/// The text of what is fetched as this type.
async fn read(content_type: &str, body: impl AsRef<[u8]>) -> String {
    let server = Server::saying(Answer::ok(content_type, body)).await;
    ok(&call(&World::new(), json!({"url": server.url("/")})).await).split_once("\n\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_page_comes_as_markdown_and_its_source_when_asked_for() {
    let html = "<title>Guide</title><h1>Runs</h1><p>See <a href='/next'>next</a>.</p><script>x()</script>";
    let server = Server::start(move |_, request| match request.starts_with("GET /old ") {
        true => Answer::redirect(301, "/guide"),
        false => Answer::ok("text/html; charset=utf-8", html),
    })
    .await;
    let world = World::new();
    let reply = call(&world, json!({"url": server.url("/old")})).await;
    let url = server.url("/");
    let wanted = format!("title: Guide\nurl: {url}guide\ntype: text/html\n\n# Runs\n\nSee [next]({url}next).");
    assert_eq!(ok(&reply), wanted);
    let raw = call(&world, json!({"url": server.url("/guide"), "raw": true})).await;
    assert!(ok(&raw).ends_with(html), "{}", ok(&raw));
}

#[tokio::test]
async fn text_comes_as_it_is_in_whatever_charset() {
    assert_eq!(read("application/json", r#"{"a": [1, 2]}"#).await, r#"{"a": [1, 2]}"#);
    assert_eq!(read("text/csv", "a,b\n1,2\n").await, "a,b\n1,2");
    let atom = b"<?xml version='1.0' encoding='iso-8859-1'?><a>\xfc</a>";
    assert!(read("application/atom+xml", atom).await.ends_with("<a>ü</a>"));
    assert_eq!(read("text/plain; charset=iso-8859-1", b"Gr\xfc\xdfe").await, "Grüße");
    assert_eq!(read("text/html", b"<meta charset=windows-1251><p>\xcf\xf0\xe8").await, "При");
    assert_eq!(read("application/octet-stream", "<!DOCTYPE html><p>said by itself").await, "said by itself");
    assert_eq!(read("text/plain", "").await, "[it is empty]");
}

#[tokio::test]
async fn a_long_page_is_read_in_parts_that_fit_together() {
    let text: String = (0..9000).map(|number| format!("line {number} ü\n")).collect();
    let body = text.clone();
    let server =
        Server::start(move |number, _| Answer::ok("text/plain", if number == 0 { &body } else { "something else" })).await;
    let world = World::new();
    let (mut whole, mut start) = (String::new(), 0_u64);
    for index in 0..20 {
        let reply = world.call(index, "fetch", json!({"url": server.url("/"), "start": start}), None).await;
        let (part, note) = ok(&reply).rsplit_once("\n[characters ").unwrap();
        whole.push_str(part);
        let Some((_, next)) = note.split_once("with start ") else { break };
        start = next.trim_end_matches(']').parse().unwrap();
    }
    assert!(whole.ends_with(text.trim_end()), "{}", whole.len());
    assert_eq!(server.requests().len(), 1, "the parts are of one page, and the page is asked for once");
    assert_eq!(error(&call(&world, json!({"url": server.url("/"), "start": 99_000_000})).await).0, "past_end");
}

#[tokio::test]
async fn a_page_without_an_end_is_cut_and_says_so() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1073741824\r\n\r\n";
    let server = Server::saying(Answer::raw(head).then(Then::Repeat(vec![b'x'; 1 << 16], 1 << 14))).await;
    let world = World::new();
    let reply = call(&world, json!({"url": server.url("/")})).await;
    assert!(ok(&reply).contains("to read on, fetch it with start"), "{}", ok(&reply));
    let end = call(&world, json!({"url": server.url("/"), "start": (8 << 20) - 100})).await;
    assert!(ok(&end).contains("[it is longer than 8 MiB and was cut there]"), "{}", ok(&end));
}

#[tokio::test]
async fn what_is_no_text_becomes_a_file() {
    let server = Server::start(|number, _| match number {
        0 => Answer::ok("application/pdf", b"%PDF-1.7\n\0\x01"),
        _ => Answer::raw("HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\n\r\n").then(Then::Repeat(vec![0; 1 << 20], 100)),
    })
    .await;
    let world = World::new();
    let reply = call(&world, json!({"url": server.url("/paper")})).await;
    assert!(ok(&reply).ends_with("saved as downloads/2-0-paper.pdf (application/pdf, 11 bytes)"), "{}", ok(&reply));
    let listed = world.call(1, "files", json!({"action": "list"}), reply.workspace).await;
    assert!(ok(&listed).contains("2-0-paper.pdf"), "{}", ok(&listed));
    let film = world.call(2, "fetch", json!({"url": server.url("/film")}), reply.workspace).await;
    assert_eq!(error(&film).0, "response_too_large");
}

#[tokio::test]
async fn an_error_page_is_an_error_and_is_not_kept() {
    let server = Server::start(|number, _| match number {
        0 => Answer::new("404 Not Found", "content-type: text/html\r\n", "<h1>No such page</h1>"),
        _ => Answer::ok("text/plain", "here it is"),
    })
    .await;
    let world = World::new();
    let reply = call(&world, json!({"url": server.url("/")})).await;
    let (code, text) = error(&reply);
    assert!(code == "http_status" && text.starts_with("HTTP 404") && text.contains("# No such page"), "{text}");
    assert!(ok(&call(&world, json!({"url": server.url("/")})).await).ends_with("here it is"));
}

#[tokio::test]
async fn an_equal_call_is_answered_from_the_cache_until_it_is_old() {
    let server = Server::start(|number, _| Answer::ok("text/plain", format!("answer {number}"))).await;
    let world = World::new();
    let url = server.url("/");
    let at = async |seconds: u64, arguments: Value| {
        let reply = world.call_with(0, "fetch", arguments, None, |job| job.now = NOW.plus(seconds * 1000)).await;
        ok(&reply).to_owned()
    };
    assert!(at(0, json!({"url": url})).await.ends_with("answer 0"));
    let again = at(42, json!({"url": url})).await;
    assert!(again.starts_with("[from the cache, 42 s old]\nurl: ") && again.ends_with("answer 0"), "{again}");
    assert!(at(42, json!({"url": url, "raw": true})).await.ends_with("answer 1"), "another call");
    assert!(at(300, json!({"url": url})).await.ends_with("answer 2"));
    // A request of `http` is made each time, though a GET is pure: its manifest keeps nothing.
    for _ in 0..2 {
        world.call(1, "http", json!({"method": "GET", "url": url}), None).await;
    }
    assert_eq!(server.requests().len(), 5);
}
