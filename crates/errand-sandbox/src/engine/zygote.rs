//! A zygote, seen from outside: an interpreter that started once and forks a child into each box that a nest makes for it.
//! It runs nothing of a tenant's and is told nothing of one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use super::Engine;
use super::launch::{self, Forked, Wires, setup, socket_pair, text};
use super::nest::order::{Kind, Order};
use super::nest::{self, Nest, enter};
use super::plan::Stage;
use super::run::timespec;
use super::view::{c_string, tmpfs_options};
use super::{launch::Running, verify};
use crate::error::{Error, Result};
use crate::exec::Exec;
use crate::kernel::Language;
use crate::limits::Limits;
use crate::session::Session;

/// What the zygote runs.
const CODE: &str = include_str!("../kernel/zygote.py");

/// The way to it; dropping this ends it. Its children live on.
#[derive(Debug)]
pub(crate) struct Zygote {
    // Before the nest, with which it would die.
    pidfd: OwnedFd,
    /// One request at a time.
    socket: Mutex<OwnedFd>,
    nest: Arc<Nest>,
    since: Instant,
    children: AtomicU32,
    limits: Limits,
}

impl Zygote {
    /// Starts a Python whose children will have these limits, with the named modules imported where they can be.
    ///
    /// # Errors
    /// [`Error::KernelLost`] when the interpreter does not come up, and those of the nest.
    pub(crate) fn start(engine: &Engine, nest: &Arc<Nest>, limits: &Limits, preload: &[String]) -> Result<Zygote> {
        let [ours, theirs] = socket_pair(libc::SOCK_SEQPACKET).map_err(launch::opening)?;
        let mut exec = Language::Python.driver(limits);
        let told = serde_json::json!({
            "preload": preload,
            "setns": libc::SYS_setns,
            "script": enter::script(engine, limits, nest.switches_ids()),
        });
        exec.argv = ["python3", "-u", "-s", "/run/errand/zygote.py"].map(String::from).into();
        exec.files.push(("zygote.py".to_owned(), CODE.into()));
        exec.files.push(("zygote.json".to_owned(), told.to_string().into_bytes()));
        let order = Order { cwd: c"/".into(), rlimits: vec![(libc::RLIMIT_CORE, 0)], ..order(engine, &exec) };
        let (_, pidfd) = nest.start_zygote(&order, &theirs)?;
        drop(theirs);
        let zygote = Zygote {
            pidfd,
            socket: Mutex::new(ours),
            nest: Arc::clone(nest),
            since: Instant::now(),
            children: AtomicU32::new(0),
            limits: limits.clone(),
        };
        let heard = nest::heard(zygote.lock().as_fd(), Some(zygote.pidfd.as_fd()), nest::PATIENCE)?;
        if heard.0 != b"ready".len() {
            let language = Language::Python.name();
            return Err(Error::KernelLost { language, exit: "before it was ready".to_owned(), said: String::new() });
        }
        Ok(zygote)
    }

    /// A box over the session's workspace whose main process is a child of this; it waits for nothing more.
    pub(super) fn fork(
        self: &Arc<Self>,
        engine: &Engine,
        session: &Session,
        wires: Wires,
        is_parked: bool,
    ) -> Result<Running> {
        let limits = &self.limits;
        let order = order(engine, &Exec { files: Vec::new(), limits: limits.clone(), ..Exec::new(["python3"]) });
        let (mut running, theirs) = engine.shell_of(&self.nest, limits)?.fill(session, Kind::Join, order, wires, limits)?;
        let namespaces = nest::namespaces(&running)?;
        let handed = namespaces.iter().chain(&theirs.streams).chain([&theirs.control]).map(AsFd::as_fd).collect::<Vec<_>>();
        let (pid, pidfd) = self.ask(is_parked, &handed)?;
        running.main = Some(Forked { pid, pidfd, zygote: Arc::clone(self), namespaces: verify::identities(&namespaces)? });
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
        running.group.add(pid).map_err(|e| Error::io("putting a box into its control groups", "cgroup", e))?;
        place(pid, &engine.processors(limits))?;
        running.send(super::plan::GO_JOINED)?;
        Ok(running)
    }

    fn ask(&self, is_parked: bool, fds: &[BorrowedFd<'_>]) -> Result<(i32, OwnedFd)> {
        let fds: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let socket = self.lock();
        let answer = sys_ask(&socket, if is_parked { b"park" } else { b"fork" }, &fds);
        // Nobody knows what one says later that has not answered.
        let answer = answer.inspect_err(|_| self.kill())?;
        drop(socket);
        self.children.fetch_add(1, Ordering::Relaxed);
        let (length, bytes, passed) = answer;
        let pid = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match (length, passed.into_iter().next()) {
            (4, Some(pidfd)) if pid > 0 => Ok((pid, pidfd)),
            (4, None) if pid < 0 => Err(Error::Setup { stage: "joining a zygote's child to it", errno: text(-pid) }),
            _ => Err(setup(Stage::Start, libc::ECHILD)),
        }
    }

    /// Ends it at once; its children live on.
    pub(super) fn kill(&self) {
        // Fails only when it is gone already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// True while it can be asked.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        self.nest.is_alive() && matches!(poll(&mut fds, Some(&timespec(std::time::Duration::ZERO))), Ok(0))
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// How many children it was asked for.
    pub(crate) fn children(&self) -> u32 {
        self.children.load(Ordering::Relaxed)
    }

    /// What its children may use.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OwnedFd> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.kill();
    }
}

fn sys_ask(socket: &OwnedFd, what: &[u8; 4], fds: &[i32]) -> Result<(usize, [u8; 8], Vec<OwnedFd>)> {
    super::sys::send_fds(socket.as_raw_fd(), what, fds).map_err(|errno| setup(Stage::Start, errno))?;
    nest::heard(socket.as_fd(), None, nest::PATIENCE)
}

/// The part of an order that a call fills.
pub(super) fn order(engine: &Engine, exec: &Exec) -> Order {
    let environment = engine.environment_of(false, Vec::new(), exec).into_iter();
    let [size, inodes] = tmp(&exec.limits);
    Order {
        workspace: None,
        tmp: [size, inodes],
        cwd: c"/workspace".into(),
        files: exec.files.iter().map(|(name, bytes)| (c_string(name), bytes.clone())).collect(),
        rlimits: engine.rlimits(&exec.limits),
        processors: engine.processors(&exec.limits),
        candidates: engine.candidates(exec.argv.first().map_or("", String::as_str)).into_iter().map(c_string).collect(),
        argv: exec.argv.iter().map(c_string).collect(),
        env: environment.map(|(name, value)| c_string(format!("{name}={value}"))).collect(),
    }
}

fn tmp(limits: &Limits) -> [std::ffi::CString; 2] {
    let mut options = tmpfs_options(limits.tmp_bytes, "1777").into_iter().map(|(_, value)| value);
    [options.next().unwrap_or_default(), options.next().unwrap_or_default()]
}

/// Binds a process to the processors that its box is granted: its own filter does not let it.
fn place(pid: i32, mask: &[u64]) -> Result<()> {
    use super::sys::{call, check};
    if mask.is_empty() {
        return Ok(());
    }
    check(call!(libc::SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()))
        .map(drop)
        .map_err(|errno| setup(Stage::Limits, errno))
}
