//! What a new run starts with: model, tools, budget, files, thread.

use super::assistants::Found;
use crate::config::{Approve, Config};
use crate::error::Error;
use crate::host::Host;
use crate::images;
use crate::text;
use errand_core::{
    Approval, Executor, Limits, ModelChoice, OutputSchema, RunConfig, RunId, Started, TenantId, Tier, ToolSpec,
};
use errand_engine::ports::{Models, World};
use errand_store_local::SystemWorld;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the assistant is told. One text for every model, so that requests are prefixes of each other.
const INSTRUCTIONS: &str = include_str!("../instructions.md");

/// A model that was chosen, and why.
pub(crate) struct Chosen {
    pub(crate) model: ModelChoice,
    /// For people, if nobody named it.
    pub(crate) why: Option<String>,
}

/// The model that was named, or the first that works here.
pub(crate) async fn choose(config: &Config, models: &dyn Models) -> Result<Chosen, Error> {
    let (name, why) = match &config.model {
        Some(name) => (name.clone(), None),
        None => {
            let choice = errand_models::choose_default(&config.models).await;
            let choice = choice.map_err(|error| Error::chain(choose_code(&error), &error))?;
            (choice.model, Some(choice.why))
        }
    };
    Ok(Chosen { model: model_choice(models, &name)?, why })
}

fn choose_code(error: &errand_models::ChooseError) -> &'static str {
    match error {
        errand_models::ChooseError::Settings(_) => "settings_invalid",
        errand_models::ChooseError::NotListed(_) | errand_models::ChooseError::NoneListed { .. } => "no_model_listed",
    }
}

/// A model with what is known of it.
pub(crate) fn model_choice(models: &dyn Models, name: &str) -> Result<ModelChoice, Error> {
    let facts = models.facts(name)?;
    Ok(ModelChoice {
        image_tokens: facts.image_tokens,
        name: name.to_owned(),
        price: facts.price,
        context_tokens: facts.context_tokens,
        endpoint: facts.endpoint,
    })
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) task: &'a str,
    /// Files to copy into the workspace.
    pub(crate) files: &'a [PathBuf],
    /// Images to show to the model.
    pub(crate) images: &'a [PathBuf],
    /// The run to go on after.
    pub(crate) after: Option<RunId>,
    /// Who is to do it.
    pub(crate) assistant: Option<&'a Found>,
}

/// Tools whose code sees the image of runs.
const CODE: [&str; 3] = ["python", "shell", "node"];

/// What a run is pinned to.
pub(crate) async fn run_config(
    config: &Config,
    host: &Host,
    model: ModelChoice,
    assistant: Option<&Found>,
) -> Result<RunConfig, Error> {
    let mut tools = host.tools.offer(config.tools.as_deref()).await?;
    ask_first(&mut tools, &config.approve)?;
    if config.sandbox.image.is_some() && tools.iter().any(|tool| CODE.contains(&&*tool.definition.name)) {
        host.tools.begin_image();
    }
    host.tools.grant(&mut tools, &config.allow_hosts)?;
    pinned(config, &*host.models, model, tools, assistant)
}

/// What a run with these tools is pinned to.
pub(crate) fn pinned(
    config: &Config,
    models: &dyn Models,
    model: ModelChoice,
    tools: Vec<ToolSpec>,
    assistant: Option<&Found>,
) -> Result<RunConfig, Error> {
    let others = |names: &[String]| names.iter().map(|name| model_choice(models, name)).collect::<Result<Vec<_>, _>>();
    let (fallbacks, summarizers) = (others(&config.fallbacks)?, others(&config.summarizers)?);
    let priced = [&model].into_iter().chain(&fallbacks).chain(&summarizers).all(|model| model.price.is_some());
    let budget = config.budget.budget(priced);
    if let Some((bound, what)) = unbounded(&budget, &model) {
        tracing::info!(bound, what, "the run has no such bound");
    }
    let base = INSTRUCTIONS.trim_end();
    Ok(RunConfig {
        tenant: TenantId::default(),
        min_tier: Some(config.sandbox.min_tier).filter(|tier| *tier > Tier::T1),
        model,
        fallbacks,
        summarizers,
        instructions: assistant.map_or(base.to_owned(), |found| found.assistant.instructions(base)),
        tools,
        limits: Limits::default(),
        budget,
        output: output(config, assistant)?,
        assistant: assistant.map(|found| found.reference.clone()),
    })
}

/// The same as [`ask_first`] for tools that were named one by one: a setting about others says nothing about them.
pub(crate) fn ask_first_of(tools: &mut [ToolSpec], approve: &Approve) -> Result<(), Error> {
    match approve {
        Approve::Tools(names) => {
            let named = |name: &&String| tools.iter().any(|tool| tool.definition.name == **name);
            let named = Approve::Tools(names.iter().filter(named).cloned().collect());
            ask_first(tools, &named)
        }
        other => ask_first(tools, other),
    }
}

/// The form that the answer must have: what was given now goes before what the assistant says.
fn output(config: &Config, assistant: Option<&Found>) -> Result<Option<OutputSchema>, Error> {
    let given = match &config.output_schema {
        Some(path) => Some(schema_file(path)?),
        None => assistant.and_then(|found| found.assistant.output_schema.clone()),
    };
    let Some(schema) = given else { return Ok(None) };
    errand_tools::check_schema(&schema).map_err(|error| Error::new(error.code(), error.to_string()))?;
    Ok(Some(OutputSchema { name: "answer".to_owned(), schema }))
}

fn schema_file(path: &Path) -> Result<String, Error> {
    let unusable = |reason: String| {
        let path = text::path(path);
        Error::new("output_schema_invalid", format!("the output schema in {path} cannot be used: {reason}"))
    };
    let metadata = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > 256 << 10 {
        return Err(unusable("it must be a plain file of at most 256 KiB".to_owned()));
    }
    std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))
}

fn unbounded(budget: &errand_core::Budget, model: &ModelChoice) -> Option<(&'static str, &'static str)> {
    match (budget.usd, model.price) {
        (None, None) => Some(("usd", "no price is known for the model")),
        (None, Some(_)) => Some(("usd", "none was asked for")),
        _ => None,
    }
}

fn ask_first(tools: &mut [ToolSpec], approve: &Approve) -> Result<(), Error> {
    let asks = |tool: &ToolSpec| matches!(tool.executor, Executor::Worker | Executor::Sandbox | Executor::SubRun);
    match approve {
        Approve::Manifest => {}
        Approve::Never => tools.iter_mut().for_each(|tool| tool.approval = Approval::Never),
        Approve::Always => {
            tools.iter_mut().filter(|tool| asks(tool)).for_each(|tool| tool.approval = Approval::Always);
        }
        Approve::Tools(names) => {
            for name in names {
                let known: Vec<&str> =
                    tools.iter().filter(|tool| asks(tool)).map(|tool| tool.definition.name.as_str()).collect();
                let known = known.join(", ");
                let tool = tools.iter_mut().find(|tool| tool.definition.name == *name && asks(tool));
                let tool = tool.ok_or_else(|| {
                    let name = text::one_line(name, 64);
                    Error::new(
                        "unknown_tool",
                        format!("no tool `{name}` can wait for approval in this run; these can: {known}"),
                    )
                })?;
                tool.approval = Approval::Always;
            }
        }
    }
    Ok(())
}

/// All that a run starts with. Files are copied in now; later changes to the originals change nothing.
pub(crate) async fn started(host: &Host, run: RunId, mut config: RunConfig, order: Order<'_>) -> Result<Started, Error> {
    check_task(order.task, config.limits.task_bytes)?;
    let (history, base) = match order.after {
        Some(run) => {
            let log = host.driver.load(run).await?;
            if !log.run.head.status.is_ended() {
                let status = log.run.head.status.code();
                let message =
                    format!("run {run} has not ended ({status}): wait for it, or tell it something with `errand message`");
                return Err(Error::new("run_not_ended", message));
            }
            // A thread has one tenant.
            config.tenant = log.run.config.tenant.clone();
            (Some(host.driver.history_of(&log).await?), log.workspace())
        }
        None => (None, None),
    };
    tell_copying(order.files);
    let images = images::keep(host.folder.blobs(), order.images)?;
    let (workspace, files) = host.tools.import(run, base, order.files).await?;
    let task = order.task.to_owned();
    Ok(Started {
        config,
        task,
        images,
        files,
        workspace,
        history,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata: Default::default(),
        surface: None,
    })
}

/// Copying takes more than a moment from about this size on, in bytes.
const LARGE: u64 = 64 << 20;

/// Says that large files are being copied, before it takes a while.
fn tell_copying(files: &[PathBuf]) {
    let bytes: u64 = files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
    if bytes > LARGE && bytes <= errand_tools::IMPORT_BYTES_MAX {
        let _ = writeln!(std::io::stderr(), "copying {} into the workspace …", text::bytes(bytes));
    }
}

/// Checked before files are copied; the engine checks it again.
pub(crate) fn check_task(task: &str, limit: u64) -> Result<(), Error> {
    if task.trim().is_empty() {
        return Err(errand_engine::Error::EmptyTask.into());
    }
    if task.len() as u64 > limit {
        return Err(errand_engine::Error::TaskTooLong { bytes: task.len() as u64, limit }.into());
    }
    Ok(())
}

/// An id for a new run.
pub(crate) fn new_run() -> RunId {
    RunId::new(SystemWorld.now(), SystemWorld.entropy())
}
