//! A nest: a process that makes boxes out of what it has ready. It lives in a user namespace of its own, in which the host's
//! root is not mapped, and keeps there the mounts that all boxes share and network namespaces for those to come. Boxes are
//! children of that namespace, so that zygotes, which live in it too, may fork into them and into nothing else.
//!
//! `order` is what it is told, `serve` its side, `inside` the code of what it clones, `enter` what a zygote's child does.

pub(crate) mod enter;
pub(crate) mod inside;
pub(crate) mod order;
mod serve;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::cgroup::Group;
use super::launch::{self, Running, Wires, clone, clone_tree, setup, socket_pair, text};
use super::plan::{BOX_ID, GO_MAPPED, Message, Plan, Program, Stage};
use super::run::{own_arguments, timespec};
use super::sys::{self, FDS_MAX, call, check};
use super::view::{View, tmpfs_options};
use super::{Engine, seccomp};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::limits::Limits;
use crate::session::Session;
use crate::session::owner::{self, Owner};
use order::{Kind, Order};

/// How long it may take to be ready, and to make a box.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// After so long a nest and its boxes are replaced: what they see of the host may have changed.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// Where locks on user ids lie.
pub(crate) use crate::session::ID_LOCKS;

/// The way to the process, which ends when this is dropped. Boxes that it made live on.
#[derive(Debug)]
pub(crate) struct Nest {
    pid: i32,
    pidfd: OwnedFd,
    /// One request at a time.
    socket: Mutex<OwnedFd>,
    /// How long an answer may take.
    patience: Duration,
    since: Instant,
    /// As root, the id of the nest and its zygotes, which is no session's.
    owner: Owner,
}

impl Nest {
    /// Starts one; `program` is what its probes do.
    ///
    /// # Errors
    /// [`Error::Setup`] or [`Error::Io`] where the host does not let it be; boxes are then made without.
    pub(crate) fn start(engine: &Engine, program: Program) -> Result<Nest> {
        let owner = Owner::take(ID_LOCKS.as_ref(), None)?;
        let switch_ids = owner.needs_chown();
        let (mut trees, steps) = engine.view.template(engine.image().map(Image::path));
        if switch_ids {
            trees = trees.into_iter().map(clone_tree).collect::<Result<_>>()?;
            if trees.iter().any(|tree| tree.fd < 0) {
                return Err(setup(Stage::HostFolder, libc::EPERM));
            }
        }
        let zygote_filter = seccomp::of_zygote().map_err(|e| Error::Setup { stage: "filtering", errno: e.to_string() })?;
        let null = null()?;
        let [ours, theirs] = socket_pair(libc::SOCK_SEQPACKET).map_err(launch::opening)?;
        let mut keep: Vec<i32> = trees.iter().map(|tree| tree.fd).filter(|fd| *fd > 2).collect();
        keep.push(theirs.as_raw_fd());
        keep.sort_unstable();
        let plan = Plan {
            control: theirs.as_raw_fd(),
            stdio: [null.as_raw_fd(); 3],
            switch_ids,
            trees,
            steps,
            root_options: tmpfs_options(4 << 20, "0755"),
            filters: engine.filters.clone(),
            rlimits: Vec::new(),
            processors: Vec::new(),
            cwd: c"/".into(),
            program,
            stop: None,
            way_out: None,
            keep,
            arguments: own_arguments(),
        };
        let ids = (owner.uid, owner.gid);
        let mut seed =
            serve::Seed { plan, own: View::own(), zygote_filter, ids: if switch_ids { ids } else { (BOX_ID, BOX_ID) } };
        let namespaces =
            libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS;
        let (pid, pidfd) = clone(&mut seed, namespaces, serve::serve)
            .map_err(|errno| Error::Setup { stage: "making the namespaces of its nest", errno: text(errno) })?;
        drop((theirs, seed));
        let nest = Nest { pid, pidfd, socket: Mutex::new(ours), patience: PATIENCE, since: Instant::now(), owner };
        map(pid, switch_ids.then(owner::span).transpose()?, ids)
            .map_err(|e| Error::Setup { stage: "mapping the ids of its nest", errno: e.to_string() })?;
        let ready = {
            let socket = nest.lock();
            // One that is gone is seen when waiting.
            let _ = sys::send(socket.as_raw_fd(), &[GO_MAPPED], 0);
            heard(socket.as_fd(), None, PATIENCE)?
        };
        match ready {
            (8, bytes, _) => match Message::decode(bytes) {
                Some(Message::Started) => Ok(nest),
                Some(Message::Failed(stage, errno)) => Err(setup(stage, errno)),
                _ => Err(setup(Stage::Start, libc::EPROTO)),
            },
            _ => Err(setup(Stage::Start, libc::ECHILD)),
        }
    }

    /// True where boxes have ids that are not the nest's own.
    pub(crate) fn switches_ids(&self) -> bool {
        self.owner.needs_chown()
    }

    /// True while it can be asked for boxes.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(0))
    }

    /// True while it can be asked and is young enough: what its boxes see of the host is of the time when it started.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_alive() && self.since.elapsed() < AGE_MAX
    }

    /// Makes a box that is nobody's yet, in its control groups.
    pub(crate) fn shell(self: &Arc<Self>, engine: &Engine, limits: &Limits) -> Result<Shell> {
        let group = engine.groups.make(limits).map_err(grouping)?;
        let [control, theirs] = socket_pair(libc::SOCK_SEQPACKET).map_err(launch::opening)?;
        let (pid, pidfd) = made(self.ask(serve::SHELL, [0; 3], 0, &[theirs.as_fd()])?)?;
        let parts = Parts { nest: Arc::clone(self), pid, pidfd, control, theirs, group, limits: limits.clone() };
        // The host's out-of-memory killer prefers boxes. Raising the score is always allowed; where it is not, nothing is lost.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
        let added = parts.group.add(pid).map_err(|e| parts.said(grouping(e)));
        let shell = Shell(Some(parts));
        added.map(|()| shell)
    }

    /// Starts a program in the nest's own user namespace; it dies with the nest.
    pub(crate) fn start_zygote(&self, order: &Order, talk: &OwnedFd) -> Result<(i32, OwnedFd)> {
        let null = null()?;
        let [_keep, control] = socket_pair(libc::SOCK_SEQPACKET).map_err(launch::opening)?;
        let (file, length) = order.to_file().map_err(launch::opening)?;
        let fds = [control.as_fd(), file.as_fd(), talk.as_fd(), null.as_fd(), null.as_fd()];
        made(self.ask(serve::ZYGOTE, [0; 3], length, &fds)?)
    }

    fn ask(&self, verb: u8, numbers: [u32; 3], length: usize, fds: &[BorrowedFd<'_>]) -> Result<(i32, Vec<OwnedFd>)> {
        let length = u32::try_from(length).map_err(|_| setup(Stage::Start, libc::E2BIG))?;
        let [pid, uid, gid] = numbers.map(u32::to_le_bytes);
        let request = [[verb, 0, 0, 0], pid, uid, gid, length.to_le_bytes()].concat();
        let fds: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let socket = self.lock();
        sys::send_fds(socket.as_raw_fd(), &request, &fds).map_err(|errno| setup(Stage::Start, errno))?;
        // What one says later that has not answered would be taken for the answer to the next request, which is another
        // session's.
        let (length, bytes, fds) = heard(socket.as_fd(), None, self.patience).inspect_err(|_| self.kill())?;
        let pid = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match length {
            4 if pid > 0 => Ok((pid, fds)),
            4 if pid < 0 => Err(Error::Setup { stage: "making its namespaces", errno: text(-pid) }),
            _ => Err(setup(Stage::Start, libc::ECHILD)),
        }
    }

    /// Ends it at once; boxes that it made live on.
    fn kill(&self) {
        let none = std::ptr::null::<u8>();
        // Fails only when it is gone already.
        let _ = check(call!(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, none, 0));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OwnedFd> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A box that waits to be somebody's. Dropping it ends it, and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Shell(Option<Parts>);

#[derive(Debug)]
struct Parts {
    nest: Arc<Nest>,
    pid: i32,
    pidfd: OwnedFd,
    control: OwnedFd,
    /// The box's own end, for a zygote that is to tell how the main process ended.
    theirs: OwnedFd,
    group: Group,
    limits: Limits,
}

impl Shell {
    /// True if it is this nest's.
    pub(crate) fn is_of(&self, nest: &Arc<Nest>) -> bool {
        self.0.as_ref().is_some_and(|parts| Arc::ptr_eq(&parts.nest, nest))
    }

    /// True while it waits and its nest, which is to give it ids, is fresh.
    pub(crate) fn is_waiting(&self) -> bool {
        let Some(parts) = &self.0 else { return false };
        let mut fds = [PollFd::new(&parts.pidfd, PollFlags::IN)];
        parts.nest.is_fresh() && matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(0))
    }

    /// Makes it the session's, up to where `kind` goes apart. Gives the box's end of the control socket beside.
    pub(crate) fn fill(
        mut self,
        session: &Session,
        kind: Kind,
        order: Order,
        wires: Wires,
        limits: &Limits,
    ) -> Result<(Running, Filled)> {
        let Some(parts) = &self.0 else { return Err(setup(Stage::Start, libc::ESRCH)) };
        parts.hand_over(session, kind, order, &wires, limits)?;
        let Some(Parts { nest, pid, pidfd, control, theirs, group, .. }) = self.0.take() else {
            return Err(setup(Stage::Start, libc::ESRCH));
        };
        let Wires { stdin, stdout: [stdout, out], stderr: [stderr, err], .. } = wires;
        let running = Running::over((pid, pidfd), [control, stdout, stderr], group, Some(nest));
        Ok((running, Filled { control: theirs, streams: [stdin, out, err] }))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let Some(Parts { nest, pid, pidfd, control, theirs, group, .. }) = self.0.take() else { return };
        // Its groups can be removed only once it is gone, which a running box waits for.
        let (Ok(out), Ok(err)) = (control.try_clone(), theirs.try_clone()) else { return };
        drop(Running::over((pid, pidfd), [control, out, err], group, Some(nest)));
    }
}

impl Parts {
    fn hand_over(&self, session: &Session, kind: Kind, mut order: Order, wires: &Wires, limits: &Limits) -> Result<()> {
        let mut tree = super::run::workspace_tree(session)?;
        let switch_ids = self.nest.owner.needs_chown();
        if switch_ids {
            tree = clone_tree(tree)?;
        } else {
            order.workspace = tree.identity.map(|identity| (tree.source.clone(), identity));
        }
        if self.limits != *limits {
            self.group.limit(limits).map_err(grouping)?;
        }
        // As root the ids are those of the host, else the nest's own.
        let (uid, gid) = if switch_ids { session.host_ids() } else { (BOX_ID, BOX_ID) };
        let (file, length) = order.to_file().map_err(launch::opening)?;
        let own = [file.as_fd()];
        let asked: &[BorrowedFd<'_>] = if tree.fd >= 0 { &[] } else { &own };
        let (_, opened) = self
            .nest
            .ask(serve::MAP, [self.pid.unsigned_abs(), uid, gid], length, asked)
            .map_err(|error| self.said(error))?;
        let workspace = match opened.first() {
            Some(opened) => opened.as_raw_fd(),
            None if tree.fd >= 0 => tree.fd,
            None => return Err(setup(Stage::HostFolder, libc::EPROTO)),
        };
        let length = u32::try_from(length).map_err(|_| setup(Stage::Start, libc::E2BIG))?;
        let [a, b, c, d] = length.to_le_bytes();
        let filling: [u8; inside::FILLING_BYTES] = [kind as u8, 0, 0, 0, a, b, c, d];
        let streams = [&file, &wires.stdin, &wires.stdout[1], &wires.stderr[1]].map(AsRawFd::as_raw_fd);
        let fds: Vec<i32> = streams.into_iter().chain([workspace]).collect();
        sys::send_fds(self.control.as_raw_fd(), &filling, &fds).map_err(|e| self.said(setup(Stage::Start, e)))?;
        Ok(())
    }

    /// What init said before it ended tells more than what came of it.
    fn said(&self, otherwise: Error) -> Error {
        match heard_now(&self.control) {
            Some(Message::Failed(stage, errno)) => setup(stage, errno),
            _ => otherwise,
        }
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        self.kill();
        let none = std::ptr::null_mut::<u8>();
        while check(call!(libc::SYS_wait4, self.pid, none, 0, none)) == Err(libc::EINTR) {}
    }
}

/// The box's ends of what connects it, while they are still needed here.
pub(crate) struct Filled {
    pub(crate) control: OwnedFd,
    pub(crate) streams: [OwnedFd; 3],
}

/// The namespaces of a box, which it passes once it is made.
pub(crate) fn namespaces(running: &Running) -> Result<Vec<OwnedFd>> {
    match heard(running.control.as_fd(), Some(running.pidfd.as_fd()), PATIENCE)? {
        (8, bytes, fds) => match Message::decode(bytes) {
            Some(Message::Started) if fds.len() == enter::STREAMS => Ok(fds),
            Some(Message::Failed(stage, errno)) => Err(setup(stage, errno)),
            _ => Err(setup(Stage::Start, libc::EPROTO)),
        },
        _ => Err(setup(Stage::Start, libc::ECHILD)),
    }
}

fn grouping(error: std::io::Error) -> Error {
    Error::io("putting a box into its control groups", "cgroup", error)
}

fn made((pid, fds): (i32, Vec<OwnedFd>)) -> Result<(i32, OwnedFd)> {
    let pidfd = fds.into_iter().next().ok_or_else(|| setup(Stage::Start, libc::EPROTO))?;
    Ok((pid, pidfd))
}

fn heard_now(socket: &OwnedFd) -> Option<Message> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if !matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(1)) {
        return None;
    }
    let (mut bytes, mut fds) = ([0u8; 8], [-1; FDS_MAX]);
    let got = sys::receive_fds(socket.as_raw_fd(), &mut bytes, &mut fds);
    matches!(got, Ok((8, _))).then(|| Message::decode(bytes)).flatten()
}

/// The next message of a socket within the patience, unless whoever is to speak is `gone` first: its length, its first bytes, its descriptors.
pub(super) fn heard(
    socket: BorrowedFd<'_>,
    gone: Option<BorrowedFd<'_>>,
    patience: Duration,
) -> Result<(usize, [u8; 8], Vec<OwnedFd>)> {
    let waiting = |e: rustix::io::Errno| Error::io("waiting for a box", "poll", e);
    let until = Instant::now() + patience;
    loop {
        let mut fds: Vec<PollFd<'_>> =
            [socket].into_iter().chain(gone).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return Err(setup(Stage::Start, libc::ETIMEDOUT)),
            Ok(_) if fds[0].revents().is_empty() => return Err(setup(Stage::Start, libc::ECHILD)),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(waiting(e)),
        }
    }
    let (mut bytes, mut fds) = ([0u8; 8], [-1; FDS_MAX]);
    let (length, count) =
        sys::receive_fds(socket.as_raw_fd(), &mut bytes, &mut fds).map_err(|errno| setup(Stage::Start, errno))?;
    // SAFETY: the kernel just gave us these descriptors, and nobody else has them.
    let fds = fds.into_iter().take(count).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    Ok((length, bytes, fds))
}

fn null() -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .and_then(launch::above_two)
        .map_err(launch::opening)
}

/// As root all ids that sessions may have, each to itself; else the one id of this user. Never the host's root.
fn map(pid: i32, span: Option<(u32, u32)>, (uid, gid): (u32, u32)) -> std::io::Result<()> {
    let (users, groups) = match span {
        Some((first, count)) => {
            let line = format!("{first} {first} {count}");
            (line.clone(), line)
        }
        None => {
            if uid == 0 || gid == 0 {
                return Err(std::io::Error::other("refusing to map the host's root"));
            }
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            (format!("{BOX_ID} {uid} 1"), format!("{BOX_ID} {gid} 1"))
        }
    };
    fs::write(format!("/proc/{pid}/uid_map"), users)?;
    fs::write(format!("/proc/{pid}/gid_map"), groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;
    use std::process::Command;

    /// A nest that is asked over a socket of the test's, and whose process does nothing.
    #[expect(clippy::zombie_processes, reason = "the nest waits for it when it is dropped")]
    fn deaf() -> (Nest, OwnedFd, tempfile::TempDir) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id() as i32;
        let id = rustix::process::Pid::from_raw(pid).unwrap();
        let pidfd = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()).unwrap();
        let [ours, theirs] = socket_pair(libc::SOCK_SEQPACKET).unwrap();
        let locks = tempfile::tempdir().unwrap();
        let owner = Owner::take(locks.path(), None).unwrap();
        let patience = Duration::from_millis(20);
        (Nest { pid, pidfd, socket: Mutex::new(ours), patience, since: Instant::now(), owner }, theirs, locks)
    }

    #[test]
    fn an_answer_that_comes_too_late_is_nobodys() {
        let (nest, theirs, _locks) = deaf();
        assert!(nest.is_alive());
        let error = nest.ask(serve::MAP, [1; 3], 0, &[]).unwrap_err();
        assert!(error.to_string().contains(&text(libc::ETIMEDOUT)), "{error}");
        // It would be the workspace of the session before.
        let workspace = null().unwrap().into_raw_fd();
        sys::send_fds(theirs.as_raw_fd(), &1i32.to_le_bytes(), &[workspace]).unwrap();
        sys::close(workspace);
        let mut fds = [PollFd::new(&nest.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(PATIENCE))).unwrap();
        assert!(!nest.is_alive() && !nest.is_fresh(), "a nest that did not answer is not asked again");
    }

    #[test]
    fn a_nest_that_is_too_old_is_not_fresh() {
        let (mut nest, _theirs, _locks) = deaf();
        assert!(nest.is_fresh());
        // A host that has only just started has no time before.
        let Some(since) = Instant::now().checked_sub(AGE_MAX) else { return };
        nest.since = since;
        assert!(nest.is_alive() && !nest.is_fresh());
    }
}
