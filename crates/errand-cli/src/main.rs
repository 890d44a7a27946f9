//! The `errand` binary: one command line over the adapters of a laptop.
//!
//! Reading order: `args` (the command line), `config` (settings, the only place that reads the environment), `commands`
//! (one function per command), `host` (the composition root: store, queue, models, tools, workers over one data folder),
//! `follow` (one run, shown and asked about), `view` (numbered public events → lines), `control`
//! and `operation` (what a second process may ask of the one that owns the folder), `error` (codes and exit status).
//!
//! Absent on purpose: what a run is and when it goes on (`errand-core`, `errand-engine`). Tests: in the modules, and
//! `tests/it/cli*.rs`, which drive the binary as a user does.

mod args;
mod assistant;
mod catalog;
mod commands;
mod config;
mod control;
mod error;
mod files;
mod follow;
mod health;
mod host;
mod images;
mod live;
mod logging;
mod memory;
mod operation;
mod signals;
mod site;
mod stdin;
mod steps;
mod summary;
mod text;
mod toolbox;
mod view;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use error::{Error, Exit};
use std::io::Write;
use std::process::ExitCode;

/// Counts where this process is a worker of tier T0, and passes on everywhere else.
#[cfg(feature = "t0")]
#[global_allocator]
static ALLOCATOR: errand_sandbox::t0::CountingAllocator = errand_sandbox::t0::CountingAllocator;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    // Before any thread, and before anything of the host is looked for: there is none.
    if matches!(cli.command, Command::InsideBox) {
        return errand_sandbox::run_inside_box();
    }
    // Before any thread: what a worker does not have it cannot lose.
    #[cfg(feature = "t0")]
    if matches!(cli.command, Command::T0Worker) {
        return errand_sandbox::t0::worker();
    }
    #[cfg(target_os = "linux")]
    if matches!(cli.command, Command::Envd) {
        return errand_e2b::inside::run();
    }
    logging::start(cli.global.verbose);
    let ended = run(cli).and_then(|exit| match view::is_output_lost() {
        true => Err(Error::new("output_failed", "standard output could not be written; what was done is kept".to_owned())),
        false => Ok(exit),
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            let shown = text::neutral(&error.message);
            let _ = writeln!(std::io::stderr(), "error[{}]: {shown}\n  hint: {}", error.code, error.hint());
            error.exit().into()
        }
    }
}

/// Help and version are asked for, everything else is a mistake.
fn refused(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

fn run(cli: Cli) -> Result<Exit, Error> {
    match &cli.command {
        Command::Completions(wanted) => {
            let mut text = Vec::new();
            clap_complete::generate(wanted.shell, &mut Cli::command(), "errand", &mut text);
            return Ok(written(&text));
        }
        Command::Man => return man(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new("engine_stopped", format!("no threads can be started: {error}")))?;
    let exit = runtime.block_on(commands::dispatch(cli));
    // Calls that a shutdown left behind on blocking threads end with the process.
    runtime.shutdown_background();
    exit
}

fn man() -> Result<Exit, Error> {
    let failed = |error: std::io::Error| Error::new("output_failed", format!("the man page cannot be made: {error}"));
    let mut command = Cli::command();
    command.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text).map_err(failed)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        clap_mangen::Man::new(sub.clone()).render(&mut text).map_err(failed)?;
    }
    Ok(written(&text))
}

fn written(text: &[u8]) -> Exit {
    // A reader that has seen enough is no error.
    let _ = std::io::stdout().write_all(text);
    Exit::Done
}
