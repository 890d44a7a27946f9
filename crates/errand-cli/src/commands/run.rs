use super::assistants;
use super::start::{self, Chosen, Order};
use super::{Context, command_line, run_id, text_or_stdin};
use crate::args::Run;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::files::Workspace;
use crate::follow::{self, Ending, Terminal, follow};
use crate::host::Host;
use crate::signals::Signals;
use crate::stdin::Lines;
use crate::summary::Summary;
use crate::view::lines::Tone;
use crate::view::{Audience, View, paint, print, print_json};
use errand_core::RunId;
use std::io::{IsTerminal, Write};

/// `errand run`.
pub(super) async fn run(context: &Context, args: Run) -> Result<Exit, Error> {
    let (config, assistant) = assistants::resolve(context, &args.options).await?;
    let task = text_or_stdin(&args.task)?;
    let after = args.thread.as_deref().map(run_id).transpose()?;
    start::check_task(&task, errand_core::Limits::default().task_bytes)?;
    let mut host = Host::open(&config, &command_line("run"))?;
    let order = Order { task: &task, files: &args.file, images: &args.image, after, assistant: assistant.as_ref() };
    let begun = begin(&mut host, &config, context.audience(), order).await;
    let run = match begun {
        Ok(run) => run,
        Err(error) => return failed(host, error).await,
    };
    carry(context, &config, host, run, 0).await
}

/// Starts a run on a host that carries nothing yet.
pub(super) async fn begin(host: &mut Host, config: &Config, audience: Audience, order: Order<'_>) -> Result<RunId, Error> {
    let Chosen { model, why } = start::choose(config, &*host.models).await?;
    if let Some(why) = why.filter(|_| audience == Audience::People) {
        say(Tone::Dim, config, &format!("model {}: {why}", model.name));
    }
    let run_config = start::run_config(config, host, model, order.assistant).await?;
    let run = start::new_run();
    let started = start::started(host, run, run_config, order).await?;
    host.start().await?;
    tell_others(host, config, audience).await?;
    Ok(host.driver.create(run, started).await?)
}

/// Starts a run on a host that carries runs already.
pub(super) async fn begin_turn(
    host: &Host,
    config: &Config,
    model: errand_core::ModelChoice,
    order: Order<'_>,
) -> Result<RunId, Error> {
    let run_config = start::run_config(config, host, model, order.assistant).await?;
    let run = start::new_run();
    let started = start::started(host, run, run_config, order).await?;
    Ok(host.driver.create(run, started).await?)
}

/// Says which other runs go on as well.
pub(super) async fn tell_others(host: &Host, config: &Config, audience: Audience) -> Result<(), Error> {
    let (able, _) = host.able().await?;
    if !able.is_empty() && audience == Audience::People {
        let names: Vec<String> = able.iter().map(RunId::to_string).collect();
        say(Tone::Dim, config, &format!("unfinished runs go on meanwhile: {}", names.join(", ")));
    }
    Ok(())
}

/// Follows a run to its end or until a person is needed, lets go of the host, and prints how the run stands.
/// `seen`: the last record that needs no showing.
pub(super) async fn carry(context: &Context, config: &Config, host: Host, run: RunId, seen: u64) -> Result<Exit, Error> {
    let mut host = host;
    let mut terminal = match terminal(context, config) {
        Ok(terminal) => terminal,
        Err(error) => return failed(host, error).await,
    };
    let followed = match view(context, config, &host, run, seen).await {
        Ok(mut view) => follow(&mut host, &mut view, &mut terminal).await,
        Err(error) => Err(error),
    };
    finish(context, config, host, run, terminal, followed).await
}

/// Lets go of the host after a run was followed, and prints how it stands.
pub(super) async fn finish(
    context: &Context,
    config: &Config,
    host: Host,
    run: RunId,
    terminal: Terminal,
    followed: Result<Ending, Error>,
) -> Result<Exit, Error> {
    let ending = match followed {
        Ok(ending) => ending,
        Err(error) => return failed(host, error).await,
    };
    if let Ending::Stopped(_) = ending {
        terminal.signals.end_at_once();
        say(Tone::Notice, config, "stopping: what is under way is handed over (Ctrl-C again ends at once)");
    }
    let summary = summary(&host, run).await;
    let closed = host.close().await;
    match ending {
        Ending::Settled(exit) => {
            tell(context, config, &summary?);
            closed?;
            Ok(exit)
        }
        Ending::Stopped(signal) => {
            if context.audience() == Audience::Machines {
                print_json(&summary?);
            }
            closed?;
            say(Tone::Notice, config, &format!("{run} is handed over; to go on: errand resume {run}"));
            Ok(signal.exit())
        }
    }
}

/// How a run stands, with its files.
pub(super) async fn summary(host: &Host, run: RunId) -> Result<Summary, Error> {
    let log = host.driver.load(run).await?;
    let files = Workspace::of(&log, host.folder.blobs()).map(|workspace| workspace.list()).unwrap_or_default();
    Ok(Summary::of(&log, files))
}

/// Prints how a run stands. The answer goes to standard output, unless it was just seen on the same terminal.
pub(super) fn tell(context: &Context, config: &Config, summary: &Summary) {
    if context.audience() == Audience::Machines {
        return print_json(summary);
    }
    let seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if let Some(answer) = summary.answer.as_deref().filter(|_| !seen) {
        print(&crate::text::neutral(answer.trim_end()));
    }
    for line in summary.lines(true) {
        say(Tone::Dim, config, &line);
    }
}

/// A line on standard error.
pub(super) fn say(tone: Tone, config: &Config, line: &str) {
    let mut stderr = std::io::stderr().lock();
    let color = config.color && stderr.is_terminal();
    let _ = writeln!(stderr, "{}", paint(tone, line, color));
}

/// The terminal of a command that follows runs.
pub(super) fn terminal(context: &Context, config: &Config) -> Result<Terminal, Error> {
    let signals = Signals::listen().map_err(|error| Error::new("engine_stopped", format!("no signals: {error}")))?;
    let is_interactive =
        context.audience() == Audience::People && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    Ok(Terminal { signals, lines: Lines::default(), is_interactive, user: config.user.clone() })
}

/// A view of a run that shows what comes after record `seen`.
pub(super) async fn view(context: &Context, config: &Config, host: &Host, run: RunId, seen: u64) -> Result<View, Error> {
    let mut view = View::new(run, context.audience(), config.color);
    if seen > 0 {
        let log = host.driver.load(run).await?;
        let seen = usize::try_from(seen).unwrap_or(usize::MAX).min(log.records.len());
        view.skip(&log.records[..seen]);
    }
    Ok(view)
}

/// Lets go of the host when something failed on the way.
pub(super) async fn failed<T>(host: Host, error: Error) -> Result<T, Error> {
    if let Err(closing) = host.close().await {
        tracing::warn!(code = &*closing.code, error = closing.message, "the data folder was not closed in good order");
    }
    Err(error)
}

/// The time now, for what is printed.
pub(super) fn now() -> errand_core::Timestamp {
    follow::now()
}

/// Prints how a stored run stands, the answer always.
pub(super) fn tell_stored(context: &Context, config: &Config, summary: &Summary) {
    if context.audience() == Audience::Machines {
        return print_json(summary);
    }
    if let Some(answer) = &summary.answer {
        print(&crate::text::neutral(answer.trim_end()));
    }
    for line in summary.lines(false) {
        say(Tone::Dim, config, &line);
    }
}
