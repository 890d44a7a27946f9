//! `errand sandbox`: boxes by hand. A session is a workspace that stays until it is killed; each command gets a fresh box
//! over it, `shell` one that stays as long as it runs.

mod egress;
mod image;
#[cfg(feature = "t0")]
pub(super) mod script;

use super::Context;
use crate::args::{Sandbox, SandboxCommand, SandboxExec, SandboxFiles, SandboxLimits, SandboxShell};
use crate::config::{self, Config};
use crate::error::{Error, Exit};
use crate::signals::Signals;
use crate::stdin::Lines;
use crate::text;
use crate::toolbox::{engine_config, runtime_config};
use crate::view::{Audience, print, print_json};
use errand_core::Tier;
use errand_sandbox::{
    CancelToken, Cell, CellEnd, CellOutcome, Engine, Exec, ExecOutcome, Exit as Ended, Images, Isolation, Kernel, Limits,
    OciEngine, Output, Session, SessionOptions, Sessions, Stream, VolumeSize,
};
use serde_json::json;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Entries of a listing.
const ENTRIES_MAX: usize = 10_000;
/// Bytes read of a file at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Longest standard input, which is held in memory.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// `errand sandbox`.
pub(super) async fn sandbox(context: &Context, args: Sandbox) -> Result<Exit, Error> {
    #[cfg(feature = "t0")]
    let args = match args.command {
        // Without sessions, which not every system has.
        SandboxCommand::Script(args) => return script::script(context, args).await,
        command => Sandbox { command },
    };
    let config = context.plain()?;
    if let SandboxCommand::Image(args) = args.command {
        return image::image(context, &config, args.command).await;
    }
    let sessions = Sessions::at(config.data.join("sandboxes")).map_err(|error| failed(&error))?;
    let images = image::images(&config, Vec::new())?;
    let sessions = sessions.with_images(Arc::clone(&images));
    match args.command {
        SandboxCommand::Create { id, image, volume, grant } => {
            let grant = egress::granted(&grant)?;
            let volume = volume.map(volume_of);
            if let Some(name) = &image
                && let Err(exit) = image::ensured(context, &images, name).await?
            {
                return Ok(exit);
            }
            create(context, &sessions, id, &SessionOptions { image, volume }, grant)
        }
        SandboxCommand::List => list(context, &sessions),
        SandboxCommand::Kill { id } => {
            let session = sessions.open(&id).map_err(|error| failed(&error))?;
            sessions.destroy(session).map_err(|error| failed(&error))?;
            Ok(Exit::Done)
        }
        SandboxCommand::Files(args) => files(context, &sessions, &args),
        SandboxCommand::Exec(args) => exec(context, &config, &sessions, &images, args).await,
        SandboxCommand::Shell(args) => shell(context, &config, &sessions, &images, args).await,
        #[cfg(feature = "t0")]
        SandboxCommand::Script(_) => Ok(Exit::Done),
        SandboxCommand::Image(_) => Ok(Exit::Done),
    }
}

fn failed(error: &errand_sandbox::Error) -> Error {
    Error::chain(error.code(), error)
}

/// A volume of so many MiB, with as many files as a workspace may have and its size can tell apart.
fn volume_of(mebibytes: u64) -> VolumeSize {
    let bytes = mebibytes.saturating_mul(1 << 20);
    VolumeSize { bytes, files: Limits::default().workspace_files.min(bytes >> 13) }
}

fn create(
    context: &Context,
    sessions: &Sessions,
    id: Option<String>,
    options: &SessionOptions,
    grant: Option<serde_json::Value>,
) -> Result<Exit, Error> {
    let id = id.unwrap_or_else(|| format!("sbx-{}", &super::start::new_run().to_string()[4..].to_lowercase()));
    let session = sessions.create_with(&id, options).map_err(|error| failed(&error))?;
    if let Some(grant) = grant {
        session.keep_grant(grant).map_err(|error| failed(&error))?;
    }
    match context.audience() {
        Audience::Machines => print_json(&json!({
            "type": "session",
            "id": session.id(),
            "workspace": text::path(&session.workspace_path()),
            "workspace_quota": session.workspace_quota(),
            "grant": session.grant(),
            "image": session.image().map(|image| json!({"name": image.name(), "digest": image.digest()})),
        })),
        Audience::People => print(session.id()),
    }
    Ok(Exit::Done)
}

fn list(context: &Context, sessions: &Sessions) -> Result<Exit, Error> {
    let listed = sessions.listed().map_err(|error| failed(&error))?;
    let now = SystemTime::now();
    // A clock that was set back makes nothing older than it is.
    let since = |at: SystemTime| now.duration_since(at).unwrap_or_default().as_millis() as u64;
    for session in &listed {
        let age = session.made.map(since);
        if context.audience() == Audience::Machines {
            print_json(&json!({
                "type": "session",
                "id": session.id,
                "tier": "t1",
                "in_use": session.in_use,
                "image": session.image,
                "volume_bytes": session.volume.map(|volume| volume.bytes),
                "grant": session.has_grant,
                "age_ms": age,
                "idle_ms": since(session.used),
            }));
            continue;
        }
        let state = if session.in_use { "in use" } else { "free" };
        let age = age.map_or("?".to_owned(), text::duration);
        let idle = text::duration(since(session.used));
        let image = session.image.as_deref().unwrap_or("-");
        let volume = session.volume.map_or("-".to_owned(), |volume| text::bytes(volume.bytes));
        let grant = if session.has_grant { "granted" } else { "-" };
        print(&format!(
            "{:<28} {state:<7} t1    made {age:<13} used {idle:<13} image {image:<12} volume {volume:<9} egress {grant}",
            session.id
        ));
    }
    if listed.is_empty() && context.audience() == Audience::People {
        warn("no sessions: `errand sandbox create` makes one");
    }
    Ok(Exit::Done)
}

fn files(context: &Context, sessions: &Sessions, args: &SandboxFiles) -> Result<Exit, Error> {
    let session = sessions.open(&args.id).map_err(|error| failed(&error))?;
    if let Some(source) = &args.put {
        let name = source.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::new("file_name_unusable", format!("{} has no name", text::path(source))))?;
        let mut file = open_plain(source)?;
        let path = args.path.as_deref().unwrap_or(name);
        session.put_reader(path, &mut file, Limits::default().workspace_bytes).map_err(|error| failed(&error))?;
        return Ok(Exit::Done);
    }
    match &args.path {
        Some(path) => write_file(&session, path),
        None => {
            let entries = session.list("", true, ENTRIES_MAX).map_err(|error| failed(&error))?;
            for entry in &entries {
                match context.audience() {
                    Audience::Machines => print_json(entry),
                    Audience::People => {
                        print(&format!("{:>10}  {}", text::bytes(entry.size), text::one_line(&entry.path, 200)));
                    }
                }
            }
            if entries.len() == ENTRIES_MAX {
                warn(&format!("only the first {ENTRIES_MAX} entries are shown"));
            }
            Ok(Exit::Done)
        }
    }
}

fn open_plain(path: &Path) -> Result<File, Error> {
    let unreadable = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { "file_missing" } else { "file_unreadable" };
        Error::new(code, format!("{}: {error}", text::path(path)))
    };
    // A FIFO or a device would be read for ever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Error::new("file_not_plain", format!("{} is no plain file", text::path(path))));
    }
    File::open(path).map_err(unreadable)
}

fn warn(line: &str) {
    // Nobody may be reading any longer.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A file of the workspace to standard output, as it is.
fn write_file(session: &Session, path: &str) -> Result<Exit, Error> {
    let mut stdout = std::io::stdout().lock();
    let mut offset = 0;
    loop {
        let piece = session.read_file(path, offset, PIECE_BYTES).map_err(|error| failed(&error))?;
        if piece.bytes.is_empty() {
            return Ok(Exit::Done);
        }
        offset += piece.bytes.len() as u64;
        stdout
            .write_all(&piece.bytes)
            .map_err(|error| Error::new("output_failed", format!("standard output could not be written: {error}")))?;
    }
}

fn limits(given: &SandboxLimits) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    if let Some(time) = &given.timeout {
        limits.wall = Duration::from_millis(config::duration(time)?);
    }
    if let Some(megabytes) = given.memory {
        limits.memory_bytes = megabytes.saturating_mul(1 << 20);
    }
    Ok(limits)
}

fn engine(config: &Config) -> Result<Engine, Error> {
    Engine::start(&engine_config(config)).map_err(|error| failed(&error))
}

/// The weakest tier that makes boxes and is at least `least`, as runs get it.
fn strong(config: &Config, least: Tier) -> Result<Box<dyn Isolation>, Error> {
    if least <= Tier::T1 {
        return Ok(Box::new(engine(config)?));
    }
    let Some(runtime) = runtime_config(config) else {
        let reasons = vec!["no runtime is configured: set ERRAND_SANDBOX_RUNTIME".to_owned()];
        let tier = errand_sandbox::Tier::T2;
        return Err(failed(&errand_sandbox::Error::TierUnavailable { tier, reasons }));
    };
    Ok(Box::new(OciEngine::start(&runtime).map_err(|error| failed(&error))?))
}

/// A session as its boxes need it, with its image and its way out; a signal's exit if one came meanwhile.
async fn opened(
    context: &Context,
    config: &Config,
    sessions: &Sessions,
    images: &Arc<Images>,
    id: &str,
) -> Result<Result<(Arc<Session>, egress::Way), Exit>, Error> {
    let session = sessions.open(id).map_err(|error| failed(&error))?;
    let mut session = match image::dressed(context, images, session).await? {
        Ok(session) => session,
        Err(exit) => return Ok(Err(exit)),
    };
    let way = egress::Way::open(config, &mut session)?;
    Ok(Ok((Arc::new(session), way)))
}

async fn exec(
    context: &Context,
    config: &Config,
    sessions: &Sessions,
    images: &Arc<Images>,
    args: SandboxExec,
) -> Result<Exit, Error> {
    let (session, way) = match opened(context, config, sessions, images, &args.id).await? {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let cancel = CancelToken::new().map_err(|error| Error::new("engine_stopped", error.to_string()))?;
    let mut exec = Exec::new(args.command);
    exec.limits = limits(&args.limits)?;
    exec.cancel = Some(cancel.clone());
    if !std::io::stdin().is_terminal() {
        exec.stdin = Some(input()?);
    }
    if context.audience() == Audience::People {
        exec.on_output = Some(Box::new(pass_on));
    }
    let config = config.clone();
    let least = args.min_tier.as_deref().map_or(Ok(config.sandbox.min_tier), config::tier)?;
    let its = Arc::clone(&session);
    let work = move || strong(&config, least)?.run(&its, exec).map_err(|error| failed(&error));
    let (outcome, signal) = stoppable(work, &cancel).await?;
    let used = way.told();
    way.close(&session, context.audience() == Audience::People)?;
    let outcome = outcome?;
    if context.audience() == Audience::Machines {
        print_json(&told(&outcome, used));
    }
    Ok(ended(signal, outcome.exit))
}

/// The program's own exit status, where it has one.
fn ended(signal: Option<Exit>, exit: Ended) -> Exit {
    match (signal, exit) {
        (Some(exit), Ended::Cancelled) => exit,
        (_, Ended::Code(code)) => Exit::Program(u8::try_from(code).unwrap_or(1)),
        (_, Ended::Signal(number)) => Exit::Signal(u8::try_from(number).unwrap_or(0)),
        (_, other) => {
            warn(&format!("the box was ended: {}", why(other)));
            Exit::Failed
        }
    }
}

/// Does what blocks on a thread of its own; a signal cancels it.
async fn stoppable<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    cancel: &CancelToken,
) -> Result<(T, Option<Exit>), Error> {
    let stopped = |error: &dyn std::error::Error| Error::new("engine_stopped", format!("the box ended by itself: {error}"));
    let mut signals = Signals::listen().map_err(|error| stopped(&error))?;
    let mut work = tokio::task::spawn_blocking(work);
    tokio::select! {
        done = &mut work => Ok((done.map_err(|error| stopped(&error))?, None)),
        signal = signals.next() => {
            cancel.cancel();
            Ok((work.await.map_err(|error| stopped(&error))?, Some(signal.exit())))
        }
    }
}

fn pass_on(stream: Stream, bytes: &[u8]) {
    // Whoever reads may have seen enough; the box goes on.
    let _ = match stream {
        Stream::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Stream::Stderr => std::io::stderr().write_all(bytes),
    };
}

fn input() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::new("task_not_text", format!("standard input cannot be read: {error}")))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        let message =
            "standard input is longer than 64 MiB: put it into the workspace with `errand sandbox files ID --put FILE`";
        return Err(Error::new("file_too_large", message));
    }
    Ok(bytes)
}

fn why(exit: Ended) -> &'static str {
    match exit {
        Ended::TimedOut => "its time was used up (--timeout)",
        Ended::OutOfMemory => "its memory was used up (--memory)",
        Ended::OverQuota => "the workspace went over its quota",
        Ended::Cancelled => "it was cancelled",
        Ended::Code(_) | Ended::Signal(_) => "it ended",
    }
}

fn told(outcome: &ExecOutcome, used: serde_json::Value) -> serde_json::Value {
    json!({
        "type": "exec",
        "exit": outcome.exit,
        "stdout": stream(&outcome.stdout),
        "stderr": stream(&outcome.stderr),
        "wall_ms": outcome.wall.as_millis(),
        "cpu_ms": outcome.cpu.as_millis(),
        "memory_peak_bytes": outcome.memory_peak_bytes,
        "workspace_bytes": outcome.workspace_bytes,
        "workspace_files": outcome.workspace_files,
        "egress": used,
    })
}

fn stream(output: &Output) -> serde_json::Value {
    json!({"text": output.text(), "bytes": output.total_bytes, "file": output.file, "lost_bytes": output.lost_bytes})
}

async fn shell(
    context: &Context,
    config: &Config,
    sessions: &Sessions,
    images: &Arc<Images>,
    args: SandboxShell,
) -> Result<Exit, Error> {
    let (session, way) = match opened(context, config, sessions, images, &args.id).await? {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let ended = cells(context, config, &session, args).await;
    way.close(&session, context.audience() == Audience::People)?;
    ended
}

/// The cells of a shell, up to its end.
async fn cells(context: &Context, config: &Config, session: &Arc<Session>, args: SandboxShell) -> Result<Exit, Error> {
    if config.sandbox.min_tier > Tier::T1 {
        let reasons = vec!["kernels stay in boxes of tier t1 only: use `errand sandbox exec`".to_owned()];
        let tier = errand_sandbox::Tier::T2;
        return Err(failed(&errand_sandbox::Error::TierUnavailable { tier, reasons }));
    }
    let session = Arc::clone(session);
    let limits = limits(&args.limits)?;
    let (config, language) = (config.clone(), args.language.into());
    let cancel = CancelToken::new().map_err(|error| Error::new("engine_stopped", error.to_string()))?;
    let start = move || {
        let engine = Arc::new(engine(&config)?);
        engine.kernel(&session, language, &limits).map_err(|error| failed(&error))
    };
    let (kernel, signal) = stoppable(start, &cancel).await?;
    let mut kernel = kernel?;
    if let Some(exit) = signal {
        return Ok(exit);
    }
    if !std::io::stdin().is_terminal() {
        let code = String::from_utf8(input()?).map_err(|_| Error::new("task_not_text", "the code is not UTF-8 text"))?;
        let (_, end, signal) = one(context, kernel, code).await?;
        return Ok(signal.unwrap_or(if end == CellEnd::Done { Exit::Done } else { Exit::Failed }));
    }
    let mut lines = Lines::default();
    while let Some(code) = typed(&mut lines).await {
        let (back, end, signal) = one(context, kernel, code).await?;
        if let Some(exit) = signal {
            return Ok(exit);
        }
        if matches!(end, CellEnd::Lost { .. }) {
            return Ok(Exit::Failed);
        }
        kernel = back;
    }
    Ok(Exit::Done)
}

/// What a person types: a line, or, where it ends as one that opens a block or goes on, all up to an empty line.
async fn typed(lines: &mut Lines) -> Option<String> {
    prompt("> ");
    let mut code = lines.next().await?;
    if code.ends_with([':', '{', '\\', '(', '[']) {
        loop {
            prompt(". ");
            match lines.next().await {
                Some(line) if !line.trim().is_empty() => code.push_str(&format!("\n{line}")),
                _ => break,
            }
        }
    }
    Some(code)
}

fn prompt(text: &str) {
    // Without a terminal to show it on nobody waits for it.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Runs one cell and shows what came of it; gives the kernel back.
async fn one(context: &Context, mut kernel: Kernel, code: String) -> Result<(Kernel, CellEnd, Option<Exit>), Error> {
    let cancel = CancelToken::new().map_err(|error| Error::new("engine_stopped", error.to_string()))?;
    let live = context.audience() == Audience::People;
    let mut cell = Cell { cancel: Some(cancel.clone()), ..Cell::new(code) };
    if live {
        cell.on_output = Some(Box::new(pass_on));
    }
    let work = move || {
        let outcome = kernel.run(cell);
        (kernel, outcome)
    };
    let ((kernel, outcome), signal) = stoppable(work, &cancel).await?;
    let outcome = outcome.map_err(|error| failed(&error))?;
    if live {
        show(&outcome)
    } else {
        print_json(&as_json(&outcome))
    }
    Ok((kernel, outcome.end, signal))
}

fn show(outcome: &CellOutcome) {
    if let Some(value) = &outcome.value {
        print(&text::neutral(value));
    }
    for file in &outcome.files {
        print(&format!("→ {}", text::one_line(file, 200)));
    }
    match &outcome.end {
        CellEnd::Done => {}
        // An error that says nothing on standard error by itself, such as an exit.
        CellEnd::Failed { error } if outcome.stderr.total_bytes == 0 => warn(&text::neutral(error)),
        CellEnd::Failed { .. } => {}
        CellEnd::Interrupted => warn("interrupted: its time was used up; what was defined before is there still"),
        CellEnd::Lost { exit } => {
            warn(&format!("the kernel is lost, with what its cells defined: {}; files stay", why(*exit)));
        }
    }
}

fn as_json(outcome: &CellOutcome) -> serde_json::Value {
    json!({
        "type": "cell",
        "end": outcome.end,
        "value": outcome.value,
        "files": outcome.files,
        "stdout": stream(&outcome.stdout),
        "stderr": stream(&outcome.stderr),
        "wall_ms": outcome.wall.as_millis(),
    })
}
