//! The tools there are: what each takes, and what stands behind it.

use crate::added::{self, Added, AddedSettings, Problem};
use crate::arguments::{self, Refused};
use crate::built_in::BuiltIn;
use crate::execute::Execute;
use crate::manifest::{self, BUILT_IN, Error};
use crate::mcp::{McpTool, Server};
use crate::office;
use crate::schema;
use crate::secret::{Masks, Missing, Vault};
use errand_core::{Hash, ToolSpec};
use errand_sandbox::Images;
use futures::future::join_all;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Tools that a run has only if they are named. `echo` does nothing. `graphql` is needed by few runs, costs tokens in each,
/// and lets anything be posted anywhere without asking, as long as it is called a query.
const BY_NAME: [&str; 2] = ["echo", "graphql"];

/// Compiled schemas of servers' tools that are kept.
const COMPILED_MAX: usize = 1_000;

/// The tools there are: built in, from the files of tool folders, and those that MCP servers bring. Made once, at start;
/// servers are only contacted by [`Registry::offer`] and [`Registry::list`], and by calls.
pub struct Registry {
    tools: Vec<Arc<Tool>>,
    servers: Vec<Arc<Server>>,
    vault: Option<Arc<dyn Vault>>,
    pub(crate) masks: Arc<Masks>,
    /// Whether somebody searches for the tool `search`.
    searches: bool,
    /// Whether the image that `document` and `data` need can be had.
    has_office: bool,
    /// Servers' tools as runs are pinned to them.
    compiled: Mutex<HashMap<Hash, Arc<Tool>>>,
}

/// One tool: what runs are pinned to, the schema of its arguments, compiled, and what carries it out.
pub(crate) struct Tool {
    pub(crate) spec: ToolSpec,
    parameters: Value,
    /// Compiled when it is first needed, if it is built in: a test has compiled it before, and a run calls few of them.
    validator: OnceLock<jsonschema::Validator>,
    pub(crate) executor: Arc<dyn Execute>,
    /// For how long the result of a pure call may be given again, in seconds.
    pub(crate) cache_ttl_s: Option<u32>,
    origin: Origin,
}

/// Where a tool comes from.
#[derive(Debug, Clone, Default)]
struct Origin {
    kind: &'static str,
    file: Option<PathBuf>,
    secrets: Vec<String>,
}

/// A tool as people are shown it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What runs are pinned to.
    pub spec: ToolSpec,
    /// For how long the result of a pure call may be given again, in seconds.
    pub cache_ttl_s: Option<u32>,
    /// `built_in`, `command`, `mcp` and so on.
    pub kind: &'static str,
    /// The manifest of a tool that was added.
    pub file: Option<PathBuf>,
}

impl Tool {
    /// The arguments of a call as a value that fits the tool's schema.
    pub(crate) fn arguments(&self, arguments: &str) -> Result<Value, Refused> {
        let value = arguments::parse(arguments)?;
        arguments::validate(self.validator()?, &self.parameters, &value)?;
        Ok(value)
    }

    fn validator(&self) -> Result<&jsonschema::Validator, Refused> {
        if let Some(validator) = self.validator.get() {
            return Ok(validator);
        }
        let broken = |error| Refused::invalid(format!("tool {:?} is broken, its schema is none: {error}", self.name()));
        let validator = jsonschema::validator_for(&self.parameters).map_err(broken)?;
        Ok(self.validator.get_or_init(|| validator))
    }

    /// True for what users added: it may hold secrets, and is pinned by its digest.
    pub(crate) fn is_added(&self) -> bool {
        self.spec.source.is_some()
    }

    fn name(&self) -> &str {
        &self.spec.definition.name
    }

    fn listed(&self) -> Listed {
        Listed {
            spec: self.spec.clone(),
            cache_ttl_s: self.cache_ttl_s,
            kind: self.origin.kind,
            file: self.origin.file.clone(),
        }
    }
}

impl Registry {
    /// The built-in tools.
    ///
    /// # Errors
    /// [`Error::Broken`] if a manifest is none.
    pub fn built_in() -> Result<Self, Error> {
        let executor: Arc<dyn Execute> = Arc::new(BuiltIn);
        let tools = manifest::read(&BUILT_IN)?.into_iter().map(|manifest| {
            let (spec, cache_ttl_s) = (manifest.spec(), manifest.cache_ttl_s);
            let (parameters, validator) = (manifest.parameters, OnceLock::new());
            let origin = Origin { kind: "built_in", ..Origin::default() };
            Arc::new(Tool { spec, parameters, validator, cache_ttl_s, executor: Arc::clone(&executor), origin })
        });
        let tools = tools.collect();
        Ok(Self {
            tools,
            servers: Vec::new(),
            vault: None,
            masks: Arc::default(),
            searches: false,
            has_office: false,
            compiled: Mutex::default(),
        })
    }

    /// Whether `search` is among the tools that a run has if none are named.
    pub fn searching(self, searches: bool) -> Self {
        Self { searches, ..self }
    }

    /// Whether `document` and `data` are among the tools that a run has if none are named: where the image that they need is
    /// there, or can be made.
    pub fn with_office(self, images: Option<&Images>) -> Self {
        let has_office = images.is_some_and(|images| images.can_have(office::IMAGE.name, office::IMAGE.packages));
        Self { has_office, ..self }
    }

    /// The built-in tools and those that a user added.
    ///
    /// # Errors
    /// [`Error::Added`] with every problem of every file.
    pub fn with_added(settings: &AddedSettings) -> Result<Self, Error> {
        let mut registry = Self::built_in()?;
        let added = added::read(settings, &registry.masks).map_err(|problems| Error::Added { problems })?;
        let mut problems = Vec::new();
        for added in added {
            if let Err(problem) = registry.add(added) {
                problems.push(problem);
            }
        }
        registry.vault = Some(Arc::clone(&settings.vault));
        if problems.is_empty() { Ok(registry) } else { Err(Error::Added { problems }) }
    }

    fn add(&mut self, added: Added) -> Result<(), Problem> {
        let taken = |name: &str, file: &Path, by: Option<&Path>| {
            let by = by.map_or("a tool that is built in".to_owned(), |by| by.display().to_string());
            Problem::new(file, "name", format!("{name:?} is taken by {by}: give it another name"))
        };
        match added {
            Added::Tool(tool) => {
                let name = &tool.spec.definition.name;
                if let Some(other) = self.named(name) {
                    return Err(taken(name, &tool.file, other.origin.file.as_deref()));
                }
                let validator =
                    schema::compile(&tool.parameters).map_err(|problem| Problem::new(&tool.file, "parameters", problem))?;
                let validator = OnceLock::from(validator);
                let origin = Origin { kind: tool.kind, file: Some(tool.file), secrets: tool.secrets };
                let (spec, parameters, cache_ttl_s) = (tool.spec, tool.parameters, tool.cache_ttl_s);
                let executor = tool.executor;
                self.tools.push(Arc::new(Tool { spec, parameters, validator, cache_ttl_s, executor, origin }));
            }
            Added::Server(server) => {
                if let Some(other) = self.servers.iter().find(|other| other.name == server.name) {
                    return Err(taken(&server.name, &server.place.file, Some(&other.place.file)));
                }
                self.servers.push(server);
            }
        }
        Ok(())
    }

    /// All names that are known without asking a server, in the order in which people are shown them.
    pub fn names(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.name().to_owned()).collect()
    }

    /// The built-in tools that a run has if none are named: all but `echo` and `graphql`; `search` only where somebody searches,
    /// `document` and `data` only where their image can be had.
    pub fn default_set(&self) -> Vec<ToolSpec> {
        let wanted = |name: &str| match name {
            "search" => self.searches,
            "document" | "data" => self.has_office,
            other => !BY_NAME.contains(&other),
        };
        self.tools.iter().filter(|tool| wanted(tool.name())).map(|tool| tool.spec.clone()).collect()
    }

    /// The tools called `names`, in that order, of those that are known without asking a server.
    ///
    /// # Errors
    /// [`Error::Unknown`] lists those there are; [`Error::Twice`].
    pub fn specs<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<ToolSpec>, Error> {
        chosen(names, &self.tools.iter().map(|tool| tool.spec.clone()).collect::<Vec<_>>())
    }

    /// The tools of a new run: those called `names`, or all that do real work. Starts the servers that may be needed.
    /// A server `NAME` is named as a whole by `NAME_*`.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Twice`]; [`Error::SecretMissing`]; [`Error::Mcp`] for a server that cannot be used and
    /// is not optional.
    pub async fn offer(&self, names: Option<&[String]>) -> Result<Vec<ToolSpec>, Error> {
        let needed = |server: &&Arc<Server>| names.is_none_or(|names| names.iter().any(|name| self.is_of(server, name)));
        let brought = self.brought(self.servers.iter().filter(needed)).await?;
        let mut specs = self.default_set();
        if names.is_some() {
            specs = self.tools.iter().map(|tool| tool.spec.clone()).collect();
        }
        specs.extend(brought.into_iter().map(|listed| listed.spec));
        let offered = match names {
            None => specs,
            Some(names) => chosen(&self.expanded(names, &specs), &specs)?,
        };
        for spec in &offered {
            self.check_secrets(spec)?;
        }
        Ok(offered)
    }

    /// All tools there are, with those of servers.
    ///
    /// # Errors
    /// As [`Registry::offer`].
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let brought = self.brought(self.servers.iter()).await?;
        Ok(self.tools.iter().map(|tool| tool.listed()).chain(brought).collect())
    }

    /// These tools, as people are shown them. Only the servers that may have them are asked.
    ///
    /// # Errors
    /// As [`Registry::offer`].
    pub async fn list_named(&self, names: &[String]) -> Result<Vec<Listed>, Error> {
        let needed = |server: &&Arc<Server>| names.iter().any(|name| self.is_of(server, name));
        let brought = self.brought(self.servers.iter().filter(needed)).await?;
        let all: Vec<Listed> = self.tools.iter().map(|tool| tool.listed()).chain(brought).collect();
        let specs: Vec<ToolSpec> = all.iter().map(|listed| listed.spec.clone()).collect();
        let chosen = chosen(&self.expanded(names, &specs), &specs)?;
        let of = |spec: &ToolSpec| all.iter().find(|listed| listed.spec.definition.name == spec.definition.name).cloned();
        Ok(chosen.iter().filter_map(of).collect())
    }

    /// How many manifests were added.
    pub fn added(&self) -> usize {
        self.tools.iter().filter(|tool| tool.is_added()).count() + self.servers.len()
    }

    /// Secrets that tools and servers need and that cannot be had now: the manifest, and which.
    pub fn missing(&self) -> Vec<(PathBuf, Missing)> {
        let Some(vault) = &self.vault else { return Vec::new() };
        let tools = self.tools.iter().map(|tool| (tool.origin.file.clone().unwrap_or_default(), &tool.origin.secrets));
        let servers = self.servers.iter().map(|server| (server.place.file.clone(), &server.place.secrets));
        let mut all = Vec::new();
        for (file, secrets) in tools.chain(servers) {
            let missing = secrets.iter().filter_map(|secret| self.masks.take(&**vault, secret).err());
            all.extend(missing.map(|missing| (file.clone(), missing)));
        }
        all
    }

    /// True if every tool of a run can be called with these settings, as far as that is known without asking a server.
    pub fn serves(&self, specs: &[ToolSpec]) -> bool {
        specs.iter().filter(|spec| spec.source.is_some()).all(|spec| self.tool(spec).is_ok())
    }

    /// Ends the servers that were started.
    pub async fn close(&self) {
        join_all(self.servers.iter().map(|server| server.close())).await;
    }

    /// The tools that servers bring; a name that two would have is refused.
    async fn brought(&self, servers: impl Iterator<Item = &Arc<Server>>) -> Result<Vec<Listed>, Error> {
        let asked = join_all(servers.map(async |server| (server, server.tools().await))).await;
        let mut all: Vec<Listed> = Vec::new();
        for (server, tools) in asked {
            let tools = match tools {
                Ok(tools) => tools,
                Err(error) if server.form.optional => {
                    tracing::warn!(server = server.name, code = error.code(), %error, "going on without an MCP server");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for spec in tools {
                let name = &spec.definition.name;
                let other =
                    all.iter().find(|other| other.spec.definition.name == *name).and_then(|other| other.file.as_deref());
                let longer = Server::of(&self.servers, name).filter(|other| !Arc::ptr_eq(other, server));
                let other = other.or_else(|| Some(&*longer?.place.file));
                let other = other.or_else(|| {
                    Some(self.named(name)?.origin.file.as_deref().unwrap_or(Path::new("a tool that is built in")))
                });
                if let Some(other) = other {
                    let problem =
                        format!("its tool {name:?} is taken by {}: exclude it, or rename the server", other.display());
                    return Err(Error::Added { problems: vec![Problem::new(&server.place.file, "name", problem)] });
                }
                all.push(Listed { spec, cache_ttl_s: None, kind: "mcp", file: Some(server.place.file.clone()) });
            }
        }
        Ok(all)
    }

    fn is_of(&self, server: &Arc<Server>, tool: &str) -> bool {
        Server::of(&self.servers, tool).is_some_and(|other| Arc::ptr_eq(other, server))
    }

    /// `NAME_*` as all tools of the server NAME.
    fn expanded(&self, names: &[String], specs: &[ToolSpec]) -> Vec<String> {
        let mut all = Vec::new();
        for name in names {
            let server = name.strip_suffix("_*").and_then(|name| self.servers.iter().find(|server| server.name == name));
            match server {
                Some(server) => {
                    let own = specs.iter().filter(|spec| spec.source.is_some() && self.is_of(server, &spec.definition.name));
                    all.extend(own.map(|spec| spec.definition.name.clone()));
                }
                None => all.push(name.clone()),
            }
        }
        all
    }

    /// A tool whose secret is missing would fail at its first call: better said before the run begins.
    fn check_secrets(&self, spec: &ToolSpec) -> Result<(), Error> {
        let (Some(tool), Some(vault)) = (self.named(&spec.definition.name), &self.vault) else { return Ok(()) };
        for secret in &tool.origin.secrets {
            self.masks.take(&**vault, secret).map_err(|missing| Error::SecretMissing {
                name: tool.name().to_owned(),
                file: tool.origin.file.clone().unwrap_or_default(),
                missing,
            })?;
        }
        Ok(())
    }

    /// What stands behind a tool that a run is pinned to.
    pub(crate) fn tool(&self, spec: &ToolSpec) -> Result<Arc<Tool>, Refused> {
        let name = &spec.definition.name;
        let unknown = || Refused::UnknownTool { name: name.chars().take(80).collect(), known: self.names() };
        match self.named(name) {
            Some(tool) if tool.spec.source == spec.source => Ok(Arc::clone(tool)),
            Some(_) => Err(Refused::Changed { name: name.clone(), how: "its manifest says something else".to_owned() }),
            None if spec.source.is_none() => Err(unknown()),
            None => match Server::of(&self.servers, name) {
                Some(server) => self.pinned(server, spec),
                None => {
                    Err(Refused::Changed { name: name.clone(), how: "nothing here has it: give its --tool-dir".to_owned() })
                }
            },
        }
    }

    /// A server's tool with the schema that the run knows, whatever the server says by now: the call itself finds out.
    fn pinned(&self, server: &Arc<Server>, spec: &ToolSpec) -> Result<Arc<Tool>, Refused> {
        let key =
            Hash::of(format!("{}\n{:?}\n{}", spec.definition.name, spec.source, spec.definition.parameters).as_bytes());
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tool) = compiled.get(&key) {
            return Ok(Arc::clone(tool));
        }
        let changed = |how: String| Refused::Changed { name: spec.definition.name.clone(), how };
        let parameters: Value =
            serde_json::from_str(&spec.definition.parameters).map_err(|error| changed(error.to_string()))?;
        let validator = OnceLock::from(schema::compile(&parameters).map_err(changed)?);
        let executor: Arc<dyn Execute> = Arc::new(McpTool(Arc::clone(server)));
        let origin = Origin { kind: "mcp", file: Some(server.place.file.clone()), secrets: Vec::new() };
        let tool = Arc::new(Tool { spec: spec.clone(), parameters, validator, cache_ttl_s: None, executor, origin });
        if compiled.len() >= COMPILED_MAX {
            compiled.clear();
        }
        compiled.insert(key, Arc::clone(&tool));
        Ok(tool)
    }

    fn named(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.iter().find(|tool| tool.name() == name)
    }
}

/// Those called `names`, in that order.
fn chosen<S: AsRef<str>>(names: &[S], all: &[ToolSpec]) -> Result<Vec<ToolSpec>, Error> {
    let mut specs: Vec<ToolSpec> = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        let Some(spec) = all.iter().find(|spec| spec.definition.name == name) else {
            let known = all.iter().map(|spec| spec.definition.name.clone()).collect();
            return Err(Error::Unknown { name: name.chars().take(80).collect(), known });
        };
        if specs.iter().any(|spec| spec.definition.name == name) {
            return Err(Error::Twice { name: name.to_owned() });
        }
        specs.push(spec.clone());
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_is_built_in_can_be_checked_against() {
        for tool in Registry::built_in().unwrap().tools {
            tool.validator().unwrap();
        }
    }

    #[test]
    fn tools_are_given_in_the_order_asked_for() {
        let registry = Registry::built_in().unwrap();
        let specs = registry.specs(&["wait", "python"]).unwrap();
        assert_eq!(specs.iter().map(|spec| spec.definition.name.as_str()).collect::<Vec<_>>(), ["wait", "python"]);
        assert!(specs[1].definition.parameters.contains("additionalProperties"));
        // `search`, `document` and `data`.
        assert_eq!(registry.default_set().len(), registry.names().len() - BY_NAME.len() - 3);
        let registry = registry.searching(true);
        assert_eq!(registry.default_set().len(), registry.names().len() - BY_NAME.len() - 2);
    }

    #[test]
    fn unknown_and_doubled_names_are_refused() {
        let registry = Registry::built_in().unwrap();
        let error = registry.specs(&["browser"]).unwrap_err();
        assert_eq!(error.code(), "unknown_tool");
        assert!(error.to_string().contains("python, shell, node, files"), "{error}");
        assert_eq!(registry.specs(&["echo", "echo"]).unwrap_err().code(), "tool_named_twice");
        let mut spec = registry.specs(&["echo"]).unwrap().remove(0);
        spec.definition.name = "browser".to_owned();
        assert_eq!(registry.tool(&spec).map(|_| ()).unwrap_err().code(), "unknown_tool");
    }
}
