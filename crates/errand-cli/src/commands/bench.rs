//! `errand bench`: many runs in this process, for `cargo xtask bench`. Not shown in the help.
//!
//! A line `RUNS AT_ONCE STEPS NAME` on standard input is an order; once all its runs have ended or wait for a person, a
//! line with what that cost goes to standard output. A run counts from its task to its last record, as any other does.

use super::start::{self, Chosen};
use super::{Context, command_line};
use crate::args::RunOptions;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::host::Host;
use crate::live::Live;
use crate::stdin::Lines;
use crate::view::print_json;
use errand_core::{RunConfig, Status};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// So many runs of so many steps, so many of them at a time.
struct Order {
    runs: usize,
    at_once: usize,
    steps: u32,
    name: String,
}

/// What an order cost.
#[derive(serde::Serialize)]
struct Done {
    runs: usize,
    wall_ns: u64,
    cpu_ns: u64,
}

/// `errand bench`.
pub(super) async fn bench(context: &Context, options: RunOptions) -> Result<Exit, Error> {
    let config = Config::resolve(&context.global, &options, &context.environment())?;
    let mut host = Host::open(&config, &command_line("bench"))?;
    let Chosen { model, .. } = start::choose(&config, &*host.models).await?;
    let run_config = start::run_config(&config, &host, model, None).await?;
    host.start().await?;
    host.look_from_afar();
    let mut lines = Lines::default();
    while let Some(line) = lines.next().await {
        let order =
            order(&line).ok_or_else(|| Error::new("number_invalid", format!("`{line}` is not RUNS AT_ONCE STEPS NAME")))?;
        print_json(&carry_out(&mut host, &run_config, &order).await?);
    }
    host.close().await?;
    Ok(Exit::Done)
}

fn order(line: &str) -> Option<Order> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [runs, at_once, steps, name] = words[..] else { return None };
    let (runs, at_once, steps) = (runs.parse().ok()?, at_once.parse().ok()?, steps.parse().ok()?);
    Some(Order { runs, at_once, steps, name: name.to_owned() })
}

async fn carry_out(host: &mut Host, config: &RunConfig, order: &Order) -> Result<Done, Error> {
    let (began, cpu_before) = (Instant::now(), cpu());
    let (mut begun, mut settled) = (0, 0);
    while settled < order.runs {
        while begun < order.runs && begun - settled < order.at_once {
            begin(host, config, order, begun).await?;
            begun += 1;
        }
        match host.live.recv().await {
            Some(Live::Recorded { record, .. }) => match &record.record.head.status {
                Status::Running => {}
                Status::Done | Status::Waiting => settled += 1,
                other => return Err(Error::new("engine_stopped", format!("a run ended as {}: {other:?}", other.code()))),
            },
            Some(Live::Broken { code, message }) => return Err(Error::new(code, message)),
            Some(_) => {}
            None => return Err(Error::new("engine_stopped", "the engine stopped by itself")),
        }
    }
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Ok(Done { runs: settled, wall_ns: nanos(began.elapsed()), cpu_ns: nanos(cpu().saturating_sub(cpu_before)) })
}

async fn begin(host: &Host, config: &RunConfig, order: &Order, index: usize) -> Result<(), Error> {
    let task = format!("bench/{}-{index}/{}/", order.name, order.steps);
    let run = start::new_run();
    let order = start::Order { task: &task, files: &[], images: &[], after: None, assistant: None };
    let started = start::started(host, run, config.clone(), order).await?;
    host.driver.create(run, started).await?;
    Ok(())
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_four_words() {
        let order = order("5 2 20 a").unwrap();
        assert_eq!((order.runs, order.at_once, order.steps, order.name.as_str()), (5, 2, 20, "a"));
        assert!(super::order("5 2 20").is_none() && super::order("5 2 x a").is_none());
    }
}
