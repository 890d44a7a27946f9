//! Fresh boxes in which `true` is run: ours, and bubblewrap's with everything unshared, one after the other.

use anyhow::{Context, ensure};
use errand_sandbox::{Engine, EngineConfig, Exec, Sessions};
use serde::Serialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bubblewrap with everything unshared, the system read-only and a workspace, as our boxes have it.
pub(crate) const BWRAP: &[&str] = &[
    "--unshare-all",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many of each.
    #[arg(long, default_value_t = 20)]
    boxes: usize,
    /// An empty folder for the session.
    #[arg(long)]
    data: PathBuf,
}

#[derive(Serialize)]
struct Times {
    /// Median of ours, nanoseconds.
    ours_ns: u64,
    /// Median of bubblewrap's; none where it is missing or makes no box.
    bwrap_ns: Option<u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let engine = Engine::start(&EngineConfig::default()).context("this machine makes no T1 boxes")?;
    let sessions = Sessions::at(args.data.join("sessions"))?;
    let session = sessions.create("bench")?;
    // The session's own workspace belongs to another user, which bubblewrap cannot enter.
    let workspace = args.data.join("workspace");
    std::fs::create_dir(&workspace)?;
    let has_bwrap = bwrap(&workspace).is_ok();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.boxes.max(1) {
        let began = Instant::now();
        let outcome = engine.run(&session, Exec::new(["/usr/bin/true"]))?;
        ensure!(outcome.success(), "`true` failed in a box: {:?}", outcome.exit);
        ours.push(began.elapsed());
        if has_bwrap {
            let began = Instant::now();
            bwrap(&workspace)?;
            theirs.push(began.elapsed());
        }
    }
    sessions.destroy(session)?;
    let times = Times { ours_ns: median(&mut ours).unwrap_or_default(), bwrap_ns: median(&mut theirs) };
    println!("{}", serde_json::to_string(&times)?);
    Ok(())
}

fn bwrap(workspace: &std::path::Path) -> anyhow::Result<()> {
    let mut command = Command::new("bwrap");
    command.args(BWRAP).arg("--bind").arg(workspace).args(["/workspace", "--chdir", "/workspace", "/usr/bin/true"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "bubblewrap makes no box here: {status}");
    Ok(())
}

fn median(times: &mut [Duration]) -> Option<u64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
