//! Who may ask: keys over the socket and with the stock SDK, tenants apart, and a key that is revoked under load.

use super::{Answer, Server, last_text};
use crate::cli::{User, one_call};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A key that was made just now.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) text: String,
}

pub(crate) fn create(user: &User, options: &[&str]) -> Key {
    let made = user.json(0, &[&["keys", "create"], options].concat()).remove(0);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Key { id: text("id"), text: text("key") }
}

/// A server that lets nobody in without a key.
fn closed(user: &User) -> Server {
    Server::start(user, &["--require-key"])
}

fn ask(server: &Server, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Answer {
    let key = key.map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
    let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let headers = format!("content-type: application/json\r\naccept: application/json\r\n{key}");
    server.ask(method, path, &headers, &body)
}

/// The code of an answer in either form.
fn code(answer: &Answer) -> String {
    let body = answer.json();
    body["error"]["code"].as_str().or(body["code"].as_str()).unwrap_or_default().to_owned()
}

fn hello() -> Value {
    json!({"model": "scripted/hello", "input": "Hello"})
}

const ROUTES: [(&str, &str); 16] = [
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/ID"),
    ("POST", "/v1/responses/ID/cancel"),
    ("GET", "/v1/responses/ID/input_items"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/scripted/hello"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/RUN"),
    ("GET", "/v1/runs/RUN/events"),
    ("POST", "/v1/runs/RUN/cancel"),
    ("POST", "/v1/runs/RUN/approve"),
    ("POST", "/v1/runs/RUN/reject"),
    ("POST", "/v1/runs/RUN/answer"),
    ("GET", "/v1/nothing"),
    ("DELETE", "/v1/responses"),
    ("GET", "/"),
];

#[test]
fn nobody_gets_in_from_outside_without_a_good_key() {
    let user = User::new();
    let server = Server::at(&user, "0.0.0.0:0", &[]);
    // Without a key nobody does, and the server says what to do.
    let refused = ask(&server, "GET", "/v1/runs", None, None);
    assert_eq!((refused.status, &*code(&refused)), (401, "invalid_api_key"));
    let key = create(&user, &["--name", "the first"]);
    let expired = create(&user, &["--expires", "1ms"]);
    let revoked = create(&user, &[]);
    user.expect(0, &["keys", "revoke", &revoked.id]);
    let began = ask(&server, "POST", "/v1/responses", Some(&key.text), Some(&hello()));
    assert_eq!(began.status, 200, "{began:?}");
    let id = began.json()["id"].as_str().unwrap().to_owned();
    let unknown = format!("{}{}", &key.text[..24], &revoked.text[24..]);
    let bad = [
        (None, "needs an API key"),
        (Some(""), "no API key"),
        (Some("none"), "no API key"),
        (Some(&key.text[..70]), "no API key"),
        (Some(&*unknown), "no API key"),
        (Some(&*expired.text), "has expired"),
        (Some(&*revoked.text), "was revoked"),
    ];
    for (method, path) in ROUTES {
        let path = path.replace("ID", &id).replace("RUN", &super::run_of(&id));
        for (given, says) in bad {
            let answer = ask(&server, method, &path, given, (method == "POST").then(hello).as_ref());
            let message = answer.body.clone();
            assert_eq!((answer.status, &*code(&answer)), (401, "invalid_api_key"), "{method} {path} {given:?}: {answer:?}");
            assert!(message.contains(says), "{given:?}: {message}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
            let is_openai = path.starts_with("/v1") && !path.starts_with("/v1/runs");
            assert_eq!(answer.json()["error"].is_object(), is_openai, "{answer:?}");
            assert_eq!(answer.head.contains("application/problem+json"), !is_openai, "{answer:?}");
        }
    }
    for headers in
        ["authorization: Basic eA==\r\n", &format!("authorization: Bearer {0}\r\nauthorization: Bearer {0}\r\n", key.text)]
    {
        assert_eq!(server.ask("GET", "/v1/runs", headers, b"").status, 401, "{headers}");
    }
    assert_eq!(server.ask("GET", "/healthz", "host: errand.example.com\r\n", b"").status, 200);
    // Under the name of a proxy in front, but never from a page.
    let good = format!("authorization: bearer  {}\r\nhost: errand.example.com\r\n", key.text);
    assert_eq!(server.ask("GET", "/v1/runs", &good, b"").status, 200);
    assert_eq!(server.ask("GET", "/v1/runs", &format!("{good}origin: https://evil.example\r\n"), b"").status, 403);
    server.signal("INT");
    let ended = server.end();
    let told = format!("{}{}", ended.stdout, ended.stderr);
    for said in ["let a proxy", "no API key is in force", "errand keys create"] {
        assert!(told.contains(said), "{told}");
    }
    nothing_of(&[&key, &expired, &revoked], &user, &told);
}

/// No part of a secret is in what was printed or in any file of the data folder.
fn nothing_of(keys: &[&Key], user: &User, told: &str) {
    let grep = Command::new("grep").args(["-raoE", "errand_[0-9a-z]{16}_"]).arg(user.data()).output().unwrap();
    assert!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
    for key in keys {
        let secret = &key.text[24..];
        assert!(!told.contains(secret), "{told}");
        let grep = Command::new("grep").args(["-ra", secret]).arg(user.data()).output().unwrap();
        assert!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
    }
}

#[test]
fn a_tenant_sees_its_own_alone() {
    let user = User::new();
    user.script("asks", &one_call("ask_user", "{ question = \"Which?\" }"));
    let (a, b) = (create(&user, &["--tenant", "a"]), create(&user, &["--tenant", "b"]));
    let server = Server::start(&user, &["--approve", "never"]);
    let begin = |key: Option<&str>, body: Value| {
        let answer = ask(&server, "POST", "/v1/responses", key, Some(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let asks = json!({"model": "scripted/asks", "input": "t", "tools": [{"type": "errand:ask_user"}]});
    let waiting = begin(Some(&a.text), asks.clone());
    let id = waiting["id"].as_str().unwrap();
    let run = super::run_of(id);
    let done = begin(Some(&a.text), hello());
    let before = done["id"].as_str().unwrap();
    let local = begin(None, hello());
    // Every route that names the run, for everybody else, and with what a run that is not there is answered.
    for other in [Some(&*b.text), None] {
        for (method, path) in ROUTES.iter().filter(|(_, path)| path.contains("ID") || path.contains("RUN")) {
            let body = json!({"text": "x", "reason": "x"});
            let of = |response: &str| {
                let path = path.replace("ID", response).replace("RUN", &super::run_of(response));
                let answer = ask(&server, method, &path, other, (*method == "POST").then_some(&body));
                let text = answer.body.replace(response, "ID").replace(&super::run_of(response), "RUN");
                (answer.status, code(&answer), text)
            };
            let nobody = "resp_01HZZZZZZZZZZZZZZZZZZZZZZZ";
            let found = of(id);
            assert_eq!(found.0, 404, "{method} {path}: {found:?}");
            assert_eq!(found, of(nobody), "{method} {path}: it is told from one that is not there");
        }
        let previous = json!({"model": "scripted/hello", "input": "t", "previous_response_id": before});
        let refused = ask(&server, "POST", "/v1/responses", other, Some(&previous));
        assert_eq!((refused.status, &*code(&refused)), (400, "previous_response_not_found"));
    }
    let listed = |key: Option<&str>| {
        let answer = ask(&server, "GET", "/v1/runs?limit=10", key, None).json();
        let runs = answer["data"].as_array().unwrap().clone();
        runs.iter().map(|run| run["response"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(Some(&a.text)), [before, id]);
    assert_eq!(listed(Some(&b.text)), Vec::<String>::new());
    assert_eq!(listed(None), [local["id"].as_str().unwrap()]);
    // Its own is all there: word, thread, sub-listing by the command line.
    let answered = ask(&server, "POST", &format!("/v1/runs/{run}/answer"), Some(&a.text), Some(&json!({"text": "This."})));
    assert_eq!(answered.status, 200, "{answered:?}");
    let on = begin(Some(&a.text), json!({"model": "scripted/hello", "input": "t", "previous_response_id": before}));
    assert_eq!(on["previous_response_id"], *before);
    let runs = |options: &[&str]| user.json(0, &[&["runs"], options].concat()).len();
    assert_eq!([runs(&[]), runs(&["--tenant", "a"]), runs(&["--tenant", "b"])], [1, 3, 0]);
    user.refused(2, "tenant_invalid", &["runs", "--tenant", "a/b"]);
    // The same Idempotency-Key of two tenants is two keys.
    let keyed = |key: &str| {
        let headers = format!("content-type: application/json\r\nidempotency-key: one\r\nauthorization: Bearer {key}\r\n");
        server.ask("POST", "/v1/responses", &headers, hello().to_string().as_bytes()).json()["id"].clone()
    };
    assert_eq!(keyed(&a.text), keyed(&a.text));
    assert_ne!(keyed(&a.text), keyed(&b.text));
}

#[test]
fn what_comes_from_a_run_belongs_to_its_tenant() {
    let user = User::new();
    let a = create(&user, &["--tenant", "a"]);
    let server = Server::start(&user, &[]);
    let whole = ask(&server, "POST", "/v1/responses", Some(&a.text), Some(&hello()));
    let run = super::run_of(whole.json()["id"].as_str().unwrap());
    drop(server);
    user.expect(0, &["fork", &run, "--at", "1", "--json"]);
    user.expect(0, &["run", "And then?", "--thread", &run, "--model", "scripted/hello", "--json"]);
    let tenants = |options: &[&str]| {
        let runs = user.json(0, &[&["runs"], options].concat());
        runs.iter().map(|run| run["tenant"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(tenants(&["--tenant", "a"]), ["a"; 3]);
    assert_eq!(tenants(&[]), Vec::<String>::new());
}

#[test]
fn on_this_machine_a_key_is_optional_and_if_given_right() {
    let user = User::new();
    let server = Server::start(&user, &[]);
    let (key, revoked) = (create(&user, &["--tenant", "a"]), create(&user, &[]));
    user.expect(0, &["keys", "revoke", &revoked.text]);
    let status = |given: Option<&str>| ask(&server, "GET", "/v1/runs", given, None).status;
    for given in [None, Some("none"), Some("sk-anything"), Some(&*key.text)] {
        assert_eq!(status(given), 200, "{given:?}");
    }
    for given in [&key.text[..70], &*revoked.text, "errand_"] {
        assert_eq!(status(Some(given)), 401, "{given}");
    }
    drop(server);
    // Behind a proxy of this machine everybody comes from it.
    let server = Server::start(&user, &["--require-key"]);
    let status = |given: Option<&str>| ask(&server, "GET", "/v1/runs", given, None).status;
    assert_eq!([status(None), status(Some("none")), status(Some(&key.text))], [401, 401, 200]);
    drop(server);
    std::fs::write(user.path("e.toml"), "require_key = true\n").unwrap();
    let server = Server::start(&user, &["--config", user.path("e.toml").to_str().unwrap()]);
    assert_eq!(ask(&server, "GET", "/v1/runs", None, None).status, 401);
}

/// A hundred requests at a time: none that begins after the revocation was answered is let in.
#[test]
fn none_passes_once_a_revocation_was_answered() {
    let user = User::new();
    let server = closed(&user);
    let (key, other) = (create(&user, &[]), create(&user, &[]));
    let (revoked, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let [passed, late, refused, odd] = [const { AtomicUsize::new(0) }; 4];
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let is_after = revoked.load(Ordering::SeqCst);
                    let counter = match ask(&server, "GET", "/v1/models", Some(&key.text), None).status {
                        200 if is_after => &late,
                        200 => &passed,
                        401 => &refused,
                        _ => &odd,
                    };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let until_more = |counter: &AtomicUsize| {
            let enough = count(counter) + 300;
            while count(counter) < enough && count(&late) + count(&odd) == 0 {
                std::thread::yield_now();
            }
        };
        until_more(&passed);
        user.expect(0, &["keys", "revoke", &key.id]);
        revoked.store(true, Ordering::SeqCst);
        until_more(&refused);
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!([count(&late), count(&odd)], [0, 0], "let in after the revocation was answered; answered in another way");
    assert_eq!(ask(&server, "GET", "/v1/models", Some(&other.text), None).status, 200);
}

/// A stream that was begun with a key ends when the key is revoked, and the run goes on.
#[test]
fn a_stream_ends_with_its_key() {
    let user = User::new();
    user.script("asks", &one_call("ask_user", "{ question = \"Which?\" }"));
    let server = closed(&user);
    let (key, other) = (create(&user, &[]), create(&user, &[]));
    let asks = json!({"model": "scripted/asks", "input": "t", "tools": [{"type": "errand:ask_user"}]});
    let id = ask(&server, "POST", "/v1/responses", Some(&key.text), Some(&asks)).json()["id"].as_str().unwrap().to_owned();
    let run = super::run_of(&id);
    let with_key = format!("authorization: Bearer {}\r\n", key.text);
    let mut stream = server.stream(&super::request("GET", &format!("/v1/runs/{run}/events"), &with_key, b""));
    let mut line = String::new();
    while line.trim_end() != "event: question_asked" {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stream, &mut line).unwrap() > 0);
    }
    user.expect(0, &["keys", "revoke", &key.id]);
    let said = ask(&server, "POST", &format!("/v1/runs/{run}/answer"), Some(&other.text), Some(&json!({"text": "This."})));
    assert_eq!(said.status, 200, "{said:?}");
    let events = super::sse(&mut stream);
    let (_, name, data) = events.last().unwrap();
    assert_eq!((&**name, data["code"].as_str()), ("error", Some("invalid_api_key")), "{events:?}");
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let user = User::new();
    let plain = user.expect(0, &["keys", "create", "--tenant", "acme", "--name", "ci", "--expires", "90d"]);
    let text = plain.stdout.trim();
    assert!(text.starts_with("errand_") && text.len() == 71, "{plain:?}");
    assert!(plain.stderr.contains("not shown again") && !plain.stderr.contains(&text[24..]), "{plain:?}");
    let listed = user.expect(0, &["keys", "list"]);
    assert!(listed.stdout.contains("acme") && listed.stdout.contains("ci") && !listed.stdout.contains(&text[24..]));
    let key = &user.json(0, &["keys", "list"])[0];
    assert_eq!((&key["tenant"], &key["used"], &key["revoked"]), (&json!("acme"), &Value::Null, &Value::Null));
    // Who has found a key somewhere can revoke it without looking up its id.
    let revoked = &user.json(0, &["keys", "revoke", text])[0];
    assert!(revoked["revoked"].is_string() && revoked["id"] == key["id"], "{revoked}");
    assert!(user.expect(0, &["keys", "list"]).stdout.contains("revoked"));
    let told = user.refused(2, "key_id_invalid", &["keys", "revoke", &text[..60]]);
    assert!(!told.stderr.contains(&text[24..60]), "what was given may be a key");
    user.refused(2, "key_not_found", &["keys", "revoke", "0123456789abcdef"]);
    user.refused(2, "tenant_invalid", &["keys", "create", "--tenant", "a b"]);
    user.refused(2, "key_name_invalid", &["keys", "create", "--name", "a\nb"]);
    user.refused(2, "key_expires_at_once", &["keys", "create", "--expires", "0s"]);
    user.refused(2, "duration_invalid", &["keys", "create", "--expires", "soon"]);
    let secret = user.data().join("keys.secret");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    user.refused(1, "key_secret_open", &["keys", "create"]);
    user.refused(1, "key_secret_open", &["serve", "--listen", "127.0.0.1:0", "--model", "scripted/hello"]);
    std::fs::remove_file(&secret).unwrap();
    user.refused(1, "key_secret_missing", &["keys", "create"]);
}

#[test]
fn the_stock_sdk_is_let_in_with_a_key_and_told_without() {
    let python = super::sdk::python();
    if !python.is_file() {
        eprintln!("skipped: there is no {}; run `cargo xtask python` first", python.display());
        return;
    }
    let user = User::new();
    let server = closed(&user);
    let keys = [create(&user, &["--tenant", "a"]), create(&user, &["--tenant", "b"]), create(&user, &[])];
    let expired = create(&user, &["--expires", "1ms"]);
    user.expect(0, &["keys", "revoke", &keys[2].id]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/keys.py");
    let [good, other, revoked] = keys.each_ref().map(|key| &*key.text);
    let url = format!("http://{}/v1", server.address);
    let output =
        Command::new(python).env_clear().arg(script).args([&*url, good, other, revoked, &*expired.text]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("cases passed"), "{stdout}\n{stderr}");
    let answer = ask(&server, "POST", "/v1/responses", Some(good), Some(&hello()));
    assert!(!last_text(&answer.json()).is_empty());
}
