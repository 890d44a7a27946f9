//! Processes: started, listened to by any number of clients, fed, signalled. One that nobody listens to goes on.

use super::connect::{Code, Failure, deadline, enveloped, messages, stream, unary};
use super::{HOME, State};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Events that wait for one listener; one that is slower holds the process back, as a full pipe would.
const EVENTS_WAITING: usize = 64;
/// How long output is still read after a process has ended: one that it started may hold its streams open.
const AFTER_END: Duration = Duration::from_millis(300);
/// How often a quiet stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Most processes started at a time.
const PROCESSES_MAX: usize = 64;

/// What a listener is told; a failure is the last.
type Event = Result<Value, Failure>;

/// All processes that were started here and have not ended.
#[derive(Default)]
pub(super) struct Processes(Mutex<BTreeMap<u32, Arc<Process>>>);

struct Process {
    config: Config,
    tag: Option<String>,
    group: Pid,
    listeners: Mutex<Listeners>,
    stdin: tokio::sync::Mutex<Option<ChildStdin>>,
}

#[derive(Default)]
struct Listeners {
    all: Vec<mpsc::Sender<Event>>,
    /// How it ended, for those who come too late.
    last: Option<Event>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    cmd: String,
    args: Vec<String>,
    envs: HashMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
}

#[derive(Deserialize)]
struct Start {
    process: Option<Config>,
    pty: Option<Value>,
    tag: Option<String>,
    stdin: Option<bool>,
}

#[derive(Deserialize)]
struct Selected {
    process: Option<Selector>,
}

#[derive(Deserialize)]
struct Selector {
    pid: Option<u32>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Input {
    process: Option<Selector>,
    input: Option<InputBytes>,
}

#[derive(Deserialize)]
struct InputBytes {
    stdin: Option<String>,
}

#[derive(Deserialize)]
struct SignalSent {
    process: Option<Selector>,
    signal: Value,
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/process.Process/Start", post(start))
        .route("/process.Process/Connect", post(connect))
        .route("/process.Process/List", post(list))
        .route("/process.Process/SendInput", post(send_input))
        .route("/process.Process/StreamInput", post(stream_input))
        .route("/process.Process/CloseStdin", post(close_stdin))
        .route("/process.Process/SendSignal", post(send_signal))
        .route("/process.Process/Update", post(update))
}

async fn start(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Start { process, pty, tag, stdin } = enveloped(&headers, &body)?;
    if pty.is_some() {
        return Err(Failure::unimplemented("a terminal (pty)"));
    }
    let config = process.unwrap_or_default();
    let mut child = spawned(&state, &config, stdin.unwrap_or(true))?;
    let ended = || Failure::new(Code::Internal, "the process has no number");
    let pid = child.id().ok_or_else(ended)?;
    let group = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(ended)?;
    let stdin = tokio::sync::Mutex::new(child.stdin.take());
    let process = Arc::new(Process { config, tag, group, listeners: Mutex::default(), stdin });
    let events = process.listen(pid);
    state.processes.lock().insert(pid, Arc::clone(&process));
    let until = deadline(&headers);
    tokio::spawn(attend(state, process, pid, child, until));
    Ok(told(events))
}

async fn connect(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Selected { process } = enveloped(&headers, &body)?;
    let (pid, process) = state.processes.find(process)?;
    Ok(told(process.listen(pid)))
}

async fn list(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let _: Value = unary(&headers, &body)?;
    let all = state.processes.lock();
    let processes: Vec<Value> = all
        .iter()
        .map(|(pid, process)| match &process.tag {
            Some(tag) => json!({"pid": pid, "config": process.config, "tag": tag}),
            None => json!({"pid": pid, "config": process.config}),
        })
        .collect();
    Ok(axum::Json(json!({"processes": processes})).into_response())
}

async fn send_input(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Input { process, input } = unary(&headers, &body)?;
    let (_, process) = state.processes.find(process)?;
    process.feed(input).await?;
    Ok(axum::Json(json!({})).into_response())
}

/// The input comes whole: the body is read to its end before it is passed on.
async fn stream_input(Extract(state): Extract<Arc<State>>, body: Bytes) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Piece {
        start: Option<Selected>,
        data: Option<Data>,
    }
    #[derive(Deserialize)]
    struct Data {
        input: Option<InputBytes>,
    }
    let mut target = None;
    for message in messages(&body)? {
        let Piece { start, data } = super::connect::decoded(message)?;
        if let Some(Selected { process }) = start {
            target = Some(state.processes.find(process)?.1);
        }
        if let Some(Data { input }) = data {
            let none = || Failure::new(Code::InvalidArgument, "the stream does not begin with a process");
            target.as_ref().ok_or_else(none)?.feed(input).await?;
        }
    }
    Ok(stream(futures::stream::once(async { Ok(json!({})) })))
}

async fn close_stdin(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Selected { process } = unary(&headers, &body)?;
    let (_, process) = state.processes.find(process)?;
    process.stdin.lock().await.take();
    Ok(axum::Json(json!({})).into_response())
}

async fn send_signal(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let SignalSent { process, signal } = unary(&headers, &body)?;
    let signal = match (signal.as_str(), signal.as_u64()) {
        (Some("SIGNAL_SIGTERM"), _) | (_, Some(15)) => Signal::TERM,
        (Some("SIGNAL_SIGKILL"), _) | (_, Some(9)) => Signal::KILL,
        _ => return Err(Failure::new(Code::InvalidArgument, "the signals are SIGTERM and SIGKILL")),
    };
    let (_, process) = state.processes.find(process)?;
    process.signal(signal);
    Ok(axum::Json(json!({})).into_response())
}

async fn update() -> Failure {
    Failure::unimplemented("a terminal (pty)")
}

fn spawned(state: &State, config: &Config, wants_stdin: bool) -> Result<Child, Failure> {
    if state.processes.lock().len() >= PROCESSES_MAX {
        let message = format!("{PROCESSES_MAX} processes are running: wait for some to end, or end them");
        return Err(Failure::new(Code::ResourceExhausted, message));
    }
    let cwd = state.resolve(config.cwd.as_deref().unwrap_or(HOME));
    if !cwd.is_dir() {
        return Err(Failure::new(Code::InvalidArgument, format!("cwd '{}' is no folder", cwd.display())));
    }
    let stdin = if wants_stdin { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(&config.cmd);
    command.args(&config.args).envs(&state.variables).envs(&config.envs).current_dir(&cwd);
    command.env("PWD", &cwd).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.spawn().map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            std::io::ErrorKind::InvalidInput => Code::InvalidArgument,
            std::io::ErrorKind::WouldBlock => Code::ResourceExhausted,
            _ => Code::Internal,
        };
        Failure::new(code, format!("{} cannot be started: {error}", config.cmd))
    })
}

/// Passes on what a process says until it has ended, or its time is up.
async fn attend(state: Arc<State>, process: Arc<Process>, pid: u32, mut child: Child, until: Option<Duration>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = async {
        tokio::join!(pump(&process, "stdout", stdout), pump(&process, "stderr", stderr));
    };
    tokio::pin!(output);
    let ended = async {
        let mut streams_are_over = false;
        loop {
            tokio::select! {
                status = child.wait() => {
                    if !streams_are_over {
                        let _ = timeout(AFTER_END, &mut output).await;
                    }
                    return status;
                }
                () = &mut output, if !streams_are_over => streams_are_over = true,
            }
        }
    };
    let status = match until {
        None => ended.await,
        Some(until) => match timeout(until, ended).await {
            Ok(status) => status,
            Err(_) => {
                process.signal(Signal::KILL);
                let _ = child.wait().await;
                state.processes.lock().remove(&pid);
                let message = format!("the process did not end within {until:?} and was killed");
                return process.end(Err(Failure::new(Code::DeadlineExceeded, message))).await;
            }
        },
    };
    state.processes.lock().remove(&pid);
    process.end(Ok(json!({"end": end(status)}))).await;
}

async fn pump(process: &Process, name: &str, from: Option<impl AsyncRead + Unpin>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => process.tell(Ok(json!({"data": {name: STANDARD.encode(&buffer[..count])}}))).await,
        }
    }
}

fn end(status: std::io::Result<ExitStatus>) -> Value {
    use std::os::unix::process::ExitStatusExt;
    let status = match status {
        Ok(status) => status,
        Err(error) => return json!({"exitCode": -1, "exited": false, "status": "unknown", "error": error.to_string()}),
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => json!({"exitCode": 0, "exited": true, "status": "exit status 0"}),
        (Some(code), _) => {
            let text = format!("exit status {code}");
            json!({"exitCode": code, "exited": true, "status": text, "error": text})
        }
        (None, signal) => {
            let text = format!("signal {}", signal.unwrap_or_default());
            json!({"exitCode": -1, "exited": false, "status": text, "error": text})
        }
    }
}

/// Events as the client takes them, with a word now and then where there are none.
fn told(events: mpsc::Receiver<Event>) -> Response {
    let events = futures::stream::unfold(events, |mut events| async move {
        match timeout(KEEP_ALIVE, events.recv()).await {
            Ok(event) => event.map(|event| (event, events)),
            Err(_) => Some((Ok(json!({"keepalive": {}})), events)),
        }
    });
    stream(events.map(|event| event.map(|event| json!({"event": event}))))
}

impl Processes {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Arc<Process>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, selector: Option<Selector>) -> Result<(u32, Arc<Process>), Failure> {
        let all = self.lock();
        let found = match selector {
            Some(Selector { pid: Some(pid), .. }) => all.get_key_value(&pid),
            Some(Selector { tag: Some(tag), .. }) => all.iter().find(|(_, process)| process.tag.as_deref() == Some(&*tag)),
            _ => return Err(Failure::new(Code::InvalidArgument, "no process is named, by pid or tag")),
        };
        let found = found.map(|(pid, process)| (*pid, Arc::clone(process)));
        found.ok_or_else(|| Failure::new(Code::NotFound, "there is no such process"))
    }
}

impl Process {
    /// What it says from now on; first that it has begun.
    fn listen(&self, pid: u32) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        let mut listeners = self.listeners();
        // The channel is new and has room for both.
        let _ = sender.try_send(Ok(json!({"start": {"pid": pid}})));
        match listeners.last.clone() {
            Some(last) => drop(sender.try_send(last)),
            None => listeners.all.push(sender),
        }
        receiver
    }

    async fn tell(&self, event: Event) {
        let all = self.listeners().all.clone();
        let mut has_gone = false;
        for listener in &all {
            has_gone |= listener.send(event.clone()).await.is_err();
        }
        if has_gone {
            self.listeners().all.retain(|listener| !listener.is_closed());
        }
    }

    /// Tells the last there is to tell, also to those who come later.
    async fn end(&self, event: Event) {
        let all = {
            let mut listeners = self.listeners();
            listeners.last = Some(event.clone());
            std::mem::take(&mut listeners.all)
        };
        for listener in all {
            // Whoever listened may be gone.
            let _ = listener.send(event.clone()).await;
        }
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn feed(&self, input: Option<InputBytes>) -> Result<(), Failure> {
        let Some(text) = input.and_then(|input| input.stdin) else {
            return Err(Failure::unimplemented("input for a terminal (pty)"));
        };
        let bytes = STANDARD.decode(text).map_err(|_| Failure::new(Code::InvalidArgument, "the input is not base64"))?;
        let mut stdin = self.stdin.lock().await;
        let Some(stdin) = stdin.as_mut() else {
            return Err(Failure::new(Code::FailedPrecondition, "its standard input is closed: start it with stdin=True"));
        };
        let broken = |error| Failure::new(Code::FailedPrecondition, format!("it takes no more input: {error}"));
        stdin.write_all(&bytes).await.map_err(broken)?;
        stdin.flush().await.map_err(broken)
    }

    fn signal(&self, signal: Signal) {
        // One that has ended needs none.
        let _ = kill_process_group(self.group, signal);
    }
}
