//! I: who the box is. N: ways into other namespaces, mounts and processes.

use libc::{EACCES, EINVAL, ENOENT, ENOSYS, EPERM, ESRCH};

use super::inside::{Attempted, Expect, Spec, each_name, number, open, read_into};
use crate::engine::plan::BOX_ID;
use crate::engine::sys::{self, call, check};

const NO: Expect = Expect::Refused(&[EPERM, ENOSYS]);
const EPERM_ONLY: Expect = Expect::Refused(&[EPERM]);
const UNREADABLE: Expect = Expect::Refused(&[EACCES, EPERM, ENOENT]);
/// What an id that is not mapped looks like.
const OVERFLOW_ID: u32 = 65_534;

macro_rules! spec {
    ($id:literal, $what:literal, $expect:expr, $attempt:expr) => {
        Spec { id: $id, what: $what, expect: $expect, attempt: $attempt }
    };
}

macro_rules! unshare {
    ($id:literal, $what:literal, $flag:expr) => {
        spec!($id, $what, EPERM_ONLY, |_| check(call!(libc::SYS_unshare, $flag)))
    };
}

pub(crate) const CHECKS: &[Spec] = &[
    spec!("I01", "user id", Expect::Value(BOX_ID as i64), |_| check(call!(libc::SYS_geteuid))),
    spec!("I01-group", "group id", Expect::Value(BOX_ID as i64), |_| check(call!(libc::SYS_getegid))),
    spec!("I02-inh", "inheritable capabilities", Expect::Value(0), |_| status(b"CapInh:", 16)),
    spec!("I02-prm", "permitted capabilities", Expect::Value(0), |_| status(b"CapPrm:", 16)),
    spec!("I02-eff", "effective capabilities", Expect::Value(0), |_| status(b"CapEff:", 16)),
    spec!("I02-bnd", "bounding set", Expect::Value(0), |_| status(b"CapBnd:", 16)),
    spec!("I02-amb", "ambient capabilities", Expect::Value(0), |_| status(b"CapAmb:", 16)),
    spec!("I03", "no new privileges", Expect::Value(1), |_| status(b"NoNewPrivs:", 10)),
    spec!("I04", "seccomp mode (2 is a filter)", Expect::Value(2), |_| status(b"Seccomp:", 10)),
    spec!("I05", "host id behind the only mapped user", Expect::Within(1, i64::MAX), |_| mapped(c"/proc/self/uid_map")),
    spec!("I05-group", "host id behind the only mapped group", Expect::Within(1, i64::MAX), |_| mapped(
        c"/proc/self/gid_map"
    )),
    spec!("I06", "become user 0", Expect::Refused(&[EPERM, EINVAL]), |_| check(call!(libc::SYS_setuid, 0))),
    spec!("I06-group", "become group 0", Expect::Refused(&[EPERM, EINVAL]), |_| check(call!(libc::SYS_setgid, 0))),
    spec!("I07", "further groups with a meaning in the box", Expect::Value(0), |_| groups()),
    spec!("I08", "set-uid programs of the system count (0: nosuid)", Expect::Value(0), |_| lacks_flag(
        c"/usr",
        libc::ST_NOSUID
    )),
    unshare!("N-user", "new user namespace", libc::CLONE_NEWUSER),
    unshare!("N-pid", "new process namespace", libc::CLONE_NEWPID),
    unshare!("N-net", "new network namespace", libc::CLONE_NEWNET),
    unshare!("N-ipc", "new IPC namespace", libc::CLONE_NEWIPC),
    unshare!("N-uts", "new host-name namespace", libc::CLONE_NEWUTS),
    unshare!("N-mnt", "new mount namespace", libc::CLONE_NEWNS),
    unshare!("N-cgroup", "new cgroup namespace", libc::CLONE_NEWCGROUP),
    unshare!("N-time", "new time namespace", 0x80),
    spec!("N08", "clone3", Expect::Refused(&[ENOSYS]), |_| check(call!(libc::SYS_clone3, 0, 0))),
    spec!("N09", "clone with a new user namespace", EPERM_ONLY, |_| {
        match check(call!(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0))? {
            0 => sys::exit(0),
            pid => Ok(pid),
        }
    }),
    spec!("N10", "setns", NO, |_| check(call!(libc::SYS_setns, 0, 0))),
    spec!("N11", "mount a tmpfs", NO, |_| mount(c"tmpfs", c"/tmp", c"tmpfs", 0)),
    spec!("N12", "make /usr writable", NO, |_| mount(c"none", c"/usr", c"", libc::MS_REMOUNT | libc::MS_BIND)),
    spec!("N13", "unmount /proc", NO, |_| check(call!(libc::SYS_umount2, c"/proc".as_ptr(), libc::MNT_DETACH))),
    spec!("N14", "pivot_root", NO, |_| check(call!(libc::SYS_pivot_root, c"/tmp".as_ptr(), c"/tmp".as_ptr()))),
    spec!("N15", "chroot", NO, |_| check(call!(libc::SYS_chroot, c"/tmp".as_ptr()))),
    spec!("N16", "fsopen", NO, |_| check(call!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))),
    spec!("N16-tree", "clone a mount", NO, |_| sys::open_tree(libc::AT_FDCWD, c"/usr", sys::OPEN_TREE_CLONE).map(i64::from)),
    spec!("N16-attr", "change a mount", NO, |_| sys::mount_setattr(0, false, 0, 0).map(|()| 0)),
    spec!("N16-move", "move a mount", NO, |_| sys::move_mount(0, libc::AT_FDCWD, c"/tmp").map(|()| 0)),
    spec!("N17", "open a file by its handle", EPERM_ONLY, |_| check(call!(libc::SYS_open_by_handle_at, 0, 0, 0))),
    spec!("N18", "processes in /proc", Expect::Within(1, 4), |_| processes()),
    spec!("N18-kill", "see the runner's process", Expect::Refused(&[ESRCH]), |baits| check(call!(
        libc::SYS_kill,
        baits.pid,
        0
    ))),
    spec!("N19", "descriptors kept from outside", Expect::Value(0), |_| inherited()),
    spec!("N20", "working folder that cannot be reached", Expect::Value(0), |_| unreachable_cwd()),
    spec!("N21", "root of process 1", UNREADABLE, |_| open(c"/proc/1/root/.", libc::O_RDONLY)),
    spec!("N21-mem", "memory of process 1", UNREADABLE, |_| open(c"/proc/1/mem", libc::O_RDONLY)),
    spec!("N21-fd", "descriptors of process 1", UNREADABLE, |_| open(c"/proc/1/fd", libc::O_RDONLY)),
    spec!("N21-maps", "address space of process 1", UNREADABLE, |_| {
        // Opening is allowed by some kernels, reading never.
        let mut buffer = [0u8; 64];
        match read_into(c"/proc/1/maps", &mut buffer)?.len() {
            0 => Err(EACCES),
            some => Ok(some as i64),
        }
    }),
    spec!("N22", "climb above /", Expect::Value(0), |_| above_root()),
];

/// A number from `/proc/self/status`.
fn status(key: &[u8], base: u32) -> Attempted {
    let mut buffer = [0u8; 4096];
    let text = read_into(c"/proc/self/status", &mut buffer)?;
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key));
    line.map(|rest| number(rest, base).0).ok_or(ENOENT)
}

/// The outer id of a map that has one line, for one id.
fn mapped(path: &std::ffi::CStr) -> Attempted {
    let mut buffer = [0u8; 512];
    let text = read_into(path, &mut buffer)?;
    let (inside, rest) = number(text, 10);
    let (outside, rest) = number(rest, 10);
    let (count, rest) = number(rest, 10);
    if inside != i64::from(BOX_ID) || count != 1 || rest != b"\n" { Err(EINVAL) } else { Ok(outside) }
}

/// An ordinary user cannot drop its groups; in the box they are the overflow id, which owns nothing there that it may change.
fn groups() -> Attempted {
    let mut groups = [0u32; 256];
    let count = check(call!(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()))?;
    let mine = groups.iter().take(count as usize);
    Ok(mine.filter(|group| **group != OVERFLOW_ID && **group != BOX_ID).count() as i64)
}

/// 0 if the mount has the flag.
pub(crate) fn lacks_flag(path: &std::ffi::CStr, flag: u64) -> Attempted {
    // The kernel's `struct statfs` on 64-bit systems is 15 words; the mount's flags are the eleventh.
    let mut words = [0u64; 15];
    check(call!(libc::SYS_statfs, path.as_ptr(), words.as_mut_ptr()))?;
    let flags = words.get(10).copied().unwrap_or(0);
    Ok(i64::from(flags & flag == 0))
}

fn mount(source: &std::ffi::CStr, target: &std::ffi::CStr, kind: &std::ffi::CStr, flags: libc::c_ulong) -> Attempted {
    let none = std::ptr::null::<u8>();
    check(call!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, none))
}

fn processes() -> Attempted {
    let mut count = 0;
    each_name(c"/proc", &mut |name| count += i64::from(name.iter().all(u8::is_ascii_digit)))?;
    Ok(count)
}

/// Those that an executed program would still have.
fn inherited() -> Attempted {
    let open = (3..1024).filter(|fd| {
        let flags = check(call!(libc::SYS_fcntl, *fd, libc::F_GETFD));
        flags.is_ok_and(|flags| flags & i64::from(libc::FD_CLOEXEC) == 0)
    });
    let folders = (0..3).filter(|fd| check(call!(libc::SYS_fchdir, *fd)).is_ok());
    Ok((open.count() + folders.count()) as i64)
}

fn unreachable_cwd() -> Attempted {
    let mut buffer = [0u8; 256];
    let length = check(call!(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()))?;
    let path = buffer.get(..length as usize).unwrap_or(&[]);
    Ok(i64::from(!path.starts_with(b"/workspace")))
}

fn above_root() -> Attempted {
    let identity = |path| {
        let fd = sys::openat(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let identity = sys::identity(fd);
        sys::close(fd);
        identity
    };
    Ok(i64::from(identity(c"/")? != identity(c"/../../..")?))
}
