//! What a tool says of itself: the files in `schemas/tools/`, built into the program.

use crate::added::{Problem, ProblemKind};
use crate::mcp::McpError;
use crate::secret::Missing;
use errand_core::{Approval, Class, Executor, Tier, ToolDefinition, ToolSpec};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

/// The built-in manifests by name, in the order in which models and people are shown them.
pub(crate) const BUILT_IN: [(&str, &str); 15] = [
    ("python", include_str!("../../../schemas/tools/python.json")),
    ("shell", include_str!("../../../schemas/tools/shell.json")),
    ("node", include_str!("../../../schemas/tools/node.json")),
    ("files", include_str!("../../../schemas/tools/files.json")),
    ("chart", include_str!("../../../schemas/tools/chart.json")),
    ("document", include_str!("../../../schemas/tools/document.json")),
    ("data", include_str!("../../../schemas/tools/data.json")),
    ("calculate", include_str!("../../../schemas/tools/calculate.json")),
    ("search", include_str!("../../../schemas/tools/search.json")),
    ("fetch", include_str!("../../../schemas/tools/fetch.json")),
    ("http", include_str!("../../../schemas/tools/http.json")),
    ("graphql", include_str!("../../../schemas/tools/graphql.json")),
    ("ask_user", include_str!("../../../schemas/tools/ask_user.json")),
    ("wait", include_str!("../../../schemas/tools/wait.json")),
    ("echo", include_str!("../../../schemas/tools/echo.json")),
];

/// What every manifest must look like.
#[cfg(test)]
const META_SCHEMA: &str = include_str!("../../../schemas/tools/manifest.schema.json");

/// One tool: what the model is told, and how the engine treats its calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, `[a-z][a-z0-9_]{0,63}`.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// JSON Schema of the arguments: an object that takes no property it does not list.
    pub parameters: Value,
    /// What repeating a call would do.
    pub class: Class,
    /// Who carries a call out.
    pub executor: Executor,
    /// Whether a person is asked first.
    pub approval: Approval,
    /// Time one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// For how long a result may be given again in place of a pure call, in seconds.
    pub cache_ttl_s: Option<u32>,
    /// Labels that a result carries into the run.
    #[serde(default)]
    pub taint_out: Vec<String>,
    /// The weakest tier of boxes that its code may run in.
    pub min_tier: Option<Tier>,
}

impl Manifest {
    /// The tool as a run is pinned to it.
    pub fn spec(&self) -> ToolSpec {
        ToolSpec {
            definition: ToolDefinition {
                name: self.name.clone(),
                description: self.description.clone(),
                parameters: self.parameters.to_string(),
            },
            class: self.class,
            executor: self.executor,
            approval: self.approval,
            timeout_ms: self.timeout_ms,
            taint_out: self.taint_out.clone(),
            source: None,
            min_tier: self.min_tier,
            egress: None,
        }
    }
}

/// Reads manifests given as (name, text). That those built in fit the meta-schema is tested, and not looked at again at
/// every start: it would be half of it.
pub(crate) fn read(texts: &[(&str, &str)]) -> Result<Vec<Manifest>, Error> {
    let one = |&(name, text): &(&str, &str)| {
        let manifest: Manifest = serde_json::from_str(text).map_err(|e| broken(name, e.to_string()))?;
        if manifest.name != name {
            return Err(broken(name, format!("it calls itself {:?}", manifest.name)));
        }
        Ok(manifest)
    };
    texts.iter().map(one).collect()
}

fn broken(name: &str, problem: String) -> Error {
    Error::Broken { name: name.to_owned(), problem }
}

/// Reads manifests and checks each against the meta-schema.
#[cfg(test)]
fn read_strictly(texts: &[(&str, &str)]) -> Result<Vec<Manifest>, Error> {
    let meta: Value = serde_json::from_str(META_SCHEMA).map_err(|e| broken("manifest.schema", e.to_string()))?;
    let meta = jsonschema::validator_for(&meta).map_err(|e| broken("manifest.schema", e.to_string()))?;
    for (name, text) in texts {
        let value: Value = serde_json::from_str(text).map_err(|e| broken(name, e.to_string()))?;
        if let Some(error) = meta.iter_errors(&value).next() {
            return Err(broken(name, format!("at {:?}: {error}", error.instance_path().to_string())));
        }
    }
    read(texts)
}

/// What is wrong with the tools on offer, or with those asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A manifest that this program cannot take.
    #[error("the manifest of tool {name:?} is broken: {problem}; correct schemas/tools/{name}.json")]
    Broken {
        /// The tool.
        name: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A name no tool has.
    #[error("there is no tool called {name:?}; there are {}", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A name asked for twice.
    #[error("tool {name:?} is named twice: name it once")]
    Twice {
        /// The name.
        name: String,
    },
    /// What is wrong with tools that a user added.
    #[error("{}", list(problems))]
    Added {
        /// All of it.
        problems: Vec<Problem>,
    },
    /// A tool cannot be used without a secret.
    #[error("tool {name:?} ({}) cannot be used: {missing}", file.display())]
    SecretMissing {
        /// The tool, or the server.
        name: String,
        /// Its manifest.
        file: PathBuf,
        /// Which, and what to do.
        missing: Missing,
    },
    /// An MCP server cannot be used.
    #[error(transparent)]
    Mcp(#[from] McpError),
}

fn list(problems: &[Problem]) -> String {
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("tools that were added cannot be used:\n  {}", shown.join("\n  "))
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Broken { .. } => "tool_manifest_broken",
            Error::Unknown { .. } => "unknown_tool",
            Error::Twice { .. } => "tool_named_twice",
            // The worst comes first: a secret in the clear.
            Error::Added { problems } => {
                problems.iter().map(|problem| problem.kind).max().unwrap_or(ProblemKind::Broken).code()
            }
            Error::Mcp(error) => error.code(),
            Error::SecretMissing { .. } => "tool_secret_missing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl Fn(&mut Value)) -> String {
        let mut value: Value = serde_json::from_str(BUILT_IN[0].1).unwrap();
        change(&mut value);
        let error = read_strictly(&[("python", &value.to_string())]).unwrap_err();
        assert_eq!(error.code(), "tool_manifest_broken");
        error.to_string()
    }

    #[test]
    fn built_in_manifests_fit_the_meta_schema_and_require_only_what_they_list() {
        for manifest in read_strictly(&BUILT_IN).unwrap() {
            let parameters = &manifest.parameters;
            for required in parameters["required"].as_array().unwrap() {
                assert!(parameters["properties"].get(required.as_str().unwrap()).is_some(), "{}: {required}", manifest.name);
            }
        }
    }

    #[test]
    fn manifests_that_are_loose_or_wrong_are_refused() {
        broken(|m| m["parameters"]["additionalProperties"] = true.into());
        broken(|m| drop(m["parameters"]["properties"]["code"].as_object_mut().unwrap().remove("description")));
        broken(|m| drop(m["parameters"]["properties"]["code"].as_object_mut().unwrap().remove("maxLength")));
        broken(|m| m["class"] = "harmless".into());
        broken(|m| m["executor"] = "inline".into());
        broken(|m| m["cache_ttl_s"] = 0.into());
        broken(|m| m["cache_for"] = 5.into());
        assert!(broken(|m| m["name"] = "pythom".into()).contains("pythom"));
    }
}
