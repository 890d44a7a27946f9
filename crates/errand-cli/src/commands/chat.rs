use super::run::{begin_turn, failed, say, summary, terminal};
use super::{Context, assistants, command_line, run_id, start};
use crate::args::Chat;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::follow::{Ending, Terminal, follow};
use crate::host::Host;
use crate::live::Live;
use crate::view::lines::Tone;
use crate::view::{Audience, View, paint, print, print_json};
use errand_core::{ModelChoice, RunId, Status, Usd};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// What a chat has come to.
struct Thread {
    /// The last run of the thread that can be gone on from.
    last: Option<RunId>,
    /// Files for the next turn.
    files: Vec<PathBuf>,
    turns: u64,
    spent: Usd,
    assistant: Option<assistants::Found>,
}

/// `errand chat`: every turn is a run that goes on after the one before.
pub(super) async fn chat(context: &Context, args: Chat) -> Result<Exit, Error> {
    let (config, assistant) = assistants::resolve(context, &args.options).await?;
    let last = args.thread.as_deref().map(run_id).transpose()?;
    let mut host = Host::open(&config, &command_line("chat"))?;
    let mut thread = Thread { last, files: args.file, turns: 0, spent: Usd::ZERO, assistant };
    match talk(context, &config, &mut host, &mut thread).await {
        Ok(exit) => {
            host.close().await?;
            if context.audience() == Audience::People {
                say(Tone::Dim, &config, &parting(&thread));
            }
            Ok(exit)
        }
        Err(error) => failed(host, error).await,
    }
}

fn parting(thread: &Thread) -> String {
    let turns = crate::text::plural(thread.turns, "turn", "turns");
    match thread.last {
        Some(run) => format!("{turns} · {} · to go on: errand chat --thread {run}", thread.spent),
        None => turns,
    }
}

async fn talk(context: &Context, config: &Config, host: &mut Host, thread: &mut Thread) -> Result<Exit, Error> {
    let start::Chosen { model, why } = start::choose(config, &*host.models).await?;
    if context.audience() == Audience::People {
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        say(Tone::Dim, config, &format!("model {}{why}; /cost, /quit or Ctrl-D", model.name));
        if model.name.starts_with(errand_models::PREFIX) {
            say(Tone::Notice, config, "scripted model: this is a script, not an AI");
        }
    }
    let mut terminal = terminal(context, config)?;
    host.start().await?;
    loop {
        prompt(config, &terminal);
        let line = loop {
            tokio::select! {
                line = terminal.lines.next() => break line,
                signal = terminal.signals.next() => return Ok(signal.exit()),
                // Other runs go on meanwhile; what they tell is not for this conversation.
                live = host.live.recv() => if let Some(Live::Broken { code, message }) = live {
                    return Err(Error::new(code, message));
                },
            }
        };
        match line.as_deref().map(str::trim) {
            None | Some("/quit" | "/exit") => return Ok(Exit::Done),
            Some("") => {}
            Some("/cost") => say(Tone::Dim, config, &parting(thread)),
            Some(text) => match turn(context, config, host, &mut terminal, thread, &model, text).await {
                Ok(Ending::Stopped(signal)) => {
                    terminal.signals.end_at_once();
                    return Ok(signal.exit());
                }
                Ok(Ending::Settled(Exit::Person)) => return Ok(Exit::Person),
                Ok(Ending::Settled(_)) => {}
                Err(error) => say(Tone::Bad, config, &format!("error[{}]: {}", error.code, error.message)),
            },
        }
    }
}

fn prompt(config: &Config, terminal: &Terminal) {
    if terminal.is_interactive {
        let mut stderr = std::io::stderr().lock();
        let color = config.color && stderr.is_terminal();
        let _ = write!(stderr, "\n{}", paint(Tone::Strong, "you> ", color)).and_then(|()| stderr.flush());
    }
}

async fn turn(
    context: &Context,
    config: &Config,
    host: &mut Host,
    terminal: &mut Terminal,
    thread: &mut Thread,
    model: &ModelChoice,
    text: &str,
) -> Result<Ending, Error> {
    let files = std::mem::take(&mut thread.files);
    let assistant = thread.assistant.as_ref();
    let order = start::Order { task: text, files: &files, images: &[], after: thread.last, assistant };
    let run = begin_turn(host, config, model.clone(), order).await?;
    let mut view = View::new(run, context.audience(), config.color);
    // What was just typed needs no telling.
    if context.audience() == Audience::People {
        let log = host.driver.load(run).await?;
        view.skip(&log.records[..1]);
    }
    let ending = follow(host, &mut view, terminal).await?;
    let log = host.driver.load(run).await?;
    thread.turns += 1;
    thread.spent += log.bill().total().usd;
    if log.run.head.status.is_ended() {
        thread.last = Some(run);
    }
    let summary = summary(host, run).await?;
    if context.audience() == Audience::Machines {
        print_json(&summary);
        return Ok(ending);
    }
    let seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if let Some(answer) = summary.answer.as_deref().filter(|_| !seen) {
        print(&crate::text::neutral(answer.trim_end()));
    }
    if log.run.head.status != Status::Done {
        summary.lines(true).iter().for_each(|line| say(Tone::Dim, config, line));
    }
    Ok(ending)
}
