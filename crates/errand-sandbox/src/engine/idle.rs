//! Watching a kernel between two cells: what a cell left running may fill the workspace, or the memory where no control
//! group bounds it, with nobody attending.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::launch::Running;
use super::watch::Watch;
use crate::exec::Exit;
use crate::limits::Limits;
use crate::session::Session;

/// A thread that looks from time to time, and kills the box that is over its limits.
#[derive(Debug)]
pub(crate) struct Idle {
    // Dropping it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Option<Exit>>>,
}

impl Idle {
    /// `None` where no thread can be started; the box is then killed, as nobody could bound it.
    pub(crate) fn start(running: &Running, session: &Arc<Session>, limits: &Limits, watch_memory: bool) -> Option<Idle> {
        let started = running.pidfd.try_clone().and_then(|pidfd| {
            let (stop, stopped) = channel::<()>();
            let (session, limits, roots) = (Arc::clone(session), limits.clone(), running.roots());
            let look = move || {
                let mut watch = Watch::new(&session, &limits, roots, watch_memory);
                loop {
                    let left = watch.next.saturating_duration_since(Instant::now());
                    match stopped.recv_timeout(left) {
                        Err(RecvTimeoutError::Timeout) => {}
                        _ => return None,
                    }
                    if let Some(exit) = watch.look() {
                        kill(&pidfd);
                        return Some(exit);
                    }
                }
            };
            let thread = std::thread::Builder::new().name("sandbox-idle".to_owned()).spawn(look)?;
            Ok(Idle { stop: Some(stop), thread: Some(thread) })
        });
        if started.is_err() {
            running.kill();
        }
        started.ok()
    }

    /// True once it has killed the box.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends the watch; tells why the box was killed, if it was.
    pub(crate) fn end(mut self) -> Option<Exit> {
        self.stop.take();
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // What it found no longer matters.
            let _ = thread.join();
        }
    }
}

fn kill(pidfd: &OwnedFd) {
    // Fails only when the box is gone already.
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
}
