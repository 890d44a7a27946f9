//! One round: every figure that varies, ours and its floor in turns.

use super::Size;
use super::judge::{Key, Measured};
use super::process::{Folder, Order, Programs, Seen, Stub, Talker, errand, floor};
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Steps of a run: that many calls of the tool, then the answer.
pub(super) const STEPS: usize = 20;
/// Steps of a long run.
pub(super) const LONG: usize = 200;
/// Runs at a time where they are to share.
const TOGETHER: usize = 16;
/// Runs at a time after which memory is looked at.
const CROWD: usize = 64;

pub(super) fn measure(programs: &Programs, folder: &Folder, stub: &mut Stub, size: Size) -> anyhow::Result<Vec<Measured>> {
    let mut measured = starts(programs, folder, stub, size.starts)?;
    let [none, each, grouped, ours] = [folder.fresh()?, folder.fresh()?, folder.fresh()?, folder.fresh()?];
    let mut none = Talker::start(&mut floor(programs, stub, "none", &none))?;
    let mut each = Talker::start(&mut floor(programs, stub, "each", &each))?;
    let mut grouped = Talker::start(&mut floor(programs, stub, "grouped", &grouped))?;
    let mut ours = Talker::start(&mut errand(programs, stub, "bench", "echo", &ours))?;
    for talker in [&mut none, &mut each, &mut grouped, &mut ours] {
        order(talker, stub, Order { runs: TOGETHER, at_once: TOGETHER, steps: STEPS, name: "warm" })?;
    }

    let alone = turns([&mut none, &mut each, &mut ours], stub, size.turns, size.runs[0], 1)?;
    let [_, floor, us] = &alone;
    measured.push(Measured::pair(Key::CpuAlone, us.cpu_us_step(), floor.cpu_us_step()));
    measured.push(Measured::pair(Key::Gap, us.gap_us(), floor.gap_us()));
    measured.push(Measured::note("floor without a store, CPU per step, 1 run, us", alone[0].cpu_us_step()));
    measured.push(Measured::note("gap p99, ours, us", us.gap_p99_us()));
    measured.push(Measured::note("gap p99, floor, us", floor.gap_p99_us()));

    let together = turns([&mut none, &mut grouped, &mut ours], stub, size.turns, size.runs[1], TOGETHER)?;
    let [_, floor, us] = &together;
    measured.push(Measured::pair(Key::CpuTogether, us.cpu_us_step(), floor.cpu_us_step()));
    measured.push(Measured::pair(Key::Throughput, us.runs_per_s(), floor.runs_per_s()));
    measured.push(Measured::note("floor without a store, CPU per step, 16 runs, us", together[0].cpu_us_step()));
    // Both send the same, but for the order of words.
    measured.push(Measured::note("longest request, ours, bytes", us.bytes_max()));
    measured.push(Measured::note("longest request, floor, bytes", floor.bytes_max()));

    let mut long = Vec::new();
    for talker in [&mut none, &mut ours] {
        long.push(order(talker, stub, Order { runs: 2, at_once: 1, steps: LONG, name: "long" })?.tenths_us()?);
    }
    let [(none_first, none_last), (first, last)] = long[..] else { unreachable!("two were pushed") };
    measured.push(Measured::pair(Key::Flat, last - none_last, first - none_first));
    measured.push(Measured::note("gap in the first tenth of 200 steps, ours, us", first));
    measured.push(Measured::note("gap in the last tenth of 200 steps, ours, us", last));
    measured.push(Measured::note("gap in the first tenth of 200 steps, no store, us", none_first));
    measured.push(Measured::note("gap in the last tenth of 200 steps, no store, us", none_last));

    let crowd = order(&mut ours, stub, Order { runs: 2 * CROWD, at_once: CROWD, steps: STEPS, name: "crowd" })?;
    measured.push(Measured::one(Key::Memory, ours.memory_at_rest()? as f64 / 1e6));
    measured.push(Measured::note("CPU per step, 64 runs, ours, us", crowd.cpu_us_step()));
    measured.push(Measured::note("runs/s, 64 runs, ours", crowd.runs_per_s()));
    for talker in [none, each, grouped, ours] {
        talker.end()?;
    }
    Ok(measured)
}

/// From starting the program to the model's first request: the medians of a few.
fn starts(programs: &Programs, folder: &Folder, stub: &mut Stub, count: usize) -> anyhow::Result<Vec<Measured>> {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let data = folder.fresh()?;
        let begun = now()?;
        let mut talker = Talker::start(&mut floor(programs, stub, "each", &data))?;
        let _: super::process::Done = talker.order(Order { runs: 1, at_once: 1, steps: 1, name: "start" })?;
        talker.end()?;
        floors.push(since(&stub.seen()?, begun)?);

        let data = folder.fresh()?;
        let mut command = errand(programs, stub, "run", "echo", &data);
        let begun = now()?;
        run_once(command.arg("bench/start/1/"), &data)?;
        ours.push(since(&stub.seen()?, begun)?);
    }
    Ok(vec![Measured::pair(Key::Start, median(&mut ours), median(&mut floors))])
}

fn run_once(command: &mut Command, data: &Path) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "`errand run` over {} ended with {status}", data.display());
    Ok(())
}

fn now() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

fn since(seen: &Seen, begun: u64) -> anyhow::Result<f64> {
    let first = seen.first_ns.context("the model was not asked")?;
    Ok(first.saturating_sub(begun) as f64 / 1e6)
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What came of one program's turns.
struct Turns {
    cpu_ns: u64,
    wall_ns: u64,
    runs: usize,
    steps: usize,
    seen: Vec<Seen>,
}

/// Lets the programs carry out the same in turns.
fn turns<const N: usize>(
    talkers: [&mut Talker; N],
    stub: &mut Stub,
    turns: usize,
    runs: usize,
    at_once: usize,
) -> anyhow::Result<[Turns; N]> {
    let mut all: [Turns; N] = std::array::from_fn(|_| Turns { cpu_ns: 0, wall_ns: 0, runs: 0, steps: STEPS, seen: vec![] });
    for turn in 0..turns {
        for index in 0..N {
            // Every second time the other way round, so that nobody always comes after the same.
            let index = if turn % 2 == 0 { index } else { N - 1 - index };
            let name = format!("t{at_once}-{turn}");
            let one = order(talkers[index], stub, Order { runs, at_once, steps: STEPS, name: &name })?;
            let sum = &mut all[index];
            (sum.cpu_ns, sum.wall_ns, sum.runs) = (sum.cpu_ns + one.cpu_ns, sum.wall_ns + one.wall_ns, sum.runs + one.runs);
            sum.seen.extend(one.seen);
        }
    }
    Ok(all)
}

/// Carries out one order, and makes sure that the model was asked as often as it should have been.
fn order(talker: &mut Talker, stub: &mut Stub, order: Order<'_>) -> anyhow::Result<Turns> {
    let done = talker.order(order)?;
    let seen = stub.seen()?;
    let expected = done.runs * (order.steps + 1);
    ensure!(seen.requests == expected, "the model was asked {} times, not {expected}: {order:?}", seen.requests);
    Ok(Turns { cpu_ns: done.cpu_ns, wall_ns: done.wall_ns, runs: done.runs, steps: order.steps, seen: vec![seen] })
}

impl Turns {
    /// A step: a call of the model and of the tool, and the record; the answer at the end counts as one.
    fn cpu_us_step(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / (self.runs * (self.steps + 1)) as f64
    }

    fn runs_per_s(&self) -> f64 {
        self.runs as f64 / (self.wall_ns as f64 / 1e9)
    }

    /// Median over the turns.
    fn gap_us(&self) -> f64 {
        self.median(|seen| seen.gap_p50_ns)
    }

    fn gap_p99_us(&self) -> f64 {
        self.median(|seen| seen.gap_p99_ns)
    }

    fn tenths_us(&self) -> anyhow::Result<(f64, f64)> {
        ensure!(!self.seen.is_empty(), "the model was not asked");
        Ok((self.median(|seen| seen.gap_tenths_ns[0]), self.median(|seen| seen.gap_tenths_ns[1])))
    }

    fn bytes_max(&self) -> f64 {
        self.seen.iter().map(|seen| seen.bytes[1]).max().unwrap_or(0) as f64
    }

    fn median(&self, of: impl Fn(&Seen) -> Option<u64>) -> f64 {
        let mut values: Vec<f64> = self.seen.iter().filter_map(of).map(|ns| ns as f64 / 1e3).collect();
        median(&mut values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_nothing_is_no_number() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }
}
