//! Looks at a running box from time to time for what the kernel does not bound.

use std::fs;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::exec::Exit;
use crate::limits::Limits;
use crate::session::{Session, walk};

const FIRST_LOOK: Duration = Duration::from_millis(50);
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Looking takes at most this part of the time.
const COST_FACTOR: u32 = 10;

/// Bytes and files in a workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl Usage {
    /// Counts, and stops counting when over the limits. A file counts by its length or its blocks, whichever is more.
    pub(crate) fn of(session: &Session, limits: &Limits) -> Result<Usage> {
        let mut usage = Usage::default();
        let mut over = false;
        let result = walk::walk(session.dir(), "", &mut |found| {
            usage.files += 1;
            if rustix::fs::FileType::from_raw_mode(found.stat.st_mode) == rustix::fs::FileType::RegularFile {
                let length = found.stat.st_size.unsigned_abs();
                let blocks = found.stat.st_blocks.unsigned_abs().saturating_mul(512);
                usage.bytes = usage.bytes.saturating_add(length.max(blocks));
            }
            over = !usage.fits(limits);
            if over { Err(usage.error(limits)) } else { Ok(()) }
        });
        match result {
            Err(_) if over => Ok(usage),
            // Too deep to walk is over the limit as well.
            Err(Error::WorkspaceTooLarge { .. }) => Ok(Usage { files: u64::MAX, ..usage }),
            Err(e) => Err(e),
            Ok(()) => Ok(usage),
        }
    }

    pub(crate) fn fits(self, limits: &Limits) -> bool {
        self.bytes <= limits.workspace_bytes && self.files <= limits.workspace_files
    }

    pub(crate) fn error(self, limits: &Limits) -> Error {
        if self.bytes > limits.workspace_bytes {
            let (value, max) = (self.bytes, limits.workspace_bytes);
            return Error::WorkspaceTooLarge { what: "bytes in the workspace", value, max };
        }
        let (value, max) = (self.files, limits.workspace_files);
        Error::WorkspaceTooLarge { what: "files in the workspace", value, max }
    }
}

/// When to look next.
pub(crate) struct Watch<'a> {
    session: &'a Session,
    limits: &'a Limits,
    /// Add up memory here because no control group does.
    memory_of: Option<i32>,
    pub(crate) next: Instant,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(session: &'a Session, limits: &'a Limits, memory_of: Option<i32>) -> Watch<'a> {
        Watch { session, limits, memory_of, next: Instant::now() + FIRST_LOOK }
    }

    /// Looks when it is time to; a verdict means that the box must be killed.
    pub(crate) fn look(&mut self) -> Option<Exit> {
        let begun = Instant::now();
        if begun < self.next {
            return None;
        }
        let over = Usage::of(self.session, self.limits).is_ok_and(|usage| !usage.fits(self.limits));
        let memory = self.memory_of.map_or(0, memory_beneath);
        self.next = Instant::now() + INTERVAL_MIN.max(begun.elapsed() * COST_FACTOR);
        if over {
            return Some(Exit::OverQuota);
        }
        (memory > self.limits.memory_bytes).then_some(Exit::OutOfMemory)
    }
}

/// Private and shared-memory pages of all descendants of a process; orphans in a box are init's children, so none is missed.
fn memory_beneath(init: i32) -> u64 {
    let mut total = 0;
    let mut pids = children(init);
    while let Some(pid) = pids.pop() {
        total += resident(pid);
        pids.extend(children(pid));
    }
    total
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}

/// Resident pages less those of files.
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|n| n.parse::<u64>().unwrap_or(0));
    let (all, files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    all.saturating_sub(files) * rustix::param::page_size() as u64
}
