//! Looks at a zygote's child from outside before anybody gets it: that it is where its box is, and has nothing more.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use super::launch::Forked;
use super::nest::inside::{MAIN, NAMESPACES};
use super::plan::Stage;
use super::sys;
use crate::error::{Error, Result};

/// The filter of zygotes and the three of boxes.
const FILTERS: u64 = 4;

/// What tells one namespace from another: device and inode.
pub(super) type Identities = Vec<(u64, u64)>;

pub(super) fn identities(namespaces: &[OwnedFd]) -> Result<Identities> {
    let identity = |fd: &OwnedFd| sys::identity(fd.as_raw_fd()).map_err(|errno| super::launch::setup(Stage::Start, errno));
    namespaces.iter().map(identity).collect()
}

/// # Errors
/// [`Error::Setup`] naming what is not as it must be: the child is then not to be used.
pub(super) fn verify(main: &Forked, host_ids: (u32, u32)) -> Result<()> {
    let refuse = |what: String| Error::Setup { stage: "verifying a zygote's child", errno: what };
    let status = fs::read_to_string(format!("/proc/{}/status", main.pid));
    let status = status.map_err(|e| refuse(format!("its status cannot be read: {e}")))?;
    wrong(&status, host_ids).map_or(Ok(()), |what| Err(refuse(what)))?;
    for ((path, _), expected) in NAMESPACES.into_iter().zip(&main.namespaces) {
        let name = path.to_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let found = fs::metadata(format!("/proc/{}/ns/{name}", main.pid));
        let found = found.map_err(|e| refuse(format!("its {name} namespace cannot be seen: {e}")))?;
        use std::os::unix::fs::MetadataExt;
        if (found.dev(), found.ino()) != *expected {
            return Err(refuse(format!("it is not in the {name} namespace of its box")));
        }
    }
    Ok(())
}

/// What in a process's status is not as a box's main process has it.
fn wrong(status: &str, (uid, gid): (u32, u32)) -> Option<String> {
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or("").trim();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if u64::from_str_radix(line(set), 16) != Ok(0) {
            return Some(format!("{set} is {:?}", line(set)));
        }
    }
    let number = |key: &str| line(key).parse::<u64>().ok();
    // Kernels before 5.9 do not tell how many filters there are.
    let filters = number("Seccomp_filters");
    if number("NoNewPrivs") != Some(1) || number("Seccomp") != Some(2) || filters.is_some_and(|count| count < FILTERS) {
        return Some("it has not all of its filters".to_owned());
    }
    let ids = |key: &str, id: u32| line(key).split_whitespace().all(|one| one.parse() == Ok(id)) && !line(key).is_empty();
    if !ids("Uid", uid) || !ids("Gid", gid) || uid == 0 {
        return Some(format!("its ids are {} and {}", line("Uid"), line("Gid")));
    }
    let inner = line("NSpid").split_whitespace().last().and_then(|pid| pid.parse().ok());
    (inner != Some(MAIN)).then(|| "it is not the first in its box".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "Name:\tpython3\nUid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nNSpid:\t4711\t2\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t4\n";

    #[test]
    fn whatever_is_not_as_it_must_be_is_seen() {
        assert_eq!(wrong(WELL, (7, 8)), None);
        for (from, to) in [
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000200000"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
            ("CapAmb:\t0000000000000000\n", ""),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp_filters:\t4", "Seccomp_filters:\t1"),
            ("Uid:\t7\t7\t7\t7", "Uid:\t7\t7\t0\t7"),
            ("Gid:\t8\t8\t8\t8", "Gid:\t8\t8\t8\t9"),
            ("NSpid:\t4711\t2", "NSpid:\t4711\t3"),
            ("NSpid:\t4711\t2", "NSpid:\t4711"),
        ] {
            assert!(WELL.contains(from), "{from}");
            assert!(wrong(&WELL.replace(from, to), (7, 8)).is_some(), "{to}");
        }
        assert!(wrong("", (7, 8)).is_some());
        assert!(wrong(&WELL.replace("7\t7\t7\t7", "0\t0\t0\t0"), (0, 8)).is_some());
    }
}
