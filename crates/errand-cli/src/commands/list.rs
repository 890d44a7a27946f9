//! Commands that only look. They work beside a process that owns the data folder.

use super::run::{now, say};
use super::{Context, run_id, tenant_id};
use crate::args::{Events, Files, RunArg, Runs, StatusName};
use crate::error::{Error, Exit};
use crate::files::{Workspace, save};
use crate::summary::Summary;
use crate::text;
use crate::view::lines::{Tone, lines};
use crate::view::{Audience, print, print_json};
use errand_api::events::{Projector, PublicEvent};
use errand_core::{RunId, RunLog, TenantId};
use errand_engine::ports::{RunFilter, RunSummary, Store};
use errand_store_local::DataFolder;
use serde_json::json;
use std::time::Duration;

/// How often a followed run is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A run that was named, as it is stored.
pub(super) async fn load(folder: &DataFolder, run: RunId) -> Result<RunLog, Error> {
    Ok(folder.store().load(run).await?.ok_or(errand_engine::Error::UnknownRun { run })?.log)
}

/// `errand runs`.
pub(super) async fn runs(context: &Context, args: Runs) -> Result<Exit, Error> {
    let (config, folder) = context.reading()?;
    let status = args.status.map(|status| status_code(status).to_owned());
    let before = args.before.as_deref().map(run_id).transpose()?;
    let tenant = tenant_id(args.tenant.as_deref())?;
    let page = folder.store().list(&RunFilter { tenant: tenant.clone(), status, before, limit: args.limit }).await?;
    for run in &page.runs {
        match context.audience() {
            Audience::Machines => print_json(&summary_json(run)),
            Audience::People => print(&summary_line(run, now())),
        }
    }
    match page.runs.last() {
        None if context.audience() == Audience::People => say(Tone::Dim, &config, &none(&tenant)),
        Some(last) if page.has_more && context.audience() == Audience::People => {
            say(Tone::Dim, &config, &format!("there are more: --before {}", last.run));
        }
        _ => {}
    }
    Ok(Exit::Done)
}

fn none(tenant: &TenantId) -> String {
    if *tenant == TenantId::default() { "no runs".to_owned() } else { format!("no runs of tenant {tenant}") }
}

fn status_code(status: StatusName) -> &'static str {
    match status {
        StatusName::Running => "running",
        StatusName::Waiting => "waiting",
        StatusName::Paused => "paused",
        StatusName::Done => "done",
        StatusName::Failed => "failed",
        StatusName::Cancelled => "cancelled",
        StatusName::BudgetExceeded => "budget_exceeded",
    }
}

fn summary_line(run: &RunSummary, now: errand_core::Timestamp) -> String {
    format!(
        "{}  {:<15}  {:>12}  {:>10}  {:<22}  {}",
        run.run,
        run.status,
        format!("{} ago", text::duration(now.since(run.started))),
        run.totals.spent.usd.to_string(),
        text::one_line(&run.model, 22),
        text::one_line(&run.task, 60),
    )
}

fn summary_json(run: &RunSummary) -> serde_json::Value {
    json!({
        "type": "run",
        "run": run.run,
        "tenant": run.tenant,
        "status": run.status,
        "started": text::time(run.started),
        "at": text::time(run.at),
        "records": run.number,
        "model": run.model,
        "task": run.task,
        "steps": run.totals.steps,
        "calls": run.totals.calls,
        "tokens": run.totals.spent.tokens,
        "usd": text::dollars(run.totals.spent.usd),
        "parent": run.parent,
    })
}

/// `errand show`.
pub(super) async fn show(context: &Context, args: RunArg) -> Result<Exit, Error> {
    let (config, folder) = context.reading()?;
    let log = load(&folder, run_id(&args.run)?).await?;
    let files = Workspace::of(&log, folder.blobs())?.list();
    super::run::tell_stored(context, &config, &Summary::of(&log, files));
    Ok(Exit::Done)
}

/// `errand events`.
pub(super) async fn events(context: &Context, args: Events) -> Result<Exit, Error> {
    let (_, folder) = context.reading()?;
    let run = run_id(&args.run)?;
    let mut projector = Projector::new(run);
    let mut seen = 0;
    loop {
        let last = folder.store().last(run).await?.ok_or(errand_engine::Error::UnknownRun { run })?;
        if last.number > seen {
            let log = load(&folder, run).await?;
            for sealed in &log.records[usize::try_from(seen).unwrap_or(usize::MAX)..] {
                projector
                    .push(&sealed.record)
                    .iter()
                    .filter(|event| event.seq > args.after)
                    .for_each(|event| show_event(context, event));
            }
            seen = log.run.number;
            if log.run.head.status.is_ended() {
                return Ok(Exit::Done);
            }
        }
        if !args.follow {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show_event(context: &Context, event: &PublicEvent) {
    if context.audience() == Audience::Machines {
        return print_json(event);
    }
    let mut shown: Vec<String> = lines(event, false).into_iter().map(|(_, line)| line).collect();
    if let errand_api::events::Kind::RunDone { .. } = event.kind {
        shown.push("done".to_owned());
    }
    let text = shown.join("\n");
    let mut rows = text.lines();
    print(&format!("{:>4}  r{:<4} {}", event.seq, event.record, rows.next().unwrap_or_default()));
    rows.for_each(|row| print(&format!("            {row}")));
}

/// `errand files`.
pub(super) async fn files(context: &Context, args: Files) -> Result<Exit, Error> {
    let (config, folder) = context.reading()?;
    let log = load(&folder, run_id(&args.run)?).await?;
    if let (Some(path), Some(output)) = (&args.path, &args.output) {
        let bytes = save(&log, path, folder.blobs(), output).await?;
        say(Tone::Dim, &config, &format!("{} written to {}", text::bytes(bytes), text::path(output)));
        return Ok(Exit::Done);
    }
    for file in Workspace::of(&log, folder.blobs())?.list() {
        match context.audience() {
            Audience::Machines => print_json(&file),
            Audience::People => {
                let made = if file.made { "made " } else { "given" };
                print(&format!("{made}  {:>10}  {}", text::bytes(file.bytes), text::one_line(&file.path, 200)));
            }
        }
    }
    Ok(Exit::Done)
}
