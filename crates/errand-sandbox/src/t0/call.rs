//! One call of a worker: what is sent, what may come back in which order, and what its end means.
//!
//! The worker is not trusted: more output than was allowed, frames out of order or bytes that are no frame end it.

use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use monty_types::OOM_EXIT_CODE;

use super::frame::{self, BadFrame, HEADER_BYTES, How, PIECE_BYTES_MAX, Reply, Request, VERSION};
use super::watch::{Fired, Watched};
use super::{ScriptConfig, pipe};
use crate::error::{Error, Result};
use crate::exec::{CancelToken, ExecOutcome, Exit, OnOutput, Output, Stream};
use crate::limits::Limits;

/// The exit status of a worker whose interpreter broke (`EX_SOFTWARE` of sysexits.h).
const BROKEN: i32 = 70;
const BROKEN_TEXT: &[u8] = b"the interpreter of tier t0 failed at this code: write it otherwise, or use a box (tier t1)\n";

/// A worker process and the pipes to it.
#[derive(Debug)]
pub(crate) struct Worker {
    watched: Watched,
    input: ChildStdin,
    output: ChildStdout,
    /// What came and was not yet looked at.
    bytes: Vec<u8>,
    /// What bounds it, once it has said so.
    walls: Option<u32>,
    is_started: bool,
}

/// What came of one call, and whether the worker can take another.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) outcome: ExecOutcome,
    pub(crate) value: Option<String>,
    pub(crate) is_alive: bool,
}

/// How a worker stopped answering.
enum Stopped {
    /// Its end of the pipe is closed.
    Gone,
    /// It said what it must not say.
    Hostile(&'static str),
}

impl From<BadFrame> for Stopped {
    fn from(bad: BadFrame) -> Stopped {
        Stopped::Hostile(bad.0)
    }
}

impl Worker {
    /// Starts the process, with an empty environment and nothing but two pipes.
    pub(crate) fn start(config: &ScriptConfig) -> Result<Worker> {
        let failed = |source| Error::Io { action: "starting a worker of tier t0", path: config.program.clone(), source };
        let mut command = Command::new(&config.program);
        command.args(&config.args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own, which can be ended whole, and which the terminal's Ctrl-C does not reach.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let watched = Watched::new(child).map_err(failed)?;
        let (input, output) = pipes.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        pipe::prepare(&input, &output).map_err(failed)?;
        Ok(Worker { watched, input, output, bytes: Vec::new(), walls: None, is_started: false })
    }

    pub(crate) fn id(&self) -> u32 {
        self.watched.id()
    }

    /// Whether the process is still there.
    pub(crate) fn is_up(&self) -> bool {
        self.watched.is_up()
    }

    /// Whether the worker, kept ready, had been ended by the system before the call reached it: then it has run nothing.
    pub(crate) fn died_in_waiting(&self, called: &Result<Called>) -> bool {
        self.walls.is_none() && matches!(called, Ok(called) if matches!(called.outcome.exit, Exit::Signal(_)))
    }

    /// Ends the process from outside, for the probe.
    pub(crate) fn kill(&self) {
        let _ = self.watched.end();
    }

    /// What bounds the worker beside its interpreter; known after the first call.
    pub(crate) fn walls(&self) -> Option<u32> {
        self.walls
    }

    /// Runs code. The first call's limits for memory and output hold for all calls of this worker.
    pub(crate) fn call(
        &mut self,
        code: &str,
        limits: &Limits,
        on_output: &mut Option<OnOutput>,
        cancel: Option<&CancelToken>,
    ) -> Result<Called> {
        let started = Instant::now();
        let mut seen = Seen::new(limits.output_bytes, started);
        self.watched.arm(started + limits.wall + limits.grace, cancel.cloned());
        let ended = match self.send(code, limits) {
            Ok(()) => self.attend(&mut seen, on_output),
            Err(_) => Err(Stopped::Gone),
        };
        match (self.watched.disarm(), ended) {
            (None, Ok(ended)) => Ok(seen.ended(&ended)),
            (Some(fired), _) => Ok(seen.fired(fired)),
            (None, Err(Stopped::Hostile(reason))) => {
                let _ = self.watched.end();
                Err(Error::ScriptWorker { reason })
            }
            (None, Err(Stopped::Gone)) => {
                let status = self.watched.end();
                status
                    .ok()
                    .and_then(|status| seen.died(status))
                    .ok_or(Error::ScriptWorker { reason: "it left without a word" })
            }
        }
    }

    fn send(&mut self, code: &str, limits: &Limits) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(64 + code.len());
        if !self.is_started {
            self.is_started = true;
            Request::Start { memory_bytes: limits.memory_bytes, output_bytes: limits.output_bytes }.write(&mut bytes);
        }
        let wall_ms = u64::try_from(limits.wall.as_millis()).unwrap_or(u64::MAX);
        Request::Run { wall_ms, code }.write(&mut bytes);
        pipe::write(&mut self.input, &bytes, || self.watched.has_fired())
    }

    /// Takes replies in until the code has ended.
    fn attend(&mut self, seen: &mut Seen, on_output: &mut Option<OnOutput>) -> std::result::Result<frame::Ended, Stopped> {
        let mut chunk = [0; HEADER_BYTES + PIECE_BYTES_MAX];
        let mut used = 0;
        loop {
            while let Some((reply, length)) = frame::reply(&self.bytes[used..])? {
                used += length;
                if let Some(ended) = seen.take(reply, &mut self.walls, on_output)? {
                    return if used == self.bytes.len() {
                        self.bytes.clear();
                        Ok(ended)
                    } else {
                        Err(Stopped::Hostile("it spoke without being asked"))
                    };
                }
            }
            self.bytes.drain(..used);
            used = 0;
            match pipe::read(&mut self.output, &mut chunk, || self.watched.has_fired()) {
                Ok(0) | Err(_) => return Err(Stopped::Gone),
                // At most one frame and one chunk are held.
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

/// What one call has shown so far.
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    value: Option<String>,
    bytes_max: u64,
    started: Instant,
}

impl Seen {
    fn new(bytes_max: u64, started: Instant) -> Seen {
        Seen { stdout: Vec::new(), stderr: Vec::new(), value: None, bytes_max, started }
    }

    fn take(
        &mut self,
        reply: Reply<'_>,
        walls: &mut Option<u32>,
        on_output: &mut Option<OnOutput>,
    ) -> std::result::Result<Option<frame::Ended>, Stopped> {
        match reply {
            Reply::Ready { version: VERSION, walls: found } if walls.is_none() => *walls = Some(found),
            Reply::Ready { version: VERSION, .. } => return Err(Stopped::Hostile("it started twice")),
            Reply::Ready { .. } => return Err(Stopped::Hostile("it is of another version")),
            _ if walls.is_none() => return Err(Stopped::Hostile("it answered before it started")),
            Reply::Output(stream, piece) => {
                let kept = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
                if (kept.len() + piece.len()) as u64 > self.bytes_max {
                    return Err(Stopped::Hostile("it sent more output than was allowed"));
                }
                kept.extend_from_slice(piece);
                if let Some(on_output) = on_output {
                    on_output(stream, piece);
                }
            }
            Reply::Value(_) if self.value.is_some() => return Err(Stopped::Hostile("it sent two values")),
            Reply::Value(value) => self.value = Some(value.to_owned()),
            Reply::Ended(ended) => return Ok(Some(ended)),
        }
        Ok(None)
    }

    fn ended(self, ended: &frame::Ended) -> Called {
        let exit = match ended.how {
            How::Itself => Exit::Code(ended.code),
            How::OutOfTime => Exit::TimedOut,
            How::OutOfMemory => Exit::OutOfMemory,
        };
        let cpu = Duration::from_micros(ended.cpu_us);
        self.called(exit, true, (ended.stdout_bytes, ended.stderr_bytes), cpu)
    }

    fn fired(self, fired: Fired) -> Called {
        let exit = match fired {
            Fired::Deadline => Exit::TimedOut,
            Fired::Cancelled => Exit::Cancelled,
        };
        self.called(exit, false, (0, 0), Duration::ZERO)
    }

    /// None for an end that a worker does not come to.
    fn died(mut self, status: ExitStatus) -> Option<Called> {
        let exit = match status.code() {
            Some(OOM_EXIT_CODE) => Exit::OutOfMemory,
            Some(BROKEN) => {
                self.stderr.extend_from_slice(BROKEN_TEXT);
                Exit::Code(BROKEN)
            }
            Some(_) => return None,
            None => signal(status)?,
        };
        Some(self.called(exit, false, (0, 0), Duration::ZERO))
    }

    fn called(self, exit: Exit, is_alive: bool, (stdout_bytes, stderr_bytes): (u64, u64), cpu: Duration) -> Called {
        let wall = self.started.elapsed();
        let outcome = ExecOutcome {
            exit,
            stdout: output(self.stdout, stdout_bytes),
            stderr: output(self.stderr, stderr_bytes),
            wall,
            // The worker says it, so it is believed no further than it can be true.
            cpu: cpu.min(wall),
            memory_peak_bytes: None,
            oom_kills: 0,
            workspace_bytes: 0,
            workspace_files: 0,
            had_way_out: false,
        };
        Called { outcome, value: self.value, is_alive }
    }
}

fn output(kept: Vec<u8>, said: u64) -> Output {
    let total_bytes = said.max(kept.len() as u64);
    Output { lost_bytes: total_bytes - kept.len() as u64, total_bytes, file: None, kept }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<Exit> {
    use std::os::unix::process::ExitStatusExt;
    // The number of SIGXCPU on every Linux and on macOS (signal(7), checked 2026-11-21).
    const OUT_OF_PROCESSOR_TIME: i32 = 24;
    Some(match status.signal()? {
        OUT_OF_PROCESSOR_TIME => Exit::TimedOut,
        signal => Exit::Signal(signal),
    })
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<Exit> {
    None
}

#[cfg(test)]
mod tests;
