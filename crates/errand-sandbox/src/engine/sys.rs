//! Raw system calls for the code that runs between clone and exec.
//!
//! A child of a process with threads may not allocate, lock, or call what does. Everything here is one system call on
//! data its caller owns, and nothing else.

use std::ffi::CStr;
use std::os::fd::RawFd;

use libc::{c_int, c_long, c_uint, c_ulong};

/// A failed call: the value of `errno`.
pub(crate) type Errno = c_int;

pub(crate) const EMPTY: &CStr = c"";
pub(crate) const OPEN_TREE_CLONE: c_uint = 1;
pub(crate) const AT_RECURSIVE: c_uint = 0x8000;
pub(crate) const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x8;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
const CLOSE_RANGE_CLOEXEC: c_uint = 4;

/// Turns the C convention into a result.
pub(crate) fn check(result: c_long) -> Result<c_long, Errno> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// The calling thread's last error.
pub(crate) fn errno() -> Errno {
    // SAFETY: the location is the calling thread's own and always valid.
    unsafe { *libc::__errno_location() }
}

fn fd_of(result: c_long) -> Result<RawFd, Errno> {
    // A descriptor fits: the kernel's type for it is int.
    check(result).map(|fd| fd as RawFd)
}

macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        // SAFETY: the kernel checks every argument; pointers among them come from references that outlive the call.
        unsafe { libc::syscall($number $(, $argument)*) }
    }};
}
pub(crate) use call;

/// The argument of `mount_setattr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sends as much of `bytes` as the socket takes, without a signal where nobody reads.
pub(crate) fn send(socket: RawFd, bytes: &[u8], flags: c_int) -> Result<usize, Errno> {
    let none = std::ptr::null::<u8>();
    let flags = flags | libc::MSG_NOSIGNAL;
    let sent = check(call!(libc::SYS_sendto, socket, bytes.as_ptr(), bytes.len(), flags, none, 0))?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

/// Most descriptors in one message.
pub(crate) const FDS_MAX: usize = 16;

/// A control message with descriptors, as the kernel lays it out on 64-bit systems.
#[repr(C)]
struct Passing {
    length: usize,
    level: c_int,
    kind: c_int,
    fds: [RawFd; FDS_MAX],
}

const PASSING_HEAD: usize = size_of::<Passing>() - size_of::<[RawFd; FDS_MAX]>();

/// Sends a message of a socket that keeps their bounds, with descriptors.
pub(crate) fn send_fds(socket: RawFd, bytes: &[u8], fds: &[RawFd]) -> Result<(), Errno> {
    let mut passing = Passing { length: 0, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fds: [0; FDS_MAX] };
    if fds.len() > FDS_MAX {
        return Err(libc::EINVAL);
    }
    for (place, fd) in passing.fds.iter_mut().zip(fds) {
        *place = *fd;
    }
    passing.length = PASSING_HEAD + size_of_val(fds);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid `msghdr`: no name, no parts, no control message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        message.msg_control = (&raw mut passing).cast();
        message.msg_controllen = passing.length.next_multiple_of(8);
    }
    loop {
        match check(call!(libc::SYS_sendmsg, socket, &raw const message, libc::MSG_NOSIGNAL)) {
            Err(libc::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives a message with its descriptors: how many bytes and how many descriptors there were. What does not fit is lost, and
/// descriptors that do not fit are closed by the kernel. No bytes: the other end is gone.
pub(crate) fn receive_fds(socket: RawFd, bytes: &mut [u8], fds: &mut [RawFd; FDS_MAX]) -> Result<(usize, usize), Errno> {
    let mut passing = Passing { length: 0, level: 0, kind: 0, fds: [-1; FDS_MAX] };
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut passing).cast();
    message.msg_controllen = size_of::<Passing>();
    let count = loop {
        match check(call!(libc::SYS_recvmsg, socket, &raw mut message, libc::MSG_CMSG_CLOEXEC)) {
            Err(libc::EINTR) => {}
            other => break other? as usize,
        }
    };
    let whole = message.msg_controllen >= PASSING_HEAD && passing.kind == libc::SCM_RIGHTS;
    let passed = if whole { passing.length.saturating_sub(PASSING_HEAD) / size_of::<RawFd>() } else { 0 };
    let passed = passed.min(FDS_MAX);
    for (place, fd) in fds.iter_mut().zip(passing.fds.iter().take(passed)) {
        *place = *fd;
    }
    Ok((count, passed))
}

pub(crate) fn open_tree(dir: RawFd, path: &CStr, flags: c_uint) -> Result<RawFd, Errno> {
    let flags = flags | libc::O_CLOEXEC as c_uint;
    fd_of(call!(libc::SYS_open_tree, dir, path.as_ptr(), flags))
}

pub(crate) fn mount_setattr(fd: RawFd, recursive: bool, set: u64, propagation: u64) -> Result<(), Errno> {
    let attr = MountAttr { set, clear: 0, propagation, userns: 0 };
    let flags = libc::AT_EMPTY_PATH as c_uint | if recursive { AT_RECURSIVE } else { 0 };
    let size = size_of::<MountAttr>();
    check(call!(libc::SYS_mount_setattr, fd, EMPTY.as_ptr(), flags, &raw const attr, size)).map(drop)
}

/// Attaches a detached mount at `path` beneath `dir`.
pub(crate) fn move_mount(tree: RawFd, dir: RawFd, path: &CStr) -> Result<(), Errno> {
    check(call!(libc::SYS_move_mount, tree, EMPTY.as_ptr(), dir, path.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)).map(drop)
}

/// A new detached mount of a file system without a device.
pub(crate) fn new_mount(kind: &CStr, options: &[(&CStr, &CStr)], attr: u64) -> Result<RawFd, Errno> {
    let context = fd_of(call!(libc::SYS_fsopen, kind.as_ptr(), 1))?;
    let mount = (|| {
        for (key, value) in options {
            check(call!(libc::SYS_fsconfig, context, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0))?;
        }
        let none = std::ptr::null::<u8>();
        check(call!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, none, none, 0))?;
        fd_of(call!(libc::SYS_fsmount, context, 1, attr as c_uint))
    })();
    close(context);
    mount
}

pub(crate) fn close(fd: RawFd) {
    call!(libc::SYS_close, fd);
}

pub(crate) fn mkdirat(dir: RawFd, path: &CStr, mode: c_uint) -> Result<(), Errno> {
    check(call!(libc::SYS_mkdirat, dir, path.as_ptr(), mode)).map(drop)
}

pub(crate) fn symlinkat(target: &CStr, dir: RawFd, path: &CStr) -> Result<(), Errno> {
    check(call!(libc::SYS_symlinkat, target.as_ptr(), dir, path.as_ptr())).map(drop)
}

pub(crate) fn openat(dir: RawFd, path: &CStr, flags: c_int, mode: c_uint) -> Result<RawFd, Errno> {
    fd_of(call!(libc::SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode))
}

pub(crate) fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match check(call!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len())) {
            Ok(written) => bytes = bytes.get(written as usize..).unwrap_or(&[]),
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads one byte; 0 bytes (the other end is gone) is `None`.
pub(crate) fn read_byte(fd: RawFd) -> Result<Option<u8>, Errno> {
    let mut byte = 0u8;
    loop {
        match check(call!(libc::SYS_read, fd, &raw mut byte, 1usize)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte)),
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A new file with this content.
pub(crate) fn create_file(dir: RawFd, path: &CStr, mode: c_uint, bytes: &[u8]) -> Result<(), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let fd = openat(dir, path, flags, mode)?;
    let written = write_all(fd, bytes);
    close(fd);
    written
}

pub(crate) fn prctl(option: c_int, two: c_ulong, three: c_ulong) -> Result<(), Errno> {
    let none: c_ulong = 0;
    check(call!(libc::SYS_prctl, option, two, three, none, none)).map(drop)
}

/// Makes every descriptor from `first` on close at exec.
pub(crate) fn close_at_exec_from(first: RawFd) -> Result<(), Errno> {
    match check(call!(libc::SYS_close_range, first, c_uint::MAX, CLOSE_RANGE_CLOEXEC)) {
        // A kernel before 5.11, or one that gVisor plays: one by one, up to the greatest number there can be.
        Err(libc::EINVAL | libc::ENOSYS) => {
            let mut limit = [0u64; 2];
            let none = std::ptr::null::<u64>();
            check(call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, none, limit.as_mut_ptr()))?;
            let [soft, _] = limit;
            for fd in u64::from(first as c_uint)..soft {
                // Most of these numbers are no descriptors.
                let _ = check(call!(libc::SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC));
            }
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Closes all descriptors from `first` to `last`.
pub(crate) fn close_range(first: RawFd, last: c_uint) -> Result<(), Errno> {
    if first as c_uint > last {
        return Ok(());
    }
    check(call!(libc::SYS_close_range, first, last, 0)).map(drop)
}

/// A child with a copy of this process: 0 in the child, its id in the parent.
pub(crate) fn fork() -> Result<c_int, Errno> {
    let flags = libc::SIGCHLD as c_ulong;
    let none: c_ulong = 0;
    check(call!(libc::SYS_clone, flags, none, none, none, none)).map(|pid| pid as c_int)
}

/// Ends the whole process without running anything else.
pub(crate) fn exit(code: c_int) -> ! {
    loop {
        call!(libc::SYS_exit_group, code);
    }
}

/// The file a descriptor is of: device and inode.
pub(crate) fn identity(fd: RawFd) -> Result<(u64, u64), Errno> {
    // SAFETY: all-zero is a valid `stat`, and the kernel writes no more than its size.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a valid place for the answer; the C function only makes the system call.
    check(c_long::from(unsafe { libc::fstat(fd, &raw mut stat) }))?;
    Ok((stat.st_dev, stat.st_ino))
}
