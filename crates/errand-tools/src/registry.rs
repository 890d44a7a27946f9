//! The tools there are, and their schemas, compiled once.

use crate::arguments::{self, Refused};
use crate::manifest::{self, BUILT_IN, Error, Manifest};
use errand_core::ToolSpec;
use serde_json::Value;

/// The tools there are. Made once, at start; cheap to ask.
#[derive(Debug)]
pub struct Registry {
    tools: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    manifest: Manifest,
    validator: jsonschema::Validator,
}

impl Registry {
    /// The built-in tools.
    ///
    /// # Errors
    /// [`Error::Broken`] if a manifest does not fit the meta-schema or is no schema itself.
    pub fn built_in() -> Result<Self, Error> {
        let compile = |manifest: Manifest| {
            let validator = jsonschema::validator_for(&manifest.parameters)
                .map_err(|e| Error::Broken { name: manifest.name.clone(), problem: e.to_string() })?;
            Ok(Entry { manifest, validator })
        };
        let tools = manifest::read(&BUILT_IN)?.into_iter().map(compile).collect::<Result<_, Error>>()?;
        Ok(Self { tools })
    }

    /// All manifests, in the order in which people are shown them.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.tools.iter().map(|entry| &entry.manifest)
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        self.manifests().map(|manifest| manifest.name.clone()).collect()
    }

    /// The tools a run has if none are named: all that do real work.
    pub fn default_set(&self) -> Vec<ToolSpec> {
        self.manifests().filter(|manifest| manifest.name != "echo").map(Manifest::spec).collect()
    }

    /// The tools called `names`, in that order.
    ///
    /// # Errors
    /// [`Error::Unknown`] lists those there are; [`Error::Twice`].
    pub fn specs<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<ToolSpec>, Error> {
        let mut specs: Vec<ToolSpec> = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            let entry = self
                .entry(name)
                .ok_or_else(|| Error::Unknown { name: name.chars().take(80).collect(), known: self.names() })?;
            if specs.iter().any(|spec| spec.definition.name == name) {
                return Err(Error::Twice { name: name.to_owned() });
            }
            specs.push(entry.manifest.spec());
        }
        Ok(specs)
    }

    /// The arguments of a call as a value that fits the tool's schema.
    pub(crate) fn arguments(&self, tool: &str, arguments: &str) -> Result<Value, Refused> {
        let entry = self
            .entry(tool)
            .ok_or_else(|| Refused::UnknownTool { name: tool.chars().take(80).collect(), known: self.names() })?;
        let value = arguments::parse(arguments)?;
        arguments::validate(&entry.validator, &entry.manifest.parameters, &value)?;
        Ok(value)
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.tools.iter().find(|entry| entry.manifest.name == name)
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
        assert_eq!(registry.arguments("browser", "{}").unwrap_err().code(), "unknown_tool");
    }
}
