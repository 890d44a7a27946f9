//! The control socket: lets a second process do something to a run while this one owns the data folder.
//!
//! `DATA/control.sock`, for its owner alone (0600). One request and one answer per connection, each a line of JSON with
//! the version first. The runs themselves are read from the folder, not over the socket.

use crate::error::Error;
use crate::operation::{Done, Operation};
use errand_engine::Driver;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Version of the form that both sides speak.
const VERSION: u32 = 1;
/// Longest request or answer, in bytes: a message may be as long as a task.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Connections served at a time.
const CONNECTIONS: usize = 16;
/// How long requests under way may take once the process is asked to stop.
const LAST_REQUESTS: Duration = Duration::from_millis(800);
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u32,
    by: String,
    operation: Operation,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
enum Answer {
    Done { version: u32, done: Done },
    Refused { version: u32, code: String, message: String },
}

/// The socket of the process that owns the folder. Dropping it takes the file away.
pub(crate) struct Control {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    room: Arc<Semaphore>,
}

impl Control {
    /// Serves requests. Only for the process that holds the lock: a socket that lies there belonged to one that died.
    pub(crate) fn serve(folder: &Path, driver: Driver) -> std::io::Result<Self> {
        let path = path(folder);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Connecting takes the right to write, which the usual umask leaves to the owner until the mode is set.
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let task = tokio::spawn(accept(listener, driver, Arc::clone(&room)));
        Ok(Self { path, task, room })
    }

    /// Takes no more requests, and waits a moment for those under way: whoever asked must hear what came of it.
    pub(crate) async fn close(self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
        // Every request holds a place; all of them are free once nothing is under way.
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(LAST_REQUESTS, self.room.acquire_many(all)).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

async fn accept(listener: UnixListener, driver: Driver, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let driver = driver.clone();
                tokio::spawn(async move {
                    if tokio::time::timeout(PATIENCE, attend(stream, &driver)).await.is_err() {
                        tracing::warn!("a control connection took too long");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket failed to accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn attend(stream: UnixStream, driver: &Driver) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let line = read_line(reader).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(Request { version: VERSION, by, operation }) => match operation.apply(driver, &by).await {
            Ok(done) => Answer::Done { version: VERSION, done },
            Err(Error { code, message }) => Answer::Refused { version: VERSION, code: code.into_owned(), message },
        },
        Ok(Request { version, .. }) => refused(format!("it speaks version {version}, this process speaks {VERSION}")),
        Err(error) => refused(error.to_string()),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    writer.shutdown().await
}

fn refused(reason: String) -> Answer {
    let message = format!("the process that owns the data folder cannot read the request: {reason}; use the same errand");
    Answer::Refused { version: VERSION, code: "control_version".to_owned(), message }
}

async fn read_line(reader: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(reader.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    match line.ends_with('\n') {
        true => Ok(line),
        false => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a line that is cut off or too long")),
    }
}

/// Asks the process that owns `folder` to do something. `None` if none can be reached.
pub(crate) async fn ask(folder: &Path, operation: &Operation, by: &str) -> Option<Result<Done, Error>> {
    let stream = UnixStream::connect(path(folder)).await.ok()?;
    let asked = tokio::time::timeout(PATIENCE, exchange(stream, operation, by)).await;
    let failed = |reason: String| {
        let message = format!("the process that owns the data folder did not answer ({reason}): try again");
        Err(Error::new("control_failed", message))
    };
    Some(match asked {
        Ok(Ok(Answer::Done { done, .. })) => Ok(done),
        Ok(Ok(Answer::Refused { code, message, .. })) => Err(Error::new(code, message)),
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed("it took too long".to_owned()),
    })
}

async fn exchange(stream: UnixStream, operation: &Operation, by: &str) -> std::io::Result<Answer> {
    let request = Request { version: VERSION, by: by.to_owned(), operation: operation.clone() };
    let mut text = serde_json::to_vec(&request)?;
    text.push(b'\n');
    let (reader, mut writer) = stream.into_split();
    writer.write_all(&text).await?;
    let line = read_line(reader).await?;
    Ok(serde_json::from_str(&line)?)
}
