//! R: what a box can use up. Made with the small limits of [`limits`].

use std::time::Duration;

use libc::{EACCES, EAGAIN, EFBIG, EINVAL, EMFILE, ENOMEM, ENOSPC, ENOSYS, EPERM, c_int};

use super::inside::{Attempted, Expect, Spec, in_child};
use crate::engine::sys::{self, call, check};
use crate::limits::Limits;

const PROCESSES: u64 = 12;
const OPEN_FILES: u64 = 64;
const MEMORY: u64 = 24 << 20;
const WORKSPACE: u64 = 1 << 20;
const TMP: u64 = 256 << 10;

/// Limits of the probe's box: small, so that going past them is quick.
pub(crate) fn limits() -> Limits {
    Limits {
        wall: Duration::from_secs(5),
        grace: Duration::ZERO,
        memory_bytes: MEMORY,
        processes: PROCESSES,
        open_files: OPEN_FILES,
        output_bytes: 64 << 10,
        output_file_bytes: 0,
        tmp_bytes: TMP,
        workspace_bytes: WORKSPACE,
        workspace_files: 100,
        ..Limits::default()
    }
}

pub(crate) const CHECKS: &[Spec] = &[
    Spec {
        id: "R02",
        what: "a file beyond the workspace's quota",
        expect: Expect::Refused(&[EFBIG]),
        attempt: |_| large_file(),
    },
    Spec { id: "R04", what: "size of a core dump", expect: Expect::Value(0), attempt: |_| hard_limit(libc::RLIMIT_CORE) },
    Spec { id: "R05", what: "raise a limit", expect: Expect::Refused(&[EPERM]), attempt: |_| raise() },
    Spec { id: "R06", what: "open files without end", expect: Expect::Refused(&[EMFILE]), attempt: |_| many_files() },
    Spec {
        id: "R07",
        what: "real-time scheduling",
        expect: Expect::Refused(&[EPERM, ENOSYS]),
        attempt: |_| {
            let priority: c_int = 1;
            check(call!(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const priority))
        },
    },
    Spec {
        id: "R07-nice",
        what: "more than its share of the processor",
        expect: Expect::Refused(&[EACCES, EPERM]),
        attempt: |_| check(call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, -5)),
    },
    Spec { id: "R08", what: "files in /tmp without end", expect: Expect::Refused(&[ENOSPC]), attempt: |_| many_names() },
    Spec {
        id: "R09",
        what: "a file in memory without end",
        expect: Expect::Refused(&[EFBIG, ENOMEM]),
        attempt: |_| memory_file(),
    },
    Spec {
        id: "R10",
        what: "bytes in /tmp without end",
        expect: Expect::Refused(&[ENOSPC, ENOMEM]),
        attempt: |_| fill_tmp(),
    },
];

/// Attempts on the quotas that a host may lack; they come last because they use up the box.
pub(crate) const HEAVY: &[Spec] = &[
    Spec {
        id: PROCESSES_ID,
        what: "processes started until refused",
        expect: Expect::Within(1, PROCESSES as i64),
        attempt: |_| fork_bomb(),
    },
    Spec {
        id: MEMORY_ID,
        what: "memory beyond the quota",
        expect: Expect::Refused(&[ENOMEM]),
        attempt: |baits| memory_hog(baits.hog_bytes),
    },
];
/// Decides over the quota of processes.
pub(crate) const PROCESSES_ID: &str = "R01";
/// Decides over the quota of memory.
pub(crate) const MEMORY_ID: &str = "R03";

/// Going past the file limit sends a deadly signal unless it is ignored.
fn ignore_file_signal() {
    let ignore: [u64; 4] = [libc::SIG_IGN as u64, 0, 0, 0];
    let none = std::ptr::null_mut::<u64>();
    call!(libc::SYS_rt_sigaction, libc::SIGXFSZ, ignore.as_ptr(), none, 8usize);
}

fn large_file() -> Attempted {
    ignore_file_signal();
    let path = c"/workspace/.errand-probe-large";
    let fd = sys::openat(libc::AT_FDCWD, path, libc::O_RDWR | libc::O_CREAT, 0o600)?;
    let result = check(call!(libc::SYS_ftruncate, fd, WORKSPACE + 1));
    sys::close(fd);
    call!(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
    result
}

fn memory_file() -> Attempted {
    let fd = check(call!(libc::SYS_memfd_create, c"probe".as_ptr(), libc::MFD_CLOEXEC))? as i32;
    let result = check(call!(libc::SYS_ftruncate, fd, 8 * WORKSPACE));
    sys::close(fd);
    result
}

fn limit(resource: u32) -> Result<[u64; 2], sys::Errno> {
    let mut both = [0u64; 2];
    let none = std::ptr::null::<u64>();
    check(call!(libc::SYS_prlimit64, 0, resource, none, both.as_mut_ptr()))?;
    Ok(both)
}

fn hard_limit(resource: u32) -> Attempted {
    let [_, hard] = limit(resource)?;
    i64::try_from(hard).map_err(|_| EINVAL)
}

fn raise() -> Attempted {
    let [_, hard] = limit(libc::RLIMIT_NOFILE)?;
    let more = [hard + 1, hard + 1];
    let none = std::ptr::null_mut::<u64>();
    check(call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, more.as_ptr(), none))
}

fn many_files() -> Attempted {
    let mut last = 2;
    let refused = loop {
        match check(call!(libc::SYS_fcntl, 1, libc::F_DUPFD_CLOEXEC, 3)) {
            Ok(fd) if fd > OPEN_FILES as i64 * 2 => break Ok(fd),
            Ok(fd) => last = last.max(fd as i32),
            Err(errno) => break Err(errno),
        }
    };
    // Nothing but copies lies above 2: all that the child brought along closes at exec, and nothing is needed any more.
    let _ = sys::close_range(3, last as u32);
    refused
}

/// Makes files named by a number in /tmp until that is refused, then removes them.
fn many_names() -> Attempted {
    let mut result = Ok(0);
    let mut made = 0u32;
    while made < 5000 {
        match sys::create_file(libc::AT_FDCWD, &name_of(made), 0o600, b"") {
            Ok(()) => made += 1,
            Err(errno) => {
                result = Err(errno);
                break;
            }
        }
    }
    for number in 0..made {
        call!(libc::SYS_unlinkat, libc::AT_FDCWD, name_of(number).as_ptr(), 0);
    }
    result
}

/// `/tmp/p` and four digits, without allocating.
fn name_of(number: u32) -> Name {
    let digit = |place: u32| b'0' + (number / place % 10) as u8;
    Name([b'/', b't', b'm', b'p', b'/', b'p', digit(1000), digit(100), digit(10), digit(1), 0])
}

struct Name([u8; 11]);

impl std::ops::Deref for Name {
    type Target = std::ffi::CStr;

    fn deref(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

fn fill_tmp() -> Attempted {
    let path = c"/tmp/errand-probe-full";
    let fd = sys::openat(libc::AT_FDCWD, path, libc::O_WRONLY | libc::O_CREAT, 0o600)?;
    let block = [1u8; 4096];
    let mut result = Ok(0);
    for _ in 0..(2 * TMP / 4096) {
        if let Err(errno) = sys::write_all(fd, &block) {
            result = Err(errno);
            break;
        }
    }
    sys::close(fd);
    call!(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
    result
}

/// How many processes could be started before the refusal; the box must survive it.
fn fork_bomb() -> Attempted {
    let mut started = 0;
    let refused = loop {
        match sys::fork() {
            Ok(0) => loop {
                let none = std::ptr::null::<u8>();
                call!(libc::SYS_ppoll, none, 0, none, none, 0);
            },
            Ok(_) if started > 3 * PROCESSES as i64 => break Ok(started),
            Ok(_) => started += 1,
            Err(EAGAIN) => break Ok(started),
            Err(errno) => break Err(errno),
        }
    };
    call!(libc::SYS_kill, -1, libc::SIGKILL);
    let none = std::ptr::null_mut::<u8>();
    while check(call!(libc::SYS_wait4, -1, none, 0, none)).is_ok() {}
    refused
}

/// A child touches more than the quota: refused, or killed for it, which counts as a refusal.
fn memory_hog(bytes: u64) -> Attempted {
    let status = in_child(|| {
        let length = bytes as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let none = std::ptr::null_mut::<u8>();
        let Ok(address) = check(call!(libc::SYS_mmap, none, length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0))
        else {
            return 1;
        };
        for offset in (0..length).step_by(4096) {
            // SAFETY: the kernel has just given us these `length` bytes for writing.
            unsafe { (address as *mut u8).add(offset).write_volatile(1) };
        }
        0
    })? as c_int;
    let refused = libc::WIFSIGNALED(status) || libc::WEXITSTATUS(status) == 1;
    if refused { Err(ENOMEM) } else { Ok(0) }
}
