//! Boxes with a kernel in them, and a cell from beginning to end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::Engine;
use super::idle::Idle;
use super::launch::{Running, Wires, launch, setup};
use super::plan::Message;
use super::run::{natural, not_started, timespec};
use super::sink::Sink;
use super::spawner::Spawner;
use super::turn::Turn;
use super::verify;
use super::watch::{Usage, Watch};
use super::zygote::Zygote;
use crate::door::WayOut;
use crate::error::{Error, Result};
use crate::exec::{CancelToken, Exec, Exit, OnOutput, Output, Stream};
use crate::kernel::wire::{self, Reply};
use crate::kernel::{Cell, CellEnd, CellOutcome, Language};
use crate::limits::Limits;
use crate::report::Strength;
use crate::session::Session;

/// How long a driver may take until it is ready for its first cell.
const READY: Duration = Duration::from_secs(20);

/// An interpreter in a box of its own that runs one cell after the other. Dropping it kills the box.
#[derive(Debug)]
pub struct Kernel {
    // First, so that the box is gone before the session is let go of.
    idle: Option<Idle>,
    running: Option<Running>,
    language: Language,
    session: Arc<Session>,
    limits: Limits,
    channel: OwnedFd,
    heard: Vec<u8>,
    cells: u64,
    watch_memory: bool,
    /// How the box ended, once it has.
    exit: Option<Exit>,
    _keeper: Keeper,
}

/// What the box would die with, if that went first.
#[derive(Debug)]
enum Keeper {
    /// The thread that made it.
    Thread(#[expect(dead_code, reason = "held")] Arc<Spawner>),
    /// Only this process.
    Process,
}

impl Engine {
    /// Starts a kernel in a fresh box over the session's workspace and waits until it is ready for its first cell. It
    /// lives until it is dropped, whichever thread called.
    ///
    /// # Errors
    /// As [`Engine::run`]; [`Error::KernelLost`] when the interpreter ended before it was ready.
    pub fn kernel(self: &Arc<Self>, session: &Arc<Session>, language: Language, limits: &Limits) -> Result<Kernel> {
        self.kernel_by(self.spawner()?, session, language, limits)
    }

    /// The same, with a way out of its box alone, in place of its session's.
    ///
    /// # Errors
    /// As [`Engine::kernel`].
    pub fn kernel_with_way_out(
        self: &Arc<Self>,
        session: &Arc<Session>,
        language: Language,
        limits: &Limits,
        way_out: Arc<dyn WayOut>,
    ) -> Result<Kernel> {
        let exec = Exec { way_out: Some(way_out), ..language.driver(limits) };
        self.kernel_in(self.spawner()?, session, language, limits, exec)
    }

    /// Like [`Engine::kernel`], by a thread of the caller's.
    pub(crate) fn kernel_by(
        self: &Arc<Self>,
        spawner: &Arc<Spawner>,
        session: &Arc<Session>,
        language: Language,
        limits: &Limits,
    ) -> Result<Kernel> {
        self.kernel_in(spawner, session, language, limits, language.driver(limits))
    }

    fn kernel_in(
        self: &Arc<Self>,
        spawner: &Arc<Spawner>,
        session: &Arc<Session>,
        language: Language,
        limits: &Limits,
        exec: Exec,
    ) -> Result<Kernel> {
        has_room(session, limits)?;
        let (engine, its) = (Arc::clone(self), Arc::clone(session));
        let started = spawner.run(move || -> Result<(Running, OwnedFd)> {
            let (wires, channel) = Wires::with_channel()?;
            let program = engine.program(&its, &exec);
            let mut plan = engine.plan(&its, &exec.files, &exec.cwd, &exec.limits, program)?;
            plan.way_out = exec.way_out_in(&its);
            wires.plug_into(&mut plan);
            Ok((launch(&mut plan, wires, &engine.groups, &exec.limits, its.host_ids())?, channel))
        });
        let (running, channel) = started.unwrap_or_else(|| Err(setup(super::plan::Stage::Start, libc::ESRCH)))?;
        let keeper = Keeper::Thread(Arc::clone(spawner));
        self.when_ready(running, channel, session, language, limits, keeper)
    }

    /// A kernel whose interpreter is a zygote's child, with the limits of the zygote. One that `is_parked` has time to touch
    /// all that its first cell needs.
    ///
    /// # Errors
    /// As [`Engine::kernel`]; [`Error::Setup`] also where the child is not as it must be.
    pub(crate) fn kernel_of(
        self: &Arc<Self>,
        zygote: &Arc<Zygote>,
        session: &Arc<Session>,
        is_parked: bool,
    ) -> Result<Kernel> {
        let limits = zygote.limits();
        has_room(session, limits)?;
        let (wires, channel) = Wires::with_channel()?;
        let running = zygote.fork(self, session, wires, is_parked)?;
        let kernel = self.when_ready(running, channel, session, Language::Python, limits, Keeper::Process)?;
        match kernel.running.as_ref().and_then(|running| running.main.as_ref()) {
            Some(main) => verify::verify(main, session.host_ids()).map(|()| kernel),
            None => Err(setup(super::plan::Stage::Start, libc::ESRCH)),
        }
    }

    fn when_ready(
        &self,
        running: Running,
        channel: OwnedFd,
        session: &Arc<Session>,
        language: Language,
        limits: &Limits,
        keeper: Keeper,
    ) -> Result<Kernel> {
        let mut kernel = Kernel {
            idle: None,
            running: Some(running),
            language,
            session: Arc::clone(session),
            limits: limits.clone(),
            channel,
            heard: Vec::new(),
            cells: 0,
            watch_memory: self.quotas().memory != Strength::Hard,
            exit: None,
            _keeper: keeper,
        };
        let first = Attending { cell: None, request: Vec::new(), wall: READY, output_bytes: limits.output_bytes };
        let attended = kernel.attend(first, None, None)?;
        match attended.reply {
            Some(Reply::Ready) => Ok(kernel),
            _ => Err(Error::KernelLost {
                language: language.name(),
                exit: told(attended.exit.unwrap_or(Exit::TimedOut)),
                said: attended.stderr(),
            }),
        }
    }
}

impl Kernel {
    /// What it speaks.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The session whose workspace it has.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// True while it waits for a cell and its box stands.
    pub fn is_waiting(&self) -> bool {
        let Some(running) = &self.running else { return false };
        let mut fds = [PollFd::from_borrowed_fd(running.pidfd.as_fd(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(0))
    }

    /// Ends it; gives the session back, if nobody else has it.
    pub(crate) fn into_session(mut self) -> Option<Session> {
        drop(self.running.take());
        Arc::into_inner(self.session)
    }

    /// The session, if nobody else has it.
    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        Arc::get_mut(&mut self.session)
    }

    /// True until it is lost.
    pub fn is_alive(&self) -> bool {
        self.exit.is_none()
    }

    /// Runs a cell, after those before it.
    ///
    /// # Errors
    /// [`Error::ExecRefused`], [`Error::WorkspaceTooLarge`] (before the start), [`Error::KernelGone`] when it is lost
    /// already, or [`Error::Io`]. Code that fails or uses up a limit is no error but a [`CellEnd`].
    pub fn run(&mut self, cell: Cell) -> Result<CellOutcome> {
        let begun = Instant::now();
        if !self.is_alive() {
            return Err(Error::KernelGone { language: self.language.name() });
        }
        let request = wire::request(self.language, self.cells + 1, &cell.code)?;
        let was_killed = self.idle.as_ref().is_some_and(Idle::has_ended);
        let usage = Usage::of(&self.session, &self.limits)?;
        if !was_killed && !usage.fits(&self.limits) {
            return Err(usage.error(&self.limits));
        }
        self.cells += 1;
        if let Some(exit) = self.lost_meanwhile() {
            let exit = self.end(Some(exit))?;
            let none = || Output::default();
            let end = CellEnd::Lost { exit };
            let wall = begun.elapsed();
            return Ok(CellOutcome { end, value: None, files: Vec::new(), stdout: none(), stderr: none(), wall });
        }
        let wall = cell.wall.unwrap_or(self.limits.wall).min(self.limits.wall);
        let output_bytes = cell.output_bytes.unwrap_or(self.limits.output_bytes).min(self.limits.output_bytes);
        let attending = Attending { cell: Some(self.cells), request, wall, output_bytes };
        let attended = match self.attend(attending, cell.on_output, cell.cancel.as_ref()) {
            Ok(attended) => attended,
            Err(error) => {
                // Nobody knows how much of the request was read.
                self.end(Some(Exit::Signal(libc::SIGKILL)))?;
                return Err(error);
            }
        };
        if attended.exit.is_none() {
            self.watch_idle();
        }
        let Attended { reply, exit, was_interrupted, sinks } = attended;
        let [stdout, stderr] = sinks;
        let (end, value, files) = match (reply, exit) {
            (Some(Reply::Ended { value, files, .. }), None) if was_interrupted => (CellEnd::Interrupted, value, files),
            (Some(Reply::Ended { error: Some(error), value, files, .. }), None) => (CellEnd::Failed { error }, value, files),
            (Some(Reply::Ended { error: None, value, files, .. }), None) => (CellEnd::Done, value, files),
            (_, exit) => (CellEnd::Lost { exit: exit.unwrap_or(Exit::Signal(libc::SIGKILL)) }, None, Vec::new()),
        };
        Ok(CellOutcome { end, value, files, stdout, stderr, wall: begun.elapsed() })
    }

    /// Sends `request` and attends to the box until the driver has answered or is gone.
    fn attend(
        &mut self,
        attending: Attending,
        on_output: Option<OnOutput>,
        cancel: Option<&CancelToken>,
    ) -> Result<Attended> {
        let Attending { cell, request, wall, output_bytes } = attending;
        let Some(running) = &self.running else { return Err(Error::KernelGone { language: self.language.name() }) };
        let (session, limits) = (&*self.session, &self.limits);
        let sink = |stream| Sink::new(session, stream, output_bytes, limits.output_file_bytes);
        let mut turn = Turn {
            running,
            channel: &self.channel,
            language: self.language,
            cell,
            heard: &mut self.heard,
            unsent: request,
            cancel,
            on_output,
            sinks: [sink(Stream::Stdout), sink(Stream::Stderr)],
            open: [true; 2],
            watch: Watch::new(session, limits, running.roots(), self.watch_memory),
            deadline: Instant::now() + wall,
            grace: limits.grace,
            kill_at: None,
            was_interrupted: false,
            is_deaf: false,
            verdict: None,
        };
        let reply = turn.until_answered()?;
        turn.drain();
        let Turn { sinks, was_interrupted, verdict, .. } = turn;
        let sinks = sinks.map(Sink::finish);
        let exit = if reply.is_some() { None } else { Some(self.end(verdict)?) };
        Ok(Attended { reply, exit, was_interrupted, sinks })
    }

    /// Ends the watch over an idle kernel; tells why the box is lost since, or is to be: it used up a limit between two
    /// cells, or said something that nobody had asked for.
    fn lost_meanwhile(&mut self) -> Option<Exit> {
        let verdict = self.idle.take().and_then(Idle::end);
        let mut fds = [PollFd::from_borrowed_fd(self.channel.as_fd(), PollFlags::IN)];
        let speaks = matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(ready) if ready > 0);
        let killed = Exit::Signal(libc::SIGKILL);
        verdict.or((speaks || !self.heard.is_empty()).then_some(killed))
    }

    /// What a cell left running is watched between cells as well: the kernel of the host does not bound the workspace.
    fn watch_idle(&mut self) {
        let Some(running) = &self.running else { return };
        self.idle = Idle::start(running, &self.session, &self.limits, self.watch_memory);
    }

    /// Kills what is left of the box; tells how it ended.
    fn end(&mut self, verdict: Option<Exit>) -> Result<Exit> {
        let Some(running) = self.running.take() else { return Ok(Exit::Signal(libc::SIGKILL)) };
        running.kill();
        let (mut status, mut failed) = (None, None);
        while let Some(message) = running.message() {
            match message {
                Message::Interrupted | Message::Used(_) | Message::Door => {}
                Message::Ended(ended) => status = Some(ended),
                Message::Failed(stage, errno) => failed = Some((stage, errno)),
                Message::Started => {}
            }
        }
        let (group, _) = running.wait();
        let exit = verdict.unwrap_or_else(|| natural(status, group.oom_kills()));
        self.exit = Some(exit);
        match (verdict, failed) {
            (None, Some((stage, errno))) => Err(not_started(stage, errno, self.language.name())),
            _ => Ok(exit),
        }
    }
}

/// Refuses what cannot begin: limits that mean nothing, a workspace that is full.
fn has_room(session: &Session, limits: &Limits) -> Result<()> {
    limits.validate()?;
    let usage = Usage::of(session, limits)?;
    if usage.fits(limits) { Ok(()) } else { Err(usage.error(limits)) }
}

fn told(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(number) => format!("signal {number}"),
        Exit::TimedOut => "it took too long".to_owned(),
        Exit::OutOfMemory => "out of memory".to_owned(),
        Exit::OverQuota => "the workspace is full".to_owned(),
        Exit::Cancelled => "cancelled".to_owned(),
    }
}

/// What is attended to.
struct Attending {
    /// The number of the cell; none before the first.
    cell: Option<u64>,
    request: Vec<u8>,
    wall: Duration,
    output_bytes: u64,
}

/// What came of attending.
struct Attended {
    reply: Option<Reply>,
    exit: Option<Exit>,
    was_interrupted: bool,
    sinks: [crate::exec::Output; 2],
}

impl Attended {
    /// The end of standard error: why an interpreter did not start.
    fn stderr(&self) -> String {
        let text = self.sinks[1].text();
        let from = text.char_indices().rev().nth(999).map_or(0, |(at, _)| at);
        text[from..].trim().to_owned()
    }
}
