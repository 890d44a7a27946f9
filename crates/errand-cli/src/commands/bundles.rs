//! `errand export`, `verify` and `replay`.

use super::list::load;
use super::run::say;
use super::{Context, run_id};
use crate::args::Export;
use crate::error::{Error, Exit};
use crate::files::{Workspace, create};
use crate::text;
use crate::view::lines::Tone;
use crate::view::{Audience, print, print_json};
use errand_core::{Message, RunLog};
use errand_engine::bundle::{self, Bundle, Checked, Writer};
use errand_engine::ports::World;
use errand_store_local::{DataFolder, SystemWorld};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

/// Deepest thread that is followed.
const THREAD_MAX: usize = 10_000;

/// `errand export`.
pub(super) async fn export(context: &Context, args: Export) -> Result<Exit, Error> {
    let (config, folder) = context.reading()?;
    let log = load(&folder, run_id(&args.run)?).await?;
    let thread = thread(&folder, &log).await?;
    let output = create(&args.output)?;
    let written = write(&folder, &log, &thread, !args.without_files, output);
    if written.is_err() {
        let _ = std::fs::remove_file(&args.output);
    }
    let blobs = written?;
    let path = text::path(&args.output);
    let length = std::fs::metadata(&args.output).map_or(0, |metadata| metadata.len());
    match context.audience() {
        Audience::Machines => print_json(&json!({
            "type": "exported", "run": log.run.id, "path": path, "bytes": length,
            "records": log.run.number, "runs": thread.len() + 1, "blobs": blobs, "ledger": log.run.hash,
        })),
        Audience::People => say(
            Tone::Plain,
            &config,
            &format!(
                "{path}: {}, {}, {}",
                text::plural(log.run.number, "record", "records"),
                text::plural(blobs, "blob", "blobs"),
                text::bytes(length)
            ),
        ),
    }
    Ok(Exit::Done)
}

fn write(folder: &DataFolder, log: &RunLog, thread: &[RunLog], files: bool, output: File) -> Result<u64, Error> {
    let failed = |error: bundle::Error| Error::chain(error.code(), &error);
    let mut writer = Writer::new(BufWriter::new(output), log.run.id, SystemWorld.now(), files).map_err(failed)?;
    for one in thread.iter().rev().chain([log]) {
        writer.log(one).map_err(failed)?;
    }
    let hashes = if files { blobs(folder, log, thread)? } else { Vec::new() };
    for hash in &hashes {
        let missing =
            || Error::new("blob_missing", format!("blob {hash} is not in the data folder: --without-files leaves it out"));
        writer.blob(&folder.blobs().get_blocking(hash)?.ok_or_else(missing)?).map_err(failed)?;
    }
    let file = writer.finish().map_err(failed)?.into_inner();
    let file = file.map_err(|error| Error::new("output_failed", format!("the bundle cannot be written: {error}")))?;
    file.sync_all().map_err(|error| Error::new("output_failed", format!("the bundle cannot be written: {error}")))?;
    Ok(hashes.len() as u64)
}

/// What the workspace holds, and the images of the whole thread.
fn blobs(folder: &DataFolder, log: &RunLog, thread: &[RunLog]) -> Result<Vec<errand_core::Hash>, Error> {
    let opened = thread.iter().chain([log]).flat_map(|log| log.started().opening_messages());
    let mut hashes: Vec<errand_core::Hash> =
        opened.flat_map(|message| message.images().to_vec()).map(|image| image.sha256).collect();
    if log.workspace().is_some() {
        hashes.extend(Workspace::of(log, folder.blobs())?.blobs());
    }
    hashes.sort();
    hashes.dedup();
    Ok(hashes)
}

/// The runs of the thread before `log`, the latest first.
async fn thread(folder: &DataFolder, log: &RunLog) -> Result<Vec<RunLog>, Error> {
    let mut before = Vec::new();
    let mut history = log.started().history.clone();
    while let Some(one) = history {
        if before.len() >= THREAD_MAX {
            return Err(Error::new("log_damaged", format!("the thread before {} has no end", log.run.id)));
        }
        let log = load(folder, one.run).await?;
        history = log.started().history.clone();
        before.push(log);
    }
    Ok(before)
}

/// `errand verify`.
pub(super) async fn verify(context: &Context, source: &str) -> Result<Exit, Error> {
    let (run, checked) = match read(source)? {
        Some(bundle) => (bundle.run, bundle.check().map_err(|error| Error::chain(error.code(), &error))?),
        None => {
            let (_, folder) = context.reading()?;
            let log = load(&folder, run_id(source)?).await?;
            (log.run.id, verify_stored(&folder, &log)?)
        }
    };
    match context.audience() {
        Audience::Machines => print_json(&json!({
            "type": "verified", "run": run, "records": checked.records, "items": checked.items,
            "blobs": checked.blobs, "ledger": checked.head,
        })),
        Audience::People => print(&format!(
            "{run} is as it was written: {}, {}, {}; ledger head {}",
            text::plural(checked.records, "record", "records"),
            text::plural(checked.items, "item", "items"),
            text::plural(checked.blobs, "blob", "blobs"),
            checked.head,
        )),
    }
    Ok(Exit::Done)
}

/// The store checked the ledger when it read the run; the items and the files are checked here.
fn verify_stored(folder: &DataFolder, log: &RunLog) -> Result<Checked, Error> {
    let items = bundle::consumed_items(log).map_err(|error| {
        let code = if error.code() == "bundle_forged" { "ledger_broken" } else { error.code() };
        Error::chain(code, &error)
    })?;
    let hashes = blobs(folder, log, &[])?;
    for hash in &hashes {
        let missing = || Error::new("blob_missing", format!("blob {hash} is not in the data folder"));
        folder.blobs().get_blocking(hash)?.ok_or_else(missing)?;
    }
    Ok(Checked { records: log.run.number, items, blobs: hashes.len() as u64, head: log.run.hash })
}

/// `errand replay`. Nothing here opens a connection: the run is made again from what was recorded.
pub(super) async fn replay(context: &Context, source: &str) -> Result<Exit, Error> {
    let (log, history) = match read(source)? {
        Some(bundle) => {
            let failed = |error: bundle::Error| Error::chain(error.code(), &error);
            bundle.check().map_err(failed)?;
            (bundle.log().map_err(failed)?.clone(), bundle.history().map_err(failed)?)
        }
        None => {
            let (_, folder) = context.reading()?;
            let log = load(&folder, run_id(source)?).await?;
            let thread = thread(&folder, &log).await?;
            let history = conversation(&thread, &log)?;
            (log, history)
        }
    };
    let replayed = errand_core::replay(&log, &history).map_err(|error| Error::chain("replay_diverged", &error))?;
    match context.audience() {
        Audience::Machines => print_json(&json!({
            "type": "replayed", "run": log.run.id, "records": replayed.records, "effects": replayed.effects,
            "requests": replayed.requests, "ledger": replayed.hash,
        })),
        Audience::People => print(&format!(
            "{} made again: {}, {} and {} compared, the same ledger head {}",
            log.run.id,
            text::plural(replayed.records, "record", "records"),
            text::plural(replayed.effects, "effect", "effects"),
            text::plural(replayed.requests, "model request", "model requests"),
            replayed.hash,
        )),
    }
    Ok(Exit::Done)
}

/// What was said in the thread before `log`, oldest first.
fn conversation(thread: &[RunLog], log: &RunLog) -> Result<Vec<Message>, Error> {
    let mut parts = Vec::new();
    let mut history = log.started().history.clone();
    for before in thread {
        let Some(named) = history else { break };
        let prefix = before.prefix(named.run, named.number).map_err(|error| Error::chain("log_damaged", &error))?;
        parts.push(prefix.conversation());
        history = before.started().history.clone();
    }
    Ok(parts.into_iter().rev().flatten().collect())
}

/// The bundle that `source` names, or nothing if it is the id of a run.
fn read(source: &str) -> Result<Option<Bundle>, Error> {
    let path = Path::new(source);
    if !path.exists() {
        if source.starts_with("run_") {
            return Ok(None);
        }
        let shown = text::one_line(source, 200);
        return Err(Error::new("bundle_not_found", format!("`{shown}` is neither the id of a run nor a file")));
    }
    let failed = |error: bundle::Error| Error::chain(error.code(), &error);
    let io = |source| failed(bundle::Error::Io { action: "read", source });
    // Looked at before it is opened: opening a pipe waits for somebody to write.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(Error::new("bundle_not_found", format!("{} is not a file", text::path(path))));
    }
    let file = File::open(path).map_err(io)?;
    bundle::read(BufReader::new(file)).map(Some).map_err(failed)
}
