//! What names in a request stand for. The program that serves the routes knows; the routes only ask.

use crate::Failure;
use async_trait::async_trait;
use errand_core::{RunConfig, ToolSpec};

/// Turns the names of a request into what a run is pinned to.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// What a new run is pinned to if it asks for `model`: the name of a model, or of an assistant, which brings tools and
    /// perhaps a form of the answer. `None`: what serves whoever names none.
    ///
    /// # Errors
    /// What is wrong with the name, in words for the caller; `param` is left open.
    async fn config(&self, model: Option<&str>) -> Result<RunConfig, Failure>;

    /// The tools of this server called `names`, in that order. May have to start what stands behind them.
    ///
    /// # Errors
    /// Which name is not one, and what there is.
    async fn tools(&self, names: &[String]) -> Result<Vec<ToolSpec>, Failure>;

    /// The tool of this server that does what a tool of another provider's name does, if it has one:
    /// `code_interpreter`, `web_search`.
    fn tool_like(&self, name: &str) -> Option<String>;

    /// Checks the form that an answer is asked to have: a JSON Schema, as text.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_schema(&self, schema: &str) -> Result<(), Failure>;

    /// The models that can be named, as far as they are known without asking anybody.
    fn models(&self) -> Vec<Listed>;
}

/// A model that can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
}
