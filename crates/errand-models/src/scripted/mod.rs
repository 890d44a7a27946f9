//! The scripted model: replies follow a text script, not a mind. For tests, demos, and machines with no model.
//!
//! It keeps nothing between calls but a count of faults: which turn is due and what it knows is worked out from the
//! conversation, so a run survives restarts, forks and replays.

mod format;
mod reply;
mod scope;
mod walk;

pub(crate) use format::Dollars;
pub use format::ScriptError;

use async_trait::async_trait;
use errand_core::{Hash, Message, ModelError, ModelErrorKind, ModelReply, ModelRequest, SUMMARY_PROMPT};
use errand_engine::ports::{DeltaSink, ModelFacts, Models};
use format::{Fault, Script, Turn};
use scope::Scope;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use walk::{Due, Stuck};

/// What names of scripted models begin with.
pub const PREFIX: &str = "scripted/";

/// Longest script read, in bytes.
const SCRIPT_BYTES_MAX: u64 = 1 << 20;

/// Most requests whose faults are counted at a time.
const FAULTS_MAX: usize = 4_096;

const BUILT_IN: [(&str, &str); 4] = [
    ("assistant", include_str!("../../scripts/assistant.toml")),
    ("echo", include_str!("../../scripts/echo.toml")),
    ("hello", include_str!("../../scripts/hello.toml")),
    ("report", include_str!("../../scripts/report.toml")),
];

/// Models whose replies follow scripts, `scripted/NAME` each.
#[derive(Debug, Default)]
pub struct ScriptedModels {
    scripts: BTreeMap<String, Result<Arc<Script>, ScriptError>>,
    /// How often each request has failed already, for faults that pass.
    faults: Mutex<HashMap<Hash, u32>>,
}

impl ScriptedModels {
    /// The built-in scripts.
    pub fn built_in() -> Self {
        let mut models = Self::default();
        for (name, text) in BUILT_IN {
            models.scripts.insert(name.to_owned(), Script::parse(name, text).map(Arc::new));
        }
        models
    }

    /// Adds a script, in place of one of the same name.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), ScriptError> {
        self.scripts.insert(name.to_owned(), Ok(Arc::new(Script::parse(name, text)?)));
        Ok(())
    }

    /// Adds each `NAME.toml` in a folder. A script that cannot be used fails when it is asked for, and only then.
    pub fn add_folder(&mut self, folder: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
            if let (Some(name), Some("toml")) = (name, path.extension().and_then(|extension| extension.to_str())) {
                let script = read(&name, &path);
                self.scripts.insert(name, script);
            }
        }
        Ok(())
    }

    /// Name and purpose of each script, in the order of names.
    pub fn list(&self) -> impl Iterator<Item = (&str, &str)> {
        self.scripts.iter().filter_map(|(name, script)| Some((name.as_str(), script.as_ref().ok()?.about.as_str())))
    }

    fn script(&self, model: &str) -> Result<(&str, &Arc<Script>), ModelError> {
        let name = model.strip_prefix(PREFIX).unwrap_or(model);
        match self.scripts.get_key_value(name) {
            Some((name, Ok(script))) => Ok((name, script)),
            Some((_, Err(error))) => Err(failure(ModelErrorKind::BadRequest, error.to_string())),
            None => {
                let known: Vec<&str> = self.scripts.keys().map(String::as_str).collect();
                let message = format!("there is no script `{name}`; there are: {}", known.join(", "));
                Err(failure(ModelErrorKind::UnknownModel, message))
            }
        }
    }

    /// The failure a fault asks for, unless it has passed.
    fn fail(&self, fault: &Fault, request: &ModelRequest) -> Option<ModelError> {
        if let Some(times) = fault.times {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            if faults.len() >= FAULTS_MAX {
                faults.clear();
            }
            let failed = faults.entry(request.digest()).or_default();
            if *failed >= times {
                return None;
            }
            *failed += 1;
        }
        Some(ModelError {
            kind: fault.kind,
            message: fault.message.clone(),
            retry_after_ms: fault.retry_after_ms,
            may_be_charged: fault.may_be_charged,
        })
    }

    fn reply(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let (name, script) = self.script(&request.model)?;
        let stuck = |turn: usize, reason: String| {
            let turn = if turn == 0 { String::new() } else { format!(", turn {turn}") };
            failure(ModelErrorKind::BadRequest, format!("script `{name}`{turn}: {reason}"))
        };
        if request.messages.last().is_some_and(|last| *last == Message::user(SUMMARY_PROMPT)) {
            return self.summary(script, request).map_err(|error| stuck(error.turn, error.reason))?;
        }
        let due = walk::due(script, request).map_err(|error| stuck(error.turn, error.reason))?;
        if let Some(error) = due.turn.error.as_ref().and_then(|fault| self.fail(fault, request)) {
            return Err(error);
        }
        reply::reply(request, &due).map_err(|reason| stuck(due.number, reason))
    }

    /// What a script says when it is asked for a summary: what it has written for that, or where it is.
    fn summary(&self, script: &Script, request: &ModelRequest) -> Result<Result<ModelReply, ModelError>, Stuck> {
        let scope = Scope::new("", &[]);
        let own;
        let turn = match &script.summary {
            Some(turn) => turn,
            None => {
                own = Turn::saying(walk::summary(script, request)?);
                &own
            }
        };
        if let Some(error) = turn.error.as_ref().and_then(|fault| self.fail(fault, request)) {
            return Ok(Err(error));
        }
        let due = Due { turn, number: 0, scope };
        reply::reply(request, &due).map(Ok).map_err(|reason| Stuck { turn: 0, reason })
    }
}

#[async_trait]
impl Models for ScriptedModels {
    fn facts(&self, model: &str) -> Result<ModelFacts, ModelError> {
        let (_, script) = self.script(model)?;
        Ok(ModelFacts {
            image_tokens: 0,
            price: Some(script.price()),
            context_tokens: script.context_tokens,
            endpoint: Some("script".to_owned()),
            scripted: true,
        })
    }

    async fn call(&self, request: &ModelRequest, deltas: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        let reply = self.reply(request)?;
        reply::stream(&reply, deltas);
        Ok(reply)
    }
}

fn read(name: &str, path: &Path) -> Result<Arc<Script>, ScriptError> {
    let form = |reason: String| ScriptError::Form { script: name.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| form(error.to_string()))?;
    if !metadata.is_file() {
        return Err(form("it is no plain file".to_owned()));
    }
    let bytes = metadata.len();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(form(format!("it has {bytes} bytes; at most {SCRIPT_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| form(error.to_string()))?;
    Script::parse(name, &text).map(Arc::new)
}

fn failure(kind: ModelErrorKind, message: String) -> ModelError {
    ModelError { kind, message, retry_after_ms: None, may_be_charged: false }
}
