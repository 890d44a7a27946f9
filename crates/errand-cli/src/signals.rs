//! Signals that ask the process to stop. The first one asks for a hand-over; a second Ctrl-C ends at once.

use crate::error::Exit;
use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What asked the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// `kill`, or a service manager.
    Terminate,
    /// The terminal was closed.
    HangUp,
}

impl Signal {
    /// How the process then ends.
    pub(crate) fn exit(self) -> Exit {
        // Numbers of POSIX, the same on every Linux.
        Exit::Signal(match self {
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
            Signal::HangUp => 1,
        })
    }
}

/// Receives the signals of this process.
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hang_up: Stream,
}

impl Signals {
    /// From now on signals no longer end the process by themselves. Needs a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hang_up.recv() => Signal::HangUp,
        }
    }

    /// Once a hand-over is under way: the next Ctrl-C ends the process as it is. The log has all that counts.
    pub(crate) fn end_at_once(mut self) {
        tokio::spawn(async move {
            if self.next().await == Signal::Interrupt {
                std::process::exit(i32::from(Signal::Interrupt.exit().code()));
            }
        });
    }
}
