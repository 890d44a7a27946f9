//! The tools `python`, `node` and `shell`: programs in a box over the workspace.

use crate::text;
use crate::ways;
use crate::workspace::{Chosen, Desk, Error, OWN_FOLDER};
use errand_core::{Confinement, Outcome, Strength};
use errand_engine::ports::ToolReply;
use errand_sandbox::{
    Cell, CellEnd, CellOutcome, Change, ChangeKind, Exec, ExecOutcome, Exit, Isolation, Language, Output, Report, Session,
    Tier,
};
use serde::Deserialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

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
    fresh: bool,
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
    fresh: bool,
    #[serde(default)]
    files: Vec<TextFile>,
}

/// Arguments of `shell`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shell {
    script: String,
    #[serde(default)]
    fresh: bool,
}

/// A program to run.
pub(crate) struct Program {
    what: What,
    files: Vec<TextFile>,
}

/// What is run, and where what it defines goes.
enum What {
    /// On the kernel of the run, where the tier has kernels.
    Cell { language: Language, code: String, fresh: bool },
    /// In a box of its own.
    Exec(Box<Exec>),
}

impl From<Python> for Program {
    fn from(Python { code, fresh, files }: Python) -> Self {
        Self { what: What::Cell { language: Language::Python, code, fresh }, files }
    }
}

impl From<Node> for Program {
    fn from(Node { code, fresh, files }: Node) -> Self {
        Self { what: What::Cell { language: Language::Node, code, fresh }, files }
    }
}

impl From<Shell> for Program {
    fn from(Shell { script, fresh }: Shell) -> Self {
        Self { what: What::Cell { language: Language::Shell, code: script, fresh }, files: Vec::new() }
    }
}

impl From<Exec> for Program {
    fn from(exec: Exec) -> Self {
        Self { what: What::Exec(Box::new(exec)), files: Vec::new() }
    }
}

impl What {
    /// The program that a box takes for it.
    fn interpreter(&self) -> &str {
        match self {
            What::Cell { language: Language::Python, .. } => "python3",
            What::Cell { language: Language::Node, .. } => "node",
            What::Cell { language: Language::Shell, .. } => "bash",
            What::Exec(exec) => exec.argv.first().map(String::as_str).unwrap_or_default(),
        }
    }

    /// As a program of its own.
    fn into_exec(self) -> Exec {
        match self {
            What::Cell { language: Language::Python, code, .. } => Exec::python(code),
            What::Cell { language: Language::Node, code, .. } => Exec::node(code),
            What::Cell { language: Language::Shell, code, .. } => Exec::shell(code),
            What::Exec(exec) => *exec,
        }
    }
}

/// What a call may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Time the call may take from its turn on, restoring and keeping the workspace included.
    pub(crate) time: Duration,
    /// Most that is shown, in bytes.
    pub(crate) observation_bytes: usize,
    /// The model may count on what an earlier call of this tool defined.
    pub(crate) has_called_before: bool,
    /// The weakest tier that its box may be of.
    pub(crate) least: Tier,
}

impl Program {
    /// The kernel that it is going to use.
    pub(crate) fn language(&self) -> Option<Language> {
        match &self.what {
            What::Cell { language, .. } => Some(*language),
            What::Exec(_) => None,
        }
    }

    /// Runs it in a box and keeps what it leaves in the workspace.
    pub(crate) fn run(self, desk: &mut Desk<'_>, bounds: Bounds) -> ToolReply {
        let reply = match self.attempt(desk, bounds) {
            Ok(reply) => reply,
            // Nothing was begun, so nobody has to ask what came of it.
            Err(error @ Error::NoTimeLeft) if desk.way_out().is_some() => {
                ToolReply::free(Outcome::error("not_sent", error.chain()))
            }
            Err(error) => ToolReply::free(Outcome::error(error.code(), error.chain())),
        };
        // Also where the call failed: what passed has passed.
        ToolReply { egress: desk.used().map(Box::new), ..reply }
    }

    fn attempt(self, desk: &mut Desk<'_>, bounds: Bounds) -> Result<ToolReply, Error> {
        let Self { what, files } = self;
        let is_script = matches!(what, What::Cell { language: Language::Python, .. });
        let until = Instant::now() + bounds.time.saturating_sub(RESERVE);
        let chosen = desk.choose(bounds.least, is_script, until)?;
        let sandbox = confinement(chosen.isolation().report());
        has_interpreter(desk, chosen.isolation().report().tier, &what)?;
        let wall = until.saturating_duration_since(Instant::now());
        if wall < LEAST {
            return Err(Error::NoTimeLeft);
        }
        let session = desk.session_to_change();
        for file in &files {
            session.put_file(&file.path, file.text.as_bytes())?;
        }
        let room = Room::of(bounds.observation_bytes);
        let told = match (what, &chosen) {
            (What::Cell { language, code, fresh }, Chosen::Namespaces(engine)) => {
                let is_new = desk.kernel(engine, language, fresh)?;
                let misses = is_new && bounds.has_called_before && !fresh;
                on_kernel(desk, language, code, misses, wall, room)?
            }
            (what, chosen) => in_box(desk, chosen.isolation(), what.into_exec(), wall, room)?,
        };
        let told = with_way_out(told, desk);
        let kept = desk.keep();
        Ok(ToolReply { sandbox: Some(sandbox), ..reply(told, kept, bounds.observation_bytes) })
    }
}

/// The same with what passed through the way out, if it had one. What ran out of time is no riddle then: it ran until then, and
/// is not begun again.
fn with_way_out(told: Told, desk: &mut Desk<'_>) -> Told {
    let Some(used) = desk.passed() else { return told };
    let (status, rest) = told.text.split_once('\n').unwrap_or((&told.text, ""));
    let text = format!("{status}\n{}{rest}", ways::shown(&used));
    Told { text, code: told.code.map(open_code), ..told }
}

/// The code of a call that had a way out.
fn open_code(code: &'static str) -> &'static str {
    match code {
        "timed_out" => "ran_out_of_time",
        other => other,
    }
}

/// A box sees the programs of this host; without the one it takes there is nothing to begin.
fn has_interpreter(desk: &Desk<'_>, tier: Tier, what: &What) -> Result<(), Error> {
    if tier == Tier::T0 {
        return Ok(());
    }
    let wanted = what.interpreter();
    let found = desk.interpreters(tier).iter().map(|one| one.name.as_str());
    missing(wanted, found).map_or(Ok(()), |install| Err(Error::InterpreterMissing { name: wanted.to_owned(), install }))
}

/// How much of what came is shown, in bytes.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Of each stream, and what the other leaves over.
    stream: usize,
    /// Of the value of the last line.
    value: usize,
}

impl Room {
    fn of(observation_bytes: usize) -> Self {
        let value = observation_bytes / 8;
        Self { stream: observation_bytes.saturating_sub(FRAME_BYTES + value) / 2, value }
    }
}

/// Runs a cell on the kernel of the run; `misses` tells that the model counts on what this kernel does not have.
fn on_kernel(
    desk: &mut Desk<'_>,
    language: Language,
    code: String,
    misses: bool,
    wall: Duration,
    room: Room,
) -> Result<Told, Error> {
    // Asked of every cell: what was told of one loss says nothing of the next.
    let was_told = desk.was_told(language);
    let cell = Cell {
        wall: Some(wall),
        output_bytes: Some(room.stream as u64),
        cancel: Some(desk.cancel.clone()),
        ..Cell::new(code)
    };
    let done = desk.run(language, cell)?;
    let mut notes = String::new();
    if misses && !was_told {
        let _ = writeln!(notes, "{}", forgotten(language));
    }
    if matches!(done.end, CellEnd::Lost { .. }) && !desk.cancel.is_cancelled() {
        desk.tell(language);
        let _ =
            writeln!(notes, "with this call the {} ended, and what was defined in it is gone; files stay", kind(language));
    }
    let (code, status) = ending_of_cell(&done);
    let mut text = streams(&done.stdout, &done.stderr, desk.session(), room.stream, done.value.is_none());
    if let Some(value) = &done.value {
        let _ = writeln!(text, "value: {}", text::bounded(value, room.value, ""));
    }
    if !done.files.is_empty() {
        let _ = writeln!(text, "results as files: {}", text::bounded(&done.files.join(", "), FRAME_BYTES / 4, ""));
    }
    Ok(Told { code, text: format!("{status}\n{notes}{text}"), wall: done.wall })
}

fn kind(language: Language) -> &'static str {
    match language {
        Language::Python | Language::Node => "interpreter",
        Language::Shell => "shell",
    }
}

/// What the model has to know where a call finds nothing of those before it.
fn forgotten(language: Language) -> &'static str {
    match language {
        Language::Python | Language::Node => {
            "this is a new interpreter: variables, functions and imports of earlier calls are gone; files are there"
        }
        Language::Shell => {
            "this is a new shell: variables, functions and the folder of earlier calls are gone; files are there"
        }
    }
}

/// Runs a program in a box of its own.
fn in_box(desk: &mut Desk<'_>, tier: &dyn Isolation, mut exec: Exec, wall: Duration, room: Room) -> Result<Told, Error> {
    exec.limits.wall = wall;
    exec.limits.output_bytes = room.stream as u64;
    exec.cancel = Some(desk.cancel.clone());
    exec.way_out = desk.way_out();
    let done = tier.run(desk.session(), exec)?;
    let (code, status) = ending(&done);
    let note = own_box(tier.report().tier);
    let text = streams(&done.stdout, &done.stderr, desk.session(), room.stream, true);
    Ok(Told { code, text: format!("{status}\n{note}{text}"), wall: done.wall })
}

/// As it goes on record.
pub(crate) fn confinement(report: &Report) -> Confinement {
    let strength = |strength| match strength {
        errand_sandbox::Strength::Absent => Strength::Absent,
        errand_sandbox::Strength::Soft => Strength::Soft,
        errand_sandbox::Strength::Hard => Strength::Hard,
    };
    let tier = match report.tier {
        Tier::T0 => errand_core::Tier::T0,
        Tier::T1 => errand_core::Tier::T1,
        Tier::T2 => errand_core::Tier::T2,
    };
    let quotas = &report.quotas;
    Confinement {
        tier,
        memory: strength(quotas.memory),
        processes: strength(quotas.processes),
        cpu: strength(quotas.cpu),
        workspace: strength(quotas.workspace),
        output: strength(quotas.output),
        time: strength(quotas.time),
    }
}

/// What a model has to know of a tier where each call is for itself.
fn own_box(tier: Tier) -> &'static str {
    match tier {
        Tier::T0 => {
            "tier t0: this ran in Monty, a small Python of its own without files, packages and classes; nothing stays between calls\n"
        }
        Tier::T1 => "",
        Tier::T2 => "tier t2: each call has a box of its own, so variables do not stay between calls; files do\n",
    }
}

/// What came of a program, as it is shown.
pub(crate) struct Told {
    /// None if it did well.
    pub(crate) code: Option<&'static str>,
    pub(crate) text: String,
    pub(crate) wall: Duration,
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

/// What is shown of it, with the files that it changed.
pub(crate) fn reply(
    told: Told,
    kept: Result<(Option<errand_core::Snapshot>, Vec<Change>), Error>,
    observation_bytes: usize,
) -> ToolReply {
    let Told { code, text: mut shown, wall } = told;
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
    let sandbox_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    ToolReply { outcome, workspace, sandbox_ms, ..ToolReply::free(Outcome::Ok { text: String::new() }) }
}

/// The same of a cell: with the exit code that its code would have had as a program.
fn ending_of_cell(done: &CellOutcome) -> (Option<&'static str>, String) {
    let exit = match &done.end {
        CellEnd::Done => Exit::Code(0),
        CellEnd::Failed { error } => Exit::Code(status_of(error)),
        CellEnd::Lost { exit } => *exit,
        CellEnd::Interrupted => {
            let after = done.wall.as_secs_f64();
            let line = format!(
                "interrupted after {after:.1} s, when its time was up: do less in one call, and keep what is done in files; \
                 variables are there still"
            );
            return (Some("timed_out"), line);
        }
    };
    ended(exit, done.wall)
}

/// `exit status 3` of a shell, `SystemExit: 3` of Python; any other error is 1.
fn status_of(error: &str) -> i32 {
    let number = error.strip_prefix("exit status ").or_else(|| error.strip_prefix("SystemExit: "));
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// The error's code (none if the program succeeded) and the line that tells how it ended.
fn ending(done: &ExecOutcome) -> (Option<&'static str>, String) {
    ended(done.exit, done.wall)
}

/// The error's code (none if the program succeeded) and the line that tells how it ended.
pub(crate) fn ended(exit: Exit, wall: Duration) -> (Option<&'static str>, String) {
    let after = format!("after {:.1} s", wall.as_secs_f64());
    match exit {
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

/// The two streams as they are shown: each gets `share` bytes, and what the other leaves over.
fn streams(stdout: &Output, stderr: &Output, session: &Session, share: usize, says_nothing: bool) -> String {
    let spare = |other: &Output| share.saturating_sub(other.kept.len());
    let mut text = String::new();
    for (name, stream, room) in [("stdout", stdout, share + spare(stderr)), ("stderr", stderr, share + spare(stdout))] {
        if stream.total_bytes > 0 {
            let shown = stream_text(stream, session, room);
            let _ = writeln!(text, "{name}:\n{}", shown.trim_end_matches('\n'));
        }
    }
    if text.is_empty() && says_nothing {
        text.push_str("it printed nothing\n");
    }
    text
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
