//! Control groups: the hard quotas on memory, processes and processor time.
//!
//! Version 2 where its controllers can be used, else version 1, each beneath the runner's own group so that limits on the
//! runner hold for its boxes. A host without either leaves the softer means, and the report says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::Limits;

const PREFIX: &str = "errand-box-";
/// The kernel's default period of a processor quota, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Where groups for boxes can be made; each controller may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Hosts {
    /// Looks at this host, and removes groups whose runner is gone.
    pub(crate) fn find() -> Hosts {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mounts"));
        let hosts = match unified_candidates(&groups, &mounts).into_iter().find(|parent| works_unified(parent)) {
            Some(parent) => Hosts { unified: Some(parent), ..Hosts::default() },
            None => Hosts {
                unified: None,
                memory: v1_folder("memory", &groups, &mounts).filter(|parent| works(parent, "memory.limit_in_bytes")),
                pids: v1_folder("pids", &groups, &mounts).filter(|parent| works(parent, "pids.max")),
                cpu: v1_folder("cpu", &groups, &mounts).filter(|parent| works(parent, "cpu.cfs_quota_us")),
            },
        };
        for parent in hosts.parents() {
            sweep(parent);
        }
        hosts
    }

    pub(crate) fn has_memory(&self) -> bool {
        self.unified.is_some() || self.memory.is_some()
    }

    pub(crate) fn has_pids(&self) -> bool {
        self.unified.is_some() || self.pids.is_some()
    }

    pub(crate) fn has_cpu(&self) -> bool {
        self.unified.is_some() || self.cpu.is_some()
    }

    fn parents(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.unified, &self.memory, &self.pids, &self.cpu].into_iter().flatten()
    }

    /// Makes the groups of one box, with its limits set and nothing in them.
    pub(crate) fn make(&self, limits: &Limits) -> io::Result<Group> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut group = Group::empty();
        if let Some(parent) = &self.unified {
            let folder = group.folder(Controller::Unified, parent, &name)?;
            // Not every kernel is built with this; without swap it is idle anyway.
            let _ = fs::write(folder.join("memory.swap.max"), "0");
            group.events = Some(folder.join("memory.events"));
            group.peak = Some(folder.join("memory.peak"));
        }
        if let Some(parent) = &self.memory {
            let folder = group.folder(Controller::Memory, parent, &name)?;
            group.events = Some(folder.join("memory.oom_control"));
            group.peak = Some(folder.join("memory.max_usage_in_bytes"));
        }
        if let Some(parent) = &self.pids {
            group.folder(Controller::Processes, parent, &name)?;
        }
        if let Some(parent) = &self.cpu {
            group.folder(Controller::Processor, parent, &name)?;
        }
        group.limit(limits)?;
        Ok(group)
    }
}

/// What a group bounds: version 2 all at once, version 1 each in a tree of its own.
#[derive(Debug, Clone, Copy)]
enum Controller {
    Unified,
    Memory,
    Processes,
    Processor,
}

/// The groups of one box; removed when dropped, after the box is gone.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<(Controller, PathBuf)>,
    events: Option<PathBuf>,
    peak: Option<PathBuf>,
}

impl Group {
    /// No group.
    pub(crate) fn empty() -> Group {
        Group { folders: Vec::new(), events: None, peak: None }
    }

    fn folder(&mut self, controller: Controller, parent: &Path, name: &str) -> io::Result<PathBuf> {
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        self.folders.push((controller, folder.clone()));
        Ok(folder)
    }

    /// Sets the limits, in place of those there are.
    pub(crate) fn limit(&self, limits: &Limits) -> io::Result<()> {
        // Init counts as a process.
        let processes = (limits.processes + 1).to_string();
        let memory = limits.memory_bytes.to_string();
        let quota_us = limits.cpu_milli * CPU_PERIOD_US / 1000;
        for (controller, folder) in &self.folders {
            match controller {
                Controller::Unified => {
                    fs::write(folder.join("memory.max"), &memory)?;
                    fs::write(folder.join("pids.max"), &processes)?;
                    fs::write(folder.join("cpu.max"), format!("{quota_us} {CPU_PERIOD_US}"))?;
                }
                Controller::Memory => set_memory(folder, &memory)?,
                Controller::Processes => fs::write(folder.join("pids.max"), &processes)?,
                Controller::Processor => {
                    fs::write(folder.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string())?;
                    fs::write(folder.join("cpu.cfs_quota_us"), quota_us.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Puts a process, and what it will start, into the groups.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        self.folders.iter().try_for_each(|(_, folder)| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    /// How often the kernel killed a process of the box for memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let text = self.events.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// The greatest memory use so far, where the kernel tells it.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        fs::read_to_string(self.peak.as_ref()?).ok()?.trim().parse().ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, folder) in &self.folders {
            // What cannot be removed now goes at the next start of a runner.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The limit with swap is never below the one without, so which of them is set first depends on what is there.
fn set_memory(folder: &Path, memory: &str) -> io::Result<()> {
    let limit = || fs::write(folder.join("memory.limit_in_bytes"), memory);
    let first = limit();
    // Absent where the kernel does not count swap.
    let _ = fs::write(folder.join("memory.memsw.limit_in_bytes"), memory);
    if first.is_ok() { Ok(()) } else { limit() }
}

/// This process's group in version 2, the one above it, and the top, where the controllers may be usable.
fn unified_candidates(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let Some(top) = mounts.lines().find_map(|line| mount_of(line, "cgroup2", None)) else { return Vec::new() };
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let own = top.join(own);
    let above = own.parent().filter(|parent| parent.starts_with(&top)).map(Path::to_path_buf);
    let mut candidates = vec![own];
    candidates.extend(above);
    candidates.push(top);
    candidates.dedup();
    candidates
}

/// This process's group of a version 1 controller.
fn v1_folder(controller: &str, groups: &str, mounts: &str) -> Option<PathBuf> {
    let top = mounts.lines().find_map(|line| mount_of(line, "cgroup", Some(controller)))?;
    let own = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let folder = top.join(own.trim_start_matches('/'));
    // In a container the path may be that of the host, which is not in view: then the top of the view is the own group.
    Some(if folder.is_dir() { folder } else { top })
}

/// The place of a mount of this type that has this option.
fn mount_of(line: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(1);
    let (place, found, options) = (words.next()?, words.next()?, words.next()?);
    let fits = option.is_none_or(|option| options.split(',').any(|one| one == option));
    (found == kind && fits).then(|| PathBuf::from(place))
}

fn works_unified(parent: &Path) -> bool {
    let has = |file: &str| {
        let text = fs::read_to_string(parent.join(file)).unwrap_or_default();
        ["memory", "pids", "cpu"].iter().all(|name| text.split_whitespace().any(|word| word == *name))
    };
    if !has("cgroup.controllers") {
        return false;
    }
    // Refused where the group has processes of its own; then the next candidate is tried.
    let enabled =
        has("cgroup.subtree_control") || fs::write(parent.join("cgroup.subtree_control"), "+memory +pids +cpu").is_ok();
    enabled && works(parent, "memory.max")
}

/// Whether a group can be made here that has the file.
fn works(parent: &Path, file: &str) -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = parent.join(format!("{PREFIX}{}-try-{number}", std::process::id()));
    if fs::create_dir(&folder).is_err() {
        return false;
    }
    let usable = fs::OpenOptions::new().write(true).open(folder.join(file)).is_ok();
    fs::remove_dir(&folder).is_ok() && usable
}

/// Removes the groups of runners that are gone; those with a live process in them refuse.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_in_what_the_kernel_says() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let groups = "4:memory:/\n2:cpuacct:/\n0::/user.slice/a.scope\n";
        assert_eq!(v1_folder("memory", groups, mounts), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(v1_folder("pids", groups, mounts), None);
        let unified = ["user.slice/a.scope", "user.slice", ""].map(|end| Path::new("/sys/fs/cgroup/unified").join(end));
        assert_eq!(unified_candidates(groups, mounts), unified);
    }

    #[test]
    fn a_version_2_group_gets_all_limits() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Hosts { unified: Some(dir.path().into()), ..Hosts::default() };
        let group = hosts.make(&Limits::default()).unwrap();
        let read = |file: &str| fs::read_to_string(group.folders[0].1.join(file)).unwrap();
        assert_eq!(read("memory.max"), "2147483648");
        assert_eq!(read("pids.max"), "101");
        assert_eq!(read("cpu.max"), "100000 100000");
        fs::write(group.folders[0].1.join("memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        assert_eq!(group.oom_kills(), 2);
        group.add(42).unwrap();
        assert_eq!(read("cgroup.procs"), "42");
    }
}
