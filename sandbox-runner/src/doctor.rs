//! `sandbox-runner doctor`: each tier's probe, and how to get what is missing.

use errand_sandbox::{Engine, EngineConfig, Report, repairs};
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
}

pub(crate) fn doctor(args: &Args) -> ExitCode {
    let config = EngineConfig { search_path: args.search_path.clone(), ..EngineConfig::default() };
    let report = Engine::probe(&config);
    let text = if args.json { json(&report) } else { report.to_string() + &advice(&report) };
    // A reader that has seen enough is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if report.available { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn json(report: &Report) -> String {
    // Plain data with text keys, so writing it cannot fail.
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("repairs".to_owned(), if report.available { Vec::new() } else { repairs() }.into());
    }
    format!("{value}\n")
}

fn advice(report: &Report) -> String {
    if report.available {
        return String::new();
    }
    repairs().iter().map(|line| format!("  to get it: {line}\n")).collect()
}
