//! What each command does. [`dispatch`] is the whole list.

mod act;
pub(crate) mod assistants;
mod bench;
mod bundles;
mod chat;
mod demo;
mod doctor;
mod explain;
mod fork;
mod keys;
mod list;
mod models;
mod resume;
mod run;
mod sandbox;
mod serve;
pub(crate) mod start;
mod tools;

#[cfg(feature = "t0")]
pub(crate) use sandbox::script::worker;

use crate::args::{Cli, Command, Global};
use crate::config::{Config, Environment, Process};
use crate::error::{Error, Exit};
use crate::text;
use crate::view::Audience;
use errand_core::{CallId, RunId, TenantId};
use errand_engine::ports::World;
use errand_store_local::{DataFolder, Mode, SystemWorld};
use std::sync::Arc;

/// Carries out what the command line says.
pub(crate) async fn dispatch(cli: Cli) -> Result<Exit, Error> {
    let context = Context { global: cli.global };
    match cli.command {
        Command::Run(args) => run::run(&context, args).await,
        Command::Chat(args) => chat::chat(&context, args).await,
        Command::Runs(args) => list::runs(&context, args).await,
        Command::Show(args) => list::show(&context, args).await,
        Command::Events(args) => list::events(&context, args).await,
        Command::Files(args) => list::files(&context, args).await,
        Command::Keys(args) => keys::keys(&context, args).await,
        Command::Tools(args) => tools::tools(&context, args).await,
        Command::Assistants(args) => assistants::assistants(&context, args).await,
        Command::Bench(options) => bench::bench(&context, options).await,
        Command::Serve(args) => serve::serve(&context, args).await,
        Command::Resume(args) => resume::resume(&context, args).await,
        Command::Approve(args) => act::approve(&context, args).await,
        Command::Reject(args) => act::reject(&context, args).await,
        Command::Answer(args) => act::answer(&context, args).await,
        Command::Resolve(args) => act::resolve(&context, args).await,
        Command::Message(args) => act::message(&context, args).await,
        Command::Raise(args) => act::raise(&context, args).await,
        Command::Cancel(args) => act::cancel(&context, args).await,
        Command::Fork(args) => fork::fork(&context, args).await,
        Command::Replay(args) => bundles::replay(&context, &args.source).await,
        Command::Verify(args) => bundles::verify(&context, &args.source).await,
        Command::Export(args) => bundles::export(&context, args).await,
        Command::Sandbox(args) => sandbox::sandbox(&context, args).await,
        Command::Doctor => doctor::doctor(&context).await,
        Command::Explain(args) => explain::explain(&context, &args),
        Command::Models(args) => models::models(&context, args).await,
        Command::Demo(args) => demo::demo(&context, args).await,
        // What these are is decided before anything else begins.
        Command::InsideBox => Ok(Exit::Done),
        #[cfg(feature = "t0")]
        Command::T0Worker => Ok(Exit::Done),
        #[cfg(target_os = "linux")]
        Command::Envd => Ok(Exit::Done),
        Command::Completions(_) | Command::Man => Ok(Exit::Done),
    }
}

/// What every command is given.
pub(crate) struct Context {
    pub(crate) global: Global,
}

impl Context {
    pub(crate) fn environment(&self) -> impl Environment {
        Process
    }

    /// Settings of a command that runs nothing.
    pub(crate) fn plain(&self) -> Result<Config, Error> {
        Config::plain(&self.global, &self.environment())
    }

    pub(crate) fn audience(&self) -> Audience {
        if self.global.json { Audience::Machines } else { Audience::People }
    }

    /// The data folder, to look only: works beside an owner.
    pub(crate) fn reading(&self) -> Result<(Config, DataFolder), Error> {
        let config = self.plain()?;
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let folder = DataFolder::open(&config.data, Mode::Read, world)?;
        Ok((config, folder))
    }
}

/// The run that was named.
pub(crate) fn run_id(text: &str) -> Result<RunId, Error> {
    Ok(text.trim().parse::<RunId>()?)
}

/// The tenant that was named, else the one there is where nobody made others.
pub(crate) fn tenant_id(text: Option<&str>) -> Result<TenantId, Error> {
    let invalid = |error: errand_core::InvalidTenant| Error::new("tenant_invalid", text::neutral(&error.to_string()));
    text.map_or_else(|| Ok(TenantId::default()), |text| text.trim().parse().map_err(invalid))
}

/// The call that was named, if one was.
pub(crate) fn call_id(text: Option<&String>) -> Result<Option<CallId>, Error> {
    let parse = |text: &String| {
        text.trim().parse::<CallId>().map_err(|_| {
            let shown = crate::text::one_line(text, 40);
            Error::new(
                "call_id_invalid",
                format!("`{shown}` is no call: expected one such as 2.0, as `errand events` shows it"),
            )
        })
    };
    text.map(parse).transpose()
}

/// The text that was given, or standard input for `-`. Bounded a little above what any run takes, so that the refusal
/// can tell what is wrong.
pub(crate) fn text_or_stdin(text: &str) -> Result<String, Error> {
    use std::io::Read;
    const MOST: u64 = 16 << 20;
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MOST).read_to_end(&mut bytes);
    read.map_err(|error| Error::new("task_not_text", format!("standard input cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Error::new("task_not_text", "standard input is not UTF-8 text"))
}

/// How this process was started, for whoever finds the data folder in use: the command, not its arguments.
pub(crate) fn command_line(command: &str) -> String {
    format!("errand {command}")
}
