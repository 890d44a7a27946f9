//! The probe's side in the box: makes every attempt and writes what came of it.
//!
//! Runs where `child` runs: it neither allocates nor locks.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use libc::c_int;

use super::{browser, calls, container, files, identity, network, resources};
use crate::engine::sys::{self, Errno, call, check};

/// What one attempt gave: a number, or the system's refusal.
pub(crate) type Attempted = Result<i64, Errno>;

/// What must come of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// A refusal with one of these.
    Refused(&'static [Errno]),
    /// This number.
    Value(i64),
    /// A number in this range.
    Within(i64, i64),
}

/// One attempt.
pub(crate) struct Spec {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) expect: Expect,
    pub(crate) attempt: fn(&Baits) -> Attempted,
}

/// What lies outside for the attempts to reach for.
#[derive(Debug)]
pub(crate) struct Baits {
    /// A file of the host that everybody may read.
    pub(crate) file: CString,
    /// The folder of the session next to the box's own.
    pub(crate) neighbour: CString,
    /// A listening TCP port on the host's loopback.
    pub(crate) port: u16,
    /// Name of a listening abstract Unix socket of the host, without its leading NUL.
    pub(crate) socket: Vec<u8>,
    /// The runner's process id on the host.
    pub(crate) pid: i32,
    /// Bytes that are more than the box's memory.
    pub(crate) hog_bytes: u64,
    /// In a container: the host's kernel, by which the box sees whether it has one of its own.
    pub(crate) kernel: Option<Kernel>,
    /// The box has the profile of browsers.
    pub(crate) browser: bool,
}

/// What tells one running kernel from another.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Kernel {
    /// `/proc/sys/kernel/random/boot_id`, drawn at each start.
    pub(crate) boot_id: String,
    /// Release and build of `uname`.
    pub(crate) release: String,
    pub(crate) version: String,
}

/// All attempts; the number in the answer counts through them.
pub(crate) const GROUPS: [&[Spec]; 6] =
    [identity::CHECKS, files::CHECKS, calls::CHECKS, network::CHECKS, resources::CHECKS, resources::HEAVY];

/// Where the numbers of the checks begin that concern containers alone.
pub(crate) const CONTAINER_FIRST: u16 = 1000;

/// Where those begin that concern the profile of browsers alone.
pub(crate) const BROWSER_FIRST: u16 = 2000;

pub(crate) const ANSWER_BYTES: usize = 12;

/// Number of the check, whether it gave a number, the number or errno.
pub(crate) fn encode(index: u16, result: Attempted) -> [u8; ANSWER_BYTES] {
    let [a, b] = index.to_le_bytes();
    let (tag, value) = match result {
        Ok(value) => (1, value),
        Err(errno) => (0, i64::from(errno)),
    };
    let [c, d, e, f, g, h, i, j] = value.to_le_bytes();
    [a, b, tag, 0, c, d, e, f, g, h, i, j]
}

pub(crate) fn decode(bytes: [u8; ANSWER_BYTES]) -> (u16, Attempted) {
    let [a, b, tag, _, c, d, e, f, g, h, i, j] = bytes;
    let value = i64::from_le_bytes([c, d, e, f, g, h, i, j]);
    (u16::from_le_bytes([a, b]), if tag == 1 { Ok(value) } else { Err(value as Errno) })
}

/// Makes all attempts; ends with the process.
pub(crate) fn run(baits: &Baits, control: RawFd) -> ! {
    // As a program executed in the box would be, so that `/proc/self` answers alike.
    let _ = sys::prctl(libc::PR_SET_DUMPABLE, 1, 0);
    sys::close(control);
    if baits.kernel.is_some() {
        for (index, spec) in (CONTAINER_FIRST..).zip(container::CHECKS) {
            if sys::write_all(1, &encode(index, (spec.attempt)(baits))).is_err() {
                sys::exit(1);
            }
        }
    }
    if baits.browser {
        for (index, spec) in (BROWSER_FIRST..).zip(browser::CHECKS) {
            if sys::write_all(1, &encode(index, (spec.attempt)(baits))).is_err() {
                sys::exit(1);
            }
        }
    }
    let mut index: u16 = 0;
    for group in GROUPS {
        for spec in group {
            if baits.browser && browser::EXCEPTIONS.contains(&spec.id) {
                index += 1;
                continue;
            }
            let answer = encode(index, (spec.attempt)(baits));
            if sys::write_all(1, &answer).is_err() {
                sys::exit(1);
            }
            index += 1;
        }
    }
    sys::exit(0)
}

pub(crate) fn open(path: &CStr, flags: c_int) -> Attempted {
    let fd = sys::openat(libc::AT_FDCWD, path, flags | libc::O_NONBLOCK, 0o600)?;
    sys::close(fd);
    Ok(0)
}

/// Opens for reading or writing; where the empty device has been put in its place it is as good as absent.
pub(crate) fn open_real(path: &CStr, flags: c_int) -> Attempted {
    let fd = sys::openat(libc::AT_FDCWD, path, flags | libc::O_NONBLOCK, 0)?;
    let (here, null) = (sys::identity(fd), sys::openat(libc::AT_FDCWD, c"/dev/null", libc::O_RDONLY, 0));
    sys::close(fd);
    let null = null?;
    let same = sys::identity(null) == here;
    sys::close(null);
    if same { Err(libc::ENOENT) } else { Ok(0) }
}

/// Creates a file, removing it again if that worked.
pub(crate) fn create(path: &CStr) -> Attempted {
    let result = open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL);
    if result.is_ok() {
        call!(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
    }
    result
}

/// Reads the beginning of a file into a buffer of the caller's.
pub(crate) fn read_into<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let fd = sys::openat(libc::AT_FDCWD, path, libc::O_RDONLY, 0)?;
    let mut length = 0;
    let result = loop {
        let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) else { break Ok(()) };
        match check(call!(libc::SYS_read, fd, rest.as_mut_ptr(), rest.len())) {
            Ok(0) => break Ok(()),
            Ok(count) => length += count as usize,
            Err(errno) => break Err(errno),
        }
    };
    sys::close(fd);
    result.map(|()| buffer.get(..length).unwrap_or(&[]))
}

/// Calls `each` with every name in a folder.
pub(crate) fn each_name(path: &CStr, each: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
    const NAME_AT: usize = 19;
    let fd = sys::openat(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut buffer = [0u8; 4096];
    let result = loop {
        let count = match check(call!(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())) {
            Ok(0) => break Ok(()),
            Ok(count) => count as usize,
            Err(errno) => break Err(errno),
        };
        let mut rest = buffer.get(..count).unwrap_or(&[]);
        // `struct linux_dirent64`: inode 8, offset 8, length 2, type 1, name.
        while let (Some(&low), Some(&high)) = (rest.get(16), rest.get(17)) {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let name = rest.get(NAME_AT..length).unwrap_or(&[]);
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            each(name.get(..end).unwrap_or(&[]));
            rest = rest.get(length.max(1)..).unwrap_or(&[]);
        }
    };
    sys::close(fd);
    result
}

/// Runs something in a child: its wait status.
pub(crate) fn in_child(body: impl FnOnce() -> c_int) -> Attempted {
    match sys::fork()? {
        0 => sys::exit(body()),
        pid => {
            let mut status: c_int = 0;
            let none = std::ptr::null_mut::<u8>();
            check(call!(libc::SYS_wait4, pid, &raw mut status, 0, none))?;
            Ok(i64::from(status))
        }
    }
}

/// A number in some base at the beginning of the bytes, after blanks.
pub(crate) fn number(bytes: &[u8], base: u32) -> (i64, &[u8]) {
    let begin = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    let mut rest = bytes.get(begin..).unwrap_or(&[]);
    let mut value: i64 = 0;
    while let Some((first, others)) = rest.split_first() {
        let Some(digit) = (*first as char).to_digit(base) else { break };
        value = value.wrapping_mul(i64::from(base)).wrapping_add(i64::from(digit));
        rest = others;
    }
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_pipe_and_ids_are_unique() {
        for answer in [Ok(0), Ok(-7), Ok(i64::MAX), Err(libc::EPERM)] {
            assert_eq!(decode(encode(513, answer)), (513, answer));
        }
        let mut ids: Vec<&str> = GROUPS.iter().flat_map(|group| group.iter().map(|spec| spec.id)).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
        assert!(all >= 100, "{all} checks");
    }

    #[test]
    fn numbers_are_read_from_what_the_kernel_writes() {
        assert_eq!(number(b"\t 1000  7", 10), (1000, &b"  7"[..]));
        assert_eq!(number(b"00ff\n", 16).0, 255);
    }

    #[test]
    fn names_of_a_folder_are_all_seen() {
        let mut count = 0;
        each_name(c"/proc/self/task", &mut |name| count += i32::from(name.iter().all(u8::is_ascii_digit))).unwrap();
        assert!(count >= 1);
    }
}
