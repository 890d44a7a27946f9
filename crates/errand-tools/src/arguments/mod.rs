//! The arguments of a call: text that a model wrote, read strictly and checked against the tool's schema.

mod json;
mod problem;

pub(crate) use json::parse;

use serde_json::Value;

/// At most so many problems are told of at once: a model corrects the first few better than a long list.
const PROBLEMS_MAX: usize = 5;

/// Why a call is not made. The text goes to the model: what is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name no tool has.
    #[error("there is no tool called {name:?}; there are {}", known.join(", "))]
    UnknownTool {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The tool is another than when the run began.
    #[error(
        "the tool {name:?} has changed since this run began ({how}); it is not called as another than it was: start a new run"
    )]
    Changed {
        /// The tool.
        name: String,
        /// What is different.
        how: String,
    },
    /// The arguments are no JSON.
    #[error("the arguments are not JSON at line {line}, column {column}: {problem}; send one JSON object and nothing else")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The arguments do not fit the tool.
    #[error("the arguments do not fit: {}", problems.join("; "))]
    Invalid {
        /// Each with its place, what is wrong, and what would be right.
        problems: Vec<String>,
    },
}

impl Refused {
    /// One problem that a schema cannot express.
    pub(crate) fn invalid(problem: impl Into<String>) -> Self {
        Refused::Invalid { problems: vec![problem.into()] }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::UnknownTool { .. } => "unknown_tool",
            Refused::Changed { .. } => "tool_changed",
            Refused::NotJson { .. } => "arguments_not_json",
            Refused::Invalid { .. } => "arguments_invalid",
        }
    }
}

/// Checks `value` against a compiled schema.
pub(crate) fn validate(validator: &jsonschema::Validator, schema: &Value, value: &Value) -> Result<(), Refused> {
    let mut errors = validator.iter_errors(value);
    let mut problems: Vec<String> =
        errors.by_ref().take(PROBLEMS_MAX).map(|error| problem::describe(&error, schema)).collect();
    if problems.is_empty() {
        return Ok(());
    }
    if errors.next().is_some() {
        problems.push("and more".to_owned());
    }
    Err(Refused::Invalid { problems })
}
