//! Memory of the processes below this one, and of the kernel.

/// Bytes at one moment.
pub(super) struct Use {
    processes: f64,
    kernel: f64,
}

/// What one more takes.
pub(super) struct Each {
    processes: f64,
    kernel: f64,
}

impl Use {
    pub(super) fn now() -> anyhow::Result<Use> {
        Ok(Use { processes: of_descendants() as f64, kernel: of_kernel()? as f64 })
    }

    pub(super) fn each(&self, before: &Use, count: usize) -> Each {
        let each = |now: f64, then: f64| (now - then) / count as f64;
        Each { processes: each(self.processes, before.processes), kernel: each(self.kernel, before.kernel) }
    }
}

impl Each {
    pub(super) fn print(&self) {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let all = mib(self.processes + self.kernel);
        let met = if all <= 2.0 { "met" } else { "missed" };
        println!(
            "memory of one more parked Python box: {all:.2} MiB ({:.2} proportional set size of its processes, {:.2} kernel); goal 2, {met}",
            mib(self.processes),
            mib(self.kernel)
        );
    }
}

/// Proportional set size of all processes below this one.
fn of_descendants() -> u64 {
    let mut pids: Vec<String> = children("self");
    let mut next = 0;
    while let Some(pid) = pids.get(next) {
        let below = children(pid);
        pids.extend(below);
        next += 1;
    }
    let kilobytes = pids.iter().filter_map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
    });
    kilobytes.sum::<u64>() * 1024
}

/// Of the whole machine, so that namespaces, mounts and groups are in it.
fn of_kernel() -> anyhow::Result<u64> {
    const PARTS: [&str; 5] = ["Slab:", "KernelStack:", "PageTables:", "SecPageTables:", "Percpu:"];
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let lines = text.lines().filter(|line| PARTS.iter().any(|part| line.starts_with(part)));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1024)
}

fn children(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}
