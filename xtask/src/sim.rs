//! `cargo xtask sim`: hands its arguments to the simulation, which is built only when it is asked for.

use crate::cargo;
use anyhow::{Context, ensure};

/// Arguments of the simulation; `cargo xtask sim -- --help` tells them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For example `--seed 7`, `--seeds 10000 --from 50000`, `--bug list`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo::cargo();
    command.args(["run", "--quiet", "--package", "errand-sim", "--"]).args(&args.arguments);
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "an invariant did not hold, or the arguments were not understood");
    Ok(())
}
