use super::run::{carry, failed, say, summary, terminal};
use super::{Context, command_line, run_id};
use crate::args::Resume;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::follow::{Standing, exit_of, now, standing};
use crate::host::Host;
use crate::live::Live;
use crate::text;
use crate::view::lines::Tone;
use crate::view::{Audience, print_json};
use errand_core::RunId;
use std::collections::BTreeSet;

/// `errand resume`.
pub(super) async fn resume(context: &Context, args: Resume) -> Result<Exit, Error> {
    let config = Config::carrying(&context.global, &args.carry, &context.environment())?;
    let named = args.run.as_deref().map(run_id).transpose()?;
    let mut host = Host::open(&config, &command_line("resume"))?;
    let runs = match (named, host.able().await) {
        (Some(run), _) => vec![run],
        (None, Ok((runs, elsewhere))) => {
            say_elsewhere(&config, &elsewhere);
            runs
        }
        (None, Err(error)) => return failed(host, error).await,
    };
    match runs[..] {
        [] => {
            say(Tone::Dim, &config, "no run can go on by itself; `errand runs` lists those that wait");
            host.close().await?;
            Ok(Exit::Done)
        }
        [run] => {
            let seen = match host.driver.load(run).await {
                Ok(log) if !host.driver.serves(log.run.model()) => {
                    let model = log.run.model();
                    let endpoint = model.endpoint.as_deref().unwrap_or_default();
                    let message = format!(
                        "{run} was begun with model `{}` at {endpoint}, which these settings do not have",
                        model.name
                    );
                    return failed(host, Error::new("model_elsewhere", message)).await;
                }
                Ok(log) => match host.lacks_tools(&log) {
                    Ok(()) => log.run.number,
                    Err(error) => return failed(host, error).await,
                },
                Err(error) => return failed(host, error.into()).await,
            };
            say_from(context, &config, run, seen);
            if let Err(error) = host.start().await {
                return failed(host, error).await;
            }
            carry(context, &config, host, run, seen).await
        }
        _ => match all(context, &config, &mut host, runs).await {
            Ok(exit) => {
                host.close().await?;
                Ok(exit)
            }
            Err(error) => failed(host, error).await,
        },
    }
}

/// Names runs that only other settings can carry on.
fn say_elsewhere(config: &Config, runs: &[RunId]) {
    const SHOWN: usize = 5;
    if runs.is_empty() {
        return;
    }
    let names: Vec<String> = runs.iter().take(SHOWN).map(RunId::to_string).collect();
    let more = if runs.len() > SHOWN { ", …" } else { "" };
    let count = text::plural(runs.len() as u64, "run", "runs");
    let text = format!(
        "{count} left alone, begun with a model or tools that these settings do not have: {}{more}; `errand resume RUN` tells \
         what is missing",
        names.join(", ")
    );
    say(Tone::Notice, config, &text);
}

fn say_from(context: &Context, config: &Config, run: RunId, seen: u64) {
    if context.audience() == Audience::People {
        say(Tone::Dim, config, &format!("{run} goes on after record {seen}"));
    }
}

/// Carries several runs on and tells of each when it has ended or waits.
async fn all(context: &Context, config: &Config, host: &mut Host, runs: Vec<RunId>) -> Result<Exit, Error> {
    say(Tone::Dim, config, &format!("{} runs go on", runs.len()));
    let mut terminal = terminal(context, config)?;
    host.start().await?;
    let mut open: BTreeSet<RunId> = runs.iter().copied().collect();
    let mut worst = Exit::Done;
    let mut look: Vec<RunId> = runs;
    loop {
        for run in std::mem::take(&mut look) {
            let log = host.driver.load(run).await?;
            if open.contains(&run) && standing(&log, now()) != Standing::Going {
                open.remove(&run);
                worst = worse(worst, exit_of(&log.run.head));
                tell(context, config, host, run).await?;
            }
        }
        if open.is_empty() {
            return Ok(worst);
        }
        tokio::select! {
            live = host.live.recv() => match live {
                Some(Live::Recorded { run, .. }) if open.contains(&run) => look.push(run),
                Some(Live::Broken { code, message }) => return Err(Error::new(code, message)),
                Some(_) => {}
                None => return Err(Error::new("engine_stopped", "the engine stopped by itself")),
            },
            signal = terminal.signals.next() => {
                terminal.signals.end_at_once();
                say(Tone::Notice, config, &format!("{} runs are handed over; to go on: errand resume", open.len()));
                return Ok(signal.exit());
            }
        }
    }
}

async fn tell(context: &Context, config: &Config, host: &Host, run: RunId) -> Result<(), Error> {
    let summary = summary(host, run).await?;
    if context.audience() == Audience::Machines {
        print_json(&summary);
    } else {
        summary.lines(false).iter().for_each(|line| say(Tone::Plain, config, line));
    }
    Ok(())
}

/// A failure goes before a person who is needed, that before a budget, that before done.
fn worse(a: Exit, b: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Budget => 1,
        Exit::Person => 2,
        _ => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}
