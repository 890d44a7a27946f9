//! Making a box: clone, id maps, control groups, and the parent's ends of its streams.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::cgroup::{Group, Hosts};
use super::nest::Nest;
use super::plan::{BOX_ID, GO_CGROUP, GO_MAPPED, INTERRUPT, Message, Plan, Stage, TERMINATE, Tree};
use super::sys::{self, call, check};
use super::verify::Identities;
use super::zygote::Zygote;
use super::{child, plan};
use crate::door::OpenDoor;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The namespaces of a box; the cgroup namespace follows once it is in its group.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNS;

/// A running box, seen from outside. Dropping it kills it and waits until all its processes are gone.
#[derive(Debug)]
pub(crate) struct Running {
    pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) group: Group,
    /// The nest that made it, whose child it is then; kept as long as the box lives.
    nest: Option<Arc<Nest>>,
    /// Where a zygote forked the main process: that.
    pub(super) main: Option<Forked>,
    /// Processor time that a box of a nest told of, or that was read before it was killed, in microseconds.
    used_us: AtomicU64,
    /// Whoever attends to its door; gone with the box.
    _door: Option<OpenDoor>,
    reaped: bool,
}

/// A main process that is a zygote's child and not init's.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Tells how it ended, so it stays as long.
    pub(super) zygote: Arc<Zygote>,
    /// The namespaces of its box.
    pub(super) namespaces: Identities,
}

/// Both ends of the streams and the control socket.
pub(crate) struct Wires {
    pub(super) control: [OwnedFd; 2],
    pub(super) stdin: OwnedFd,
    pub(super) stdout: [OwnedFd; 2],
    pub(super) stderr: [OwnedFd; 2],
}

impl Wires {
    /// Opens them, all above 2 so that the child can put them in place without overwriting one.
    pub(crate) fn new(stdin: Option<&[u8]>) -> Result<Wires> {
        input(stdin).and_then(Wires::over).map_err(opening)
    }

    /// With a socket for standard input, whose other end is given.
    pub(crate) fn with_channel() -> Result<(Wires, OwnedFd)> {
        let opened = || -> rustix::io::Result<(Wires, OwnedFd)> {
            let [ours, theirs] = socket_pair(libc::SOCK_STREAM)?;
            rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
            Ok((Wires::over(theirs)?, ours))
        };
        opened().map_err(opening)
    }

    /// With a descriptor of the caller's for standard input.
    pub(crate) fn with_stdin(stdin: OwnedFd) -> Result<Wires> {
        above_two(stdin).and_then(Wires::over).map_err(opening)
    }

    fn over(stdin: OwnedFd) -> rustix::io::Result<Wires> {
        let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err_read, err_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let out = [above_two(out_read)?, above_two(out_write)?];
        let err = [above_two(err_read)?, above_two(err_write)?];
        for end in [&out[0], &err[0]] {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(Wires { control: socket_pair(libc::SOCK_SEQPACKET)?, stdin, stdout: out, stderr: err })
    }

    /// Tells the plan the child's ends.
    pub(crate) fn plug_into(&self, plan: &mut Plan) {
        plan.control = self.control[1].as_raw_fd();
        plan.stdio = [self.stdin.as_raw_fd(), self.stdout[1].as_raw_fd(), self.stderr[1].as_raw_fd()];
        plan.keep = plan.trees.iter().map(|tree| tree.fd).filter(|fd| *fd > 2).collect();
        plan.keep.push(plan.control);
        plan.keep.sort_unstable();
    }
}

/// Standard input is a sealed file in memory: nothing has to be fed while the box runs.
fn input(bytes: Option<&[u8]>) -> rustix::io::Result<OwnedFd> {
    let Some(bytes) = bytes else {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        return above_two(null);
    };
    let file = memfd_create("stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or(&[]);
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    above_two(file)
}

pub(super) fn above_two(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { fcntl_dupfd_cloexec(&fd, 3) }
}

pub(super) fn opening(error: Errno) -> Error {
    Error::io("opening the streams of a box", "pipe", error)
}

pub(super) fn socket_pair(kind: i32) -> rustix::io::Result<[OwnedFd; 2]> {
    let mut fds = [0i32; 2];
    let kind = kind | libc::SOCK_CLOEXEC;
    check(call!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr())).map_err(Errno::from_raw_os_error)?;
    // SAFETY: the call succeeded, so both are open and belong to nobody else.
    let [one, two] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok([above_two(one)?, above_two(two)?])
}

/// As root: a detached copy of a mount, made by this process because its rights reach every folder.
pub(crate) fn clone_tree(mut tree: Tree) -> Result<Tree> {
    if tree.fd >= 0 {
        return Ok(tree);
    }
    let recursive = if tree.recursive { sys::AT_RECURSIVE } else { 0 };
    let opened = sys::open_tree(libc::AT_FDCWD, &tree.source, sys::OPEN_TREE_CLONE | recursive);
    let fd = match opened {
        Ok(fd) => fd,
        // Root without the right to mount, as in a container: the child does it in its own namespace.
        Err(libc::EPERM) => return Ok(tree),
        Err(errno) => return Err(setup(Stage::HostFolder, errno)),
    };
    // SAFETY: `open_tree` just gave us this descriptor.
    let owned = above_two(unsafe { OwnedFd::from_raw_fd(fd) }).map_err(|e| setup(Stage::HostFolder, e.raw_os_error()))?;
    let fd = owned.as_raw_fd();
    let same = tree.identity.is_none_or(|identity| sys::identity(fd) == Ok(identity));
    let prepared =
        if same { sys::mount_setattr(fd, tree.recursive, tree.attr, libc::MS_PRIVATE) } else { Err(libc::ESTALE) };
    prepared.map_err(|errno| setup(Stage::HostFolder, errno))?;
    tree.fd = fd;
    tree._owned = Some(owned);
    Ok(tree)
}

/// Starts a box. `host_ids` are the user and group id it has on the host.
pub(crate) fn launch(
    plan: &mut Plan,
    wires: Wires,
    groups: &Hosts,
    limits: &Limits,
    host_ids: (u32, u32),
) -> Result<Running> {
    let mut running = start(plan, wires, (groups, limits), NAMESPACES, "making its namespaces", child::init)?;
    map_ids(running.pid, host_ids, plan.switch_ids)
        .map_err(|e| Error::Setup { stage: "mapping its user id", errno: e.to_string() })?;
    running.send(GO_MAPPED)?;
    running.join_groups()?;
    running.open_door(plan)?;
    running.send(GO_CGROUP)?;
    Ok(running)
}

/// Starts the process that looks after an OCI runtime: as root, in process and mount namespaces of its own, so that all of
/// the runtime and of the box ends with it, and nothing that is mounted for them is seen by others.
pub(crate) fn launch_guard(
    plan: &mut Plan,
    wires: Wires,
    groups: &Hosts,
    limits: &Limits,
    guard: fn(&mut Plan) -> !,
) -> Result<Running> {
    // With a way out the guard's network is the box's; the runtime else makes one of the box's own.
    let network = if plan.way_out.is_some() { libc::CLONE_NEWNET } else { 0 };
    let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | network;
    let mut running = start(plan, wires, (groups, limits), namespaces, "making the namespaces of its guard", guard)?;
    running.join_groups()?;
    running.send(GO_CGROUP)?;
    running.open_door(plan)?;
    Ok(running)
}

/// Clones the process that does `init`, with control groups of its own ready. Its ends of the wires are closed here when this
/// returns: should it be killed, whoever waits for its word must see that nobody speaks any more.
fn start(
    plan: &mut Plan,
    wires: Wires,
    (groups, limits): (&Hosts, &Limits),
    namespaces: i32,
    stage: &'static str,
    init: fn(&mut Plan) -> !,
) -> Result<Running> {
    let group = groups.make(limits).map_err(|e| Error::io("making control groups for a box", "cgroup", e))?;
    let (pid, pidfd) = clone(plan, namespaces, init).map_err(|errno| Error::Setup { stage, errno: text(errno) })?;
    for tree in &mut plan.trees {
        tree._owned = None;
    }
    // The host's out-of-memory killer prefers boxes. Raising the score is always allowed; where it is not, nothing is lost.
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
    let Wires { control: [control, _], stdout: [stdout, _], stderr: [stderr, _], .. } = wires;
    Ok(Running::over((pid, pidfd), [control, stdout, stderr], group, None))
}

/// The argument of `clone3`, first version.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// A child with a copy of this memory that does `init` and nothing else. Neither this nor `init` may allocate.
pub(super) fn clone<T>(
    plan: &mut T,
    namespaces: i32,
    init: fn(&mut T) -> !,
) -> std::result::Result<(i32, OwnedFd), sys::Errno> {
    let mut pidfd: i32 = -1;
    let arguments = CloneArguments {
        flags: (namespaces | libc::CLONE_PIDFD) as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    let size = size_of::<CloneArguments>();
    // Without CLONE_VM the child has a copy of this memory and a stack of its own; it runs `init` and never returns here.
    match check(call!(libc::SYS_clone3, &raw const arguments, size))? {
        0 => init(plan),
        pid => {
            // SAFETY: CLONE_PIDFD gave us this descriptor.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((pid as i32, pidfd))
        }
    }
}

/// One user and one group: those of the session, never the host's root.
fn map_ids(pid: i32, (uid, gid): (u32, u32), switch: bool) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::other("refusing to map the host's root"));
    }
    if !switch {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/uid_map"), format!("{BOX_ID} {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("{BOX_ID} {gid} 1"))
}

impl Running {
    /// A box; `nest` where one made it.
    pub(super) fn over(
        (pid, pidfd): (i32, OwnedFd),
        [control, stdout, stderr]: [OwnedFd; 3],
        group: Group,
        nest: Option<Arc<Nest>>,
    ) -> Running {
        Running {
            pid,
            pidfd,
            control,
            stdout,
            stderr,
            group,
            nest,
            main: None,
            used_us: AtomicU64::new(0),
            _door: None,
            reaped: false,
        }
    }

    fn join_groups(&self) -> Result<()> {
        self.group.add(self.pid).map_err(|e| Error::io("putting a box into its control groups", "cgroup", e))
    }

    pub(super) fn send(&self, word: u8) -> Result<()> {
        match send(self.control.as_fd(), word) {
            // The child ended early; what it said about it is read from the socket.
            Ok(()) | Err(libc::EPIPE | libc::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::Setup { stage: "talking to its init", errno: text(errno) }),
        }
    }

    /// Takes over the door of the box, where it has one. It waits for the step of the box's init that makes it.
    fn open_door(&mut self, plan: &Plan) -> Result<()> {
        let Some(way_out) = &plan.way_out else { return Ok(()) };
        let mut bytes = [0u8; 8];
        let mut fds = [-1; sys::FDS_MAX];
        let received = sys::receive_fds(self.control.as_raw_fd(), &mut bytes, &mut fds);
        let (length, count) = received.map_err(|errno| setup(Stage::Door, errno))?;
        // SAFETY: the kernel just gave us these descriptors.
        let mut passed = fds.into_iter().take(count).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect::<Vec<_>>();
        let listener = passed.pop();
        match (length, Message::decode(bytes), listener) {
            (8, Some(Message::Door), Some(listener)) => {
                let opened = above_two(listener)
                    .map_err(io::Error::from)
                    .and_then(|listener| way_out.open(std::net::TcpListener::from(listener)));
                self._door = Some(opened.map_err(|e| Error::io("opening the way out of a box", "egress", e))?);
                Ok(())
            }
            (8, Some(Message::Failed(stage, errno)), _) => Err(setup(stage, errno)),
            _ => Err(setup(Stage::Door, libc::EPROTO)),
        }
    }

    /// Asks the main process (and its process group) to end.
    pub(crate) fn terminate(&self) {
        // An init that is gone needs no asking.
        let _ = send(self.control.as_fd(), TERMINATE);
    }

    /// Interrupts the main process (and its process group), which may go on.
    pub(crate) fn interrupt(&self) {
        // An init that is gone needs no interrupting.
        let _ = send(self.control.as_fd(), INTERRUPT);
    }

    /// Kills every process of the box.
    pub(crate) fn kill(&self) {
        if self.nest.is_some() {
            self.used_us.fetch_max(spent_us(&self.roots()), Ordering::Relaxed);
        }
        let none = std::ptr::null::<u8>();
        // Fails only when the box is gone already.
        let _ = check(call!(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, none, 0));
    }

    /// The next message of init, if there is one; `None` also when it is gone.
    pub(crate) fn message(&self) -> Option<Message> {
        let mut bytes = [0u8; 8];
        let flags = libc::MSG_DONTWAIT;
        let none = std::ptr::null_mut::<u8>();
        let fd = self.control.as_raw_fd();
        let got = check(call!(libc::SYS_recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), flags, none, none));
        let message = if got == Ok(8) { Message::decode(bytes) } else { None };
        if let Some(Message::Used(micros)) = message {
            self.used_us.fetch_max(u64::from(micros.unsigned_abs()), Ordering::Relaxed);
        }
        message
    }

    /// Waits for init to be gone, and with it all processes; gives the processor time they used.
    pub(crate) fn wait(mut self) -> (Group, Duration) {
        let cpu = self.reap();
        let group = std::mem::replace(&mut self.group, Group::empty());
        (group, cpu)
    }

    pub(crate) fn init_pid(&self) -> i32 {
        self.pid
    }

    /// The processes from which all others of the box descend.
    pub(crate) fn roots(&self) -> Vec<i32> {
        self.main.iter().map(|main| main.pid).chain([self.pid]).collect()
    }

    fn reap(&mut self) -> Duration {
        if self.nest.is_some() {
            self.outlast();
            self.reaped = true;
            return Duration::from_micros(self.used_us.load(Ordering::Relaxed));
        }
        // SAFETY: all-zero is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let mut status = 0;
        while !self.reaped {
            // SAFETY: both places are valid for the call.
            let result = unsafe { libc::wait4(self.pid, &raw mut status, 0, &raw mut usage) };
            self.reaped = result == self.pid || sys::errno() != libc::EINTR;
        }
        let part = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        part(usage.ru_utime) + part(usage.ru_stime)
    }
}

impl Running {
    /// Waits for the end of a box that is another process's child. Init ends after all others, and those only when whoever
    /// has them for children has heard of it: a zygote that does not is killed, and heirs without parents are this process's
    /// own where it is the first of a container.
    fn outlast(&self) {
        let begun = Instant::now();
        loop {
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if matches!(poll(&mut fds, Some(&tenth)), Ok(ready) if ready > 0) {
                break;
            }
            if let Some(main) = &self.main {
                if begun.elapsed() > ZYGOTE_PATIENCE {
                    main.zygote.kill();
                }
                adopt(&main.pidfd);
            }
        }
        adopt(&self.pidfd);
    }
}

/// How long a zygote may take to hear that a child ended.
const ZYGOTE_PATIENCE: Duration = Duration::from_secs(2);

/// Processor time of the processes of a box and of those they have reaped, in microseconds; the kernel counts it in
/// hundredths of a second here.
fn spent_us(roots: &[i32]) -> u64 {
    let all = super::watch::descendants(roots).into_iter().chain(roots.last().copied());
    let ticks = all.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; field 3 follows it, the four times are fields 14 to 17.
        let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(14 - 3).take(4);
        Some(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>())
    });
    ticks.sum::<u64>() * 10_000
}

/// Reaps an ended process if it has become a child of this one.
fn adopt(pidfd: &OwnedFd) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // Mostly it is somebody else's.
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), options);
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

fn send(control: BorrowedFd<'_>, word: u8) -> std::result::Result<(), sys::Errno> {
    sys::send(control.as_raw_fd(), &[word], 0).map(drop)
}

/// The system's words for an errno.
pub(crate) fn text(errno: sys::Errno) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

pub(crate) fn setup(stage: plan::Stage, errno: sys::Errno) -> Error {
    Error::Setup { stage: stage.text(), errno: text(errno) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::WayOut;
    use crate::engine::plan::Program;

    #[derive(Debug)]
    struct Nobody;

    impl WayOut for Nobody {
        fn environment(&self, _: std::net::SocketAddr) -> Vec<(String, String)> {
            Vec::new()
        }

        fn open(&self, _: std::net::TcpListener) -> io::Result<OpenDoor> {
            Err(io::Error::other("there is no door"))
        }
    }

    fn plan() -> Plan {
        Plan {
            control: -1,
            stdio: [-1; 3],
            switch_ids: false,
            trees: Vec::new(),
            steps: Vec::new(),
            root_options: Vec::new(),
            filters: Vec::new(),
            rlimits: Vec::new(),
            processors: Vec::new(),
            way_out: Some(Arc::new(Nobody)),
            cwd: c"/".into(),
            program: Program::exec(Vec::new(), Vec::new(), Vec::new()),
            stop: None,
            keep: Vec::new(),
            arguments: None,
        }
    }

    fn killed(_: &mut Plan) -> ! {
        sys::exit(0)
    }

    #[test]
    fn a_box_that_is_killed_before_it_has_a_door_is_not_waited_for() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root makes guards");
            return;
        }
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut plan, wires) = (plan(), Wires::new(None).unwrap());
            wires.plug_into(&mut plan);
            tell.send(launch_guard(&mut plan, wires, &Hosts::default(), &Limits::default(), killed).map(drop)).unwrap();
        });
        let launched = told.recv_timeout(Duration::from_secs(20)).expect("nobody can open its door any more");
        assert_eq!(launched.unwrap_err().code(), setup(Stage::Door, libc::EPROTO).code());
    }
}
