//! Attending to a kernel while a cell is under way.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::launch::Running;
use super::plan::Message;
use super::run::timespec;
use super::sink::Sink;
use super::sys;
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::exec::{CancelToken, Exit, OnOutput};
use crate::kernel::Language;
use crate::kernel::wire::{self, Reply};

/// A cell under way.
pub(super) struct Turn<'a> {
    pub(super) running: &'a Running,
    pub(super) channel: &'a OwnedFd,
    pub(super) language: Language,
    /// The number of the cell; none before the first.
    pub(super) cell: Option<u64>,
    pub(super) heard: &'a mut Vec<u8>,
    pub(super) unsent: Vec<u8>,
    pub(super) cancel: Option<&'a CancelToken>,
    pub(super) on_output: Option<OnOutput>,
    pub(super) sinks: [Sink<'a>; 2],
    pub(super) open: [bool; 2],
    pub(super) watch: Watch<'a>,
    pub(super) deadline: Instant,
    pub(super) grace: Duration,
    /// When an interrupted cell is killed.
    pub(super) kill_at: Option<Instant>,
    pub(super) was_interrupted: bool,
    /// The driver has closed its end.
    pub(super) is_deaf: bool,
    /// Why the box was killed.
    pub(super) verdict: Option<Exit>,
}

impl Turn<'_> {
    /// The driver's answer; `None` when the box is gone, or is to go.
    pub(super) fn until_answered(&mut self) -> Result<Option<Reply>> {
        loop {
            match wire::reply(self.language, self.heard) {
                Ok(Some(reply)) if !self.is_asked_for(&reply) => return Ok(None),
                Ok(Some(reply)) => {
                    self.settle_interrupt()?;
                    return Ok(Some(reply));
                }
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
                return Ok(wire::reply(self.language, self.heard).ok().flatten().filter(|reply| self.is_asked_for(reply)));
            }
            if self.is_over() {
                return Ok(None);
            }
        }
    }

    /// False for an answer to another cell than the one under way: only code in the driver's place gives such.
    fn is_asked_for(&self, reply: &Reply) -> bool {
        match (reply, self.cell) {
            (Reply::Ready, expected) => expected.is_none(),
            (Reply::Ended { cell, .. }, expected) => expected == Some(*cell),
        }
    }

    /// Waits until init has sent the signal of an interrupt: it is not to reach the next cell.
    fn settle_interrupt(&self) -> Result<()> {
        let until = Instant::now() + self.grace;
        while self.was_interrupted && self.running.message() != Some(Message::Interrupted) {
            let mut fds = [PollFd::from_borrowed_fd(self.running.control.as_fd(), PollFlags::IN)];
            let left = until.saturating_duration_since(Instant::now());
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io("waiting for a kernel", "poll", e)),
            }
        }
        Ok(())
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
    pub(super) fn drain(&mut self) {
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
