//! Boxes with a kernel in them, and a cell from beginning to end.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::launch::{Running, Wires, launch, setup};
use super::plan::Message;
use super::run::{natural, not_started, timespec};
use super::sink::Sink;
use super::spawner::Spawner;
use super::watch::{Usage, Watch};
use super::{Engine, sys};
use crate::error::{Error, Result};
use crate::exec::{CancelToken, Exit, OnOutput, Stream};
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
    language: Language,
    session: Arc<Session>,
    limits: Limits,
    running: Option<Running>,
    channel: OwnedFd,
    heard: Vec<u8>,
    cells: u64,
    watch_memory: bool,
    /// How the box ended, once it has.
    exit: Option<Exit>,
    /// The box would die with the thread that made it.
    _spawner: Arc<Spawner>,
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

    /// Like [`Engine::kernel`], by a thread of the caller's.
    pub(crate) fn kernel_by(
        self: &Arc<Self>,
        spawner: &Arc<Spawner>,
        session: &Arc<Session>,
        language: Language,
        limits: &Limits,
    ) -> Result<Kernel> {
        limits.validate()?;
        let usage = Usage::of(session, limits)?;
        if !usage.fits(limits) {
            return Err(usage.error(limits));
        }
        let (engine, its) = (Arc::clone(self), Arc::clone(session));
        let exec = language.driver(limits);
        let started = spawner.run(move || -> Result<(Running, OwnedFd)> {
            let (wires, channel) = Wires::with_channel()?;
            let program = engine.program(&exec);
            let mut plan = engine.plan(&its, &exec.files, &exec.cwd, &exec.limits, program)?;
            wires.plug_into(&mut plan);
            Ok((launch(&mut plan, wires, &engine.groups, &exec.limits, its.host_ids())?, channel))
        });
        let (running, channel) = started.unwrap_or_else(|| Err(setup(super::plan::Stage::Start, libc::ESRCH)))?;
        let mut kernel = Kernel {
            language,
            session: Arc::clone(session),
            limits: limits.clone(),
            running: Some(running),
            channel,
            heard: Vec::new(),
            cells: 0,
            watch_memory: self.quotas().memory != Strength::Hard,
            exit: None,
            _spawner: Arc::clone(spawner),
        };
        let attended = kernel.attend(Vec::new(), READY, None, None)?;
        match attended.reply {
            Some(Reply::Ready) => Ok(kernel),
            _ => Err(Error::KernelLost {
                language: language.name(),
                exit: format!("{:?}", attended.exit.unwrap_or(Exit::TimedOut)),
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
    pub(crate) fn is_waiting(&self) -> bool {
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
        let usage = Usage::of(&self.session, &self.limits)?;
        if !usage.fits(&self.limits) {
            return Err(usage.error(&self.limits));
        }
        let request = wire::request(self.language, self.cells + 1, &cell.code)?;
        self.cells += 1;
        let wall = cell.wall.unwrap_or(self.limits.wall).min(self.limits.wall);
        let attended = self.attend(request, wall, cell.on_output, cell.cancel.as_ref())?;
        let Attended { reply, exit, was_interrupted, sinks } = attended;
        let [stdout, stderr] = sinks;
        let (end, value, files) = match (reply, exit) {
            (Some(Reply::Ended { value, files, .. }), None) if was_interrupted => (CellEnd::Interrupted, value, files),
            (Some(Reply::Ended { error: Some(error), value, files }), None) => (CellEnd::Failed { error }, value, files),
            (Some(Reply::Ended { error: None, value, files }), None) => (CellEnd::Done, value, files),
            (_, exit) => (CellEnd::Lost { exit: exit.unwrap_or(Exit::Signal(libc::SIGKILL)) }, None, Vec::new()),
        };
        Ok(CellOutcome { end, value, files, stdout, stderr, wall: begun.elapsed() })
    }

    /// Sends `request` and attends to the box until the driver has answered or is gone.
    fn attend(
        &mut self,
        request: Vec<u8>,
        wall: Duration,
        on_output: Option<OnOutput>,
        cancel: Option<&CancelToken>,
    ) -> Result<Attended> {
        let Some(running) = &self.running else { return Err(Error::KernelGone { language: self.language.name() }) };
        let (session, limits) = (&*self.session, &self.limits);
        let sink = |stream| Sink::new(session, stream, limits.output_bytes, limits.output_file_bytes);
        let mut turn = Turn {
            running,
            channel: &self.channel,
            language: self.language,
            heard: &mut self.heard,
            unsent: request,
            cancel,
            on_output,
            sinks: [sink(Stream::Stdout), sink(Stream::Stderr)],
            open: [true; 2],
            watch: Watch::new(session, limits, running.init_pid(), self.watch_memory),
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

    /// Kills what is left of the box; tells how it ended.
    fn end(&mut self, verdict: Option<Exit>) -> Result<Exit> {
        let Some(running) = self.running.take() else { return Ok(Exit::Signal(libc::SIGKILL)) };
        running.kill();
        let (mut status, mut failed) = (None, None);
        while let Some(message) = running.message() {
            match message {
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

/// A cell under way.
struct Turn<'a> {
    running: &'a Running,
    channel: &'a OwnedFd,
    language: Language,
    heard: &'a mut Vec<u8>,
    unsent: Vec<u8>,
    cancel: Option<&'a CancelToken>,
    on_output: Option<OnOutput>,
    sinks: [Sink<'a>; 2],
    open: [bool; 2],
    watch: Watch<'a>,
    deadline: Instant,
    grace: Duration,
    /// When an interrupted cell is killed.
    kill_at: Option<Instant>,
    was_interrupted: bool,
    /// The driver has closed its end.
    is_deaf: bool,
    /// Why the box was killed.
    verdict: Option<Exit>,
}

impl Turn<'_> {
    /// The driver's answer; `None` when the box is gone, or is to go.
    fn until_answered(&mut self) -> Result<Option<Reply>> {
        loop {
            match wire::reply(self.language, self.heard) {
                Ok(Some(reply)) => return Ok(Some(reply)),
                Ok(None) => {}
                // Only code in the box that has taken the driver's place says such things.
                Err(_) => return Ok(None),
            }
            let ready = self.wait()?;
            if ready.cancel {
                self.verdict = Some(Exit::Cancelled);
                return Ok(None);
            }
            self.read_output(ready.output);
            if ready.write {
                self.send();
            }
            if ready.read && !self.hear() {
                // A driver that is gone takes the box with it in a moment.
                self.is_deaf = true;
                self.kill_at.get_or_insert(Instant::now() + self.grace);
            }
            if ready.gone {
                // What it said last may be on its way still.
                while !self.is_deaf && self.hear_now() {}
                return Ok(wire::reply(self.language, self.heard).ok().flatten());
            }
            if self.is_over() {
                return Ok(None);
            }
        }
    }

    /// Interrupts a cell whose time is up, once; true if the box is to be killed.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if self.kill_at.is_none() && now >= self.deadline {
            self.kill_at = Some(now + self.grace);
            self.was_interrupted = true;
            self.running.interrupt();
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            let exit = if self.was_interrupted { Exit::TimedOut } else { Exit::Signal(libc::SIGKILL) };
            self.verdict = Some(exit);
        } else {
            self.verdict = self.watch.look();
        }
        self.verdict.is_some()
    }

    fn wait(&self) -> Result<Ready> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.running.pidfd.as_fd(), PollFlags::IN)];
        let talk = if self.unsent.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        if !self.is_deaf {
            fds.push(PollFd::from_borrowed_fd(self.channel.as_fd(), talk));
        }
        let mut places = [None; 2];
        for (index, fd) in [self.running.stdout.as_fd(), self.running.stderr.as_fd()].into_iter().enumerate() {
            if self.open[index] {
                places[index] = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let cancel = self.cancel.map(|token| {
            fds.push(PollFd::from_borrowed_fd(token.fd(), PollFlags::IN));
            fds.len() - 1
        });
        let next = self.kill_at.unwrap_or(self.deadline).min(self.watch.next);
        match poll(&mut fds, Some(&timespec(next.saturating_duration_since(Instant::now())))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("waiting for a kernel", "poll", e)),
        }
        let ready = |place: usize| !fds[place].revents().is_empty();
        let talk = if self.is_deaf { PollFlags::empty() } else { fds[1].revents() };
        Ok(Ready {
            gone: ready(0),
            read: talk.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            write: talk.contains(PollFlags::OUT),
            output: places.map(|place| place.is_some_and(ready)),
            cancel: cancel.is_some_and(ready),
        })
    }

    /// As much of the request as the socket takes.
    fn send(&mut self) {
        match sys::send(self.channel.as_raw_fd(), &self.unsent, libc::MSG_DONTWAIT) {
            Ok(sent) => drop(self.unsent.drain(..sent.min(self.unsent.len()))),
            Err(libc::EAGAIN | libc::EINTR) => {}
            // The other end is gone; that is seen when reading.
            Err(_) => self.unsent.clear(),
        }
    }

    /// Reads what the driver says; false once it has closed its end.
    fn hear(&mut self) -> bool {
        let mut buffer = [0u8; 16 << 10];
        match rustix::io::read(self.channel, &mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.heard.extend_from_slice(&buffer[..count]);
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            Err(_) => false,
        }
    }

    /// The same; false also when there is nothing yet.
    fn hear_now(&mut self) -> bool {
        let before = self.heard.len();
        self.hear() && self.heard.len() > before
    }

    fn read_output(&mut self, ready: [bool; 2]) {
        for (index, ready) in ready.into_iter().enumerate() {
            if ready {
                self.read(index);
            }
        }
    }

    /// What is in the pipes already: drivers write their cell's output before they answer.
    fn drain(&mut self) {
        for index in 0..2 {
            // Somebody else in the box may go on writing, so it ends after as much as a pipe holds.
            for _ in 0..16 {
                if !self.open[index] || !self.read(index) {
                    break;
                }
            }
        }
    }

    /// Reads a stream once; false if nothing was there.
    fn read(&mut self, index: usize) -> bool {
        let mut buffer = [0u8; 64 << 10];
        let fd = if index == 0 { &self.running.stdout } else { &self.running.stderr };
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => {
                self.open[index] = false;
                false
            }
            Ok(count) => {
                self.sinks[index].take(&buffer[..count], &mut self.on_output);
                true
            }
            Err(_) => false,
        }
    }
}

struct Ready {
    gone: bool,
    read: bool,
    write: bool,
    output: [bool; 2],
    cancel: bool,
}
