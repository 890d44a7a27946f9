//! `kill -9` at any instant, over and over, while runs have effects on a server that counts them.

use super::User;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the process is killed.
const KILLS: usize = 110;

/// Effects of each run.
const EFFECTS: usize = 6;

/// Runs that are under way together.
const TOGETHER: usize = 4;

/// Longest time that a process lives before it is killed, in milliseconds: longer than a start and several steps take.
const LIFE_MS: u64 = 160;

/// A server that counts the requests it has read by their idempotency key, and then takes its time to answer.
struct Counter {
    address: SocketAddr,
    counts: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Counter {
    fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, counts) = (listener.local_addr().unwrap(), Arc::default());
        let counted = Arc::clone(&counts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&counted);
                std::thread::spawn(move || while answer(&stream, &counts).is_some() {});
            }
        });
        Self { address, counts }
    }

    fn count(&self, key: &str) -> u32 {
        self.counts.lock().unwrap().get(key).copied().unwrap_or_default()
    }
}

/// Reads one request, counts it, answers. `None` once the client is gone.
#[expect(clippy::disallowed_methods, reason = "a server that takes its time")]
fn answer(stream: &TcpStream, counts: &Mutex<BTreeMap<String, u32>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => key = value.to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    *counts.lock().unwrap().entry(key).or_default() += 1;
    // What took hold is not known to anybody who dies now.
    std::thread::sleep(Duration::from_millis(4));
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\npaid").ok()
}

/// Instants that look like chance and are the same each time.
struct Instants(u64);

impl Instants {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.0 >> 33) % (LIFE_MS * 1_000))
    }
}

fn script(address: SocketAddr) -> String {
    let call = format!(
        "[[turn]]\n[[turn.call]]\ntool = \"http\"\narguments = {{ method = \"POST\", url = \"http://{address}/pay\", body = \"1\" }}\n\n"
    );
    format!("{}[[turn]]\nsay = \"all paid\"\n", call.repeat(EFFECTS))
}

/// Runs that have not ended, by status.
fn unfinished(user: &User) -> BTreeMap<String, String> {
    let ended = user.errand(&["runs", "--limit", "1000", "--json"]);
    if ended.code != Some(0) {
        // Nobody has lived long enough to make the folder.
        assert!(ended.stderr.contains("error[data_missing]"), "{ended:#?}");
        return BTreeMap::new();
    }
    let word = |run: &serde_json::Value, name: &str| run[name].as_str().unwrap().to_owned();
    let runs = ended.json().into_iter().map(|run| (word(&run, "run"), word(&run, "status")));
    runs.filter(|(_, status)| status == "running" || status == "waiting").collect()
}

/// Says the truth, once, about every call whose outcome nobody knew.
fn resolve(user: &User, run: &str, counter: &Counter, resolved: &mut BTreeSet<String>) {
    for event in user.json(0, &["events", run]).iter().filter(|event| event["type"] == "outcome_unknown") {
        let call = event["call"].as_str().unwrap();
        let key = format!("{run}/{call}");
        let word = if counter.count(&key) > 0 { "--happened" } else { "--not-happened" };
        if resolved.insert(key) {
            user.expect(0, &["resolve", run, "--call", call, word, "--no-wait"]);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the instant of a kill is left to the clock on purpose")]
fn no_kill_loses_a_run_or_doubles_an_effect() {
    let (user, counter) = (User::new(), Counter::serve());
    user.script("pays", &script(counter.address));
    let allowed = counter.address.to_string();
    let begin = ["run", "pay", "--model", "scripted/pays", "--tools", "http", "--approve", "never", "--json"];
    let with = |arguments: &[&'static str]| {
        let mut command = user.command(arguments);
        command.env("ERRAND_ALLOW_ADDRESSES", &allowed);
        command
    };
    let (mut instants, mut seen, mut resolved) = (Instants(7), BTreeSet::new(), BTreeSet::new());
    let mut kills = 0;
    loop {
        let open = unfinished(&user);
        // Something is left to be resumed.
        if kills >= KILLS && !open.is_empty() {
            break;
        }
        seen.extend(open.keys().cloned());
        for (run, _) in open.iter().filter(|(_, status)| *status == "waiting") {
            resolve(&user, run, &counter, &mut resolved);
        }
        let mut command = if open.len() < TOGETHER { with(&begin) } else { with(&["resume", "--json"]) };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(instants.next());
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        let output = child.wait_with_output().unwrap();
        // A run that was told of is there for good.
        let told = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        seen.extend(told.filter_map(|event: serde_json::Value| Some(event["run"].as_str()?.to_owned())));
    }

    let mut resumed = Vec::new();
    loop {
        let open = unfinished(&user);
        seen.extend(open.keys().cloned());
        if open.is_empty() {
            break;
        }
        open.keys().for_each(|run| resolve(&user, run, &counter, &mut resolved));
        let begun = Instant::now();
        let mut child = with(&["resume", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        if output.read_line(&mut first).unwrap() > 0 {
            resumed.push(begun.elapsed());
        }
        output.read_to_string(&mut first).unwrap();
        child.wait().unwrap();
    }
    assert!(!resumed.is_empty() && resumed.iter().all(|took| *took < Duration::from_secs(1)), "resumed after {resumed:?}");

    assert!(seen.len() > 5, "{} runs in {kills} kills: the processes die too early to do anything", seen.len());
    let mut effects = 0;
    for run in &seen {
        assert_eq!(user.status(run), "done", "{run}");
        let events = user.json(0, &["events", run]);
        let calls: Vec<&str> = events
            .iter()
            .filter(|event| event["type"] == "tool_call")
            .map(|event| event["call"].as_str().unwrap())
            .collect();
        assert_eq!(calls.len(), EFFECTS, "{run}");
        for call in calls {
            let key = format!("{run}/{call}");
            let count = counter.count(&key);
            assert!(count <= 1, "{key} took hold {count} times");
            assert!(count == 1 || resolved.contains(&key), "{key} was lost and nobody was asked");
            effects += count;
        }
        user.expect(0, &["verify", run]);
    }
    let all: u32 = counter.counts.lock().unwrap().values().sum();
    assert_eq!(all, effects, "an effect belongs to no run");
    assert!(!resolved.is_empty(), "no kill came between a request and its answer");
}
