//! Running pip and Python on the host: what they say, and why they failed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::Interpreter;
use crate::engine::run::{last_words, timespec};
use crate::error::{Error, Result};
use crate::exec::CancelToken;

/// Kept of what a program says: its end.
const SAID_BYTES: usize = 64 << 10;

/// Which Python it is, as in the names of its compiled modules.
pub(crate) fn tag(python: &Interpreter) -> Result<String> {
    let question = "import sysconfig; print(sysconfig.get_config_var('SOABI'))";
    let answer = ask(Command::new(&python.path).args(["-I", "-c", question]));
    let is_tag = |text: &String| !text.is_empty() && text != "None" && text.len() < 100;
    answer.filter(is_tag).ok_or_else(|| tools(format!("{} does not tell its version", python.path.display())))
}

/// The pip that installs for this Python: its own, or that of another Python on the way.
pub(crate) fn command(python: &Interpreter, search: Option<&OsStr>) -> Result<Command> {
    let works = |program: &Path, more: &[&OsStr]| {
        let mut command = Command::new(program);
        command.args(["-m", "pip"]).args(more);
        ask(command.arg("--version")).is_some()
    };
    if works(&python.path, &[]) {
        let mut command = Command::new(&python.path);
        command.args(["-m", "pip"]);
        return Ok(command);
    }
    let own = python.path.as_os_str();
    let folders =
        search.map(std::env::split_paths).into_iter().flatten().chain([PathBuf::from("/usr/bin"), "/usr/local/bin".into()]);
    let mut others = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join("python3"));
    let other = others.find(|other| other.is_file() && works(other, &["--python".as_ref(), own]));
    let other = other
        .ok_or_else(|| tools(format!("neither {} nor another python3 has pip (22.3 or newer)", python.path.display())))?;
    let mut command = Command::new(other);
    command.args(["-m", "pip", "--python"]).arg(own);
    Ok(command)
}

/// Whether this Python, or one of the system that may install for it, seems to have pip: a folder where it lies.
pub(crate) fn lies_beside(python: &Interpreter) -> bool {
    let own = python.path.canonicalize().ok();
    let own = own.as_deref().and_then(Path::parent).and_then(Path::parent);
    own.into_iter().chain([Path::new("/usr"), Path::new("/usr/local")]).any(has_pip)
}

fn has_pip(prefix: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(prefix.join("lib")) else { return false };
    let pythons = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    pythons
        .map(|entry| entry.path())
        .any(|lib| ["site-packages", "dist-packages"].iter().any(|at| lib.join(at).join("pip").is_dir()))
}

fn tools(reason: String) -> Error {
    Error::ImageTools { reason }
}

fn ask(command: &mut Command) -> Option<String> {
    // Where somebody put a `pip.py` Python would take that for it.
    let output = command.current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// A program to be run with an eye on the time.
pub(crate) struct Run<'a> {
    pub(crate) command: Command,
    /// A file whose lock it holds while it lives; it finds it empty as its standard input.
    pub(crate) held: File,
    pub(crate) until: Instant,
    pub(crate) cancel: Option<&'a CancelToken>,
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) success: bool,
    /// The end of all that it said.
    pub(crate) end: String,
}

impl Run<'_> {
    /// Runs it to its end, and calls `on_line` with each line it says.
    pub(crate) fn run(mut self, on_line: &mut dyn FnMut(&str)) -> Result<Ran> {
        let io = |e: std::io::Error| Error::io("running a program for an image", "pip", e);
        let (mut reader, writer) = std::io::pipe().map_err(io)?;
        self.command.stdin(self.held).stdout(writer.try_clone().map_err(io)?).stderr(writer).process_group(0);
        let mut child = Ended(self.command.spawn().map_err(|e| tools(format!("it cannot be started ({e})")))?);
        // Its ends of the pipe stay open in the command.
        drop(self.command);
        let mut said = Said { line: Vec::new(), end: Vec::new() };
        let mut buffer = [0u8; 8192];
        loop {
            check(self.until, self.cancel)?;
            let mut fds = vec![PollFd::new(&reader, PollFlags::IN)];
            fds.extend(self.cancel.map(|token| PollFd::from_borrowed_fd(token.fd(), PollFlags::IN)));
            match poll(&mut fds, Some(&timespec(Duration::from_secs(1)))) {
                Ok(_) | Err(rustix::io::Errno::INTR) if fds[0].revents().is_empty() => continue,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io(e.into())),
            }
            match reader.read(&mut buffer).map_err(io)? {
                0 => break,
                count => said.hear(&buffer[..count], on_line),
            }
        }
        let status = child.0.wait().map_err(io)?;
        Ok(Ran { success: status.success(), end: String::from_utf8_lossy(&said.end).into_owned() })
    }
}

/// A child that does not outlive its caller, nor do its own.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
            // It may have ended this moment.
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = self.0.wait();
        }
    }
}

struct Said {
    line: Vec<u8>,
    end: Vec<u8>,
}

impl Said {
    fn hear(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        self.end.extend_from_slice(bytes);
        self.end.drain(..self.end.len().saturating_sub(SAID_BYTES));
        for byte in bytes {
            if *byte == b'\n' {
                on_line(&String::from_utf8_lossy(&self.line));
                self.line.clear();
            } else if self.line.len() < 4096 {
                self.line.push(*byte);
            }
        }
    }
}

/// Whether there is time left and nobody wants it stopped.
pub(crate) fn check(until: Instant, cancel: Option<&CancelToken>) -> Result<()> {
    if cancel.is_some_and(CancelToken::is_cancelled) {
        return Err(Error::ImageFailed { reason: "it was cancelled".into() });
    }
    if Instant::now() >= until {
        return Err(Error::ImageFailed { reason: "its 30 minutes were used up".into() });
    }
    Ok(())
}

pub(crate) fn is_full(said: &str) -> bool {
    ["No space left on device", "Disk quota exceeded"].iter().any(|sign| said.contains(sign))
}

/// Which failure it was. pip has one exit status for all, and speaks English everywhere.
pub(crate) fn why(said: &str) -> Error {
    let errors: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("ERROR:")).collect();
    let told = if errors.is_empty() { said.to_owned() } else { errors.join(" ") };
    let words = last_words(told.as_bytes());
    let has = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
    if is_full(said) {
        return Error::ImageNoRoom { said: words };
    }
    if has(&["DO NOT MATCH THE HASHES", "Hashes are required in --require-hashes mode"]) {
        return Error::ImageHash { said: words };
    }
    if has(&[
        "connection broken by",
        "Max retries exceeded",
        "Failed to establish a new connection",
        "Read timed out",
        "HTTP error",
    ]) {
        return Error::ImageNetwork { said: words };
    }
    if has(&["No matching distribution found", "is not a supported wheel"]) {
        return Error::ImageNoWheel { said: words };
    }
    Error::ImageFailed { reason: words }
}
