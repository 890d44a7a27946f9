//! `errand assistants`: those that are kept, in versions; and finding the one that a run is to begin with.

use super::Context;
use crate::args::{AssistantAction, Assistants as Args, Lists, RunOptions};
use crate::assistant::{self, Assistant, BYTES_MAX};
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::text;
use crate::view::{Audience, print, print_json};
use errand_core::AssistantRef;
use errand_engine::ports::Assistants;
use errand_store_local::LocalAssistants;
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// A removed assistant keeps its versions, and this as the newest.
const REMOVED: &str = "";

/// An assistant that was found, with what a run is pinned to.
pub(crate) struct Found {
    pub(crate) assistant: Assistant,
    pub(crate) reference: AssistantRef,
}

/// `errand assistants`.
pub(super) async fn assistants(context: &Context, args: Args) -> Result<Exit, Error> {
    let kept = LocalAssistants::of(&context.plain()?.data);
    match args.action.unwrap_or(AssistantAction::List) {
        AssistantAction::List => list(context, &kept).await?,
        AssistantAction::Show { name } => show(context, &kept, &name).await?,
        AssistantAction::Versions { name } => versions(context, &kept, &name).await?,
        AssistantAction::Check { file } => {
            let (assistant, _) = read(&file)?;
            print(&format!("{} is a good assistant: {}", text::path(&file), assistant.name));
        }
        AssistantAction::Add { file } => {
            let (assistant, text) = read(&file)?;
            let version = add(&kept, &assistant.name, &text).await?;
            tell(context, &assistant, version);
        }
        AssistantAction::Remove { name } => {
            find_kept(&kept, &name, None).await?;
            add(&kept, &name, REMOVED).await?;
            print(&format!("{name} is removed; runs that began with it are not touched"));
        }
    }
    Ok(Exit::Done)
}

/// The assistant that `named` means: a file, or one that is kept, `NAME` or `NAME@VERSION`.
pub(crate) async fn find(config_data: &Path, named: &str) -> Result<Found, Error> {
    if named.contains('/') || named.ends_with(".toml") {
        let (assistant, text) = read(Path::new(named))?;
        let reference = assistant.reference(0, &text);
        return Ok(Found { assistant, reference });
    }
    let (name, version) = named_version(named)?;
    let (version, text) = find_kept(&LocalAssistants::of(config_data), name, version).await?;
    let assistant = Assistant::parse(&text, &format!("{name}@{version}")).map_err(|error| invalid(&error))?;
    let reference = assistant.reference(version, &text);
    Ok(Found { assistant, reference })
}

/// The options of a run with what the assistant says where they say nothing.
pub(crate) fn under(options: &RunOptions, assistant: &Assistant) -> RunOptions {
    let lists = Lists {
        fallbacks: assistant.fallbacks.clone(),
        summarizers: assistant.summarizers.clone(),
        tools: assistant.tools.clone(),
        approve: assistant.approve.clone(),
        allow_hosts: assistant.allow_hosts.clone(),
    };
    let budget = &assistant.budget;
    RunOptions {
        model: options.model.clone().or_else(|| assistant.model.clone()),
        budget: options.budget.clone().or_else(|| budget.usd.clone()),
        budget_tokens: options.budget_tokens.clone().or_else(|| budget.tokens.clone()),
        max_steps: options.max_steps.clone().or_else(|| budget.steps.clone()),
        max_time: options.max_time.clone().or_else(|| budget.time.clone()),
        pause_at_budget: options.pause_at_budget || budget.pause,
        lists,
        assistant_tier: assistant.min_tier,
        ..options.clone()
    }
}

/// The settings of a run, with those of its assistant if it has one.
pub(crate) async fn resolve(context: &Context, options: &RunOptions) -> Result<(Config, Option<Found>), Error> {
    let config = Config::resolve(&context.global, options, &context.environment())?;
    let Some(named) = &config.assistant else { return Ok((config, None)) };
    let found = find(&config.data, named).await?;
    let options = under(options, &found.assistant);
    let config = Config::resolve(&context.global, &options, &context.environment())?;
    Ok((config, Some(found)))
}

async fn list(context: &Context, kept: &LocalAssistants) -> Result<(), Error> {
    for name in kept.names().await? {
        let version = kept.newest(&name).await?;
        let text = kept.get(&name, version).await?.unwrap_or_default();
        if text == REMOVED {
            continue;
        }
        match Assistant::parse(&text, &name) {
            Ok(assistant) => tell(context, &assistant, version),
            Err(error) => tracing::warn!(code = error.code(), %error, "left out"),
        }
    }
    Ok(())
}

fn tell(context: &Context, assistant: &Assistant, version: u64) {
    let Assistant { name, description, model, tools, .. } = assistant;
    match context.audience() {
        Audience::Machines => print_json(&json!({
            "type": "assistant", "name": name, "version": version, "description": description, "model": model, "tools": tools,
        })),
        Audience::People => print(&format!("{:<24} {}", format!("{name}@{version}"), text::one_line(description, 100))),
    }
}

async fn show(context: &Context, kept: &LocalAssistants, named: &str) -> Result<(), Error> {
    let (name, version) = named_version(named)?;
    let (version, text) = find_kept(kept, name, version).await?;
    match context.audience() {
        Audience::Machines => print_json(&json!({ "type": "assistant", "name": name, "version": version, "text": text })),
        Audience::People => print(text::neutral(text.trim_end()).as_ref()),
    }
    Ok(())
}

async fn versions(context: &Context, kept: &LocalAssistants, name: &str) -> Result<(), Error> {
    let (newest, _) = find_kept(kept, name, None).await?;
    for version in 1..=newest {
        let Some(text) = kept.get(name, version).await? else { continue };
        let sha256 = errand_core::Hash::of(text.as_bytes());
        match context.audience() {
            Audience::Machines => {
                print_json(&json!({ "type": "version", "name": name, "version": version, "sha256": sha256 }));
            }
            Audience::People if text == REMOVED => print(&format!("{name}@{version}  removed")),
            Audience::People => print(&format!("{name}@{version}  {sha256}")),
        }
    }
    Ok(())
}

/// Keeps `text` as the next version, unless the newest is the same.
async fn add(kept: &LocalAssistants, name: &str, text: &str) -> Result<u64, Error> {
    loop {
        let newest = kept.newest(name).await?;
        if newest > 0 && kept.get(name, newest).await?.as_deref() == Some(text) {
            return Ok(newest);
        }
        // Another process may have been faster; then its version is looked at.
        if kept.put(name, newest + 1, text).await? {
            return Ok(newest + 1);
        }
    }
}

async fn find_kept(kept: &LocalAssistants, name: &str, version: Option<u64>) -> Result<(u64, String), Error> {
    assistant::check_name(name).map_err(|error| invalid(&error))?;
    let newest = kept.newest(name).await?;
    let version = version.unwrap_or(newest);
    match kept.get(name, version).await? {
        Some(text) if text != REMOVED => Ok((version, text)),
        _ => {
            let known = kept.names().await?;
            let known = if known.is_empty() { "none is kept".to_owned() } else { format!("there are {}", known.join(", ")) };
            let version = if version == 0 { String::new() } else { format!("@{version}") };
            let message =
                format!("there is no assistant `{name}{version}`; {known}; `errand assistants add FILE` keeps one");
            Err(Error::new("assistant_not_found", message))
        }
    }
}

fn named_version(named: &str) -> Result<(&str, Option<u64>), Error> {
    let Some((name, version)) = named.split_once('@') else { return Ok((named, None)) };
    let number = version.parse().map_err(|_| {
        let shown = text::one_line(named, 80);
        Error::new("assistant_not_found", format!("`{shown}` names no version: give NAME, or NAME@3"))
    })?;
    Ok((name, Some(number)))
}

/// Reads a file; whoever named it may read it.
fn read(path: &Path) -> Result<(Assistant, String), Error> {
    let shown = text::path(path);
    let failed = |reason: String| Error::new("assistant_invalid", format!("{shown} cannot be read: {reason}"));
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(failed(format!("it must be a plain file of at most {} KiB", BYTES_MAX >> 10)));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    let assistant = Assistant::parse(&text, &shown).map_err(|error| invalid(&error))?;
    Ok((assistant, text))
}

fn invalid(error: &assistant::Invalid) -> Error {
    Error::new(error.code(), error.to_string())
}
