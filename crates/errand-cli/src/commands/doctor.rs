//! `errand doctor`: what works on this machine, and how to get what does not.

use super::{Context, start};
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::host::providers;
use crate::text;
use crate::toolbox::{engine_config, images, runtime_config};
use crate::view::{Audience, print, print_json};
use errand_engine::ports::Models;
use errand_sandbox::{Check, Engine, EngineConfig, Interpreter, Report, repairs};
use errand_store_local::{DataFolder, Mode, SystemWorld};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Free space below which something is said, in bytes: a workspace may take as much.
const SPACE_LOW: u64 = 1 << 30;

/// All findings. Exit status 1 if code cannot be run here, or the data folder or the settings cannot be used.
pub(super) async fn doctor(context: &Context) -> Result<Exit, Error> {
    let (config, broken) = match context.plain() {
        Ok(config) => (config, None),
        Err(error) => (Config::without_file(&context.global, &context.environment())?, Some(error)),
    };
    let engine = engine_config(&config);
    // The probe blocks: it makes boxes and waits for them.
    let boxes = tokio::task::spawn_blocking(move || probe(&engine));
    let (report, interpreters) =
        boxes.await.map_err(|error| Error::new("engine_stopped", format!("the probe ended by itself: {error}")))?;
    let scripts = scripts().await?;
    let containers = containers(&config).await?;
    let data = data(&config);
    let model = model(&config).await;
    let space = space(&config.data);
    let is_fine = report.available && data.is_ok() && broken.is_none();
    if context.audience() == Audience::Machines {
        print_json(&json!({
            "type": "doctor",
            "ready": is_fine,
            "data": { "path": text::path(&config.data), "state": state(&data), "error": data.as_ref().err().map(|error| &*error.code), "free_bytes": space },
            "settings": config.file.as_deref().map(text::path),
            "settings_error": broken.as_ref().map(|error| &error.message),
            "sandbox": report,
            "interpreters": interpreters,
            "scripts": scripts,
            "containers": containers,
            "min_tier": config.sandbox.min_tier,
            "hard_quotas": config.sandbox.hard_quotas,
            "documents": documents(&config).0,
            "model": model.as_ref().map(Model::json).unwrap_or_else(|error| json!({"error": error.code, "message": error.message})),
        }));
        return Ok(if is_fine { Exit::Done } else { Exit::Failed });
    }
    print(&format!("errand {} on {}", env!("CARGO_PKG_VERSION"), system()));
    print(&format!(
        "data folder   {}: {}",
        text::path(&config.data),
        data.as_ref().map_or_else(|error| error.message.clone(), Clone::clone)
    ));
    print(&format!("disk space    {}", space.map_or("unknown".to_owned(), told_space)));
    let settings = match (&broken, &config.file) {
        (Some(error), _) => format!("{}; what follows is without it", text::one_line(&error.message, 200)),
        (None, Some(file)) => text::path(file),
        (None, None) => "no settings file, defaults hold".to_owned(),
    };
    print(&format!("settings      {settings}"));
    print(&format!("model         {}", model.as_ref().map_or_else(|error| format!("none: {}", error.message), Model::told)));
    sandbox(&report, &interpreters);
    if let Some(report) = &scripts {
        told_tier("scripts      ", "T0", report);
    }
    if let Some(report) = &containers {
        told_tier("containers   ", "T2", report);
    }
    let quotas = if config.sandbox.hard_quotas { ", with quotas that are hard" } else { "" };
    print(&format!("code          runs in tier {} or a stronger one{quotas}", config.sandbox.min_tier.name()));
    print(&format!("documents     {}", documents(&config).1));
    Ok(if is_fine { Exit::Done } else { Exit::Failed })
}

/// Whether the tools `document` and `data` can work: for programs, and for people. Nothing is made for the question.
fn documents(config: &Config) -> (&'static str, &'static str) {
    let images = config.data.join("images").is_dir().then(|| images(config)).flatten();
    if images.is_some_and(|images| errand_tools::has_office_image(&images)) {
        return ("ready", "document and data: ready, their image is there");
    }
    match errand_tools::can_build_office_image(config.search_path.as_deref()) {
        true => (
            "at_first_use",
            "document and data: their image is fetched at first use; `errand sandbox image build data` does it now",
        ),
        false => ("absent", "document and data: not to be had; install python3 and python3-pip"),
    }
}

/// What the probe finds, and the interpreters that boxes can use. Where no engine starts, the probe is made again for
/// all that it finds.
fn probe(config: &EngineConfig) -> (Report, Vec<Interpreter>) {
    match Engine::start(config) {
        Ok(engine) => (engine.report().clone(), engine.interpreters().to_vec()),
        Err(_) => (Engine::probe(config), Vec::new()),
    }
}

/// What the probe of tier T0 finds, where this program has that tier.
#[cfg(feature = "t0")]
async fn scripts() -> Result<Option<Report>, Error> {
    let config = super::sandbox::script::worker()?;
    let probe = tokio::task::spawn_blocking(move || errand_sandbox::t0::ScriptEngine::probe(&config));
    let ended = |error| Error::new("engine_stopped", format!("the probe ended by itself: {error}"));
    Ok(Some(probe.await.map_err(ended)?))
}

#[cfg(not(feature = "t0"))]
async fn scripts() -> Result<Option<Report>, Error> {
    Ok(None)
}

/// What the probe of tier T2 finds, where a runtime is configured.
async fn containers(config: &Config) -> Result<Option<Report>, Error> {
    let Some(config) = runtime_config(config) else { return Ok(None) };
    let probe = tokio::task::spawn_blocking(move || errand_sandbox::OciEngine::probe(&config));
    let ended = |error| Error::new("engine_stopped", format!("the probe ended by itself: {error}"));
    Ok(Some(probe.await.map_err(ended)?))
}

fn told_tier(heading: &str, tier: &str, report: &Report) {
    let (passed, all) = (report.passed(), report.checks.len());
    let verdict = if report.available { "ready" } else { "not available" };
    print(&format!("{heading} {tier} {verdict}: {passed} of {all} checks passed in {} ms", report.elapsed_ms));
    for reason in &report.reasons {
        print(&format!("              because {}", text::neutral(reason)));
    }
    for check in report.checks.iter().filter(|check| !check.pass) {
        print(&failed(check));
    }
}

fn sandbox(report: &Report, interpreters: &[Interpreter]) {
    let (passed, all) = (report.passed(), report.checks.len());
    match report.available {
        true => print(&format!("sandbox       T1 ready: {passed} of {all} checks passed in {} ms", report.elapsed_ms)),
        false => {
            print(&format!("sandbox       T1 not available: {passed} of {all} checks passed; code is not run without it"))
        }
    }
    for reason in &report.reasons {
        print(&format!("              because {}", text::neutral(reason)));
    }
    for check in report.checks.iter().filter(|check| !check.pass) {
        print(&failed(check));
    }
    if !report.available {
        repairs().iter().for_each(|repair| print(&format!("              repair: {repair}")));
    }
    let quotas: Vec<String> =
        report.quotas.list().iter().map(|(name, strength)| format!("{name} {}", strength.name())).collect();
    print(&format!("quotas        {}", quotas.join(", ")));
    let found: Vec<String> = interpreters.iter().map(|one| format!("{} ({})", one.name, text::path(&one.path))).collect();
    if !report.available {
        return;
    }
    if !found.is_empty() {
        print(&format!("interpreters  {}", found.join(", ")));
    }
    for (name, tool) in [("python3", "python"), ("node", "node"), ("bash", "shell")] {
        if !interpreters.iter().any(|one| one.name == name || (name == "bash" && one.name == "sh")) {
            print(&format!("interpreters  no {name}: install it for the tool `{tool}`"));
        }
    }
}

fn failed(check: &Check) -> String {
    let (what, found, expected) = (text::neutral(&check.what), text::neutral(&check.found), text::neutral(&check.expected));
    format!("              failed {}: {what}: {found} (expected {expected})", check.id)
}

/// Whether the data folder can be used, as one line or as the reason why not.
fn data(config: &Config) -> Result<String, Error> {
    if !config.data.exists() {
        return Ok("not there yet, made by the first run".to_owned());
    }
    match DataFolder::open(&config.data, Mode::Read, Arc::new(SystemWorld)) {
        Ok(_) => {}
        // An empty folder becomes a data folder with the first run.
        Err(errand_store_local::Error::Missing { .. }) => return Ok("empty, filled by the first run".to_owned()),
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::access(&config.data, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok("readable and writable".to_owned()),
        Err(error) => Err(Error::new(
            "data_read_only",
            format!("nothing can be written there ({error}); commands that only read work"),
        )),
    }
}

fn state(data: &Result<String, Error>) -> &str {
    match data {
        Ok(state) => state,
        Err(error) => &error.message,
    }
}

/// Free bytes where the data folder lies or will lie.
fn space(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(there).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn told_space(free: u64) -> String {
    let low = if free < SPACE_LOW { ": little; a workspace alone may take 1 GiB" } else { "" };
    format!("{} free{low}", text::bytes(free))
}

/// The model a run would get.
struct Model {
    name: String,
    why: String,
    has_price: bool,
    scripted: bool,
}

impl Model {
    fn told(&self) -> String {
        let price = match (self.scripted, self.has_price) {
            (true, _) => "a script, not an AI",
            (false, true) => "its price is known",
            (false, false) => "no price is known: tokens are bounded, not dollars",
        };
        format!("{} ({}; {price})", text::neutral(&self.name), text::neutral(&self.why))
    }

    fn json(&self) -> serde_json::Value {
        json!({"name": self.name, "why": self.why, "price_known": self.has_price, "scripted": self.scripted})
    }
}

async fn model(config: &Config) -> Result<Model, Error> {
    let providers = providers(config)?;
    let chosen = start::choose(config, &providers).await?;
    let facts = providers.facts(&chosen.model.name)?;
    Ok(Model {
        name: chosen.model.name,
        why: chosen.why.unwrap_or_else(|| "named in the settings".to_owned()),
        has_price: facts.price.is_some(),
        scripted: facts.scripted,
    })
}

fn system() -> String {
    let uname = rustix::system::uname();
    format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy())
}
