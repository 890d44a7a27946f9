//! What names in a request to `errand serve` stand for: the same settings that `errand run` goes by.

use crate::commands::start;
use crate::config::Config;
use crate::error::Error;
use crate::host::Host;
use crate::toolbox::Toolbox;
use async_trait::async_trait;
use errand_api::{Catalog, Failure, Listed};
use errand_core::{ModelChoice, RunConfig, ToolSpec};
use errand_models::Providers;
use std::sync::Arc;

/// The names of one server.
pub(crate) struct Names {
    config: Config,
    models: Arc<Providers>,
    tools: Arc<Toolbox>,
    /// Who answers where no model is named.
    model: ModelChoice,
}

impl Names {
    pub(crate) fn new(config: &Config, host: &Host, model: ModelChoice) -> Self {
        Self { config: config.clone(), models: Arc::clone(&host.models), tools: Arc::clone(&host.tools), model }
    }

    /// Tools that requests may name: all, or those that the settings name.
    fn allowed(&self, name: &str) -> bool {
        self.config.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| tool == name))
    }
}

#[async_trait]
impl Catalog for Names {
    /// The one place where a name becomes what a run is pinned to.
    async fn config(&self, model: Option<&str>) -> Result<RunConfig, Failure> {
        let model = match model {
            None => self.model.clone(),
            Some(name) => start::model_choice(&*self.models, name).map_err(|error| named(error, 400))?,
        };
        start::pinned(&self.config, &*self.models, model, Vec::new()).map_err(|error| named(error, 500))
    }

    async fn tools(&self, names: &[String]) -> Result<Vec<ToolSpec>, Failure> {
        if let Some(name) = names.iter().find(|name| !self.allowed(name)) {
            let name = crate::text::one_line(name, 64);
            let message = format!("tool `{name}` is not offered by this server: it was started with other --tools");
            return Err(Failure::bad("unknown_tool", message));
        }
        let mut tools = self.tools.offer(Some(names)).await.map_err(|error| named(error, 400))?;
        start::ask_first_of(&mut tools, &self.config.approve).map_err(|error| named(error, 400))?;
        Ok(tools)
    }

    fn tool_like(&self, name: &str) -> Option<String> {
        let own = match name {
            "code_interpreter" => "python",
            "web_search" => "search",
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
        "model_unknown" => unknown,
        "unknown_tool" | "tool_named_twice" | "model_bad_request" => 400,
        "model_auth" => 503,
        _ => 500,
    };
    Failure::new(status, error.code, error.message)
}
