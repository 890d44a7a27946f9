//! What names in a request to `errand serve` stand for: the same settings that `errand run` goes by.

use crate::args::{Global, RunOptions};
use crate::commands::assistants::{self, Found};
use crate::commands::start;
use crate::config::{Config, Process};
use crate::error::Error;
use crate::host::Host;
use crate::toolbox::Toolbox;
use async_trait::async_trait;
use errand_api::{Catalog, Failure, Listed};
use errand_core::{ModelChoice, RunConfig, ToolSpec};
use errand_models::Providers;
use std::sync::Arc;

/// What names of assistants begin with where models are named too.
const ASSISTANT: &str = "assistant/";

/// The names of one server.
pub(crate) struct Names {
    global: Global,
    options: RunOptions,
    /// The settings, with those of the server's own assistant if it has one.
    config: Config,
    assistant: Option<Found>,
    models: Arc<Providers>,
    tools: Arc<Toolbox>,
    /// Who answers where no model is named.
    model: ModelChoice,
}

impl Names {
    pub(crate) fn new(
        global: &Global,
        options: &RunOptions,
        config: &Config,
        assistant: Option<Found>,
        host: &Host,
        model: ModelChoice,
    ) -> Self {
        let (models, tools) = (Arc::clone(&host.models), Arc::clone(&host.tools));
        Self { global: global.clone(), options: options.clone(), config: config.clone(), assistant, models, tools, model }
    }

    /// What a run is pinned to that asks for an assistant: as `errand run --assistant` has it.
    async fn assisted(&self, named: &str) -> Result<RunConfig, Error> {
        if named.contains('/') || named.ends_with(".toml") {
            return Err(Error::new("assistant_not_found", "a request names an assistant that is kept, and no file"));
        }
        let found = assistants::find(&self.config.data, named).await?;
        // Who asks for an assistant wants its models; budget and tools of the server hold for it all the same.
        let (fallback, summarizer) = (Vec::new(), Vec::new());
        // What it says it may reach is not made more by what the server gives those that say nothing.
        let allow_host = match found.assistant.allow_hosts {
            Some(_) => Vec::new(),
            None => self.options.allow_host.clone(),
        };
        let options = RunOptions { model: None, fallback, summarizer, allow_host, ..self.options.clone() };
        let config = Config::resolve(&self.global, &assistants::under(&options, &found.assistant), &Process)?;
        let model = match &config.model {
            Some(name) => start::model_choice(&*self.models, name)?,
            None => self.model.clone(),
        };
        self.pinned(&config, model, Some(&found)).await
    }

    /// With the tools of the assistant; a request adds its own.
    async fn pinned(&self, config: &Config, model: ModelChoice, found: Option<&Found>) -> Result<RunConfig, Error> {
        let mut tools = match found.and_then(|found| found.assistant.tools.as_ref()) {
            Some(_) => self.tools.offer(config.tools.as_deref()).await?,
            None => Vec::new(),
        };
        start::ask_first_of(&mut tools, &config.approve)?;
        self.grant(&mut tools, config)?;
        start::pinned(config, &*self.models, model, tools, found)
    }

    /// Grants what these settings say to those of the tools that can have it; there may be none.
    fn grant(&self, tools: &mut [ToolSpec], config: &Config) -> Result<(), Error> {
        if Toolbox::can_reach(tools) { self.tools.grant(tools, &config.allow_hosts) } else { Ok(()) }
    }

    /// Tools that requests may name: all, or those that the settings name.
    fn allowed(&self, name: &str) -> bool {
        let covers = |tool: &String| tool == name || tool.strip_suffix('*').is_some_and(|start| name.starts_with(start));
        self.config.tools.as_ref().is_none_or(|tools| tools.iter().any(covers))
    }
}

#[async_trait]
impl Catalog for Names {
    /// The one place where a name becomes what a run is pinned to.
    async fn config(&self, model: Option<&str>) -> Result<RunConfig, Failure> {
        if let Some(name) = model.and_then(|name| name.strip_prefix(ASSISTANT)) {
            return self.assisted(name).await.map_err(|error| named(error, 400));
        }
        let model = match model {
            None => self.model.clone(),
            Some(name) => start::model_choice(&*self.models, name).map_err(|error| named(error, 400))?,
        };
        self.pinned(&self.config, model, self.assistant.as_ref()).await.map_err(|error| named(error, 500))
    }

    async fn tools(&self, names: &[String]) -> Result<Vec<ToolSpec>, Failure> {
        if let Some(name) = names.iter().find(|name| !self.allowed(name)) {
            let name = crate::text::one_line(name, 64);
            let message = format!("tool `{name}` is not offered by this server: it was started with other --tools");
            return Err(Failure::bad("unknown_tool", message));
        }
        let mut tools = self.tools.offer(Some(names)).await.map_err(|error| named(error, 400))?;
        start::ask_first_of(&mut tools, &self.config.approve).map_err(|error| named(error, 400))?;
        self.grant(&mut tools, &self.config).map_err(|error| named(error, 500))?;
        Ok(tools)
    }

    fn tool_like(&self, name: &str) -> Option<String> {
        let own = match name {
            "code_interpreter" => "python",
            "web_search" if self.config.search.is_some() => "search",
            _ => return None,
        };
        let known = self.allowed(own) && self.tools.names().iter().any(|name| name == own);
        known.then(|| own.to_owned())
    }

    fn check_schema(&self, schema: &str) -> Result<(), Failure> {
        errand_tools::check_schema(schema).map_err(|error| Failure::bad(error.code(), error.to_string()))
    }

    fn models(&self) -> Vec<Listed> {
        let scripted = self.models.script_names().into_iter().map(|name| Listed { name, owner: "script".to_owned() });
        let owner = self.model.endpoint.clone().unwrap_or_else(|| "script".to_owned());
        let own = Listed { name: self.model.name.clone(), owner };
        let others = scripted.filter(|listed| listed.name != self.model.name);
        std::iter::once(own.clone()).chain(others).collect()
    }
}

/// A name that cannot be used is the caller's to change; all else is the server's.
fn named(error: Error, unknown: u16) -> Failure {
    let status = match &*error.code {
        "model_unknown" | "assistant_not_found" | "assistant_name_invalid" => unknown,
        // Another model can be named; clients that try again after a failure of the server would do so in vain.
        "unknown_tool" | "tool_named_twice" | "model_bad_request" | "model_auth" => 400,
        _ => 500,
    };
    Failure::new(status, error.code, error.message)
}
