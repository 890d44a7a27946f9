//! Knowing without reading that a file is as it was.
//!
//! A stamp holds what the kernel changes with every write: times, size, inode. It is trusted only where no later write could
//! leave it as it is:
//! - The last change must lie well before the stamp was taken: two writes within a tick of the kernel's clock have one time
//!   ("racily clean").
//! - Nobody may have the file open for writing, or mapped: writes through a mapping show only at the next page fault, and in
//!   memory (tmpfs) not even then.
//! - The clock must not have been set since: a file could be written at an hour that comes twice.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::fs::{Stat, fstatfs};
use rustix::time::{ClockId, clock_gettime};

/// A file changed this shortly before a snapshot could change again without a new time.
const GRAIN: Duration = Duration::from_millis(100);
/// Of `fcntl.h`; which signal tells of a lease.
const F_SETSIG: libc::c_int = 10;
/// Of `linux/magic.h`; they keep files in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58F6;
/// How far the wall clock may run from the steady one without having been set: NTP slews by at most 500 ppm.
const SLEW: Duration = Duration::from_millis(20);

/// What changes when a file does. Not part of the manifest, so that equal content has an equal hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether a write after `clock` is sure to give another stamp.
    pub(super) fn is_settled(&self, clock: &Clock) -> bool {
        let Ok(seconds) = u64::try_from(self.changed.0) else { return false };
        let changed = Duration::new(seconds, u32::try_from(self.changed.1).unwrap_or(0));
        changed.saturating_add(GRAIN) < clock.wall
    }
}

/// What the clocks said at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Since 1970; what file systems stamp with. Can be set.
    pub(super) wall: Duration,
    /// Since the machine started. Cannot.
    pub(super) steady: Duration,
}

impl Clock {
    pub(super) fn now() -> Clock {
        let read = |id| {
            let time = clock_gettime(id);
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Clock { wall: read(ClockId::Realtime), steady: read(ClockId::Boottime) }
    }

    /// Whether the wall clock ran as it should from `earlier` on: neither set, nor another machine's.
    pub(super) fn follows(&self, earlier: &Clock) -> bool {
        let (Some(steady), Some(wall)) = (self.steady.checked_sub(earlier.steady), self.wall.checked_sub(earlier.wall))
        else {
            return false;
        };
        steady.abs_diff(wall) <= SLEW + steady / 1000
    }
}

/// Whether every write shows in a file's stamp on the file system of this folder. Where pages are mapped writable at once no
/// fault follows a write, and so no time.
pub(super) fn stamps_tell_all(folder: impl AsFd) -> bool {
    fstatfs(folder).is_ok_and(|found| !matches!(found.f_type as u64 & 0xFFFF_FFFF, TMPFS_MAGIC | RAMFS_MAGIC))
}

/// Whether somebody else can be writing to the file, now or through a mapping: the kernel gives a read lease only where
/// nobody can. Where it gives none at all (some network file systems), the answer is yes.
///
/// Who opens the file for writing in the moment of the lease waits for its end, and this process is told by a signal: one
/// that is ignored unless somebody handles it, not the usual SIGIO, which would end it.
pub(super) fn may_be_written(file: impl AsFd) -> bool {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: plain integers; the descriptor is open for as long as it is borrowed.
    #[expect(unsafe_code, reason = "leases have no safe form")]
    unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 || libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) != 0 {
            return true;
        }
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_does_not_follow() {
        let at = |wall: u64, steady: u64| Clock { wall: Duration::from_millis(wall), steady: Duration::from_millis(steady) };
        let first = at(1_000_000, 5_000);
        assert!(at(1_000_000, 5_000).follows(&first));
        assert!(at(1_060_010, 65_000).follows(&first), "slewed by NTP");
        for (wall, steady) in [(940_000, 65_000), (1_000_000, 65_000), (1_120_000, 65_000), (1_060_000, 4_000)] {
            assert!(!at(wall, steady).follows(&first), "{wall} {steady}");
        }
        let earlier = Clock::now();
        assert!(Clock::now().follows(&earlier));
    }

    #[test]
    fn a_stamp_of_just_now_or_of_the_future_is_not_settled() {
        let stamp = |ms: i64| Stamp {
            device: 1,
            inode: 1,
            size: 1,
            modified: (0, 0),
            changed: (ms / 1000, (ms % 1000) as u64 * 1_000_000),
        };
        let clock = Clock { wall: Duration::from_millis(10_000), steady: Duration::ZERO };
        assert!(stamp(9_899).is_settled(&clock));
        for ms in [9_900, 10_000, 10_001, 99_000, -1000] {
            assert!(!stamp(ms).is_settled(&clock), "{ms}");
        }
    }
}
