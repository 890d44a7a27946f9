//! Tools that users add: files in tool folders, each a tool or a server that brings many.
//!
//! [`read`] reads folders and tells of every problem at once. A kind of tool is a module that makes an
//! [`Execute`] of its part of the file: `http`, `graphql`, `command`; `mcp` stands beside this module. `docs/guide/tools.md` says how such files
//! are written, `schemas/tools/added.schema.json` what may stand in them.

mod clear;
mod command;
mod endpoint;
mod exchange;
mod form;
mod graphql;
mod http;
mod problem;
mod template;
mod used;

pub(crate) use exchange::headers;
pub use problem::{Problem, ProblemKind};
pub(crate) use template::percent;

use crate::execute::Execute;
use crate::mcp::{Place, Server};
use crate::net::Network;
use crate::secret::{Masks, Vault};
use errand_core::{Class, Executor, Hash, ToolDefinition, ToolSpec};
use form::{Form, Kind};
use problem::Problems;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest manifest read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files of a folder.
const FILES_MAX: usize = 1_000;

/// Where users' tools are, and what they may ask for.
#[derive(Clone)]
pub struct AddedSettings {
    /// The folders, in the order in which their tools are shown.
    pub folders: Vec<PathBuf>,
    /// Secrets and variables.
    pub vault: Arc<dyn Vault>,
    /// The way out, for servers behind a URL.
    pub network: Arc<Network>,
}

/// What a file holds.
pub(crate) enum Added {
    Tool(Box<AddedTool>),
    Server(Arc<Server>),
}

/// A tool of one file.
pub(crate) struct AddedTool {
    pub(crate) file: PathBuf,
    pub(crate) kind: &'static str,
    pub(crate) spec: ToolSpec,
    pub(crate) parameters: Value,
    /// For how long the result of a pure call may be given again, in seconds.
    pub(crate) cache_ttl_s: Option<u32>,
    pub(crate) executor: Arc<dyn Execute>,
    /// Secrets that its calls need.
    pub(crate) secrets: Vec<String>,
}

/// What the modules of the kinds are given.
pub(crate) struct Setting<'a> {
    /// The folder of the manifest.
    pub(crate) folder: &'a Path,
    pub(crate) vault: &'a Arc<dyn Vault>,
    pub(crate) masks: &'a Arc<Masks>,
}

/// Reads all files of the folders.
///
/// # Errors
/// Every problem of every file.
pub(crate) fn read(settings: &AddedSettings, masks: &Arc<Masks>) -> Result<Vec<Added>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut all: Vec<Added> = Vec::new();
    for folder in &settings.folders {
        for file in files(folder).unwrap_or_else(|problem| {
            problems.push(problem);
            Vec::new()
        }) {
            match one(&file, settings, masks) {
                Ok(added) => all.push(added),
                Err(found) => problems.extend(found.into_iter().map(|found| found.of(&file))),
            }
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

/// The manifests of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let failed = |problem: String| Problem::new(folder, "", problem);
    let entries = std::fs::read_dir(folder)
        .map_err(|error| failed(format!("the tool folder cannot be read: {error}; name a folder that exists")))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "toml" || end == "json"))
        .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")))
        .take(FILES_MAX + 1)
        .collect();
    if files.len() > FILES_MAX {
        return Err(failed(format!("the folder has more than {FILES_MAX} manifests: spread them over several")));
    }
    files.sort();
    Ok(files)
}

fn one(file: &Path, settings: &AddedSettings, masks: &Arc<Masks>) -> Result<Added, Vec<problem::Found>> {
    let value = parsed(file).map_err(|problem| vec![problem::Found::broken("", problem)])?;
    let form = Form::read(&value)?;
    let mut problems = Problems::default();
    clear::look(&value, &mut problems);
    let added = match form {
        Form::Tool { name, head, parameters, kind } => {
            let folder = file.parent().unwrap_or(Path::new("."));
            let setting = Setting { folder, vault: &settings.vault, masks };
            let tool = Shared { name, head, parameters: with_defaults(parameters), value: &value, file };
            tool.built(&kind, &setting, &mut problems).map(|tool| Added::Tool(Box::new(tool)))
        }
        Form::Server { name, form } => {
            let (file, vault, masks) = (file.to_owned(), Arc::clone(&settings.vault), Arc::clone(masks));
            let network = Arc::clone(&settings.network);
            let place =
                Place { file, vault, masks, network, digest: digest_of(&value, &[]), secrets: clear::secrets(&value) };
            Some(Added::Server(Arc::new(Server::new(name, *form, place))))
        }
    };
    match added {
        Some(added) if problems.is_empty() => Ok(added),
        _ => Err(problems.into_list()),
    }
}

/// The file as a value, whichever way it is written.
fn parsed(file: &Path) -> Result<Value, String> {
    let metadata = std::fs::metadata(file).map_err(|error| format!("the file cannot be read: {error}"))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(format!("it must be a plain file of at most {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("the file cannot be read: {error}"))?;
    match file.extension().is_some_and(|end| end == "json") {
        true => serde_json::from_str(&text).map_err(|error| format!("it is no JSON: {error}")),
        false => toml::from_str(&text).map_err(|error| format!("it is no TOML: {}", error.to_string().trim())),
    }
}

/// What all kinds of tools share.
struct Shared<'a> {
    name: String,
    head: Box<form::Head>,
    parameters: Value,
    value: &'a Value,
    file: &'a Path,
}

impl Shared<'_> {
    fn built(self, kind: &Kind, setting: &Setting<'_>, problems: &mut Problems) -> Option<AddedTool> {
        let Self { name, head, parameters, value, file } = self;
        check_parameters(&parameters, problems);
        let (word, class, executor, digests) = match kind {
            Kind::Http(form, answer) => {
                let http = http::Http::new(form, answer.clone(), &parameters, setting, problems)?;
                ("http", form.class(), Arc::new(http) as Arc<dyn Execute>, Vec::new())
            }
            Kind::Graphql(form, answer) => {
                let graphql = graphql::Graphql::new(form, answer.clone(), &parameters, setting, problems)?;
                ("graphql", form.class(), Arc::new(graphql) as Arc<dyn Execute>, Vec::new())
            }
            Kind::Command(form) => {
                let (command, digests) = command::Command::new(form, &parameters, setting, problems)?;
                ("command", Class::Idempotent, Arc::new(command) as Arc<dyn Execute>, digests)
            }
        };
        let class = head.class.unwrap_or(class);
        if head.cache_ttl_s.is_some() && class != Class::Pure {
            problems.add("cache_ttl_s", "only what is of class pure can be given again");
        }
        let cache_ttl_s = head.cache_ttl_s;
        let spec = ToolSpec {
            definition: ToolDefinition { name, description: head.description, parameters: parameters.to_string() },
            class,
            executor: Executor::Worker,
            approval: head.approval.unwrap_or(kind.approval()),
            timeout_ms: head.timeout_s.map_or(kind.timeout_ms(), |seconds| (seconds * 1000.0).ceil() as u64),
            taint_out: head.taint_out.unwrap_or_else(|| kind.taint_out()),
            source: Some(digest_of(value, &digests)),
            min_tier: head.min_tier,
            egress: None,
        };
        let secrets = clear::secrets(value);
        Some(AddedTool { file: file.to_owned(), kind: word, spec, parameters, cache_ttl_s, executor, secrets })
    }
}

/// The digest that a run is pinned to: of the manifest, and of what it names.
pub(crate) fn digest_of(value: &Value, named: &[Hash]) -> Hash {
    let mut text = value.to_string();
    named.iter().for_each(|hash| text.push_str(&format!("\n{hash}")));
    Hash::of(text.as_bytes())
}

fn with_defaults(parameters: Option<serde_json::Map<String, Value>>) -> Value {
    let mut parameters = parameters.unwrap_or_default();
    parameters.entry("type").or_insert_with(|| "object".into());
    parameters.entry("properties").or_insert_with(|| Value::Object(serde_json::Map::new()));
    parameters.entry("required").or_insert_with(|| Value::Array(Vec::new()));
    parameters.entry("additionalProperties").or_insert(Value::Bool(false));
    Value::Object(parameters)
}

fn check_parameters(parameters: &Value, problems: &mut Problems) {
    if let Err(problem) = crate::schema::compile(parameters) {
        problems.add("parameters", format!("it is no schema that can be used: {problem}"));
    }
    for at in crate::schema::unknown_keywords(parameters) {
        let problem = "JSON Schema has no such keyword, so nothing would be checked by it; one of your own begins with x-";
        problems.add(&format!("parameters.{at}"), problem);
    }
    let properties = parameters["properties"].as_object().into_iter().flatten();
    for (name, property) in properties {
        let described = property.get("description").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        if !described {
            problems.add(&format!("parameters.properties.{name}"), "it has no description: tell the model what it is for");
        }
    }
    for required in parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if parameters["properties"].get(required).is_none() {
            problems.add("parameters.required", format!("{required:?} is required and not among the properties"));
        }
    }
}
