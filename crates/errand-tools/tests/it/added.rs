//! Tools that users add: every example of the guide, requests as they are sent, and manifests that are refused.

use crate::support::{World, boxes, error, network, ok};
use crate::web::Web;
use errand_core::{Approval, Class, Outcome, ToolSpec, Verdict};
use errand_engine::ports::Tools;
use errand_tools::{AddedSettings, ManifestError, Registry, Secret, Vault};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Keys;

impl Vault for Keys {
    fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        Ok((name == "TRACKER").then(|| Secret::new("hush-hush-hush")))
    }

    #[expect(clippy::disallowed_methods, reason = "the programs of this test are found by PATH")]
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|_| name == "PATH")
    }
}

fn registry(folder: &Path) -> Result<Registry, ManifestError> {
    Registry::with_added(&AddedSettings { folders: vec![folder.to_owned()], vault: Arc::new(Keys), network: network() })
}

/// A world with these manifests. `HOST` in them is the server.
fn world(web: &Web, manifests: &[Value]) -> (World, Arc<Registry>) {
    let world = World::new();
    let folder = world.folder.path().join("tools");
    std::fs::create_dir(&folder).unwrap();
    for manifest in manifests {
        let path = folder.join(format!("{}.json", manifest["name"].as_str().unwrap()));
        std::fs::write(path, manifest.to_string().replace("HOST", &web.url)).unwrap();
    }
    let registry = Arc::new(registry(&folder).unwrap());
    (world.with(Arc::clone(&registry)), registry)
}

fn spec(registry: &Registry, name: &str) -> ToolSpec {
    registry.specs(&[name]).unwrap().remove(0)
}

fn http(name: &str, request: Value, properties: Value) -> Value {
    json!({
        "kind": "http", "name": name, "description": "A tool of this test, nothing else.",
        "parameters": { "properties": properties }, "request": request
    })
}

fn text() -> Value {
    json!({ "text": { "type": "string", "description": "A text." } })
}

/// Fenced blocks of the guide: what they are, and what is in them.
fn blocks() -> Vec<(String, String)> {
    let guide = include_str!("../../../../docs/guide/tools.md");
    let parts: Vec<&str> = guide.split("\n```").collect();
    let fenced = parts.iter().skip(1).step_by(2).map(|part| part.split_once('\n').unwrap());
    fenced.map(|(language, text)| (language.to_owned(), format!("{text}\n"))).collect()
}

#[tokio::test]
async fn every_example_of_the_guide_works() {
    let web = Web::start().await;
    let world = World::new();
    let folder = world.folder.path().join("tools");
    std::fs::create_dir(&folder).unwrap();
    let (mut files, mut lines) = (0, Vec::new());
    for (language, text) in blocks() {
        if let Some(name) = text.lines().next().and_then(|line| line.strip_prefix("# file: ")) {
            std::fs::write(folder.join(name), text.replace("https://api.example.org", &web.url)).unwrap();
            files += 1;
        }
        if language == "calls" {
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    assert!(files >= 8 && lines.len() >= 8, "{files} files, {} calls", lines.len());
    let registry = Arc::new(registry(&folder).unwrap());
    let world = world.with(Arc::clone(&registry));
    for (index, line) in (0u32..).zip(lines) {
        let (call, expected) = line.split_once(" → ").unwrap();
        let (name, arguments) = call.split_once(' ').unwrap();
        if (name == "count_words" || name.starts_with("notes_")) && !boxes() {
            continue;
        }
        let spec = registry.offer(Some(&[name.to_owned()])).await.unwrap().remove(0);
        let reply = world.call_spec(index, &spec, serde_json::from_str(arguments).unwrap()).await;
        match expected.strip_prefix("error ") {
            Some(code) => assert_eq!(error(&reply).0, code, "{line}"),
            None => assert!(ok(&reply).contains(expected), "{line}: {reply:?}"),
        }
    }
    registry.close().await;
    let issue = web.asked().into_iter().find(|asked| asked.line.starts_with("POST /v1/issues")).unwrap();
    assert!(
        issue.head.contains("authorization: bearer hush-hush-hush") && issue.head.contains("idempotency-key: run_"),
        "{issue:?}"
    );
    assert_eq!(serde_json::from_str::<Value>(&issue.body).unwrap(), json!({ "title": "It is slow", "source": "errand" }));
}

#[tokio::test]
async fn classes_and_approvals_follow_from_the_kind() {
    let web = Web::start().await;
    let post = json!({ "method": "POST", "url": "HOST/echo" });
    let mut graphql = http("mutating", json!({ "url": "HOST/graphql", "document": "mutation { x }" }), json!({}));
    graphql["kind"] = "graphql".into();
    let (_, registry) =
        world(&web, &[http("getting", json!({ "url": "HOST/echo" }), json!({})), http("posting", post, json!({})), graphql]);
    let of = |name: &str| {
        let spec = spec(&registry, name);
        (spec.class, spec.approval, spec.taint_out)
    };
    let web = || vec!["web".to_owned()];
    assert_eq!(of("getting"), (Class::Pure, Approval::Effectful, web()));
    assert_eq!(of("posting"), (Class::Effectful, Approval::Effectful, web()));
    assert_eq!(of("mutating"), (Class::Effectful, Approval::Effectful, web()));
}

#[tokio::test]
async fn a_secret_is_sent_and_never_shown() {
    let web = Web::start().await;
    let request = json!({
        "url": "HOST/echo", "headers": { "X-Api-Key": { "secret": "TRACKER" }, "X-Note": "{text}" },
        "query": { "key": { "secret": "TRACKER", "prefix": "k " } }
    });
    let (world, registry) = world(&web, &[http("telling", request, text())]);
    let reply = world.call_spec(0, &spec(&registry, "telling"), json!({ "text": "hi" })).await;
    assert!(ok(&reply).contains("x-api-key: [secret TRACKER]") && ok(&reply).contains("x-note: hi"), "{reply:?}");
    assert!(web.asked()[0].line.contains("key=k%20hush-hush-hush"), "{:?}", web.asked());
    let hostile = world.tools.check(&spec(&registry, "telling"), r#"{"text":"a\r\nX-Evil: 1"}"#, crate::support::NOW);
    assert!(matches!(hostile, Verdict::Refused { code, .. } if code == "arguments_invalid"));
}

#[tokio::test]
async fn what_is_missing_is_said_before_a_run_begins() {
    let web = Web::start().await;
    let request = json!({ "url": "HOST/echo", "headers": { "X-Api-Key": { "secret": "NOBODY_HAS_IT" } } });
    let (world, registry) = world(&web, &[http("wanting", request, json!({}))]);
    let error_ = registry.offer(None).await.unwrap_err();
    assert_eq!(error_.code(), "tool_secret_missing");
    assert!(error_.to_string().contains("ERRAND_SECRET_NOBODY_HAS_IT"), "{error_}");
    assert!(registry.offer(Some(&["echo".to_owned()])).await.is_ok());
    let reply = world.call_spec(0, &spec(&registry, "wanting"), json!({})).await;
    assert_eq!(error(&reply).0, "tool_secret_missing");
    assert!(web.asked().is_empty());
}

#[tokio::test]
async fn two_slow_calls_overlap() {
    let web = Web::start().await;
    let (world, registry) = world(&web, &[http("meeting", json!({ "url": "HOST/both" }), json!({}))]);
    let spec = spec(&registry, "meeting");
    // Neither is answered before the other has come.
    let both = async { tokio::join!(world.call_spec(0, &spec, json!({})), world.call_spec(1, &spec, json!({}))) };
    let (one, other) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!((ok(&one), ok(&other)), ("both", "both"));
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_what_a_repeat_would_do() {
    let web = Web::start().await;
    let sent = |method: &str, name: &str, path: &str, class: &str| {
        let mut tool = http(name, json!({ "method": method, "url": format!("HOST/{path}") }), json!({}));
        tool["class"] = class.into();
        tool["timeout_s"] = 1.into();
        tool
    };
    let tool = |name: &str, path: &str, class: &str| sent("POST", name, path, class);
    let graph = |name: &str, path: &str| {
        json!({
            "kind": "graphql", "name": name, "description": "A tool of this test, nothing else.", "class": "effectful",
            "request": { "url": format!("HOST/{path}"), "document": "mutation { do }" }
        })
    };
    let manifests = [
        tool("short", "short", "effectful"),
        sent("GET", "short_get", "short", "effectful"),
        tool("short_pure", "short", "pure"),
        tool("lost", "lost", "effectful"),
        sent("GET", "late", "late", "effectful"),
        tool("late_pure", "late", "idempotent"),
        sent("GET", "hanging_get", "hang", "effectful"),
        sent("GET", "cut_get", "cut", "effectful"),
        graph("short_graph", "short"),
        graph("lost_graph", "lost"),
        tool("cut", "cut", "effectful"),
        tool("cut_pure", "cut", "pure"),
        tool("hanging", "hang", "effectful"),
        tool("gone", "nothing", "effectful"),
    ];
    let (world, registry) = world(&web, &manifests);
    let outcome = async |index, name: &str| world.call_spec(index, &spec(&registry, name), json!({})).await.outcome;
    assert!(matches!(outcome(0, "cut").await, Outcome::Unknown { .. }));
    assert!(matches!(outcome(1, "hanging").await, Outcome::Unknown { .. }));
    assert!(matches!(outcome(2, "cut_pure").await, Outcome::Error { code, .. } if code == "response_broken"));
    assert!(
        matches!(outcome(3, "gone").await, Outcome::Error { code, text } if code == "http_status" && text.contains("404"))
    );
    let unknown = ["short", "short_get", "lost", "late", "hanging_get", "cut_get", "short_graph", "lost_graph"];
    // Each in a world of its own: an endpoint that fails so often is left alone.
    let alone = async |name: &str| {
        let (world, registry) = self::world(&web, &manifests);
        world.call_spec(0, &spec(&registry, name), json!({})).await.outcome
    };
    for name in unknown {
        let outcome = alone(name).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{name}: {outcome:?}");
    }
    assert!(matches!(alone("short_pure").await, Outcome::Error { code, .. } if code == "response_broken"));
    assert!(matches!(alone("late_pure").await, Outcome::Error { code, .. } if code == "http_status"));
}

#[tokio::test]
async fn bodies_are_sent_as_the_manifest_says() {
    let web = Web::start().await;
    let body = |name: &str, body: Value| http(name, json!({ "method": "PUT", "url": "HOST/echo", "body": body }), text());
    let (world, registry) = world(
        &web,
        &[
            body("form", json!({ "form": { "a b": "{text}", "c": "1" } })),
            body("plain", json!({ "text": "<{text}>{{}}", "content_type": "text/x" })),
            body("json", json!({ "json": { "deep": ["{text}", "is {text}"], "n": 1 } })),
        ],
    );
    for (name, kind, sent) in [
        ("form", "application/x-www-form-urlencoded", "a%20b=%26%3D&c=1"),
        ("plain", "text/x", "<&=>{}"),
        ("json", "application/json", r#"{"deep":["&=","is &="],"n":1}"#),
    ] {
        world.call_spec(0, &spec(&registry, name), json!({ "text": "&=" })).await;
        let asked = web.asked().pop().unwrap();
        assert!(asked.head.contains(&format!("content-type: {kind}")), "{asked:?}");
        assert_eq!(asked.body, sent);
    }
}

#[tokio::test]
async fn a_tool_whose_file_changed_is_not_called_by_a_run_that_knew_it() {
    let web = Web::start().await;
    let (_, before) = world(&web, &[http("looking", json!({ "url": "HOST/echo" }), json!({}))]);
    let (world, after) = world(&web, &[http("looking", json!({ "url": "HOST/other" }), json!({}))]);
    let reply = world.call_spec(0, &spec(&before, "looking"), json!({})).await;
    assert_eq!(error(&reply).0, "tool_changed");
    assert!(!after.serves(&[spec(&before, "looking")]) && after.serves(&[spec(&after, "looking")]));
    assert!(web.asked().is_empty());
}

#[tokio::test]
async fn all_problems_of_a_folder_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let long = "A tool that cannot be used as it is.";
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.toml", "kind = \"http\"\nname = [");
    write("b.json", &json!({ "kind": "http", "name": "b", "description": long, "colour": 1, "request": { "url": "http://h/", "verb": "GET" } }).to_string());
    write("c.json", &json!({ "kind": "spell", "name": "c" }).to_string());
    write("d.json", &json!({
        "kind": "http", "name": "d", "description": long,
        "parameters": { "properties": { "x": { "type": "text" }, "unused": { "type": "string", "description": "d" } }, "required": ["y"] },
        "request": { "url": "http://{x}/{z}", "headers": { "Authorization": "abc", "Host": "h" }, "body": { "text": "" } }
    }).to_string());
    write(
        "e.json",
        &json!({ "kind": "command", "name": "python", "description": long, "command": { "argv": ["true"] } }).to_string(),
    );
    write(
        "f.json",
        &json!({ "kind": "command", "name": "f", "description": long, "command": { "argv": ["{x}"], "files": ["gone", "link"] } })
            .to_string(),
    );
    write(
        "g.json",
        &json!({ "kind": "mcp", "name": "g", "server": { "command": "x", "env": { "A_TOKEN": "abc" } } }).to_string(),
    );
    write(
        "h.json",
        &json!({ "kind": "http", "name": "h", "description": "short", "request": { "url": "ftp://h/" } }).to_string(),
    );
    write("notes.txt", "no manifest");
    // A link could lead to a file that nobody meant to give away.
    std::os::unix::fs::symlink(folder.path().join("notes.txt"), folder.path().join("link")).unwrap();
    let error = registry(folder.path()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "tool_secret_in_clear");
    let text = error.to_string();
    for expected in [
        "a.toml: it is no TOML",
        "b.json: colour is not known here",
        "b.json: request: verb is not known here",
        "c.json: kind: it must say its kind",
        "d.json: parameters: it is no schema",
        "d.json: parameters.properties.x: it has no description",
        "d.json: parameters.required: \"y\"",
        "d.json: parameters.properties.unused: it is used nowhere",
        "d.json: request.url: a placeholder stands in its host",
        "d.json: request.url: {z} is no parameter",
        "d.json: request.headers.Authorization: a secret stands in the file",
        "d.json: request.headers.Host: this header is the client's own",
        "d.json: request.body: GET sends nothing",
        "f.json: command.argv.0: the program must be named",
        "f.json: command.files.0: \"gone\" cannot be taken",
        "f.json: command.files.1: \"link\" cannot be taken",
        "g.json: server.env.A_TOKEN: a secret stands in the file",
        "h.json: description:",
        "h.json: request.url:",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    assert!(!text.contains("abc"), "a secret is shown: {text}");
    std::fs::remove_file(folder.path().join("a.toml")).unwrap();
    for name in ["b", "c", "d", "f", "g", "h"] {
        std::fs::remove_file(folder.path().join(format!("{name}.json"))).unwrap();
    }
    let text = registry(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("e.json: name: \"python\" is taken by a tool that is built in"), "{text}");
    let gone = registry(&folder.path().join("gone")).map(|_| ()).unwrap_err().to_string();
    assert!(gone.contains("cannot be read"), "{gone}");
}

#[tokio::test]
async fn commands_take_their_arguments_as_they_are() {
    if !boxes() {
        return;
    }
    let web = Web::start().await;
    let properties = json!({
        "one": { "type": "string", "description": "One." },
        "many": { "type": "array", "items": { "type": "string" }, "description": "Many." }
    });
    let tool = json!({
        "kind": "command", "name": "args", "description": "Prints its arguments, one per line.",
        "parameters": { "properties": properties },
        "command": { "argv": ["printf", "%s;", "--one={one}", "{many}"], "env": { "X": "y" } }
    });
    let (world, registry) = world(&web, &[tool]);
    let spec = spec(&registry, "args");
    assert_eq!((spec.class, spec.approval), (Class::Idempotent, Approval::Never));
    let reply = world.call_spec(0, &spec, json!({ "one": "$(id) ; x", "many": ["a b", "*"] })).await;
    assert!(ok(&reply).contains("--one=$(id) ; x;a b;*;"), "{reply:?}");
    let reply = world.call_spec(1, &spec, json!({})).await;
    assert!(ok(&reply).contains("stdout:\n;"), "{reply:?}");
    let refused = world.tools.check(&spec, r#"{"one":"a\u0000b"}"#, crate::support::NOW);
    assert!(matches!(refused, Verdict::Refused { .. }));
}

#[tokio::test]
async fn a_server_behind_a_url_is_called_in_its_session() {
    let web = Web::start().await;
    let server = |name: &str, headers: Value| json!({ "kind": "mcp", "name": name, "server": { "url": "HOST/mcp", "headers": headers } });
    let key = json!({ "Authorization": { "secret": "TRACKER", "prefix": "Bearer " } });
    let (world, registry) = world(&web, &[server("web", key)]);
    let spec = registry.offer(Some(&["web_greet".to_owned()])).await.unwrap().remove(0);
    assert_eq!(ok(&world.call_spec(0, &spec, json!({ "name": "you" })).await), "hello you");
    // A refusal before anything was done is no unknown outcome.
    let refused = world.call_spec(1, &spec, json!({ "name": "nobody" })).await;
    assert!(error(&refused).0 == "mcp_unreachable" && error(&refused).1.contains("not for nobody"), "{refused:?}");
    registry.close().await;
    assert!(web.asked().iter().any(|asked| asked.line.starts_with("DELETE /mcp")), "the session is left open");

    let (_, registry) = self::world(&web, &[server("stranger", json!({}))]);
    let error = registry.offer(None).await.unwrap_err();
    assert!(error.code() == "mcp_unreachable" && error.to_string().contains("who are you?"), "{error}");
}
