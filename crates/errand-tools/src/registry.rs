//! The tools there are: what each takes, and what stands behind it.

use crate::arguments::{self, Refused};
use crate::built_in::BuiltIn;
use crate::execute::Execute;
use crate::manifest::{self, BUILT_IN, Error};
use errand_core::ToolSpec;
use serde_json::Value;
use std::sync::Arc;

/// The tools there are. Made once, at start; cheap to ask.
pub struct Registry {
    tools: Vec<Arc<Tool>>,
}

/// One tool: what runs are pinned to, the schema of its arguments, compiled, and what carries it out.
pub(crate) struct Tool {
    pub(crate) spec: ToolSpec,
    parameters: Value,
    validator: jsonschema::Validator,
    pub(crate) executor: Arc<dyn Execute>,
    /// For how long the result of a pure call may be given again, in seconds.
    pub(crate) cache_ttl_s: Option<u32>,
}

impl Tool {
    /// # Errors
    /// What is wrong with `parameters` as a schema.
    pub(crate) fn new(spec: ToolSpec, parameters: Value, executor: Arc<dyn Execute>) -> Result<Self, String> {
        let validator = jsonschema::validator_for(&parameters).map_err(|error| error.to_string())?;
        Ok(Self { spec, parameters, validator, executor, cache_ttl_s: None })
    }

    pub(crate) fn cached(self, cache_ttl_s: Option<u32>) -> Self {
        Self { cache_ttl_s, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.definition.name
    }

    /// The arguments of a call as a value that fits the tool's schema.
    pub(crate) fn arguments(&self, arguments: &str) -> Result<Value, Refused> {
        let value = arguments::parse(arguments)?;
        arguments::validate(&self.validator, &self.parameters, &value)?;
        Ok(value)
    }
}

impl Registry {
    /// The built-in tools.
    ///
    /// # Errors
    /// [`Error::Broken`] if a manifest does not fit the meta-schema or is no schema itself.
    pub fn built_in() -> Result<Self, Error> {
        let executor: Arc<dyn Execute> = Arc::new(BuiltIn);
        let tools = manifest::read(&BUILT_IN)?.into_iter().map(|manifest| {
            let tool = Tool::new(manifest.spec(), manifest.parameters, Arc::clone(&executor));
            tool.map(|tool| Arc::new(tool.cached(manifest.cache_ttl_s)))
                .map_err(|problem| Error::Broken { name: manifest.name, problem })
        });
        Ok(Self { tools: tools.collect::<Result<_, Error>>()? })
    }

    /// All names, in the order in which people are shown them.
    pub fn names(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.name().to_owned()).collect()
    }

    /// All tools, and for how long the result of a pure call is kept, in seconds.
    pub fn all(&self) -> impl Iterator<Item = (&ToolSpec, Option<u32>)> {
        self.tools.iter().map(|tool| (&tool.spec, tool.cache_ttl_s))
    }

    /// The tools a run has if none are named: all that do real work.
    pub fn default_set(&self) -> Vec<ToolSpec> {
        self.tools.iter().filter(|tool| tool.name() != "echo").map(|tool| tool.spec.clone()).collect()
    }

    /// The tools called `names`, in that order.
    ///
    /// # Errors
    /// [`Error::Unknown`] lists those there are; [`Error::Twice`].
    pub fn specs<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<ToolSpec>, Error> {
        let mut specs: Vec<ToolSpec> = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            let tool = self
                .named(name)
                .ok_or_else(|| Error::Unknown { name: name.chars().take(80).collect(), known: self.names() })?;
            if specs.iter().any(|spec| spec.definition.name == name) {
                return Err(Error::Twice { name: name.to_owned() });
            }
            specs.push(tool.spec.clone());
        }
        Ok(specs)
    }

    /// What stands behind a tool that a run is pinned to.
    pub(crate) fn tool(&self, spec: &ToolSpec) -> Result<Arc<Tool>, Refused> {
        let name = &spec.definition.name;
        let tool = self.named(name);
        tool.cloned().ok_or_else(|| Refused::UnknownTool { name: name.chars().take(80).collect(), known: self.names() })
    }

    fn named(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.iter().find(|tool| tool.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_given_in_the_order_asked_for() {
        let registry = Registry::built_in().unwrap();
        let specs = registry.specs(&["wait", "python"]).unwrap();
        assert_eq!(specs.iter().map(|spec| spec.definition.name.as_str()).collect::<Vec<_>>(), ["wait", "python"]);
        assert!(specs[1].definition.parameters.contains("additionalProperties"));
        assert_eq!(registry.default_set().len(), registry.names().len() - 1);
    }

    #[test]
    fn unknown_and_doubled_names_are_refused() {
        let registry = Registry::built_in().unwrap();
        let error = registry.specs(&["browser"]).unwrap_err();
        assert_eq!(error.code(), "unknown_tool");
        assert!(error.to_string().contains("python, shell, files"), "{error}");
        assert_eq!(registry.specs(&["echo", "echo"]).unwrap_err().code(), "tool_named_twice");
        let mut spec = registry.specs(&["echo"]).unwrap().remove(0);
        spec.definition.name = "browser".to_owned();
        assert_eq!(registry.tool(&spec).map(|_| ()).unwrap_err().code(), "unknown_tool");
    }
}
