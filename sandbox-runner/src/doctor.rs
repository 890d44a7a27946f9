//! `sandbox-runner doctor`: each tier's probe, and how to get what is missing.

use crate::runtime::Runtime;
use errand_sandbox::{Engine, EngineConfig, OciEngine, Report, Tier, repairs, try_volume};
use std::io::Write;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object per tier
    #[arg(long)]
    json: bool,
    /// Where to look for interpreters that the system lacks
    #[arg(long, env = "PATH", hide_env_values = true, value_name = "FOLDERS")]
    search_path: Option<std::ffi::OsString>,
    #[command(flatten)]
    runtime: Runtime,
}

pub(crate) fn doctor(args: &Args) -> ExitCode {
    let config = EngineConfig { search_path: args.search_path.clone(), ..EngineConfig::default() };
    let mut reports = vec![Engine::probe(&config)];
    reports.extend(args.runtime.config(config).map(|runtime| OciEngine::probe(&runtime)));
    let volumes = try_volume().map_err(|error| error.to_string()).err();
    for report in &reports {
        let text = if args.json { json(report, volumes.as_deref()) } else { report.to_string() + &advice(report) };
        // A reader that has seen enough is no error.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    if !args.json {
        let held = volumes.map_or_else(|| "can be made, hard".to_owned(), |reason| format!("cannot be made: {reason}"));
        // As above.
        let _ = writeln!(std::io::stdout(), "workspaces of fixed size: {held}");
    }
    if reports.iter().all(|report| report.available) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How to get the tier, where that is known.
fn missing(report: &Report) -> Vec<String> {
    if report.available || report.tier != Tier::T1 { Vec::new() } else { repairs() }
}

fn json(report: &Report, no_volumes: Option<&str>) -> String {
    // Plain data with text keys, so writing it cannot fail.
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("volumes".to_owned(), serde_json::json!({"available": no_volumes.is_none(), "reason": no_volumes}));
        object.insert("repairs".to_owned(), missing(report).into());
    }
    format!("{value}\n")
}

fn advice(report: &Report) -> String {
    missing(report).iter().map(|line| format!("  to get it: {line}\n")).collect()
}
