//! Figures that are the same in every round, or too long for one: bytes, waiting runs, boxes.

use super::Size;
use super::judge::{Key, Measured};
use super::process::{Done, Folder, Order, Programs, Stub, Talker, errand};
use anyhow::Context;
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// Runs whose bytes are counted together.
const COUNTED: usize = 4;

pub(super) fn measure(programs: &Programs, folder: &Folder, stub: &mut Stub, size: Size) -> anyhow::Result<Vec<Measured>> {
    let mut measured = growth(programs, folder, stub)?;
    measured.extend(waiting(programs, folder, stub, size.waiting)?);
    measured.push(boxes(programs, folder, size.boxes)?);
    Ok(measured)
}

/// Bytes on the disk per run, once the folder was let go of.
fn growth(programs: &Programs, folder: &Folder, stub: &mut Stub) -> anyhow::Result<Vec<Measured>> {
    let mut stored = |runs: usize, steps: usize| -> anyhow::Result<f64> {
        let data = folder.fresh()?;
        let mut ours = Talker::start(&mut errand(programs, stub, "bench", "echo", &data))?;
        let _: Done = ours.order(Order { runs, at_once: 1, steps, name: &format!("bytes-{runs}-{steps}") })?;
        ours.end()?;
        stub.seen()?;
        Ok(bytes(&data)? as f64)
    };
    let empty = stored(0, 1)?;
    let [short, long] = [50, super::round::LONG].map(|steps| stored(COUNTED, steps));
    let per_run = |all: f64| (all - empty) / COUNTED as f64 / 1e3;
    Ok(vec![Measured::pair(Key::Growth, per_run(long?), per_run(short?))])
}

fn bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let (entry, metadata) = entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata)))?;
        sum += if metadata.is_dir() { bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

/// What runs that wait for a person cost in memory: in the process that carried them there, and in the one after it.
fn waiting(programs: &Programs, folder: &Folder, stub: &mut Stub, runs: usize) -> anyhow::Result<Vec<Measured>> {
    let data = folder.fresh()?;
    let busy = |name| Order { runs: 64, at_once: 16, steps: super::round::STEPS, name };
    let wait = |runs, name| Order { runs, at_once: 16, steps: 0, name };
    let start = |data: &Path| Talker::start(&mut errand(programs, stub, "bench", "echo,ask_user", data));

    // The same work first, so that what is compared is the runs that wait and not the room that work takes.
    let mut ours = start(&data)?;
    let _: Done = ours.order(busy("a"))?;
    let _: Done = ours.order(wait(200, "b"))?;
    let before = ours.memory_at_rest()?;
    let _: Done = ours.order(wait(runs, "c"))?;
    let after = ours.memory_at_rest()?;
    ours.end()?;

    let mut fresh = start(&folder.fresh()?)?;
    let _: Done = fresh.order(busy("d"))?;
    let empty = fresh.memory_at_rest()?;
    fresh.end()?;
    let mut again = start(&data)?;
    let _: Done = again.order(busy("e"))?;
    let restarted = again.memory_at_rest()?;
    again.end()?;
    stub.seen()?;
    let more = |after: u64, before: u64| (after as f64 - before as f64) / runs as f64;
    Ok(vec![
        Measured::one(Key::WaitingHere, more(after, before)),
        Measured::one(Key::WaitingRestarted, more(restarted, empty)),
    ])
}

/// `true` in fresh boxes.
fn boxes(programs: &Programs, folder: &Folder, count: usize) -> anyhow::Result<Measured> {
    #[derive(Deserialize)]
    struct Times {
        ours_ns: u64,
        bwrap_ns: Option<u64>,
    }
    let mut command = Command::new(&programs.bench);
    command.args(["boxes", "--boxes", &count.to_string(), "--data"]).arg(folder.fresh()?);
    let output = command.output().context("cannot start errand-bench")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Ok(Measured::missing(Key::Box, error.trim().to_owned()));
    }
    let Times { ours_ns, bwrap_ns } = serde_json::from_slice(&output.stdout)?;
    Ok(match bwrap_ns {
        Some(bwrap_ns) => Measured::pair(Key::Box, ours_ns as f64 / 1e6, bwrap_ns as f64 / 1e6),
        None => Measured::missing(Key::Box, format!("bwrap missing; ours takes {:.2} ms", ours_ns as f64 / 1e6)),
    })
}
