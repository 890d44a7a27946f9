//! Looks at a running box from time to time for what the kernel does not bound.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
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
    /// Process ids of the box's init and of a main process that is not its child.
    roots: Vec<i32>,
    /// Add up memory here because no control group does.
    watch_memory: bool,
    pub(crate) next: Instant,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(session: &'a Session, limits: &'a Limits, roots: Vec<i32>, watch_memory: bool) -> Watch<'a> {
        Watch { session, limits, roots, watch_memory, next: Instant::now() + FIRST_LOOK }
    }

    /// Looks when it is time to; a verdict means that the box must be killed.
    pub(crate) fn look(&mut self) -> Option<Exit> {
        let begun = Instant::now();
        if begun < self.next {
            return None;
        }
        let pids = descendants(&self.roots);
        let visible = Usage::of(self.session, self.limits).unwrap_or_default();
        let bytes = visible.bytes.saturating_add(nameless_bytes(self.session, &pids));
        let over = !Usage { bytes, ..visible }.fits(self.limits);
        let memory = if self.watch_memory { pids.iter().map(|pid| resident(*pid)).sum() } else { 0 };
        self.next = Instant::now() + INTERVAL_MIN.max(begun.elapsed() * COST_FACTOR);
        if over {
            return Some(Exit::OverQuota);
        }
        (memory > self.limits.memory_bytes).then_some(Exit::OutOfMemory)
    }
}

/// All processes of a box but init, the last of its roots; orphans in a box are init's children, so none is missed.
pub(crate) fn descendants(roots: &[i32]) -> Vec<i32> {
    let Some((init, others)) = roots.split_last() else { return Vec::new() };
    let mut all = others.to_vec();
    all.extend(children(*init));
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children(*pid));
        next += 1;
    }
    all
}

/// Bytes of files of the workspace that were removed and are open still: they take room without a name.
fn nameless_bytes(session: &Session, pids: &[i32]) -> u64 {
    let Ok(workspace) = rustix::fs::fstat(session.dir()) else { return 0 };
    let folders = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    let files = folders.flatten().flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
    let nameless = files.filter(|file| file.is_file() && file.nlink() == 0 && file.dev() == workspace.st_dev);
    let by_inode: BTreeMap<u64, u64> = nameless.map(|file| (file.ino(), file.blocks() * 512)).collect();
    by_inode.values().sum()
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
