//! Code contexts: kernels that the SDK of the code interpreter speaks to.

use super::{HOME, State};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Named, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errand_sandbox::kernel_wire::{self as wire, Reply};
use errand_sandbox::{Language, Limits};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Most contexts at a time.
const CONTEXTS_MAX: usize = 16;
/// Lines that wait for the client; a slower one holds the code back.
const LINES_WAITING: usize = 64;
/// How long a kernel may take to be ready, and to stop after it was interrupted.
const READY: Duration = Duration::from_secs(20);
const INTERRUPTED: Duration = Duration::from_secs(5);
/// Most bytes of a picture or table that goes along with a result.
const RESULT_BYTES_MAX: u64 = 32 << 20;

/// All contexts by id; those that stand for a language have its name.
#[derive(Default)]
pub(super) struct Contexts(Mutex<BTreeMap<String, Arc<Context>>>);

struct Context {
    id: String,
    language: Language,
    cwd: PathBuf,
    kernel: tokio::sync::Mutex<Option<Kernel>>,
}

/// A running interpreter with its driver.
struct Kernel {
    child: Child,
    group: Option<Pid>,
    socket: UnixStream,
    outputs: [Output; 2],
    heard: Vec<u8>,
    cells: u64,
}

struct Output {
    name: &'static str,
    pipe: Receiver,
    /// The beginning of a character whose end has not come yet.
    rest: Vec<u8>,
    is_open: bool,
}

#[derive(Deserialize)]
struct Execute {
    code: String,
    context_id: Option<String>,
    language: Option<String>,
    env_vars: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct NewContext {
    language: Option<String>,
    cwd: Option<String>,
}

/// A refusal in the form of the code interpreter.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({"code": self.0.as_u16(), "message": self.1}))).into_response()
    }
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/execute", post(execute))
        .route("/contexts", get(list).post(create))
        .route("/contexts/{id}", delete(remove))
        .route("/contexts/{id}/restart", post(restart))
}

async fn execute(Extract(state): Extract<Arc<State>>, body: Bytes) -> Result<Response, Refused> {
    let order: Execute = read(&body)?;
    let context = match (&order.context_id, &order.language) {
        (Some(id), _) => state.contexts.find(id)?,
        (None, name) => state.contexts.of_language(&state, language(name.as_deref())?)?,
    };
    let (lines, waiting) = mpsc::channel(LINES_WAITING);
    tokio::spawn(async move {
        let told = context.execute(&state, &order, &lines).await;
        if let Err(problem) = told {
            let error = json!({"type": "error", "name": "KernelError", "value": problem, "traceback": problem});
            // Nobody may listen any longer.
            let _ = lines.send(error).await;
        }
    });
    let lines = futures::stream::unfold(waiting, |mut waiting| async move {
        let line = waiting.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))), waiting))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn create(Extract(state): Extract<Arc<State>>, body: Bytes) -> Result<Response, Refused> {
    let NewContext { language: name, cwd } = read(&body)?;
    let language = language(name.as_deref())?;
    let cwd = state.resolve(cwd.as_deref().unwrap_or(HOME));
    if !cwd.is_dir() {
        return Err(Refused(StatusCode::BAD_REQUEST, format!("cwd '{}' is no folder", cwd.display())));
    }
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let context = state.contexts.make(format!("{:016x}", u64::from_ne_bytes(number)), language, cwd)?;
    Ok(axum::Json(context.json()).into_response())
}

async fn list(Extract(state): Extract<Arc<State>>) -> Response {
    let all: Vec<Value> = state.contexts.lock().values().map(|context| context.json()).collect();
    axum::Json(all).into_response()
}

async fn remove(Extract(state): Extract<Arc<State>>, Named(id): Named<String>) -> Result<Response, Refused> {
    let context = state.contexts.find(&id)?;
    state.contexts.lock().remove(&id);
    context.kernel.lock().await.take();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn restart(Extract(state): Extract<Arc<State>>, Named(id): Named<String>) -> Result<Response, Refused> {
    // The next cell finds none and starts one.
    state.contexts.find(&id)?.kernel.lock().await.take();
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("the body is not as expected: {error}")))
}

fn language(name: Option<&str>) -> Result<Language, Refused> {
    match name.map(str::to_ascii_lowercase).as_deref() {
        None | Some("python" | "python3") => Ok(Language::Python),
        Some("javascript" | "js" | "node") => Ok(Language::Node),
        Some("bash" | "sh" | "shell") => Ok(Language::Shell),
        Some(other) => {
            let message = format!("language '{other}' is not supported by this server: python, javascript and bash are");
            Err(Refused(StatusCode::BAD_REQUEST, message))
        }
    }
}

impl Contexts {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Context>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Context>, Refused> {
        let found = self.lock().get(id).map(Arc::clone);
        found.ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("context {id} does not exist")))
    }

    fn of_language(&self, state: &State, language: Language) -> Result<Arc<Context>, Refused> {
        let id = format!("default-{}", language.name());
        let found = self.lock().get(&id).map(Arc::clone);
        found.map_or_else(|| self.make(id, language, state.resolve(HOME)), Ok)
    }

    fn make(&self, id: String, language: Language, cwd: PathBuf) -> Result<Arc<Context>, Refused> {
        let mut all = self.lock();
        if all.len() >= CONTEXTS_MAX && !all.contains_key(&id) {
            let message = format!("there are {CONTEXTS_MAX} contexts: remove some");
            return Err(Refused(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let made = || Arc::new(Context { id: id.clone(), language, cwd, kernel: tokio::sync::Mutex::default() });
        Ok(Arc::clone(all.entry(id.clone()).or_insert_with(made)))
    }
}

impl Context {
    fn json(&self) -> Value {
        let language = match self.language {
            Language::Python => "python",
            Language::Node => "javascript",
            Language::Shell => "bash",
        };
        json!({"id": self.id, "language": language, "cwd": self.cwd})
    }

    /// Runs one cell and tells what comes of it, line by line. The code is interrupted when nobody listens any longer.
    async fn execute(&self, state: &State, order: &Execute, lines: &mpsc::Sender<Value>) -> Result<(), String> {
        let mut held = self.kernel.lock().await;
        let kernel = match &mut *held {
            Some(kernel) => kernel,
            none => none.insert(Kernel::start(self.language, &self.cwd, state).await?),
        };
        let told = kernel.cell_with(self.language, state, order, lines).await;
        if told.is_err() {
            // What it would say next belongs to nobody.
            held.take();
        }
        told
    }
}

impl Kernel {
    async fn start(language: Language, cwd: &Path, state: &State) -> Result<Self, String> {
        let driver = language.driver(&Limits::default());
        let failed = |error: std::io::Error| format!("the kernel cannot be started: {error}");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let (out, out_end) = pipe().map_err(failed)?;
        let (err, err_end) = pipe().map_err(failed)?;
        let (program, arguments) = driver.argv.split_first().ok_or("the kernel has no program")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(&state.variables).envs(driver.env).current_dir(cwd).env("PWD", cwd);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(out_end)).stderr(Stdio::from(err_end));
        let child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        drop(command);
        let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let output = |name, pipe| Output { name, pipe, rest: Vec::new(), is_open: true };
        let socket = UnixStream::from_std(ours).map_err(failed)?;
        let outputs = [output("stdout", out), output("stderr", err)];
        let mut kernel = Self { child, group, socket, outputs, heard: Vec::new(), cells: 0 };
        let (nobody, _) = mpsc::channel(1);
        match timeout(READY, kernel.answer(language, &nobody, false)).await {
            Ok(Ok((Reply::Ready, _))) => Ok(kernel),
            Ok(Err(problem)) => Err(problem),
            _ => Err(format!("the kernel of {} was not ready in time", language.name())),
        }
    }

    /// The cell, under the variables that it is to find.
    async fn cell_with(
        &mut self,
        language: Language,
        state: &State,
        order: &Execute,
        lines: &mpsc::Sender<Value>,
    ) -> Result<(), String> {
        let given = order.env_vars.clone().unwrap_or_default();
        let before = given.keys().map(|name| (name.clone(), state.variables.get(name).cloned())).collect();
        let (nobody, _) = mpsc::channel(1);
        if !given.is_empty() {
            let given = given.into_iter().map(|(name, value)| (name, Some(value))).collect();
            self.cell(language, &variables(language, &given)?, &nobody, false).await?;
        }
        let number = self.cells + 1;
        let (reply, stderr) = self.cell(language, &order.code, lines, true).await?;
        if let Reply::Ended { error, value, files, .. } = reply {
            tell(lines, json!({"type": "number_of_executions", "execution_count": number})).await;
            for result in results(value, &files).await {
                tell(lines, result).await;
            }
            if let Some(error) = error {
                let (name, value) = error.split_once(": ").unwrap_or(("Error", &error));
                let traceback = if stderr.trim().is_empty() { &error } else { stderr.trim() };
                tell(lines, json!({"type": "error", "name": name, "value": value, "traceback": traceback})).await;
            }
        }
        if order.env_vars.as_ref().is_some_and(|given| !given.is_empty()) {
            self.cell(language, &variables(language, &before)?, &nobody, false).await?;
        }
        Ok(())
    }

    async fn cell(
        &mut self,
        language: Language,
        code: &str,
        lines: &mpsc::Sender<Value>,
        has_listener: bool,
    ) -> Result<(Reply, String), String> {
        self.cells += 1;
        let request = wire::request(language, self.cells, code).map_err(|error| error.to_string())?;
        self.socket.write_all(&request).await.map_err(|error| format!("the kernel is gone: {error}"))?;
        self.answer(language, lines, has_listener).await
    }

    /// Passes output on until the driver answers; gives what came on standard error as well.
    async fn answer(
        &mut self,
        language: Language,
        lines: &mpsc::Sender<Value>,
        has_listener: bool,
    ) -> Result<(Reply, String), String> {
        let mut stderr = String::new();
        let mut piece = vec![0; 64 << 10];
        let mut killed_at = None;
        loop {
            let replied =
                wire::reply(language, &mut self.heard).map_err(|problem| format!("the kernel is lost: {problem}"))?;
            if let Some(reply) = replied {
                // All output of the cell lies in the pipes by now.
                for output in &mut self.outputs {
                    output.drain(&mut piece, lines, &mut stderr).await;
                }
                return Ok((reply, stderr));
            }
            let [stdout, errors] = &mut self.outputs;
            let gone = async {
                match has_listener && killed_at.is_none() {
                    true => lines.closed().await,
                    false => std::future::pending().await,
                }
            };
            let late = async {
                match killed_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = self.socket.read_buf(&mut self.heard) => if !matches!(read, Ok(1..)) {
                    let status = timeout(Duration::from_secs(1), self.child.wait()).await;
                    let how = status.ok().and_then(Result::ok).map_or("it closed its socket".to_owned(), |status| status.to_string());
                    let said = if stderr.trim().is_empty() { String::new() } else { format!("; it said: {}", stderr.trim()) };
                    return Err(format!("the kernel is lost, and its variables: {how}{said}"));
                },
                ready = stdout.pipe.readable(), if stdout.is_open => {
                    let _ = ready;
                    stdout.drain(&mut piece, lines, &mut stderr).await;
                }
                ready = errors.pipe.readable(), if errors.is_open => {
                    let _ = ready;
                    errors.drain(&mut piece, lines, &mut stderr).await;
                }
                () = gone => {
                    killed_at = Some(Instant::now() + INTERRUPTED);
                    self.signal(Signal::INT);
                }
                () = late => {
                    self.signal(Signal::KILL);
                    return Err("the kernel did not stop when it was interrupted, and was ended".to_owned());
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // One that has ended needs none.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Output {
    /// Passes on what lies in the pipe.
    async fn drain(&mut self, piece: &mut [u8], lines: &mpsc::Sender<Value>, stderr: &mut String) {
        /// Of what a cell wrote to standard error, as much is kept for its traceback.
        const KEPT: usize = 64 << 10;
        let mut may_have_more = true;
        while may_have_more {
            match self.pipe.try_read(piece) {
                Ok(count @ 1..) => {
                    self.rest.extend_from_slice(&piece[..count]);
                    // What was written piece by piece is told as one, if it is there already.
                    if self.rest.len() < piece.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => may_have_more = false,
                Ok(0) | Err(_) => {
                    self.is_open = false;
                    may_have_more = false;
                }
            }
            let text = whole_text(&mut self.rest);
            if self.name == "stderr" && stderr.len() < KEPT {
                stderr.push_str(&text);
            }
            if !text.is_empty() {
                let nanos = jiff::Timestamp::now().as_nanosecond();
                let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
                tell(lines, json!({"type": self.name, "text": text, "timestamp": nanos})).await;
            }
        }
    }
}

async fn tell(lines: &mpsc::Sender<Value>, line: Value) {
    // Whoever listened may be gone; the cell is interrupted for it.
    let _ = lines.send(line).await;
}

/// Takes the text off, but for the beginning of a character at its end.
fn whole_text(bytes: &mut Vec<u8>) -> String {
    let length = match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => {
            // Broken within; what may still become a character is left.
            let tail = (1..=3.min(bytes.len())).rev().find(|back| {
                let tail = &bytes[bytes.len() - back..];
                std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
            });
            bytes.len() - tail.unwrap_or(0)
        }
    };
    let rest = bytes.split_off(length);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

fn pipe() -> std::io::Result<(Receiver, OwnedFd)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((Receiver::from_owned_fd(reader.into())?, writer.into()))
}

/// What a cell leaves: pictures, then its value with a table, if it has one.
async fn results(value: Option<String>, files: &[String]) -> Vec<Value> {
    let mut results = Vec::new();
    let mut main = value.map(|text| json!({"type": "result", "text": text, "is_main_result": true}));
    for name in files {
        let path = Path::new(HOME).join(name);
        let is_small = tokio::fs::metadata(&path).await.is_ok_and(|meta| meta.is_file() && meta.len() <= RESULT_BYTES_MAX);
        let Ok(bytes) = (if is_small { tokio::fs::read(&path).await } else { continue }) else { continue };
        // It was made to be told, not to stay.
        let _ = tokio::fs::remove_file(&path).await;
        if name.ends_with(".png") {
            results.push(json!({"type": "result", "png": STANDARD.encode(&bytes), "is_main_result": false}));
        } else if let Some(main) = &mut main {
            main["extra"] = json!({"text/csv": String::from_utf8_lossy(&bytes)});
        }
    }
    results.extend(main);
    results
}

/// A cell that sets variables, or takes those away that have no value.
fn variables(language: Language, all: &BTreeMap<String, Option<String>>) -> Result<String, String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut code = String::new();
    for (name, value) in all {
        if !is_name(name) || value.as_ref().is_some_and(|value| value.contains('\0')) {
            return Err(format!("'{name}' cannot be a variable"));
        }
        let (key, text) = (json!(name), json!(value));
        let _ = match (language, value) {
            (Language::Python, Some(_)) => writeln!(code, "__import__('os').environ[{key}] = {text}"),
            (Language::Python, None) => writeln!(code, "__import__('os').environ.pop({key}, None) and None"),
            (Language::Node, Some(_)) => writeln!(code, "process.env[{key}] = {text};"),
            (Language::Node, None) => writeln!(code, "delete process.env[{key}];"),
            (Language::Shell, Some(value)) => writeln!(code, "export {name}='{}'", value.replace('\'', "'\\''")),
            (Language::Shell, None) => writeln!(code, "unset {name}"),
        };
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        let mut bytes = "a€".as_bytes()[..3].to_vec();
        assert_eq!((whole_text(&mut bytes).as_str(), bytes.len()), ("a", 2));
        bytes.push("€".as_bytes()[2]);
        assert_eq!((whole_text(&mut bytes).as_str(), bytes.len()), ("€", 0));
        let mut broken = b"a\xffb\xe2\x82".to_vec();
        assert_eq!((whole_text(&mut broken).as_str(), broken), ("a\u{fffd}b", b"\xe2\x82".to_vec()));
    }

    #[test]
    fn variables_are_set_in_each_language_and_names_that_are_none_refused() {
        let one = |value: Option<&str>| BTreeMap::from([("A".to_owned(), value.map(str::to_owned))]);
        let set = |language| variables(language, &one(Some("it's"))).unwrap();
        assert_eq!(set(Language::Shell), "export A='it'\\''s'\n");
        assert_eq!(set(Language::Python), "__import__('os').environ[\"A\"] = \"it's\"\n");
        assert_eq!(variables(Language::Node, &one(None)).unwrap(), "delete process.env[\"A\"];\n");
        let bad = BTreeMap::from([("A; rm".to_owned(), Some(String::new()))]);
        assert!(variables(Language::Shell, &bad).is_err());
    }
}
