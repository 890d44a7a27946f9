//! `errand tools`: what runs can use, and whether a folder of tools is sound.

use super::Context;
use crate::args::{RunOptions, Tools, ToolsCommand};
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::text;
use crate::toolbox::{added, added_registry, network, registry};
use crate::view::{Audience, print, print_json};
use errand_tools::{Listed, ManifestError, Problem};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// `errand tools`.
pub(super) async fn tools(context: &Context, args: Tools) -> Result<Exit, Error> {
    if let Some(ToolsCommand::Check { folder }) = args.command {
        return check(context, folder);
    }
    let options = RunOptions { tool_dir: args.tool_dir, ..RunOptions::default() };
    let config = Config::resolve(&context.global, &options, &context.environment())?;
    let registry = registry(&config)?;
    let names = args.name.as_ref().map(|name| vec![name.clone()]);
    let listed = match &names {
        // Only the server that has it is asked.
        Some(names) => registry.list_named(names).await,
        None => registry.list().await,
    };
    registry.close().await;
    let listed = listed.map_err(|error| added(&error))?;
    for tool in &listed {
        match (context.audience(), &args.name) {
            (Audience::Machines, _) => print_json(&machine(tool)),
            (Audience::People, None) => print(&line(tool)),
            (Audience::People, Some(_)) => in_full(tool),
        }
    }
    Ok(Exit::Done)
}

fn machine(tool: &Listed) -> Value {
    let spec = &tool.spec;
    json!({
        "type": "tool",
        "name": spec.definition.name,
        "kind": tool.kind,
        "file": tool.file,
        "class": spec.class,
        "executor": spec.executor,
        "approval": spec.approval,
        "cache_ttl_s": tool.cache_ttl_s,
        "timeout_ms": spec.timeout_ms,
        "taint_out": spec.taint_out,
        "source": spec.source,
        "description": spec.definition.description,
        "parameters": serde_json::from_str::<Value>(&spec.definition.parameters).unwrap_or_default(),
    })
}

fn line(tool: &Listed) -> String {
    let spec = &tool.spec;
    format!(
        "{:<16} {:<8} {:<10} {:<9} {}",
        spec.definition.name,
        tool.kind,
        word(&spec.class),
        word(&spec.approval),
        text::one_line(&spec.definition.description, 80)
    )
}

fn in_full(tool: &Listed) {
    let spec = &tool.spec;
    print(&text::neutral(&spec.definition.description));
    print("");
    print(&format!("name      {}", spec.definition.name));
    print(&format!("kind      {}", tool.kind));
    if let Some(file) = &tool.file {
        print(&format!("file      {}", text::path(file)));
    }
    print(&format!("class     {}", word(&spec.class)));
    print(&format!("approval  {}", word(&spec.approval)));
    print(&format!("time-out  {}", text::duration(spec.timeout_ms)));
    if let Some(seconds) = tool.cache_ttl_s {
        print(&format!("cache     {}", text::duration(u64::from(seconds) * 1_000)));
    }
    if !spec.taint_out.is_empty() {
        print(&format!("taint     {}", spec.taint_out.join(", ")));
    }
    let parameters: Value = serde_json::from_str(&spec.definition.parameters).unwrap_or_default();
    print("");
    print(&text::neutral(&serde_json::to_string_pretty(&parameters).unwrap_or_default()));
}

/// A word as manifests write it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `errand tools check`: all problems at once.
fn check(context: &Context, folder: PathBuf) -> Result<Exit, Error> {
    let options = RunOptions { tool_dir: vec![folder.clone()], ..RunOptions::default() };
    let config = Config::resolve(&context.global, &options, &context.environment())?;
    let registry = match added_registry(&config, &network(&config)?) {
        Ok(registry) => registry,
        Err(error) => {
            if let (ManifestError::Added { problems }, Audience::Machines) = (&error, context.audience()) {
                problems.iter().for_each(|problem| print_json(&machine_problem(problem)));
            }
            return Err(added(&error));
        }
    };
    let (manifests, missing) = (registry.added(), registry.missing());
    if context.audience() == Audience::Machines {
        for (file, missing) in &missing {
            print_json(&json!({"type": "missing", "file": file, "problem": missing.to_string()}));
        }
        print_json(&json!({"type": "checked", "folder": folder, "manifests": manifests}));
        return Ok(Exit::Done);
    }
    for (file, missing) in &missing {
        print(&format!("{}: not usable yet: {}", text::path(file), text::neutral(&missing.to_string())));
    }
    print(&format!("{}: {}, no problems", text::path(&folder), text::plural(manifests as u64, "manifest", "manifests")));
    Ok(Exit::Done)
}

fn machine_problem(problem: &Problem) -> Value {
    json!({
        "type": "problem",
        "code": problem.kind.code(),
        "file": problem.file,
        "at": problem.at,
        "problem": problem.problem,
    })
}
