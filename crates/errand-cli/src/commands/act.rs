//! Commands that do something to a run: through the process that owns the data folder, or as its owner.

use super::run::{carry, failed, say};
use super::{Context, call_id, command_line, run_id, text_or_stdin};
use crate::args::{Answer, Approve, Cancel, Go, Message, Raise, Reject, Resolve};
use crate::config::Config;
use crate::control;
use crate::error::{Error, Exit};
use crate::host::Host;
use crate::operation::{Done, Operation};
use crate::text;
use crate::view::lines::Tone;
use crate::view::{Audience, print, print_json};
use errand_core::{Allowance, Amount, Decision, RunId, Usd};
use errand_engine::ports::World;
use errand_store_local::SystemWorld;
use std::time::Duration;

/// How long an owner that takes no requests is given to let go of the folder: it closes within five seconds.
const OWNER_LEAVES: Duration = Duration::from_secs(6);

pub(super) async fn approve(context: &Context, args: Approve) -> Result<Exit, Error> {
    let decision = match args.arguments {
        Some(arguments) => Decision::Edit { arguments },
        None => Decision::Approve,
    };
    let operation = Operation::Decide { run: run_id(&args.run)?, call: call_id(args.call.as_ref())?, decision };
    act(context, "approve", operation, &args.go).await
}

pub(super) async fn reject(context: &Context, args: Reject) -> Result<Exit, Error> {
    let decision = Decision::Reject { reason: args.reason };
    let operation = Operation::Decide { run: run_id(&args.run)?, call: call_id(args.call.as_ref())?, decision };
    act(context, "reject", operation, &args.go).await
}

pub(super) async fn answer(context: &Context, args: Answer) -> Result<Exit, Error> {
    let (run, call) = (run_id(&args.run)?, call_id(args.call.as_ref())?);
    let operation = Operation::Answer { run, call, text: text_or_stdin(&args.text)? };
    act(context, "answer", operation, &args.go).await
}

pub(super) async fn resolve(context: &Context, args: Resolve) -> Result<Exit, Error> {
    let decision = match args.happened {
        true => Decision::Happened { note: args.note },
        false => Decision::NotHappened { note: args.note },
    };
    let operation = Operation::Decide { run: run_id(&args.run)?, call: call_id(args.call.as_ref())?, decision };
    act(context, "resolve", operation, &args.go).await
}

pub(super) async fn message(context: &Context, args: Message) -> Result<Exit, Error> {
    let operation = Operation::Message { run: run_id(&args.run)?, id: fresh(), text: text_or_stdin(&args.text)? };
    act(context, "message", operation, &args.go).await
}

pub(super) async fn raise(context: &Context, args: Raise) -> Result<Exit, Error> {
    let usd = match &args.usd {
        Some(given) => text::parse_usd(given).ok_or_else(|| {
            let given = text::one_line(given, 40);
            Error::new("budget_invalid", format!("`{given}` is no amount: give dollars such as 0.50"))
        })?,
        None => Usd::ZERO,
    };
    let active_ms = match &args.time {
        Some(given) => crate::config::duration(given)?,
        None => 0,
    };
    let amount = Amount { usd, tokens: args.tokens.unwrap_or(0) };
    let by = Allowance { amount, steps: args.steps.unwrap_or(0), active_ms };
    act(context, "raise", Operation::Raise { run: run_id(&args.run)?, id: fresh(), by }, &args.go).await
}

pub(super) async fn cancel(context: &Context, args: Cancel) -> Result<Exit, Error> {
    let operation = Operation::Cancel { run: run_id(&args.run)?, reason: args.reason };
    let go = Go { no_wait: true, ..Go::default() };
    act(context, "cancel", operation, &go).await
}

/// An id for what a person says once.
fn fresh() -> String {
    format!("{:016x}", SystemWorld.nonce().0)
}

/// Does `operation`, and unless somebody else carries the run on or nobody is to, carries it on.
pub(super) async fn act(context: &Context, command: &str, operation: Operation, go: &Go) -> Result<Exit, Error> {
    let config = Config::carrying(&context.global, &go.carry, &context.environment())?;
    let mut host = match own_or_ask(&config, command, &operation).await? {
        Owner::Other(done) => {
            done_elsewhere(context, &config, &done);
            return Ok(Exit::Done);
        }
        Owner::This(host) => *host,
    };
    let seen = match host.driver.load(operation.run()).await {
        Ok(log) => match host.lacks_tools(&log) {
            // Nothing is written down that this process could only do without the run's tools.
            Err(error) if !go.no_wait => return failed(host, error).await,
            _ => log.run.number,
        },
        Err(error) => return failed(host, error.into()).await,
    };
    let (named, forks) = (operation.run(), matches!(operation, Operation::Fork { .. }));
    let done = match operation.apply(&host.driver, &config.user).await {
        Ok(done) => done,
        Err(error) => return failed(host, error).await,
    };
    if go.no_wait {
        host.close().await?;
        told(context, &config, &done);
        return Ok(Exit::Done);
    }
    if context.audience() == Audience::People {
        say(Tone::Dim, &config, &done.said);
    }
    if let Err(error) = host.start().await {
        return failed(host, error).await;
    }
    let seen = if done.run == named || forks { seen_of(&host, &done, named, seen).await } else { 0 };
    carry(context, &config, host, done.run, seen).await
}

/// The last record that needs no showing: in a fork, all that it shares with its origin.
async fn seen_of(host: &Host, done: &Done, named: RunId, seen: u64) -> u64 {
    if done.run == named {
        return seen;
    }
    let Ok(log) = host.driver.load(done.run).await else { return 0 };
    log.records.iter().take_while(|sealed| sealed.record.run != done.run).count() as u64
}

enum Owner {
    /// This process owns the folder now.
    This(Box<Host>),
    /// Another one does, and has done it.
    Other(Done),
}

async fn own_or_ask(config: &Config, command: &str, operation: &Operation) -> Result<Owner, Error> {
    let begun = std::time::Instant::now();
    loop {
        let held = match Host::open(config, &command_line(command)) {
            Ok(host) => return Ok(Owner::This(Box::new(host))),
            Err(error) if error.code == "data_held" => error,
            Err(error) => return Err(error),
        };
        match control::ask(&config.data, operation, &config.user).await {
            // It was asked while it let go: doing it again as the owner is harmless.
            Some(Err(error)) if error.code == "data_closed" => {}
            Some(answer) => return Ok(Owner::Other(answer?)),
            None => {}
        }
        if begun.elapsed() > OWNER_LEAVES {
            return Err(held);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn done_elsewhere(context: &Context, config: &Config, done: &Done) {
    told(context, config, done);
    if context.audience() == Audience::People {
        say(
            Tone::Dim,
            config,
            &format!("the process that owns the data folder carries it on; watch it: errand events {} --follow", done.run),
        );
    }
}

fn told(context: &Context, _: &Config, done: &Done) {
    if context.audience() == Audience::Machines {
        print_json(&serde_json::json!({"type": "done", "run": done.run, "said": done.said}));
    } else {
        print(&done.said);
    }
}
