//! From a request to a run: what it is pinned to, what it begins with, its id.

use super::request::{Request, Shown};
use super::{id, tools};
use crate::fields::invalid;
use crate::{Api, Failure};
use errand_core::{
    Executor, Hash, Message, OutputSchema, RunConfig, RunId, RunLog, Started, Surface, TenantId, Timestamp, unanswered,
};
use errand_keys::Principal;

/// The surface's name, with the version of [`Shown`].
const SURFACE: &str = "responses/1";
/// Longest idempotency key, in bytes.
const KEY_BYTES: usize = 255;
/// How long a key is remembered, in hours.
const KEY_HOURS: u64 = 24;
const HOUR_MS: u64 = 3_600_000;

/// Begins the run that a request asks for; with a key that was seen, finds the run that it began.
pub(super) async fn begin(
    api: &Api,
    who: &Principal,
    mut request: Request,
    key: Option<String>,
    body: &[u8],
) -> Result<RunId, Failure> {
    let Some(key) = key else { return create(api, who, api.new_run(), request).await };
    let digest = Hash::of(body).to_string();
    let _turn = api.turn.lock().await;
    let now = api.now().as_millis() / HOUR_MS;
    for hour in (now.saturating_sub(KEY_HOURS)..=now).rev() {
        let run = keyed(&who.tenant, &key, hour);
        if api.store.last(run).await?.is_none() {
            continue;
        }
        let seen = shown(&api.load(who, run).await?).body;
        if seen.as_ref() == Some(&digest) {
            return Ok(run);
        }
        let message = "this Idempotency-Key came with another request before: use a new key for a new request";
        return Err(Failure::new(409, "idempotency_key_reused", message));
    }
    request.shown.body = Some(digest);
    create(api, who, keyed(&who.tenant, &key, now), request).await
}

/// The run that a tenant's key began in an hour. Ids sort by time, so the hour is in it.
fn keyed(tenant: &TenantId, key: &str, hour: u64) -> RunId {
    let digest = Hash::of(format!("idempotency key\n{tenant}\n{key}").as_bytes());
    let mut entropy = [0u8; 16];
    entropy.copy_from_slice(&digest.0[..16]);
    RunId::new(Timestamp::from_millis(hour * HOUR_MS), u128::from_be_bytes(entropy))
}

/// The key of a request, if it has one.
pub(super) fn key(headers: &axum::http::HeaderMap) -> Result<Option<String>, Failure> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= KEY_BYTES => Ok(Some(text.to_owned())),
        _ => {
            let message = format!("an Idempotency-Key has 1 to {KEY_BYTES} printable ASCII characters");
            Err(Failure::bad("idempotency_key_invalid", message))
        }
    }
}

/// What a run shows of the request that it came from; for one that came another way, what fits it.
pub(super) fn shown(log: &RunLog) -> Shown {
    let surface = log.started().surface.as_ref().filter(|surface| surface.name == SURFACE);
    let read = surface.and_then(|surface| serde_json::from_str(&surface.content).ok());
    // Runs of the command line wait for people, like background responses.
    read.unwrap_or(Shown { background: true, ..Shown::default() })
}

async fn create(api: &Api, who: &Principal, run: RunId, request: Request) -> Result<RunId, Failure> {
    let Request { model, input, previous, tools: wanted, format, metadata, stream: _, shown } = request;
    let before = match &previous {
        Some(previous) => Some(ended(api, who, previous).await?),
        None => None,
    };
    let config = RunConfig { tenant: who.tenant.clone(), ..config(api, model.as_deref(), wanted, format, &shown).await? };
    let messages = joined(input.messages, before.as_ref())?;
    // A script answers without looking, and costs nothing that an image would add to.
    let blind = config.model.image_tokens == 0 && !config.model.name.starts_with(crate::events::SCRIPTED);
    if blind && !input.images.is_empty() {
        let message = format!("model `{}` takes no images, as far as is known", config.model.name);
        return Err(Failure::bad("image_unsupported", message).at("input"));
    }
    for image in &input.images {
        api.blobs.put(image).await?;
    }
    let history = match &before {
        Some(log) => Some(api.driver.history_of(log).await?),
        None => None,
    };
    let surface = Surface { name: SURFACE.to_owned(), content: serde_json::to_string(&shown).unwrap_or_default() };
    let mut started = Started {
        config,
        task: task(&messages, before.as_ref())?,
        images: Vec::new(),
        files: Vec::new(),
        workspace: before.as_ref().and_then(RunLog::workspace),
        history,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata,
        surface: Some(surface),
    };
    match <[Message; 1]>::try_from(messages) {
        Ok([Message::User { text, images }]) if text == started.task => started.images = images,
        Ok([other]) => started.given = vec![other],
        Err(messages) => started.given = messages,
    }
    let created = api.driver.create(run, started).await;
    created.map_err(|error| Failure::from(error).at_if_bad("input"))
}

/// The run before, which must be over.
async fn ended(api: &Api, who: &Principal, previous: &str) -> Result<RunLog, Failure> {
    let unknown = || {
        let shown: String = previous.chars().take(80).collect();
        let message = format!("there is no response `{shown}` to go on from");
        Failure::bad("previous_response_not_found", message).at("previous_response_id")
    };
    let run = id::run_of(previous).ok_or_else(unknown)?;
    let log = match api.load(who, run).await {
        Err(errand_engine::Error::UnknownRun { .. }) => return Err(unknown()),
        log => log?,
    };
    if !log.run.head.status.is_ended() {
        let message =
            format!("response `{previous}` has not ended ({}): wait for it, or cancel it", log.run.head.status.code());
        return Err(Failure::bad("run_not_ended", message).at("previous_response_id"));
    }
    Ok(log)
}

/// What the run is pinned to. The instructions of a request come after those of what it names, and take nothing away.
async fn config(
    api: &Api,
    model: Option<&str>,
    wanted: Vec<tools::Wanted>,
    format: Option<super::request::Format>,
    shown: &Shown,
) -> Result<RunConfig, Failure> {
    let mut config = api.catalog.config(model).await.map_err(|failure| failure.at("model"))?;
    // A tool of the request goes before one of the same name that comes with what it asks for.
    let own = std::mem::replace(&mut config.tools, tools::specs(wanted, &*api.catalog).await?);
    let fresh = own.into_iter().filter(|tool| config.tool(&tool.definition.name).is_none()).collect::<Vec<_>>();
    config.tools.splice(0..0, fresh);
    if let Some(instructions) = shown.instructions.as_deref().filter(|text| !text.trim().is_empty()) {
        if instructions.len() as u64 > config.limits.task_bytes {
            return Err(invalid("instructions", format!("they are longer than {} bytes", config.limits.task_bytes)));
        }
        config.instructions = format!("{}\n\n{instructions}", config.instructions).trim().to_owned();
    }
    if let Some(format) = format {
        api.catalog.check_schema(&format.schema).map_err(|failure| failure.at("text.format.schema"))?;
        config.output = Some(OutputSchema { name: format.name, schema: format.schema });
    }
    config.limits.answer_tokens = shown.max_output_tokens.unwrap_or(0);
    Ok(config)
}

/// The conversation that is said on, with its results of calls in the names that the run before knows them by. Every call
/// must have its result: no model goes on without.
fn joined(mut messages: Vec<Message>, before: Option<&RunLog>) -> Result<Vec<Message>, Failure> {
    let owed = before.map_or(Vec::new(), handed_over);
    let mut open = owed.clone();
    for message in &mut messages {
        let Message::Tool { call_id, name, .. } = message else { continue };
        if !name.is_empty() {
            continue;
        }
        let known = before.and_then(|log| id::inner_call(log.run.id, call_id)).unwrap_or_else(|| call_id.clone());
        let Some((_, tool)) = owed.iter().find(|(id, _)| *id == known) else {
            let shown: String = call_id.chars().take(80).collect();
            let message = format!(
                "no call `{shown}` is waiting for an output: send the function_call before its output, or the response that made it as previous_response_id"
            );
            return Err(Failure::bad("tool_call_unknown", message).at("input"));
        };
        name.clone_from(tool);
        open.retain(|(id, _)| *id != known);
        *call_id = known;
    }
    open.extend(unanswered(&messages));
    if let Some((call, _)) = open.first() {
        let call = before
            .filter(|_| owed.iter().any(|(id, _)| id == call))
            .map_or_else(|| call.clone(), |log| id::outer_call(log.run.id, call));
        let message = format!("no tool output found for function call `{}`", call.chars().take(80).collect::<String>());
        return Err(Failure::bad("tool_output_missing", message).at("input"));
    }
    Ok(messages)
}

/// The calls that a run handed to its caller.
fn handed_over(log: &RunLog) -> Vec<(String, String)> {
    let callers =
        |(_, name): &(String, String)| log.run.config.tool(name).is_some_and(|tool| tool.executor == Executor::Caller);
    unanswered(&log.conversation()).into_iter().filter(callers).collect()
}

/// What lists show: the last thing the user said.
fn task(messages: &[Message], before: Option<&RunLog>) -> Result<String, Failure> {
    let said = messages.iter().rev().find_map(|message| match message {
        Message::User { text, images } => {
            Some(if text.trim().is_empty() && !images.is_empty() { "(an image)" } else { text })
        }
        _ => None,
    });
    let empty = || Failure::bad("task_empty", "the input says nothing: send what is to be done").at("input");
    match said {
        Some(text) if text.trim().is_empty() => Err(empty()),
        Some(text) => Ok(text.to_owned()),
        None => match before {
            Some(log) if !messages.is_empty() => Ok(log.started().task.clone()),
            _ => Err(empty()),
        },
    }
}
