//! The nest's own side: makes a box for each order, and network namespaces while there are none.
//!
//! Like `child` it runs in a copy of a process that may have threads: nothing here allocates, locks, panics or returns.
//! It has every right in its own user namespace and none beyond; no id of the host's root is mapped there.

use std::os::fd::{IntoRawFd, RawFd};

use libc::{c_int, c_uint};

use super::inside;
use super::order::Read;
use crate::engine::child::{self, At, Result};
use crate::engine::launch::clone;
use crate::engine::plan::{BOX_ID, GO_MAPPED, Message, Plan, Stage, Step};
use crate::engine::sys::{self, Errno, FDS_MAX, call, check};

/// Network namespaces that lie ready.
pub(super) const STOCK: usize = 8;
/// How long nobody must have asked for a box before a network namespace is made, in milliseconds.
const QUIET_MS: i64 = 4;
/// Bytes of a request: verb, three unused, process id, user id, group id, length of the order.
pub(super) const REQUEST_BYTES: usize = 20;
/// Make a box that waits to be filled. Brings its control socket.
pub(super) const SHELL: u8 = b'S';
/// Give a box its ids. Brings its order where the nest is to open the workspace, which it then gives.
pub(super) const MAP: u8 = b'M';
/// Start a zygote. Brings a control socket, its order and its three streams.
pub(super) const ZYGOTE: u8 = b'Z';
/// Where the template is attached, in the nest and in the mount namespace of each box.
pub(super) const PLACE: &std::ffi::CStr = c"/usr";

/// Everything a nest needs, prepared before it is cloned.
pub(super) struct Seed {
    /// The template, the filters of boxes, and what a probe does; its control socket is the way to the runner.
    pub(super) plan: Plan,
    /// Steps that a box takes over its copy of the template before it has ids, and after.
    pub(super) own: (Vec<Step>, Vec<Step>),
    /// The filter of zygotes.
    pub(super) zygote_filter: seccompiler::BpfProgram,
    /// User and group of the nest and its zygotes.
    pub(super) ids: (u32, u32),
}

/// What is to be cloned.
pub(super) struct Job<'a> {
    pub(super) seed: &'a mut Seed,
    pub(super) control: RawFd,
    /// Of a zygote: its order with its length, and its streams.
    pub(super) zygote: Option<(RawFd, usize, [RawFd; 3])>,
    /// False where its network namespace was made ahead, with loopback up.
    pub(super) makes_network: bool,
}

/// Everything a nest does; ends with the process.
pub(super) fn serve(seed: &mut Seed) -> ! {
    let socket = seed.plan.control;
    let mut stock = match set_up(seed) {
        Ok(home) => Stock { home, ready: [-1; STOCK], count: 0, is_broken: false },
        Err((stage, errno)) => child::fail(socket, stage, errno, 1),
    };
    if sys::write_all(socket, &Message::Started.encode()).is_err() {
        sys::exit(1);
    }
    loop {
        if !stock.is_full() && !speaks(socket, QUIET_MS) {
            stock.add();
            continue;
        }
        let mut request = [0u8; REQUEST_BYTES];
        let mut fds = [-1; FDS_MAX];
        let (length, passed) = match sys::receive_fds(socket, &mut request, &mut fds) {
            Ok((0, _)) | Err(_) => sys::exit(0),
            Ok(got) => got,
        };
        let known = length == REQUEST_BYTES;
        let made = if known { answer(seed, &mut stock, request, fds, passed) } else { Err(libc::EPROTO) };
        for fd in fds.iter().take(passed) {
            sys::close(*fd);
        }
        let sent = match made {
            Ok((pid, -1)) => sys::send_fds(socket, &pid.to_le_bytes(), &[]),
            Ok((pid, pidfd)) => {
                let sent = sys::send_fds(socket, &pid.to_le_bytes(), &[pidfd]);
                sys::close(pidfd);
                sent
            }
            Err(errno) => sys::send_fds(socket, &(-errno).to_le_bytes(), &[]),
        };
        if sent.is_err() {
            sys::exit(0);
        }
    }
}

/// Gives the network namespace to go back to.
fn set_up(seed: &mut Seed) -> Result<RawFd> {
    let plan = &mut seed.plan;
    child::descriptors(plan).at(Stage::Descriptors)?;
    child::forget_arguments(plan);
    child::default_signals().at(Stage::Descriptors)?;
    ignore_children().at(Stage::Descriptors)?;
    call!(libc::SYS_umask, 0o022);
    child::wait_for(plan.control, GO_MAPPED).at(Stage::Identity)?;
    child::host_trees(plan).at(Stage::HostFolder)?;
    if plan.switch_ids {
        let (uid, gid) = seed.ids;
        let none = std::ptr::null::<u32>();
        check(call!(libc::SYS_setgroups, 0usize, none)).at(Stage::Identity)?;
        check(call!(libc::SYS_setresgid, gid, gid, gid)).at(Stage::Identity)?;
        check(call!(libc::SYS_setresuid, uid, uid, uid)).at(Stage::Identity)?;
    }
    // Else the maps of boxes could not be written: their files in `/proc` would be the host's root's.
    sys::prctl(libc::PR_SET_DUMPABLE, 1, 0).at(Stage::Identity)?;
    let home = sys::openat(libc::AT_FDCWD, c"/proc/self/ns/net", libc::O_RDONLY, 0).at(Stage::Network)?;
    let root = child::root_at(plan, PLACE, sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV)?;
    sys::mount_setattr(root, false, child::ROOT_ATTR, 0).at(Stage::Root)?;
    sys::close(root);
    Ok(home)
}

/// Ended children are nobody's business: the runner watches its boxes itself.
fn ignore_children() -> std::result::Result<(), Errno> {
    // The kernel's own layout: handler (1 is "ignore"), flags, restorer, mask.
    let action = [1u64, 0, 0, 0];
    let none = std::ptr::null_mut::<u64>();
    check(call!(libc::SYS_rt_sigaction, libc::SIGCHLD, action.as_ptr(), none, 8usize))?;
    child::signal_mask(0)
}

/// Whether something comes within so many milliseconds.
fn speaks(socket: RawFd, milliseconds: i64) -> bool {
    let mut fds = [libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 }];
    let patience = [0i64, milliseconds * 1_000_000];
    let none = std::ptr::null::<u8>();
    let ready = check(call!(libc::SYS_ppoll, fds.as_mut_ptr(), 1usize, patience.as_ptr(), none, 0usize));
    !matches!(ready, Ok(0))
}

/// Network namespaces made ahead, each for one box.
struct Stock {
    home: RawFd,
    ready: [RawFd; STOCK],
    count: usize,
    /// One could not be made: boxes make theirs themselves from then on.
    is_broken: bool,
}

impl Stock {
    fn is_full(&self) -> bool {
        self.is_broken || self.count == STOCK
    }

    fn add(&mut self) {
        let made = check(call!(libc::SYS_unshare, libc::CLONE_NEWNET))
            .and_then(|_| child::loopback())
            .and_then(|()| sys::openat(libc::AT_FDCWD, c"/proc/self/ns/net", libc::O_RDONLY, 0));
        let back = self.enter(self.home);
        match (made, self.ready.get_mut(self.count)) {
            (Ok(fd), Some(place)) if back.is_ok() => {
                *place = fd;
                self.count += 1;
            }
            _ => self.is_broken = true,
        }
    }

    fn take(&mut self) -> Option<RawFd> {
        self.count = self.count.checked_sub(1)?;
        self.ready.get(self.count).copied()
    }

    fn enter(&self, fd: RawFd) -> std::result::Result<(), Errno> {
        check(call!(libc::SYS_setns, fd, libc::CLONE_NEWNET)).map(drop)
    }
}

/// Does what is asked for; gives a process id, and a descriptor for it if it is new.
fn answer(
    seed: &mut Seed,
    stock: &mut Stock,
    request: [u8; REQUEST_BYTES],
    passed: [RawFd; FDS_MAX],
    count: usize,
) -> std::result::Result<(c_int, RawFd), Errno> {
    let [verb, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, length @ ..] = request;
    let pid = i32::from_le_bytes([a, b, c, d]);
    let (uid, gid) = (u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([i, j, k, l]));
    let [control, order, stdin, stdout, stderr, ..] = passed;
    match (verb, count) {
        (MAP, 0) => map(pid, uid, gid, seed.plan.switch_ids).map(|()| (pid, -1)),
        // The order comes first here.
        (MAP, 1) => map(pid, uid, gid, seed.plan.switch_ids)
            .and_then(|()| workspace(control, u32::from_le_bytes(length) as usize))
            .map(|tree| (pid, tree)),
        (SHELL, 1) => shell(seed, stock, control),
        (ZYGOTE, 5) => {
            let zygote = Some((order, u32::from_le_bytes(length) as usize, [stdin, stdout, stderr]));
            let mut job = Job { seed, control, zygote, makes_network: false };
            let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
            clone(&mut job, namespaces, inside::begin).map(|(pid, pidfd)| (pid, pidfd.into_raw_fd()))
        }
        _ => Err(libc::EPROTO),
    }
}

/// The workspace that an order names as a mount of its own, exactly the session's: an ordinary user may clone mounts only where
/// it has every right, which is here.
fn workspace(order: RawFd, length: usize) -> std::result::Result<RawFd, Errno> {
    let bytes = inside::map(order, length).ok_or(libc::EPROTO)?;
    let opened = Read::of(bytes).ok_or(libc::EPROTO).and_then(|order| {
        let fd = sys::open_tree(libc::AT_FDCWD, order.source, sys::OPEN_TREE_CLONE)?;
        let attr = sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV;
        let same = if sys::identity(fd)? == order.identity { Ok(()) } else { Err(libc::ESTALE) };
        let ready = same.and_then(|()| sys::mount_setattr(fd, false, attr, libc::MS_PRIVATE));
        if ready.is_err() {
            sys::close(fd);
        }
        ready.map(|()| fd)
    });
    let _ = check(call!(libc::SYS_munmap, bytes.as_ptr(), bytes.len()));
    opened
}

/// Clones a box, into a network namespace that lies ready if there is one.
fn shell(seed: &mut Seed, stock: &mut Stock, control: RawFd) -> std::result::Result<(c_int, RawFd), Errno> {
    let mut namespaces =
        libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let network = stock.take();
    match network {
        Some(fd) => stock.enter(fd)?,
        None => namespaces |= libc::CLONE_NEWNET,
    }
    let mut job = Job { seed, control, zygote: None, makes_network: network.is_none() };
    let cloned = clone(&mut job, namespaces, inside::begin);
    if let Some(fd) = network {
        // Nothing of the nest may hold on to what is the box's.
        let back = stock.enter(stock.home);
        sys::close(fd);
        if back.is_err() {
            sys::exit(1);
        }
    }
    cloned.map(|(pid, pidfd)| (pid, pidfd.into_raw_fd()))
}

/// One user and one group for a box.
fn map(pid: c_int, uid: u32, gid: u32, switch: bool) -> std::result::Result<(), Errno> {
    if !switch {
        write(pid, b"setgroups", &[b"deny"])?;
    }
    for (file, id) in [(b"uid_map".as_slice(), uid), (b"gid_map", gid)] {
        let (mut inner, mut outer) = ([0; 20], [0; 20]);
        write(pid, file, &[digits(u64::from(BOX_ID), &mut inner), b" ", digits(u64::from(id), &mut outer), b" 1"])?;
    }
    Ok(())
}

/// Writes the parts, in one piece, to a file of the process in `/proc`.
fn write(pid: c_int, file: &[u8], parts: &[&[u8]]) -> std::result::Result<(), Errno> {
    let (mut path, mut text, mut number) = ([0u8; 64], [0u8; 64], [0u8; 20]);
    let pid = digits(u64::from(pid as c_uint), &mut number);
    join(&[b"/proc/", pid, b"/", file, b"\0"], &mut path)?;
    let path = std::ffi::CStr::from_bytes_until_nul(&path).map_err(|_| libc::EINVAL)?;
    let length = join(parts, &mut text)?;
    let fd = sys::openat(libc::AT_FDCWD, path, libc::O_WRONLY, 0)?;
    let written = sys::write_all(fd, text.get(..length).unwrap_or(&[]));
    sys::close(fd);
    written
}

fn join(parts: &[&[u8]], to: &mut [u8; 64]) -> std::result::Result<usize, Errno> {
    let mut end = 0;
    for part in parts {
        let place = to.get_mut(end..end + part.len()).ok_or(libc::EINVAL)?;
        place.copy_from_slice(part);
        end += part.len();
    }
    Ok(end)
}

fn digits(mut value: u64, place: &mut [u8; 20]) -> &[u8] {
    let mut first = place.len();
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        first -= 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    place.get(first..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_kernel_reads_them() {
        for value in [0, 7, 10, 1000, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(digits(value, &mut [0; 20]), value.to_string().as_bytes());
        }
        let mut place = [0; 64];
        assert_eq!(join(&[b"/proc/", b"12", b"/uid_map"], &mut place), Ok(16));
        assert_eq!(&place[..16], b"/proc/12/uid_map");
        assert_eq!(join(&[&[b'x'; 65]], &mut place), Err(libc::EINVAL));
    }
}
