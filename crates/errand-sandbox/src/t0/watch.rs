//! One worker process, and the clock that ends it: a thread that looks at the deadline and at the cancel token while a call
//! is under way, so that whoever talks to the worker may simply wait for it.

use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::exec::CancelToken;

/// How often the clock looks while a call is under way.
const TICK: Duration = Duration::from_millis(10);

/// Why the clock ended the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fired {
    Deadline,
    Cancelled,
}

/// A worker process under a clock. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Watched {
    shared: Arc<Shared>,
    clock: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    child: Child,
    call: Option<Call>,
    fired: Option<Fired>,
    /// The clock looks by itself: nobody has to wake it.
    is_awake: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Call {
    deadline: Instant,
    cancel: Option<CancelToken>,
}

impl Watched {
    pub(crate) fn new(child: Child) -> std::io::Result<Watched> {
        let state = State { child, call: None, fired: None, is_awake: true, is_over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut watched = Watched { shared: Arc::clone(&shared), clock: None };
        let clock = std::thread::Builder::new().name("t0-clock".to_owned()).stack_size(64 << 10);
        watched.clock = Some(clock.spawn(move || shared.keep_time())?);
        Ok(watched)
    }

    /// A call begins: from now on the clock may fire.
    pub(crate) fn arm(&self, deadline: Instant, cancel: Option<CancelToken>) {
        let mut state = self.shared.lock();
        state.call = Some(Call { deadline, cancel });
        if !state.is_awake {
            self.shared.changed.notify_one();
        }
    }

    /// The call is over; says whether the clock has fired.
    pub(crate) fn disarm(&self) -> Option<Fired> {
        let mut state = self.shared.lock();
        state.call = None;
        state.fired
    }

    /// Whether the clock has fired: nothing that the worker might still say is waited for.
    pub(crate) fn has_fired(&self) -> bool {
        self.shared.lock().fired.is_some()
    }

    /// Process id, for messages and tests.
    pub(crate) fn id(&self) -> u32 {
        self.shared.lock().child.id()
    }

    /// Whether the process is still there.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.shared.lock().child.try_wait(), Ok(None))
    }

    /// Ends the process, if it has not ended, and says how it did.
    pub(crate) fn end(&self) -> std::io::Result<ExitStatus> {
        let mut state = self.shared.lock();
        state.kill();
        state.child.wait()
    }
}

impl State {
    /// Ends the process and those it may have started. What is over already has its own status, which this leaves as it is.
    fn kill(&mut self) {
        // Its number is its own until it is waited for.
        #[cfg(unix)]
        if let (Ok(None), Ok(id)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let group = rustix::process::Pid::from_raw(id);
            let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
        }
        let _ = self.child.kill();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_one();
        let _ = self.end();
        if let Some(clock) = self.clock.take() {
            // It cannot panic: it takes locks and looks at the time.
            let _ = clock.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_time(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            let (fired, wait) = match &state.call {
                None => (None, None),
                Some(call) if call.cancel.as_ref().is_some_and(CancelToken::is_cancelled) => (Some(Fired::Cancelled), None),
                Some(call) if now >= call.deadline => (Some(Fired::Deadline), None),
                Some(call) => (None, Some(TICK.min(call.deadline - now))),
            };
            if fired.is_some() {
                (state.call, state.fired) = (None, fired);
                state.kill();
            }
            state.is_awake = wait.is_some();
            state = match wait {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
