//! Whose files a workspace holds: as root an id of its own per session, else the user's.
//!
//! The host's uid 0 is never mapped into a box. As root each live session gets one of 4095 ids between 0x7000_0000
//! and 0x7FFE_0000, 65,536 apart so that the range above each is the session's own. That area is unassigned in
//! systemd's "Users, Groups, UIDs and GIDs on systemd systems" (checked 2026-11-21). Where this process cannot use
//! it (root of a user namespace itself), single ids below the end of its own map are taken.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

const FIRST_SLOT: u32 = 1;
const LAST_SLOT: u32 = 0xFFE;

/// The ids that own a session's files on the host, and that its boxes run as.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// As root: the slot, and the lock that keeps other sessions of this host off it.
    slot: Option<Slot>,
}

/// A lease on one of the host's ids.
#[derive(Debug)]
struct Slot {
    number: u32,
    _lock: File,
}

impl Owner {
    /// Takes an owner for a session; `wanted` is the slot its files belong to already.
    pub(crate) fn take(locks: &Path, wanted: Option<u32>) -> Result<Owner> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            return Ok(Owner { uid: uid.as_raw(), gid: gid.as_raw(), slot: None });
        }
        private_folder(locks)?;
        let span = id_span()?;
        let first = std::process::id() % LAST_SLOT;
        let rotation = (0..LAST_SLOT).map(|n| FIRST_SLOT + (first + n) % LAST_SLOT);
        for slot in wanted.into_iter().chain(rotation) {
            let Some(id) = span.id(slot) else { continue };
            if let Some(lock) = lock_slot(locks, slot)? {
                return Ok(Owner { uid: id, gid: id, slot: Some(Slot { number: slot, _lock: lock }) });
            }
        }
        Err(Error::Io {
            action: "finding a free user id for the session (close other sessions)",
            path: locks.into(),
            source: std::io::Error::from(std::io::ErrorKind::ResourceBusy),
        })
    }

    /// The slot to ask for when the session is opened again.
    pub(crate) fn slot(&self) -> Option<u32> {
        self.slot.as_ref().map(|slot| slot.number)
    }

    /// Whether files made from outside must be given to this owner.
    pub(crate) fn needs_chown(&self) -> bool {
        self.slot.is_some()
    }
}

/// Which ids this process may hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdSpan {
    /// The whole host range: one id every 65,536.
    Wide,
    /// Ids counted down from here.
    Narrow { end: u32 },
}

impl IdSpan {
    fn id(self, slot: u32) -> Option<u32> {
        match self {
            IdSpan::Wide => (slot <= LAST_SLOT).then(|| 0x7000_0000 + slot * 0x1_0000),
            IdSpan::Narrow { end } => end.checked_sub(slot).filter(|id| *id >= 1000),
        }
    }
}

/// Whether the ids next to each of those handed out are nobody's: not where they are counted down one by one.
pub(crate) fn has_ranges() -> bool {
    id_span().is_ok_and(|span| span == IdSpan::Wide)
}

/// As root: the first of all ids that sessions may have, and how many follow.
pub(crate) fn span() -> Result<(u32, u32)> {
    Ok(match id_span()? {
        IdSpan::Wide => (0x7000_0000, 0x0FFF_0000),
        IdSpan::Narrow { end } => (1000, end - 1000),
    })
}

fn id_span() -> Result<IdSpan> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|e| Error::io("reading the id map", path, e));
    span_of(&read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?).ok_or_else(|| Error::Io {
        action: "finding user ids to give to sessions",
        path: "/proc/self/uid_map".into(),
        source: std::io::Error::other("root here may use no other user id"),
    })
}

fn span_of(uid_map: &str, gid_map: &str) -> Option<IdSpan> {
    let largest = |map: &str| {
        let extents = map.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().ok());
            let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some((inside, count))
        });
        extents.max_by_key(|(_, count)| *count)
    };
    let (uid, gid) = (largest(uid_map)?, largest(gid_map)?);
    let end = (uid.0 + uid.1).min(gid.0 + gid.1);
    if uid.0 == 0 && gid.0 == 0 && end > 0x7FFF_FFFF {
        return Some(IdSpan::Wide);
    }
    let lowest = uid.0.max(gid.0);
    // 65534 and 65535 mean "nobody" and "no id" to many programs.
    let end = if end == 65_536 { 65_534 } else { end };
    (end > lowest + 2000).then_some(IdSpan::Narrow { end: u32::try_from(end).ok()? })
}

fn lock_slot(locks: &Path, slot: u32) -> Result<Option<File>> {
    let path = locks.join(slot.to_string());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&path)
        .map_err(|e| Error::io("opening a session's id lock", &path, e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(Error::io("locking a session's id", path, e)),
    }
}

/// Makes a folder only this user can enter, or refuses one that others could have made.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| Error::io("making a private folder", path, e))?;
    let meta = std::fs::symlink_metadata(path).map_err(|e| Error::io("examining a folder", path, e))?;
    let own = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if own {
        return Ok(());
    }
    Err(Error::Io {
        action: "trusting a folder that belongs to someone else or that others may write to",
        path: path.into(),
        source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_never_the_hosts_own() {
        let host = "         0          0 4294967295\n";
        assert_eq!(span_of(host, host), Some(IdSpan::Wide));
        assert_eq!(IdSpan::Wide.id(1), Some(0x7001_0000));
        assert_eq!(IdSpan::Wide.id(LAST_SLOT), Some(0x7FFE_0000));
        assert_eq!(IdSpan::Wide.id(LAST_SLOT + 1), None);
        let rootless = "0 1000 1\n1 100000 65536\n";
        assert_eq!(span_of(rootless, rootless), Some(IdSpan::Narrow { end: 65_537 }));
        assert_eq!(span_of("0 1000 1\n", "0 1000 1\n"), None);
        assert_eq!(IdSpan::Narrow { end: 1500 }.id(600), None);
    }

    #[test]
    fn two_owners_differ_and_a_wanted_slot_is_taken_if_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = Owner::take(dir.path(), None).unwrap();
        let Some(slot) = first.slot() else {
            eprintln!("skipped: only root gives ids of their own to sessions");
            return;
        };
        let second = Owner::take(dir.path(), Some(slot)).unwrap();
        assert_ne!(first.uid, second.uid);
        drop(first);
        assert_eq!(Owner::take(dir.path(), Some(slot)).unwrap().slot(), Some(slot));
    }
}
