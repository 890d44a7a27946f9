//! What a nest clones, up to its main process: the init of a box, or a zygote.
//!
//! The same constraints as in `child` hold: no allocation, no lock, no panic, no return.

use std::ffi::CStr;
use std::os::fd::RawFd;

use libc::{c_int, c_ulong};

use super::order::{Kind, List, Read, STRINGS_MAX};
use super::serve::{Job, PLACE};
use crate::engine::child::{self, At, Result};
use crate::engine::plan::{GO_JOINED, INTERRUPT, Message, Program, Stage, TERMINATE};
use crate::engine::probe;
use crate::engine::sys::{self, Errno, FDS_MAX, call, check};

/// The main process that joins a box is the first that its init has not started: the second of its process namespace.
pub(crate) const MAIN: c_int = 2;
/// Namespaces in the order in which they are passed and joined: the network's belongs to the nest, so it comes before the
/// user namespace takes away all rights there; the mounts need rights that only the user namespace gives.
pub(crate) const NAMESPACES: [(&CStr, c_int); 7] = [
    (c"/proc/self/ns/pid", libc::CLONE_NEWPID),
    (c"/proc/self/ns/net", libc::CLONE_NEWNET),
    (c"/proc/self/ns/ipc", libc::CLONE_NEWIPC),
    (c"/proc/self/ns/uts", libc::CLONE_NEWUTS),
    (c"/proc/self/ns/cgroup", libc::CLONE_NEWCGROUP),
    (c"/proc/self/ns/user", libc::CLONE_NEWUSER),
    (c"/proc/self/ns/mnt", libc::CLONE_NEWNS),
];
/// The one right that a zygote has, in the nest's user namespace alone: to join the namespaces of boxes.
const CAP_SYS_ADMIN: u32 = 21;

/// Everything a clone of the nest does; ends with the process.
pub(super) fn begin(job: &mut Job<'_>) -> ! {
    let control = job.control;
    let done = match job.zygote {
        Some((order, length, streams)) => become_zygote(job, order, length, streams),
        None => be_init(job),
    };
    let (stage, errno) = match done {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    child::fail(control, stage, errno, 1)
}

fn be_init(job: &mut Job<'_>) -> Result<std::convert::Infallible> {
    let control = job.control;
    let root = wait_empty(job)?;
    let filling = filled(control).at(Stage::Descriptors)?;
    let order = filling.order().at(Stage::Descriptors)?;
    set_up(job, root, &filling, &order)?;
    if filling.kind == Kind::Join {
        return join(control);
    }
    let main = match sys::fork().at(Stage::Start)? {
        0 => {
            let Err((stage, errno)) = become_main(job, filling.kind, &order);
            child::fail(control, stage, errno, 127)
        }
        pid => pid,
    };
    (0..3).for_each(sys::close);
    let tell = |status| {
        // When the parent is gone nobody reads this, and the box ends all the same.
        let _ = sys::write_all(control, &Message::Used(used()).encode());
        let _ = sys::write_all(control, &Message::Ended(status).encode());
    };
    let ask = |signal: c_int| {
        let _ = check(call!(libc::SYS_kill, -main, signal));
    };
    child::attend(control, main, &tell, &ask)
}

/// Processor time of this process and of those it has reaped, in microseconds.
fn used() -> i32 {
    let mut sum = 0i64;
    for who in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN] {
        // The kernel's `struct rusage` is 18 words on 64-bit systems; it begins with two times of seconds and microseconds.
        let mut words = [0i64; 18];
        if check(call!(libc::SYS_getrusage, who, words.as_mut_ptr())).is_ok() {
            let [user_s, user_us, system_s, system_us, ..] = words;
            sum = sum.saturating_add((user_s + system_s).saturating_mul(1_000_000)).saturating_add(user_us + system_us);
        }
    }
    i32::try_from(sum).unwrap_or(i32::MAX)
}

/// All that a box can be without knowing whose it is to be: gives its root.
fn wait_empty(job: &Job<'_>) -> Result<RawFd> {
    keep([job.control; 2]).at(Stage::Descriptors)?;
    child::default_signals().at(Stage::Descriptors)?;
    let root = sys::open_tree(libc::AT_FDCWD, PLACE, sys::OPEN_TREE_CLONE | sys::AT_RECURSIVE).at(Stage::Root)?;
    sys::move_mount(root, libc::AT_FDCWD, PLACE).at(Stage::Root)?;
    let (first, _) = &job.seed.own;
    for step in first {
        child::take(step, root, &job.seed.plan).at(child::stage_of(step))?;
    }
    child::host_name().at(Stage::Network)?;
    if job.makes_network {
        child::loopback().at(Stage::Network)?;
    }
    // Leaving the host's mounts takes the kernel longest, so it is done here; what comes later is attached beneath this.
    let kept = check(call!(libc::SYS_fcntl, root, libc::F_DUPFD_CLOEXEC, 3)).at(Stage::Pivot)? as RawFd;
    child::pivot(root).at(Stage::Pivot)?;
    Ok(kept)
}

/// Bytes of a filling: kind, three unused, length of the order.
pub(super) const FILLING_BYTES: usize = 8;

/// What makes a box somebody's. Brings the order, the three streams and the workspace.
struct Filling {
    kind: Kind,
    workspace: RawFd,
    order: &'static [u8],
}

impl Filling {
    fn order(&self) -> std::result::Result<Read<'static>, Errno> {
        Read::of(self.order).ok_or(libc::EPROTO)
    }
}

/// Waits until the box is to be somebody's; without a parent it ends.
fn filled(control: RawFd) -> std::result::Result<Filling, Errno> {
    let (mut said, mut fds) = ([0u8; FILLING_BYTES], [-1; FDS_MAX]);
    let (length, count) = sys::receive_fds(control, &mut said, &mut fds)?;
    if length == 0 {
        sys::exit(0);
    }
    let [kind, _, _, _, a, b, c, d] = said;
    let kind = Kind::of(kind).ok_or(libc::EPROTO)?;
    if length != FILLING_BYTES || count != 5 {
        return Err(libc::EPROTO);
    }
    let [order, stdin, stdout, stderr, workspace, ..] = fds;
    let bytes = map(order, u32::from_le_bytes([a, b, c, d]) as usize).ok_or(libc::EPROTO)?;
    sys::close(order);
    streams([stdin, stdout, stderr])?;
    Ok(Filling { kind, workspace, order: bytes })
}

pub(super) fn map(file: RawFd, length: usize) -> Option<&'static [u8]> {
    let none = std::ptr::null::<u8>();
    let (access, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
    // The last argument lies on the stack, where only a whole word is passed whole.
    let place = check(call!(libc::SYS_mmap, none, length, access, private, file, 0usize)).ok()?;
    // SAFETY: the kernel mapped so many bytes there, for reading, until this process executes something or ends; the file is
    // sealed, so that nobody changes or cuts it.
    Some(unsafe { std::slice::from_raw_parts(place as *const u8, length) })
}

fn set_up(job: &Job<'_>, root: RawFd, filling: &Filling, order: &Read<'_>) -> Result<()> {
    let (plan, control) = (&job.seed.plan, job.control);
    child::identity(plan.switch_ids, false).at(Stage::Identity)?;
    files(root, order).at(Stage::Contents)?;
    let (_, then) = &job.seed.own;
    for step in then {
        child::take(step, root, plan).at(child::stage_of(step))?;
    }
    attach(filling.workspace, root, c"workspace").at(Stage::Contents)?;
    sys::close(root);
    processors(order.processors).at(Stage::Limits)?;
    // The runner put the box into its groups before it was anybody's.
    check(call!(libc::SYS_unshare, libc::CLONE_NEWCGROUP)).at(Stage::Cgroup)?;
    pass_namespaces(control).at(Stage::Start)?;
    child::drop_capabilities().at(Stage::Capabilities)?;
    child::filter(plan).at(Stage::Seccomp)
}

/// Closes all but the standard streams and these two, the lower first.
fn keep([first, second]: [RawFd; 2]) -> std::result::Result<(), Errno> {
    sys::close_range(3, (first - 1) as u32)?;
    if second > first {
        sys::close_range(first + 1, (second - 1) as u32)?;
    }
    sys::close_range(second + 1, u32::MAX)
}

/// Puts the standard streams in place. They lie above, for the nest has such of its own.
fn streams(fds: [RawFd; 3]) -> std::result::Result<(), Errno> {
    for (number, fd) in fds.into_iter().enumerate() {
        check(call!(libc::SYS_dup3, fd, number as c_int, 0))?;
        sys::close(fd);
    }
    Ok(())
}

/// A `/tmp` and files of its own.
fn files(root: RawFd, order: &Read<'_>) -> std::result::Result<(), Errno> {
    call!(libc::SYS_umask, 0o022);
    let [size, inodes] = order.tmp;
    let small = sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV;
    let options = [(c"size", size), (c"nr_inodes", inodes), (c"mode", c"1777")];
    attach(sys::new_mount(c"tmpfs", &options, small)?, root, c"tmp")?;
    if order.files.count > 0 {
        let options = [(c"size", c"12582912"), (c"nr_inodes", c"128"), (c"mode", c"0755")];
        let folder = sys::new_mount(c"tmpfs", &options, small)?;
        for (name, bytes) in order.files.files() {
            sys::create_file(folder, name, 0o444, bytes)?;
        }
        sys::mount_setattr(folder, false, child::ROOT_ATTR, 0)?;
        attach(folder, root, c"run/errand")?;
    }
    Ok(())
}

fn attach(mount: RawFd, root: RawFd, path: &CStr) -> std::result::Result<(), Errno> {
    let attached = sys::move_mount(mount, root, path);
    sys::close(mount);
    attached
}

fn processors(mask: List<'_>) -> std::result::Result<(), Errno> {
    let mut words = [0u64; 64];
    let mut count = 0;
    for (place, word) in words.iter_mut().zip(mask.longs()) {
        *place = word;
        count += 1;
    }
    if count == 0 {
        return Ok(());
    }
    check(call!(libc::SYS_sched_setaffinity, 0, count * size_of::<u64>(), words.as_ptr())).map(drop)
}

/// All of this box's namespaces, for the zygote that is to fork into them.
fn pass_namespaces(control: RawFd) -> std::result::Result<(), Errno> {
    let mut fds = [-1; NAMESPACES.len()];
    for (place, (path, _)) in fds.iter_mut().zip(NAMESPACES) {
        *place = sys::openat(libc::AT_FDCWD, path, libc::O_RDONLY, 0)?;
    }
    sys::send_fds(control, &Message::Started.encode(), &fds)?;
    fds.into_iter().for_each(sys::close);
    Ok(())
}

/// Sees to a main process that is a zygote's child: it ends with it. The zygote tells how it ended.
fn join(control: RawFd) -> Result<std::convert::Infallible> {
    (0..3).for_each(sys::close);
    child::wait_for(control, GO_JOINED).at(Stage::Start)?;
    let main = match check(call!(libc::SYS_pidfd_open, MAIN, 0)) {
        Ok(fd) => fd as RawFd,
        Err(_) => sys::exit(0),
    };
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let signals = check(call!(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags)).at(Stage::Start)? as RawFd;
    loop {
        child::reap(MAIN);
        let event = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [event(control), event(signals), event(main)];
        let none = std::ptr::null::<u8>();
        let _ = check(call!(libc::SYS_ppoll, fds.as_mut_ptr(), 3usize, none, none, 0usize));
        let [from_parent, from_child, from_main] = fds;
        if from_main.revents != 0 {
            sys::exit(0);
        }
        if from_child.revents != 0 {
            let mut drained = [0u8; 128];
            let _ = check(call!(libc::SYS_read, signals, drained.as_mut_ptr(), drained.len()));
        }
        if from_parent.revents != 0 {
            let signal = match sys::read_byte(control) {
                Ok(Some(TERMINATE)) => libc::SIGTERM,
                Ok(Some(INTERRUPT)) => libc::SIGINT,
                Ok(Some(_)) => continue,
                _ => sys::exit(0),
            };
            let _ = check(call!(libc::SYS_kill, -MAIN, signal));
            if signal == libc::SIGINT {
                let _ = sys::write_all(control, &Message::Interrupted.encode());
            }
        }
    }
}

fn become_main(job: &Job<'_>, kind: Kind, order: &Read<'_>) -> Result<std::convert::Infallible> {
    check(call!(libc::SYS_setsid)).at(Stage::Start)?;
    child::signal_mask(0).at(Stage::Start)?;
    for (resource, value) in order.rlimits.pairs() {
        child::limit(resource as u32, value).at(Stage::Limits)?;
    }
    check(call!(libc::SYS_chdir, order.cwd.as_ptr())).at(Stage::WorkingFolder)?;
    sys::close_at_exec_from(3).at(Stage::Descriptors)?;
    if kind == Kind::Probe
        && let Program::Probe(baits) = &job.seed.plan.program
    {
        probe::inside::run(baits, job.control);
    }
    execute(order).at(Stage::Exec)
}

/// Executes the first candidate that exists.
fn execute(order: &Read<'_>) -> std::result::Result<std::convert::Infallible, Errno> {
    let mut pointers = [std::ptr::null::<libc::c_char>(); STRINGS_MAX + 2];
    // The arguments, a null, the variables, a null.
    let strings = order.argv.texts().map(CStr::as_ptr).chain([std::ptr::null()]).chain(order.env.texts().map(CStr::as_ptr));
    let mut count = 0;
    for (place, string) in pointers.iter_mut().zip(strings) {
        *place = string;
        count += 1;
    }
    if count > STRINGS_MAX + 1 {
        return Err(libc::E2BIG);
    }
    let argv = pointers.as_ptr();
    let first = usize::try_from(order.argv.count).unwrap_or(0) + 1;
    let envp = pointers.get(first..).unwrap_or(&[]).as_ptr();
    let mut last = libc::ENOENT;
    for path in order.candidates.texts() {
        let Err(errno) = check(call!(libc::SYS_execve, path.as_ptr(), argv, envp)) else { continue };
        if errno != libc::ENOENT {
            return Err(errno);
        }
        last = errno;
    }
    Err(last)
}

/// An interpreter that forks into boxes: it sees the system read-only and nothing else, and its one right is over boxes.
fn become_zygote(
    job: &Job<'_>,
    order: RawFd,
    length: usize,
    [stdin, stdout, stderr]: [RawFd; 3],
) -> Result<std::convert::Infallible> {
    let order = map(order, length).and_then(Read::of).ok_or((Stage::Descriptors, libc::EPROTO))?;
    streams([stdin, stdout, stderr]).at(Stage::Descriptors)?;
    keep([job.control; 2]).at(Stage::Descriptors)?;
    child::default_signals().at(Stage::Descriptors)?;
    child::signal_mask(0).at(Stage::Descriptors)?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0).at(Stage::Identity)?;
    let root = sys::open_tree(libc::AT_FDCWD, PLACE, sys::OPEN_TREE_CLONE | sys::AT_RECURSIVE).at(Stage::Root)?;
    sys::move_mount(root, libc::AT_FDCWD, PLACE).at(Stage::Root)?;
    files(root, &order).at(Stage::Contents)?;
    child::pivot(root).at(Stage::Pivot)?;
    child::host_name().at(Stage::Network)?;
    for (resource, value) in order.rlimits.pairs() {
        child::limit(resource as u32, value).at(Stage::Limits)?;
    }
    check(call!(libc::SYS_chdir, order.cwd.as_ptr())).at(Stage::WorkingFolder)?;
    child::keep_capability(CAP_SYS_ADMIN).at(Stage::Capabilities)?;
    child::install_filter(&job.seed.zygote_filter).at(Stage::Seccomp)?;
    sys::close_at_exec_from(3).at(Stage::Descriptors)?;
    execute(&order).at(Stage::Exec)
}
