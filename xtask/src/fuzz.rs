//! `cargo xtask fuzz`: the fuzz targets of `errand-sandbox` for longer than the tests run them, and from another start.

use crate::cargo;
use anyhow::{Context, ensure};
use std::fmt::Write;
use std::io::Read;

/// How long, what, and from where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only targets whose name has this in it, for example `manifests`.
    target: Option<String>,
    /// Where to start: 64 hex digits, as a failure prints them [default: somewhere else each time].
    #[arg(long)]
    seed: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let seed = args.seed.clone().map_or_else(fresh, Ok)?;
    ensure!(seed.len() == 64 && seed.bytes().all(|byte| byte.is_ascii_hexdigit()), "a seed is 64 hex digits, not {seed:?}");
    println!("from {seed}");
    let mut command = cargo::cargo();
    command.args(["test", "--package", "errand-sandbox", "--features", "t0", "--lib", "--", "--nocapture"]);
    command.arg(format!("fuzz_{}", args.target.as_deref().unwrap_or_default()));
    command.env("ERRAND_FUZZ_SECONDS", args.seconds.to_string()).env("ERRAND_FUZZ_SEED", &seed);
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "a target failed; `cargo xtask fuzz --seed {seed}` finds it again");
    Ok(())
}

fn fresh() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("cannot draw a seed")?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
