//! B: what the profile of browsers lets a box do more, and what it must not let it do from there.
//!
//! Whoever makes a user namespace has every right inside it, so each of these is tried from one: what refuses them is the
//! filter, or that the right does not reach what belongs to the namespace outside.

use libc::{EACCES, EAFNOSUPPORT, EINVAL, ENOENT, ENOSYS, EPERM, EROFS};

use super::inside::{Attempted, Baits, Expect, Spec};
use crate::engine::sys::{self, Errno, call, check};

/// Checks of the other groups that this profile takes back: the ways to a new user namespace, and that `capset` is refused
/// whatever it is asked (B27 is what stays of that).
pub(crate) const EXCEPTIONS: [&str; 3] = ["N-user", "N09", "S26"];

const REFUSED: Expect = Expect::Refused(&[EPERM]);
const UNKNOWN: Expect = Expect::Refused(&[EPERM, ENOSYS]);
const SEALED: Expect = Expect::Refused(&[EPERM, EACCES, EROFS, ENOENT]);

macro_rules! within {
    ($id:literal, $what:literal, $expect:expr, $attempt:expr) => {
        Spec { id: $id, what: $what, expect: $expect, attempt: |_: &Baits| in_own_namespace(|| $attempt.map(|_| ())) }
    };
}

macro_rules! opened {
    ($id:literal, $what:literal, $path:literal) => {
        within!($id, $what, SEALED, sys::openat(libc::AT_FDCWD, $path, libc::O_WRONLY, 0))
    };
}

pub(crate) const CHECKS: &[Spec] = &[
    Spec {
        id: "B01",
        what: "user, process and network namespaces of its own",
        expect: Expect::Value(0),
        attempt: |_| apart(),
    },
    within!("B02", "every right in its own user namespace", Expect::Value(0), folder_as_root()),
    within!("B03", "then a mount namespace", REFUSED, check(call!(libc::SYS_unshare, libc::CLONE_NEWNS))),
    within!("B04", "then an IPC namespace", REFUSED, check(call!(libc::SYS_unshare, libc::CLONE_NEWIPC))),
    within!("B05", "then a host-name namespace", REFUSED, check(call!(libc::SYS_unshare, libc::CLONE_NEWUTS))),
    within!("B06", "then a cgroup namespace", REFUSED, check(call!(libc::SYS_unshare, libc::CLONE_NEWCGROUP))),
    within!("B07", "then a time namespace", REFUSED, check(call!(libc::SYS_unshare, 0x80))),
    within!(
        "B08",
        "user and mount namespace at once",
        REFUSED,
        check(call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNS))
    ),
    within!(
        "B09",
        "mount a tmpfs",
        UNKNOWN,
        check(call!(libc::SYS_mount, c"tmpfs".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, 0))
    ),
    within!("B10", "fsopen", UNKNOWN, check(call!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))),
    within!("B11", "clone a mount", UNKNOWN, sys::open_tree(libc::AT_FDCWD, c"/usr", sys::OPEN_TREE_CLONE)),
    within!("B12", "pivot_root", UNKNOWN, check(call!(libc::SYS_pivot_root, c"/tmp".as_ptr(), c"/tmp".as_ptr()))),
    within!("B13", "setns", UNKNOWN, check(call!(libc::SYS_setns, 0, 0))),
    within!("B14", "clone3", Expect::Refused(&[ENOSYS]), check(call!(libc::SYS_clone3, 0, 0))),
    within!("B15", "ptrace", UNKNOWN, check(call!(libc::SYS_ptrace, 0, 0, 0, 0))),
    within!("B16", "bpf", UNKNOWN, check(call!(libc::SYS_bpf, 0, 0, 0))),
    within!("B17", "io_uring", UNKNOWN, check(call!(libc::SYS_io_uring_setup, 1, 0))),
    within!("B18", "keyctl", UNKNOWN, check(call!(libc::SYS_keyctl, 0, 0, 0))),
    within!("B19", "open a file by its handle", UNKNOWN, check(call!(libc::SYS_open_by_handle_at, 0, 0, 0))),
    within!("B20", "a packet socket in a network of its own", Expect::Refused(&[EAFNOSUPPORT]), packets(libc::AF_PACKET)),
    within!("B21", "a netlink socket in a network of its own", Expect::Refused(&[EAFNOSUPPORT]), packets(libc::AF_NETLINK)),
    within!("B22", "the host's id 0", Expect::Refused(&[EPERM, EINVAL]), map_root()),
    opened!("B23", "core_pattern", c"/proc/sys/kernel/core_pattern"),
    opened!("B24", "sysrq", c"/proc/sysrq-trigger"),
    within!(
        "B25",
        "make a device",
        SEALED,
        check(call!(libc::SYS_mknodat, libc::AT_FDCWD, c"/tmp/device".as_ptr(), libc::S_IFBLK | 0o600, 0x0800))
    ),
    opened!("B26", "write to the system", c"/usr/bin/env"),
    Spec { id: "B27", what: "take a right without a namespace of its own", expect: REFUSED, attempt: |_| take_rights() },
];

/// Makes the attempt in a child that has a user namespace of its own.
fn in_own_namespace(attempt: impl FnOnce() -> Result<(), Errno>) -> Attempted {
    in_child(|| {
        check(call!(libc::SYS_unshare, libc::CLONE_NEWUSER))?;
        attempt()
    })
}

fn in_child(attempt: impl FnOnce() -> Result<(), Errno>) -> Attempted {
    match sys::fork()? {
        0 => sys::exit(attempt().err().unwrap_or(0)),
        pid => ended(pid),
    }
}

/// 0, or the errno that a child ended with.
fn ended(pid: libc::c_int) -> Attempted {
    let mut status: libc::c_int = 0;
    let none = std::ptr::null_mut::<u8>();
    check(call!(libc::SYS_wait4, pid, &raw mut status, 0, none))?;
    match libc::WIFEXITED(status) {
        true if libc::WEXITSTATUS(status) == 0 => Ok(0),
        true => Err(libc::WEXITSTATUS(status)),
        false => Err(libc::EFAULT),
    }
}

/// By `clone`, as browsers make them.
fn apart() -> Attempted {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::SIGCHLD;
    match check(call!(libc::SYS_clone, flags, 0, 0, 0, 0))? {
        0 => sys::exit(0),
        pid => ended(pid as libc::c_int),
    }
}

/// That it has them shows in what only they allow: a folder as its root.
fn folder_as_root() -> Result<(), Errno> {
    check(call!(libc::SYS_chroot, c"/proc/self/fdinfo".as_ptr())).map(drop)
}

/// As in `child`: version 3, then effective, permitted and inheritable, twice 32 bits each.
fn take_rights() -> Attempted {
    let header: [u32; 2] = [0x2008_0522, 0];
    let all = [u32::MAX; 6];
    check(call!(libc::SYS_capset, header.as_ptr(), all.as_ptr()))
}

fn packets(family: libc::c_int) -> Result<(), Errno> {
    check(call!(libc::SYS_unshare, libc::CLONE_NEWNET))?;
    check(call!(libc::SYS_socket, family, libc::SOCK_RAW, 0)).map(drop)
}

/// Maps an id that the box has not got.
fn map_root() -> Result<(), Errno> {
    let fd = sys::openat(libc::AT_FDCWD, c"/proc/self/uid_map", libc::O_WRONLY, 0)?;
    sys::write_all(fd, b"0 0 1")
}
