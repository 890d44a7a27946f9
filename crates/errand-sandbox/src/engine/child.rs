//! The box's own side: its init (process 1) and its main process, up to exec.
//!
//! Runs in a copy of a process that may have threads: nothing here allocates, locks, panics or returns. Everything it
//! needs is in the [`Plan`]. The copy holds the parent's memory, so init is not dumpable: nothing in the box can trace it or
//! read its `/proc` files, and exec gives the main process a memory of its own.

use std::os::fd::RawFd;

use libc::{c_int, c_ulong};

use super::plan::{BOX_ID, GO_CGROUP, GO_MAPPED, INTERRUPT, Message, Plan, Program, Stage, Step, TERMINATE};
use super::probe::inside;
use super::sys::{self, Errno, call, check};

pub(crate) type Result<T> = std::result::Result<T, (Stage, Errno)>;

pub(crate) trait At<T> {
    fn at(self, stage: Stage) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, Errno> {
    fn at(self, stage: Stage) -> Result<T> {
        self.map_err(|errno| (stage, errno))
    }
}

/// Everything init does; ends with the process.
pub(crate) fn init(plan: &mut Plan) -> ! {
    let main = match set_up(plan).and_then(|()| start_main(plan)) {
        Ok(main) => main,
        Err((stage, errno)) => fail(plan.control, stage, errno, 1),
    };
    let tell = |status| {
        // When the parent is gone nobody reads this, and the box ends all the same.
        let _ = sys::write_all(plan.control, &Message::Ended(status).encode());
    };
    let ask = |signal: c_int| {
        let _ = check(call!(libc::SYS_kill, -main, signal));
    };
    attend(plan.control, main, &tell, &ask)
}

pub(crate) fn fail(control: RawFd, stage: Stage, errno: Errno, code: c_int) -> ! {
    // When the parent is gone nobody reads this, and the box ends all the same.
    let _ = sys::write_all(control, &Message::Failed(stage, errno).encode());
    sys::exit(code)
}

fn set_up(plan: &mut Plan) -> Result<()> {
    descriptors(plan).at(Stage::Descriptors)?;
    forget_arguments(plan);
    default_signals().at(Stage::Descriptors)?;
    call!(libc::SYS_umask, 0o022);
    wait_for(plan.control, GO_MAPPED).at(Stage::Identity)?;
    // Before the ids change: folders of the host that only root may enter are opened as root.
    host_trees(plan).at(Stage::HostFolder)?;
    identity(plan.switch_ids, true).at(Stage::Identity)?;
    let root = root(plan)?;
    pivot(root).at(Stage::Pivot)?;
    network().at(Stage::Network)?;
    door(plan).at(Stage::Door)?;
    processors(plan).at(Stage::Limits)?;
    wait_for(plan.control, GO_CGROUP).at(Stage::Cgroup)?;
    check(call!(libc::SYS_unshare, libc::CLONE_NEWCGROUP)).at(Stage::Cgroup)?;
    drop_capabilities().at(Stage::Capabilities)?;
    filter(plan).at(Stage::Seccomp)
}

/// Takes over the standard streams and closes all else but what the plan names.
pub(crate) fn descriptors(plan: &Plan) -> std::result::Result<(), Errno> {
    for (number, fd) in plan.stdio.iter().enumerate() {
        check(call!(libc::SYS_dup3, *fd, number as c_int, 0))?;
    }
    let mut next: RawFd = 3;
    for fd in &plan.keep {
        sys::close_range(next, (*fd - 1) as u32)?;
        next = *fd + 1;
    }
    sys::close_range(next, u32::MAX)
}

/// Init has the runner's memory, and with it the command line that `/proc/1/cmdline` would show to the box.
pub(crate) fn forget_arguments(plan: &Plan) {
    let Some((start, length)) = plan.arguments else { return };
    // SAFETY: the kernel says that this process's command line lies there, which is writable memory of its stack. This is
    // a copy of the runner's memory that only init has, and init reads no arguments.
    unsafe { std::ptr::write_bytes(start as *mut u8, 0, length) };
}

/// No handler of the parent's may run here. Init itself hears of ended children through a descriptor.
pub(crate) fn default_signals() -> std::result::Result<(), Errno> {
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // The kernel's own layout: handler, flags, restorer, mask. All zero is the default action.
            let action = [0u64; 4];
            let none = std::ptr::null_mut::<u64>();
            check(call!(libc::SYS_rt_sigaction, signal, action.as_ptr(), none, 8usize))?;
        }
    }
    signal_mask(1 << (libc::SIGCHLD - 1))
}

pub(crate) fn signal_mask(mask: u64) -> std::result::Result<(), Errno> {
    let none = std::ptr::null_mut::<u64>();
    check(call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, none, 8usize)).map(drop)
}

/// Waits for the parent's word; without a parent the box ends.
pub(crate) fn wait_for(control: RawFd, word: u8) -> std::result::Result<(), Errno> {
    match sys::read_byte(control)? {
        Some(byte) if byte == word => Ok(()),
        Some(_) => Err(libc::EPROTO),
        None => sys::exit(1),
    }
}

/// Takes the ids of the box and hides this process's memory. A box `dies_with_parent`, or it must end by itself.
pub(crate) fn identity(switch: bool, dies_with_parent: bool) -> std::result::Result<(), Errno> {
    if switch {
        let none = std::ptr::null::<u32>();
        check(call!(libc::SYS_setgroups, 0usize, none))?;
        check(call!(libc::SYS_setresgid, BOX_ID, BOX_ID, BOX_ID))?;
        check(call!(libc::SYS_setresuid, BOX_ID, BOX_ID, BOX_ID))?;
    }
    if dies_with_parent {
        // A change of ids clears this, so it comes after. The parent's end is also seen on the control socket.
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0)?;
    }
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// Opens what the parent could not: an ordinary user may clone mounts only in a mount namespace of its own.
pub(crate) fn host_trees(plan: &mut Plan) -> std::result::Result<(), Errno> {
    for tree in &mut plan.trees {
        if tree.fd < 0 {
            let recursive = if tree.recursive { sys::AT_RECURSIVE } else { 0 };
            tree.fd = sys::open_tree(libc::AT_FDCWD, &tree.source, sys::OPEN_TREE_CLONE | recursive)?;
            if let Some(identity) = tree.identity
                && sys::identity(tree.fd)? != identity
            {
                return Err(libc::ESTALE);
            }
            sys::mount_setattr(tree.fd, tree.recursive, tree.attr, libc::MS_PRIVATE)?;
        }
    }
    Ok(())
}

/// Builds the new root; it is mounted over a folder every host has, in the box's own mount namespace.
fn root(plan: &Plan) -> Result<RawFd> {
    root_at(plan, c"/usr", sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV)
}

/// Mounts a fresh file system in memory over a folder and fills it by the plan's steps.
pub(crate) fn root_at(plan: &Plan, place: &std::ffi::CStr, attr: u64) -> Result<RawFd> {
    let mut options = [(sys::EMPTY, sys::EMPTY); 4];
    let count = copy_options(&plan.root_options, &mut options);
    let root = sys::new_mount(c"tmpfs", options.get(..count).unwrap_or(&[]), attr).at(Stage::Root)?;
    sys::move_mount(root, libc::AT_FDCWD, place).at(Stage::Root)?;
    for step in &plan.steps {
        take(step, root, plan).at(stage_of(step))?;
    }
    Ok(root)
}

pub(crate) fn stage_of(step: &Step) -> Stage {
    match step {
        Step::Mount(kind, ..) if kind.as_bytes() == b"proc" => Stage::Proc,
        _ => Stage::Contents,
    }
}

fn copy_options<'a>(
    from: &'a [(std::ffi::CString, std::ffi::CString)],
    to: &mut [(&'a std::ffi::CStr, &'a std::ffi::CStr)],
) -> usize {
    let mut count = 0;
    for ((key, value), place) in from.iter().zip(to.iter_mut()) {
        *place = (key, value);
        count += 1;
    }
    count
}

pub(crate) fn take(step: &Step, root: RawFd, plan: &Plan) -> std::result::Result<(), Errno> {
    match step {
        Step::Dir(path) => sys::mkdirat(root, path, 0o755),
        Step::Link(target, path) => sys::symlinkat(target, root, path),
        Step::File(path, bytes) => sys::create_file(root, path, 0o444, bytes),
        Step::Attach(tree, path) => {
            let Some(tree) = plan.trees.get(*tree) else { return Err(libc::EINVAL) };
            let attached = sys::move_mount(tree.fd, root, path);
            sys::close(tree.fd);
            attached
        }
        Step::Mount(kind, options, attr, path) => {
            let mut all = [(sys::EMPTY, sys::EMPTY); 4];
            let count = copy_options(options, &mut all);
            let mount = sys::new_mount(kind, all.get(..count).unwrap_or(&[]), *attr)?;
            let attached = sys::move_mount(mount, root, path);
            sys::close(mount);
            attached
        }
        Step::Mode(path, mode) => check(call!(libc::SYS_fchmodat, root, path.as_ptr(), *mode)).map(drop),
        Step::ReadOnly(from, to) => read_only(root, from, to),
    }
}

fn read_only(root: RawFd, from: &std::ffi::CStr, to: &std::ffi::CStr) -> std::result::Result<(), Errno> {
    let tree = match sys::open_tree(root, from, sys::OPEN_TREE_CLONE) {
        Err(libc::ENOENT) => return Ok(()),
        other => other?,
    };
    let attr = sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC;
    let done =
        sys::mount_setattr(tree, false, attr, libc::MS_PRIVATE).and_then(|()| match sys::move_mount(tree, root, to) {
            Err(libc::ENOENT) => Ok(()),
            other => other,
        });
    sys::close(tree);
    done
}

/// Makes the new root the only one, read-only.
pub(crate) fn pivot(root: RawFd) -> std::result::Result<(), Errno> {
    check(call!(libc::SYS_fchdir, root))?;
    let here = c".".as_ptr();
    check(call!(libc::SYS_pivot_root, here, here))?;
    // The old root now lies over the new one at the same place.
    check(call!(libc::SYS_umount2, here, libc::MNT_DETACH))?;
    check(call!(libc::SYS_chdir, c"/".as_ptr()))?;
    sys::mount_setattr(root, false, ROOT_ATTR, 0)?;
    sys::close(root);
    Ok(())
}

/// What is no mount of its own in a box is read-only and nothing to execute.
pub(crate) const ROOT_ATTR: u64 =
    sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC;

fn network() -> std::result::Result<(), Errno> {
    host_name()?;
    loopback()
}

/// A neutral host name.
pub(crate) fn host_name() -> std::result::Result<(), Errno> {
    let name = b"errand";
    check(call!(libc::SYS_sethostname, name.as_ptr(), name.len())).map(drop)
}

/// Where the box has a way out: a listening socket on its loopback, which only the parent keeps.
pub(crate) fn door(plan: &Plan) -> std::result::Result<(), Errno> {
    if plan.way_out.is_none() {
        return Ok(());
    }
    let socket = check(call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))? as RawFd;
    let made = listen(socket).and_then(|()| sys::send_fds(plan.control, &Message::Door.encode(), &[socket]));
    sys::close(socket);
    made
}

fn listen(socket: RawFd) -> std::result::Result<(), Errno> {
    let std::net::SocketAddr::V4(door) = crate::door::DOOR else { return Err(libc::EAFNOSUPPORT) };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: door.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(door.ip().octets()) },
        sin_zero: [0; 8],
    };
    check(call!(libc::SYS_bind, socket, &raw const address, size_of_val(&address)))?;
    check(call!(libc::SYS_listen, socket, crate::door::WAITING_MAX)).map(drop)
}

/// Loopback up: code in the box may talk to itself, and there is nothing else to talk to.
pub(crate) fn loopback() -> std::result::Result<(), Errno> {
    let socket = check(call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))? as RawFd;
    // `struct ifreq`: 16 bytes of name, then the flags in a union of 24.
    let mut request = [0u8; 40];
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    for (place, byte) in request.iter_mut().zip(*b"lo") {
        *place = byte;
    }
    for (place, byte) in request.iter_mut().skip(16).zip(flags.to_ne_bytes()) {
        *place = byte;
    }
    let up = check(call!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, request.as_ptr()));
    sys::close(socket);
    up.map(drop)
}

pub(crate) fn processors(plan: &Plan) -> std::result::Result<(), Errno> {
    if plan.processors.is_empty() {
        return Ok(());
    }
    let size = size_of_val(plan.processors.as_slice());
    check(call!(libc::SYS_sched_setaffinity, 0, size, plan.processors.as_ptr())).map(drop)
}

/// All five sets to nothing, for good.
pub(crate) fn drop_capabilities() -> std::result::Result<(), Errno> {
    for capability in 0..64 {
        match sys::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Err(libc::EINVAL) => break,
            other => other?,
        }
    }
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong, 0)?;
    // Version 3 of the interface; then effective, permitted and inheritable, twice 32 bits each.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0u32; 6];
    check(call!(libc::SYS_capset, header.as_ptr(), none.as_ptr()))?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// All rights but one to nothing, for good; that one stays over exec.
pub(crate) fn keep_capability(kept: u32) -> std::result::Result<(), Errno> {
    for capability in 0..64 {
        if capability == kept {
            continue;
        }
        match sys::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0) {
            Err(libc::EINVAL) => break,
            other => other?,
        }
    }
    let header: [u32; 2] = [0x2008_0522, 0];
    let bit = 1u32 << kept;
    let sets = [bit, bit, bit, 0, 0, 0];
    check(call!(libc::SYS_capset, header.as_ptr(), sets.as_ptr()))?;
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as c_ulong, c_ulong::from(kept))?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

pub(crate) fn filter(plan: &Plan) -> std::result::Result<(), Errno> {
    for program in &plan.filters {
        install_filter(program)?;
    }
    Ok(())
}

/// Installs one filter on the calling thread.
pub(crate) fn install_filter(program: &seccompiler::BpfProgram) -> std::result::Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| libc::EINVAL)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    check(call!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)).map(drop)
}

pub(crate) fn start_main(plan: &mut Plan) -> Result<c_int> {
    match sys::fork().at(Stage::Start)? {
        0 => {
            let Err((stage, errno)) = become_main(plan);
            fail(plan.control, stage, errno, 127)
        }
        pid => {
            let _ = sys::write_all(plan.control, &Message::Started.encode());
            for fd in 0..3 {
                sys::close(fd);
            }
            Ok(pid)
        }
    }
}

fn become_main(plan: &mut Plan) -> Result<std::convert::Infallible> {
    check(call!(libc::SYS_setsid)).at(Stage::Start)?;
    signal_mask(0).at(Stage::Start)?;
    for (resource, value) in &plan.rlimits {
        limit(*resource, *value).at(Stage::Limits)?;
    }
    check(call!(libc::SYS_chdir, plan.cwd.as_ptr())).at(Stage::WorkingFolder)?;
    sys::close_at_exec_from(3).at(Stage::Descriptors)?;
    match &plan.program {
        Program::Probe(baits) => inside::run(baits, plan.control),
        Program::Exec { candidates, argv, envp, .. } => {
            let mut last = libc::ENOENT;
            for path in candidates {
                let Err(errno) = check(call!(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr())) else {
                    continue;
                };
                if errno != libc::ENOENT {
                    last = errno;
                    break;
                }
            }
            Err((Stage::Exec, last))
        }
    }
}

/// Lowers a limit; one that is lower already stays.
pub(crate) fn limit(resource: u32, value: u64) -> std::result::Result<(), Errno> {
    let mut now = [0u64; 2];
    check(call!(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u64>(), now.as_mut_ptr()))?;
    let [_, hard] = now;
    let both = [value.min(hard), value.min(hard)];
    check(call!(libc::SYS_prlimit64, 0, resource, both.as_ptr(), std::ptr::null_mut::<u64>())).map(drop)
}

/// Reaps until the main process ends, of which it tells, or the parent is gone; the kernel then kills all that is left. When the
/// parent wants it, asks the main process to end.
pub(crate) fn attend(control: RawFd, main: c_int, tell: &dyn Fn(c_int), ask: &dyn Fn(c_int)) -> ! {
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let signals = match check(call!(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags)) {
        Ok(fd) => fd as RawFd,
        Err(errno) => fail(control, Stage::Start, errno, 1),
    };
    loop {
        if let Some(status) = reap(main) {
            tell(status);
            sys::exit(0);
        }
        let event = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [event(control), event(signals)];
        let none = std::ptr::null::<u8>();
        let _ = check(call!(libc::SYS_ppoll, fds.as_mut_ptr(), 2usize, none, none, 0usize));
        let [from_parent, from_child] = fds;
        if from_child.revents != 0 {
            let mut drained = [0u8; 128];
            let _ = check(call!(libc::SYS_read, signals, drained.as_mut_ptr(), drained.len()));
        }
        if from_parent.revents != 0 {
            match sys::read_byte(control) {
                Ok(Some(TERMINATE)) => ask(libc::SIGTERM),
                Ok(Some(INTERRUPT)) => {
                    ask(libc::SIGINT);
                    let _ = sys::write_all(control, &Message::Interrupted.encode());
                }
                Ok(Some(_)) => {}
                _ => sys::exit(0),
            }
        }
    }
}

/// Collects ended children; the main process's wait status if it is among them.
pub(crate) fn reap(main: c_int) -> Option<c_int> {
    loop {
        let mut status: c_int = 0;
        let none = std::ptr::null_mut::<u8>();
        match check(call!(libc::SYS_wait4, -1, &raw mut status, libc::WNOHANG, none)) {
            Ok(0) | Err(_) => return None,
            Ok(pid) if pid == i64::from(main) => return Some(status),
            Ok(_) => {}
        }
    }
}
