//! Code in boxes that was granted hosts: what it reaches, what it is refused, what the record holds of it. Names are a fake
//! resolver's, and lead to this machine.

use crate::support::{NOW, World, boxes, error, has, ok, spec};
use async_trait::async_trait;
use errand_core::{Call, CallId, Class, EgressUse, Outcome, ToolSpec, Verdict};
use errand_egress::{AllowList, Lookup, Reach, Terms};
use errand_engine::ports::{ToolJob, ToolReply, Tools};
use errand_tools::{Secret, Vault, Ways, WaysSettings};
use serde_json::json;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Every name but `nowhere.example` leads to this machine.
struct Here;

#[async_trait]
impl Lookup for Here {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        match host {
            "nowhere.example" => Err(std::io::Error::other("no such name")),
            _ => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
        }
    }
}

/// One secret.
struct One;

const SECRET: &str = "sk-no-box-ever-sees-this";

impl Vault for One {
    fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        Ok((name == "API_KEY").then(|| Secret::new(SECRET)))
    }

    fn variable(&self, _: &str) -> Option<OsString> {
        None
    }
}

fn ways(port: u16, hosts: &[String], bytes: u64, secrets: &[String]) -> Ways {
    let allow = AllowList::parse(&[format!("127.0.0.1:{port}")]).unwrap();
    let terms = Terms::parse(hosts, bytes, secrets).unwrap();
    Ways::new(WaysSettings { terms, reach: Reach::new(allow, Arc::new(Here)), vault: Arc::new(One), tls: None })
}

/// A server that gives each path what `pages` say of it.
fn serve(pages: Vec<(String, &'static str, Vec<u8>)>) -> u16 {
    serve_on(TcpListener::bind("127.0.0.1:0").unwrap(), pages)
}

fn serve_on(listener: TcpListener, pages: Vec<(String, &'static str, Vec<u8>)>) -> u16 {
    let (port, pages) = (listener.local_addr().unwrap().port(), Arc::new(pages));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pages = Arc::clone(&pages);
            std::thread::spawn(move || answer(stream, &pages));
        }
    });
    port
}

fn answer(mut stream: TcpStream, pages: &[(String, &'static str, Vec<u8>)]) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1)?;
    let (status, kind, body) = match pages.iter().find(|(at, _, _)| at == path) {
        Some((_, kind, body)) => ("200 OK", *kind, body.as_slice()),
        None => ("404 Not Found", "text/plain", b"no such page".as_slice()),
    };
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

fn hello() -> u16 {
    serve(vec![("/".to_owned(), "text/plain", b"hello".to_vec())])
}

/// A run whose code may reach `a.example` at a port of this machine.
struct Granted {
    world: World,
    port: u16,
    specs: Vec<ToolSpec>,
}

impl Granted {
    fn new(port: u16, bytes: u64) -> Granted {
        let hosts = [format!("a.example:{port}"), "nowhere.example:80".to_owned()];
        Self::with(World::new(), port, ways(port, &hosts, bytes, &["API_KEY=a.example".to_owned()]))
    }

    fn with(world: World, port: u16, ways: Ways) -> Granted {
        let mut specs = ["python", "shell", "node", "files"].map(spec).to_vec();
        ways.grant(&mut specs, &["*"]).unwrap();
        Granted { world: world.reaching(ways), port, specs }
    }

    async fn call(&self, index: u32, tool: &str, code: &str) -> ToolReply {
        self.call_with(index, tool, code, |_| {}).await
    }

    async fn call_with(&self, index: u32, tool: &str, code: &str, change: impl FnOnce(&mut ToolJob<'_>)) -> ToolReply {
        let spec = self.specs.iter().find(|spec| spec.definition.name == tool).unwrap();
        self.call_as(spec, index, code, change).await
    }

    async fn call_as(&self, spec: &ToolSpec, index: u32, code: &str, change: impl FnOnce(&mut ToolJob<'_>)) -> ToolReply {
        let tool = spec.definition.name.as_str();
        let arguments = if tool == "shell" { json!({"script": code}) } else { json!({"code": code}) }.to_string();
        let mut job = ToolJob {
            run: self.world.run,
            call: Call { born: self.world.run, id: CallId { record: 2, index }, tool, arguments: &arguments },
            spec,
            workspace: None,
            timeout_ms: 90_000,
            observation_bytes: 16 << 10,
            has_called_before: false,
            min_tier: spec.min_tier,
            egress_bytes: 0,
            now: NOW,
        };
        change(&mut job);
        self.world.tools.run(job).await
    }

    fn ask(&self, host: &str) -> String {
        format!("import urllib.request as u\nu.urlopen('http://{host}:{}/', timeout=20).read()", self.port)
    }
}

fn passed(reply: &ToolReply) -> &EgressUse {
    reply.egress.as_deref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_reaches_what_was_granted_and_the_record_says_what_passed() {
    if !boxes() || !has("python") {
        return;
    }
    let granted = Granted::new(hello(), 1 << 20);
    let reply = granted.call(0, "python", &granted.ask("a.example")).await;
    assert!(ok(&reply).ends_with("value: b'hello'"), "{}", ok(&reply));
    let used = passed(&reply);
    assert_eq!((used.allowed, used.refused, used.refusals.len()), (1, 0, 0));
    assert!(used.bytes_up > 20 && used.bytes_down > 50, "{used:?}");
    let told = format!("network: 1 let through, {} bytes sent, {} bytes received\n", used.bytes_up, used.bytes_down);
    assert!(ok(&reply).contains(&told), "{}", ok(&reply));
    // The kernel stays, and each call is told of its own.
    let quiet = granted.call(1, "python", "u.__name__").await;
    assert!(ok(&quiet).ends_with("'urllib.request'") && !ok(&quiet).contains("network:"), "{}", ok(&quiet));
    assert_eq!(passed(&quiet), &EgressUse::default());
    // What is not granted is refused in one clear line.
    let refused = granted.call(2, "python", &granted.ask("b.example")).await;
    let (code, text) = error(&refused);
    let line = text.lines().find(|line| line.starts_with("network:")).unwrap();
    assert!(code == "non_zero_exit" && line.starts_with("network: 1 refused: b.example:"), "{text}");
    assert!(line.contains("not on the list"), "{text}");
    assert_eq!((passed(&refused).refused, passed(&refused).refusals.len()), (1, 1));
    let unknown = granted.call(3, "python", "u.urlopen('http://nowhere.example/', timeout=20)").await;
    assert!(error(&unknown).1.contains("nowhere.example:80 was not found"), "{}", error(&unknown).1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_and_node_have_it_and_tools_without_a_grant_do_not() {
    if !boxes() || !has("shell") || !has("python") {
        return;
    }
    let granted = Granted::new(hello(), 1 << 20);
    let port = granted.port;
    let script = format!("python3 -c \"import urllib.request as u; print(u.urlopen('http://a.example:{port}/').read())\"");
    let reply = granted.call(0, "shell", &script).await;
    assert!(ok(&reply).contains("b'hello'") && passed(&reply).allowed == 1, "{}", ok(&reply));
    if has("node") {
        let code = format!(
            "const http = require('node:http');\n\
             await new Promise(done => http.get({{host: '127.0.0.1', port: 3128, path: 'http://a.example:{port}/',\n\
             headers: {{Host: 'a.example:{port}'}}}}, answer => {{ answer.on('data', data => console.log('' + data)); answer.on('end', done); }}))"
        );
        let reply = granted.call(1, "node", &code).await;
        assert!(ok(&reply).contains("hello") && passed(&reply).allowed == 1, "{}", ok(&reply));
    }
    // The same run, by a tool that was not granted anything: its box has no door, also beside one that has.
    let knock = "(exec 3<>/dev/tcp/127.0.0.1/3128) 2>/dev/null; echo $? [$HTTP_PROXY]";
    let open = granted.call(2, "shell", knock).await;
    assert!(ok(&open).contains("0 [http://127.0.0.1:3128]"), "{}", ok(&open));
    let closed = granted.call_as(&spec("shell"), 3, knock, |_| {}).await;
    assert!(ok(&closed).contains("1 []") && closed.egress.is_none(), "{}", ok(&closed));
    // And back: the kernel without a door does not stay in its place.
    let open = granted.call(4, "shell", knock).await;
    assert!(ok(&open).contains("0 [http"), "{}", ok(&open));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_sees_a_placeholder_and_no_record_a_secret() {
    if !boxes() || !has("python") {
        return;
    }
    let granted = Granted::new(hello(), 1 << 20);
    assert!(granted.specs.iter().all(|spec| !serde_json::to_string(spec).unwrap().contains(SECRET)));
    let reply = granted.call(0, "python", "import os, base64\nos.environ['API_KEY']").await;
    assert!(ok(&reply).contains("value: 'errand-secret-"), "{}", ok(&reply));
    // What got in by another way is hidden all the same.
    let typed = format!("print('sk-no-box-' + 'ever-sees-this', '{}')", "x");
    let reply = granted.call(1, "python", &typed).await;
    assert!(ok(&reply).contains("[secret API_KEY] x") && !ok(&reply).contains(SECRET), "{}", ok(&reply));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_run_are_those_of_all_its_calls_wherever_they_were_made() {
    if !boxes() || !has("python") {
        return;
    }
    let page = vec![("/".to_owned(), "text/plain", vec![b'x'; 3000])];
    let granted = Granted::new(serve(page), 10_000);
    let ask = granted.ask("a.example");
    let mut used = 0;
    for index in 0..2 {
        let reply = granted.call_with(index, "python", &ask, |job| job.egress_bytes = used).await;
        used += passed(&reply).bytes();
        assert!(matches!(reply.outcome, Outcome::Ok { .. }), "{:?}", reply.outcome);
    }
    // Another process goes on with what the record says is left, and so does this one after calls that were made there.
    let elsewhere = granted.call_with(2, "python", &ask, |job| job.egress_bytes = 9_990).await;
    let used_up = |reply: &ToolReply| passed(reply).refusals.iter().any(|text| text.contains("are used up"));
    assert!(used_up(&elsewhere), "{elsewhere:?}");
    let nothing_left = granted.call_with(3, "python", &ask, |job| job.egress_bytes = 10_000_000).await;
    assert!(used_up(&nothing_left) && passed(&nothing_left).bytes() == 0, "{nothing_left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_count_as_effectful_and_a_process_that_grants_less_leaves_the_run_alone() {
    let port = 9;
    let granted = Granted::new(port, 1000);
    for spec in &granted.specs {
        let arguments = match spec.definition.name.as_str() {
            "shell" => r#"{"script": "true"}"#,
            "files" => continue,
            _ => r#"{"code": "1"}"#,
        };
        let verdict = granted.world.tools.check(spec, arguments, NOW);
        assert_eq!(verdict, Verdict::Accepted { until: None, share: None, class: Some(Class::Effectful) });
        assert_eq!(spec.class, Class::Effectful, "also where a person gives other arguments");
    }
    assert!(granted.world.tools.serves(&granted.specs));
    let bare = World::new();
    assert!(!bare.tools.serves(&granted.specs) && bare.tools.serves(&["python"].map(spec)));
    let less = World::new().reaching(ways(port, &[format!("a.example:{port}")], 1000, &[]));
    assert!(!less.tools.serves(&granted.specs));
    let fewer = World::new().reaching(ways(port, &["*".to_owned(), format!("*:{port}")], 999, &["API_KEY=*".to_owned()]));
    assert!(!fewer.tools.serves(&granted.specs));
    let more = World::new().reaching(ways(port, &["*".to_owned(), format!("*:{port}")], 1000, &["API_KEY=*".to_owned()]));
    assert!(more.tools.serves(&granted.specs));
    // Should one come all the same, nothing runs.
    if boxes() && has("python") {
        let moved = Granted { world: bare, port, specs: granted.specs.clone() };
        let reply = moved.call(0, "python", "open('x', 'w')").await;
        assert_eq!(error(&reply).0, "egress_not_allowed");
        assert!(reply.workspace.is_none() && reply.sandbox_ms == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_runs_out_of_time_is_no_riddle_for_a_person() {
    if !boxes() || !has("python") {
        return;
    }
    let granted = Granted::new(hello(), 1 << 20);
    let ask = format!("{}\nimport time\nprint('asked', flush=True)\ntime.sleep(60)", granted.ask("a.example"));
    let reply = granted.call_with(0, "python", &ask, |job| job.timeout_ms = 8_000).await;
    let (code, text) = error(&reply);
    assert!(
        code == "ran_out_of_time" && text.contains("asked") && text.contains("network: 1 let through"),
        "{code}: {text}"
    );
}

/// An index with one package, as a folder of pages.
fn index(folder: &std::path::Path) -> Vec<(String, &'static str, Vec<u8>)> {
    let wheel = "thing-1.0-py3-none-any.whl";
    let code = format!(
        "import sys, zipfile\n\
         with zipfile.ZipFile(sys.argv[1], 'w') as z:\n\
         \x20   z.writestr('thing.py', 'answer = 42\\n')\n\
         \x20   z.writestr('thing-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n')\n\
         \x20   z.writestr('thing-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
         \x20   z.writestr('thing-1.0.dist-info/RECORD', 'thing.py,,\\n{wheel},,\\n')\n"
    );
    let path = folder.join(wheel);
    assert!(Command::new("python3").arg("-c").arg(code).arg(&path).status().unwrap().success());
    let page = format!("<!DOCTYPE html><html><body><a href=\"/files/{wheel}\">{wheel}</a></body></html>");
    vec![
        ("/simple/thing/".to_owned(), "text/html", page.into_bytes()),
        (format!("/files/{wheel}"), "application/octet-stream", std::fs::read(path).unwrap()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_an_index_that_was_granted() {
    if !boxes() || !has("shell") || !has("python") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let granted = Granted::new(serve(index(folder.path())), 1 << 20);
    let install = async |host: &str, index: u32| {
        let port = granted.port;
        let script = format!(
            "python3 -m pip --version >/dev/null 2>&1 || {{ echo no pip; exit 0; }}\n\
             python3 -m pip install --isolated --no-cache-dir --retries 0 --target got{index} --trusted-host {host} \
             --index-url http://{host}:{port}/simple thing 2>&1 && PYTHONPATH=got{index} python3 -c 'import thing; print(thing.answer)'"
        );
        granted.call(index, "shell", &script).await
    };
    let reply = install("a.example", 0).await;
    if ok(&reply).contains("no pip") {
        println!("skipped: the python3 of boxes has no pip");
        return;
    }
    assert!(ok(&reply).contains("\n42\n") && passed(&reply).allowed >= 2, "{}", ok(&reply));
    let refused = install("other.example", 1).await;
    assert!(error(&refused).1.contains("refused: other.example:"), "{}", error(&refused).1);
    assert_eq!(passed(&refused).allowed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_from_a_registry_that_was_granted() {
    if !boxes() || !has("shell") || !has("node") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("package.json"), r#"{"name":"thing","version":"1.0.0","main":"index.js"}"#).unwrap();
    std::fs::write(package.join("index.js"), "module.exports = 42").unwrap();
    let archive = folder.path().join("thing.tgz");
    let packed = Command::new("tar").arg("czf").arg(&archive).arg("-C").arg(folder.path()).arg("package").status();
    if !packed.is_ok_and(|status| status.success()) {
        println!("skipped: this host has no tar");
        return;
    }
    // The registry names its own port, so it is taken first.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let about = json!({
        "name": "thing", "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {"name": "thing", "version": "1.0.0", "dist": {"tarball": format!("http://a.example:{port}/thing.tgz")}}},
    });
    let mut bytes = Vec::new();
    std::fs::File::open(&archive).unwrap().read_to_end(&mut bytes).unwrap();
    serve_on(
        listener,
        vec![
            ("/thing".to_owned(), "application/json", about.to_string().into_bytes()),
            ("/thing.tgz".to_owned(), "application/octet-stream", bytes),
        ],
    );
    let granted = Granted::new(port, 1 << 20);
    let script = format!(
        "command -v npm >/dev/null || {{ echo no npm; exit 0; }}\n\
         npm install --no-audit --no-fund --fetch-retries 0 --cache /tmp/npm --registry http://a.example:{port}/ thing 2>&1 && \
         node -e 'console.log(\"is\", require(\"thing\"))'"
    );
    let reply = granted.call(0, "shell", &script).await;
    match &reply.outcome {
        Outcome::Ok { text } if text.contains("no npm") => println!("skipped: boxes have no npm"),
        _ => assert!(ok(&reply).contains("is 42") && passed(&reply).allowed >= 2, "{}", ok(&reply)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_list_is_not_connected_to_where_its_address_is_private() {
    if !boxes() || !has("python") {
        return;
    }
    // Nothing is an exception: the name leads to this machine, which is refused.
    let reach = Reach::new(AllowList::default(), Arc::new(Here));
    let terms = Terms::parse(&["a.example"], 1000, &[]).unwrap();
    let ways = Ways::new(WaysSettings { terms, reach, vault: Arc::new(One), tls: None });
    let granted = Granted::with(World::new(), 80, ways);
    let reply = granted.call(0, "python", &granted.ask("a.example")).await;
    let text = error(&reply).1;
    assert!(text.contains("a.example:80 is not connected to") && !text.contains("127.0.0.1 is"), "{text}");
    assert_eq!(passed(&reply).bytes(), 0);
    let ample = Duration::from_secs(1);
    assert!(reply.sandbox_ms < u64::try_from(ample.as_millis()).unwrap() * 30);
}
