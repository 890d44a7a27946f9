//! A server as a program of the user: started, spoken with over its standard input and output, and ended for good.

use super::wire::{Ending, Lines};
use crate::secret::Masks;
use crate::text;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// How long a program may take to end once its standard input is closed.
const LEAVE: Duration = Duration::from_millis(500);
/// What is kept of its standard error, in bytes.
const SAID_BYTES: usize = 2_000;
/// Longest line of its standard error that is read as one, in bytes.
const SAID_LINE_BYTES: u64 = 8_000;
/// Lines of its standard error that are logged.
const SAID_LINES_LOGGED: u32 = 1_000;

/// What to start.
pub(super) struct Program {
    pub(super) command: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, OsString)>,
    pub(super) folder: PathBuf,
}

/// What a program said last, on its standard error.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<String>>);

impl Said {
    fn add(&self, line: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(line);
        said.push('\n');
        *said = text::tail(&said, SAID_BYTES).to_owned();
    }

    /// For an error: nothing if it said nothing.
    pub(super) fn told(&self) -> String {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).trim() {
            "" => String::new(),
            said => format!(" (it said: {})", text::tail(said, 500)),
        }
    }
}

/// The connection to a program.
pub(super) struct Process {
    group: Group,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
}

impl Process {
    /// Starts a program in a process group of its own, with no variables but those given.
    pub(super) fn start(program: &Program, name: &str, masks: &Arc<Masks>) -> io::Result<(Self, Ending, Said)> {
        let mut command = Command::new(&program.command);
        command.args(&program.args).env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&program.folder).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let missing = || io::Error::other("the program was started without its streams");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let (ending, said) = (Ending::default(), Said::default());
        tokio::spawn(listen(stderr, name.to_owned(), Arc::clone(masks), said.clone()));
        let lines = Lines::new(BufReader::with_capacity(64 << 10, stdout), ending.clone());
        let stdin = Arc::new(tokio::sync::Mutex::new(Some(stdin)));
        Ok((Self { group: Group(child), lines, stdin }, ending, said))
    }
}

impl Transport<RoleClient> for Process {
    type Error = io::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let Some(stdin) = stdin.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
            stdin.write_all(&line).await?;
            stdin.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.lines.next().await
    }

    async fn close(&mut self) -> io::Result<()> {
        // Its standard input closed is how a server learns that it is to end. One that is stuck in a write keeps it.
        if let Ok(mut stdin) = self.stdin.try_lock() {
            stdin.take();
        }
        let _ = tokio::time::timeout(LEAVE, self.group.left()).await;
        self.group.end();
        Ok(())
    }
}

/// A program and all that it started.
struct Group(Child);

impl Group {
    /// Waits until the program has ended by itself, without taking its status: its group keeps its number.
    async fn left(&mut self) {
        let Some(pid) = self.pid() else { return };
        while !has_ended(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn pid(&self) -> Option<rustix::process::Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
    }

    /// Ends it, and what it left running. Its status was not taken before, so the number is still that of its group.
    fn end(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

fn has_ended(pid: rustix::process::Pid) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads what a program says on its standard error, as long as it runs: one that is not read would stop.
async fn listen(stderr: ChildStderr, server: String, masks: Arc<Masks>, said: Said) {
    use tokio::io::AsyncReadExt;
    let mut stderr = BufReader::new(stderr);
    let mut lines = 0u32;
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(SAID_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = masks.mask(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        said.add(&line);
        lines = lines.saturating_add(1);
        if lines <= SAID_LINES_LOGGED {
            tracing::debug!(server, line, "an MCP server said");
        }
    }
}
