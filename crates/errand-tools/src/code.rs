//! The tools `python`, `node` and `shell`: programs in a box over the workspace.

use crate::text;
use crate::workspace::{Desk, Error, OWN_FOLDER};
use errand_core::Outcome;
use errand_engine::ports::ToolReply;
use errand_sandbox::{Change, ChangeKind, Engine, Exec, ExecOutcome, Exit, Output, Session};
use serde::Deserialize;
use std::fmt::Write;
use std::time::Duration;

/// Time kept back from a call's own for restoring and keeping the workspace.
const RESERVE: Duration = Duration::from_secs(5);
/// A program is not begun with less time than this.
const LEAST: Duration = Duration::from_millis(500);
/// At most so many changed files are named.
const CHANGES_SHOWN: usize = 30;
/// Bytes kept back from the two streams for everything else that is shown.
const FRAME_BYTES: usize = 1024;

/// Arguments of `python`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Python {
    code: String,
    #[serde(default)]
    files: Vec<TextFile>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextFile {
    path: String,
    text: String,
}

/// Arguments of `node`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    code: String,
    #[serde(default)]
    files: Vec<TextFile>,
}

/// Arguments of `shell`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shell {
    script: String,
}

/// A program to run, made from either.
pub(crate) struct Program {
    exec: Exec,
    files: Vec<TextFile>,
}

impl From<Python> for Program {
    fn from(python: Python) -> Self {
        Self { exec: Exec::python(python.code), files: python.files }
    }
}

impl From<Node> for Program {
    fn from(node: Node) -> Self {
        Self { exec: Exec::node(node.code), files: node.files }
    }
}

impl From<Shell> for Program {
    fn from(shell: Shell) -> Self {
        Self { exec: Exec::shell(shell.script), files: Vec::new() }
    }
}

impl From<Exec> for Program {
    fn from(exec: Exec) -> Self {
        Self { exec, files: Vec::new() }
    }
}

/// What a call may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Time the call may take from its turn on, restoring and keeping the workspace included.
    pub(crate) time: Duration,
    /// Most that is shown, in bytes.
    pub(crate) observation_bytes: usize,
}

impl Program {
    /// Runs it in a box and keeps what it leaves in the workspace.
    pub(crate) fn run(self, desk: &mut Desk<'_>, bounds: Bounds) -> ToolReply {
        match self.attempt(desk, bounds) {
            Ok(reply) => reply,
            Err(error) => ToolReply::free(Outcome::error(error.code(), error.chain())),
        }
    }

    /// A box sees the programs of this host; without the one it takes there is nothing to begin.
    fn has_interpreter(&self, engine: &Engine) -> Result<(), Error> {
        let wanted = self.exec.argv.first().map(String::as_str).unwrap_or_default();
        let found = engine.interpreters().iter().map(|one| one.name.as_str());
        missing(wanted, found).map_or(Ok(()), |install| Err(Error::InterpreterMissing { name: wanted.to_owned(), install }))
    }

    fn attempt(self, desk: &mut Desk<'_>, bounds: Bounds) -> Result<ToolReply, Error> {
        self.has_interpreter(desk.engine()?)?;
        let wall = bounds.time.saturating_sub(RESERVE);
        if wall < LEAST {
            return Err(Error::NoTimeLeft);
        }
        let session = desk.session_to_change();
        for file in &self.files {
            session.put_file(&file.path, file.text.as_bytes())?;
        }
        let share = bounds.observation_bytes.saturating_sub(FRAME_BYTES) / 2;
        let mut exec = self.exec;
        exec.limits.wall = wall;
        exec.limits.output_bytes = share as u64;
        exec.cancel = Some(desk.cancel.clone());
        let done = desk.engine()?.run(desk.session(), exec)?;
        let streams = Streams::read(&done, desk.session(), share);
        let kept = desk.keep();
        Ok(reply(&done, &streams, kept, bounds.observation_bytes))
    }
}

/// What to install if the interpreter is not among those found.
fn missing<'a>(wanted: &str, mut found: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let install = match wanted {
        "python3" => "Python 3, often the package python3",
        "node" => "Node.js 18 or later, often the package nodejs",
        "bash" => "bash",
        _ => return None,
    };
    // A plain shell does in place of bash.
    let present = found.any(|name| name == wanted || (wanted == "bash" && name == "sh"));
    (!present).then_some(install)
}

fn reply(
    done: &ExecOutcome,
    streams: &Streams,
    kept: Result<(Option<errand_core::Snapshot>, Vec<Change>), Error>,
    observation_bytes: usize,
) -> ToolReply {
    let (code, status) = ending(done);
    let mut shown = format!("{status}\n{}", streams.text);
    let (workspace, code) = match kept {
        Ok((workspace, changes)) => {
            shown.push_str(&changed(&changes));
            (workspace, code)
        }
        Err(error) => {
            let _ = write!(
                shown,
                "the files are as they were before this call, because they could not be kept: {}",
                error.chain()
            );
            (None, Some(code.unwrap_or(error.code())))
        }
    };
    let shown = text::bounded(shown.trim_end(), observation_bytes, "");
    let outcome = match code {
        None => Outcome::Ok { text: shown },
        Some(code) => Outcome::error(code, shown),
    };
    let sandbox_ms = u64::try_from(done.wall.as_millis()).unwrap_or(u64::MAX);
    ToolReply { outcome, workspace, sandbox_ms, ..ToolReply::free(Outcome::Ok { text: String::new() }) }
}

/// The error's code (none if the program succeeded) and the line that tells how it ended.
fn ending(done: &ExecOutcome) -> (Option<&'static str>, String) {
    let after = format!("after {:.1} s", done.wall.as_secs_f64());
    match done.exit {
        Exit::Code(0) => (None, format!("exit code 0 {after}")),
        Exit::Code(code) => (Some("non_zero_exit"), format!("exit code {code} {after}")),
        Exit::Signal(signal) => (Some("killed_by_signal"), format!("killed by signal {signal} {after}")),
        Exit::TimedOut => (
            Some("timed_out"),
            format!("stopped {after}, when its time was up: do less in one call, and keep what is done in files"),
        ),
        Exit::OutOfMemory => {
            (Some("out_of_memory"), format!("killed {after}, when its memory was used up: work on the data in parts"))
        }
        Exit::OverQuota => (
            Some("over_quota"),
            format!("killed {after}, when the workspace was full: write less, and remove what is not needed"),
        ),
        Exit::Cancelled => (Some("stopped"), format!("stopped {after} from outside")),
    }
}

/// The two streams as they are shown.
struct Streams {
    text: String,
}

impl Streams {
    /// Each stream gets `share` bytes, and what the other leaves over.
    fn read(done: &ExecOutcome, session: &Session, share: usize) -> Self {
        let spare = |other: &Output| share.saturating_sub(other.kept.len());
        let mut text = String::new();
        for (name, stream, room) in
            [("stdout", &done.stdout, share + spare(&done.stderr)), ("stderr", &done.stderr, share + spare(&done.stdout))]
        {
            if stream.total_bytes > 0 {
                let shown = stream_text(stream, session, room);
                let _ = writeln!(text, "{name}:\n{}", shown.trim_end_matches('\n'));
            }
        }
        if text.is_empty() {
            text.push_str("it printed nothing\n");
        }
        Self { text }
    }
}

/// A stream, from its beginning and its end if it is longer than `room`.
fn stream_text(stream: &Output, session: &Session, room: usize) -> String {
    let kept = stream.kept.len() as u64;
    if stream.total_bytes <= kept {
        return lossy(&stream.kept, room, "");
    }
    let Some(file) = &stream.file else {
        let missing = stream.total_bytes - kept;
        return format!("{}\n[… {missing} more bytes were lost …]", lossy(&stream.kept, room, ""));
    };
    let rest = format!(", all is in {file}");
    let head_bytes = (room / 2).min(stream.kept.len());
    let tail_room = (room - head_bytes) as u64;
    let in_file = stream.total_bytes - stream.lost_bytes;
    let from = in_file.saturating_sub(tail_room).max(head_bytes as u64);
    let tail = session.read_file(file, from, tail_room).map(|range| range.bytes).unwrap_or_default();
    let cut = stream.total_bytes - head_bytes as u64 - tail.len() as u64;
    let lost = if stream.lost_bytes > 0 { format!(" but the last {} bytes", stream.lost_bytes) } else { String::new() };
    format!(
        "{}\n[… {cut} bytes left out{rest}{lost} …]\n{}",
        String::from_utf8_lossy(&stream.kept[..head_bytes]),
        String::from_utf8_lossy(&tail)
    )
}

fn lossy(bytes: &[u8], room: usize, rest: &str) -> String {
    text::bounded(&String::from_utf8_lossy(bytes), room, rest)
}

/// One line per kind of change; the engine's own folder is left out.
fn changed(changes: &[Change]) -> String {
    let mut text = String::new();
    for (word, kind) in [("created", ChangeKind::Added), ("changed", ChangeKind::Changed), ("removed", ChangeKind::Removed)]
    {
        let paths: Vec<&str> = changes
            .iter()
            .filter(|change| change.kind == kind && !change.path.starts_with(OWN_FOLDER) && change.path != ".errand")
            .map(|change| change.path.as_str())
            .collect();
        if paths.is_empty() {
            continue;
        }
        let more = paths.len().saturating_sub(CHANGES_SHOWN);
        let list = paths[..paths.len().min(CHANGES_SHOWN)].join(", ");
        let list = text::bounded(&list, FRAME_BYTES / 4, "");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(text, "files {word}: {list}{more}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interpreter_is_named_with_what_to_install() {
        let of = |wanted: &str, found: &[&'static str]| missing(wanted, found.iter().copied());
        assert!(of("node", &["python3", "bash"]).unwrap().contains("Node.js"));
        assert_eq!(of("node", &["node"]), None);
        assert_eq!((of("bash", &["sh"]), of("bash", &[])), (None, Some("bash")));
        assert_eq!(of("/workspace/own", &[]), None);
    }
}
