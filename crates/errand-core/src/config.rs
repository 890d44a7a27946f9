//! What a run is pinned to when it starts: model, instructions, tools, limits, budget.

use crate::{Budget, Hash, Limits, Price, ToolDefinition};
use serde::{Deserialize, Serialize};

/// The configuration of one run. It is part of record 1 and never changes, except by a fork or a raised budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The model that thinks.
    pub model: ModelChoice,
    /// The assistant's instructions, sent as the system message.
    pub instructions: String,
    /// The tools on offer, in the order the model is told of them.
    pub tools: Vec<ToolSpec>,
    /// The bounds of the run.
    pub limits: Limits,
    /// What the run may spend.
    pub budget: Budget,
}

impl RunConfig {
    /// The tool called `name`, if the run has it.
    pub fn tool(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.iter().find(|tool| tool.definition.name == name)
    }
}

/// A model with what is known of it when the run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelChoice {
    /// Its name, as the user gave it.
    pub name: String,
    /// What its tokens cost. `None`: unknown, and the budget then holds no dollars.
    pub price: Option<Price>,
    /// Input and output tokens it takes at most, if known.
    pub context_tokens: Option<u64>,
    /// Who answers for it: what was said in the run goes nowhere else. `None`: whoever answers to the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// A tool as a run knows it: what the model is told, and how the engine must treat its calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// What the model is told.
    pub definition: ToolDefinition,
    /// What repeating a call would do.
    pub class: Class,
    /// Who carries a call out.
    pub executor: Executor,
    /// Whether a person is asked first.
    pub approval: Approval,
    /// Time one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// Labels that a result of this tool carries into the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taint_out: Vec<String>,
    /// Digest of the settings that stand behind a tool which the user added: what it was when the run began. A call of a
    /// tool that has become another is refused. `None`: built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Hash>,
}

impl ToolSpec {
    /// True if a call is carried out at once, within the attempt that asks for it.
    pub fn is_immediate(&self) -> bool {
        self.executor == Executor::Inline && self.approval == Approval::Never
    }
}

/// What repeating a tool call would do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing: it only looks.
    Pure,
    /// Nothing more than the first time, given the same idempotency key.
    Idempotent,
    /// It would happen twice. Done at most once; an unknown outcome is shown, never guessed.
    Effectful,
}

/// Who carries out the calls of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// The worker itself, within the attempt that made the call. Only for `pure` tools that end at once.
    Inline,
    /// A worker of the calls queue.
    Worker,
    /// A person answers.
    Person,
    /// Time passes.
    Timer,
    /// A run of its own, with a slice of this run's budget.
    SubRun,
}

/// Whether a person is asked before a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody is asked.
    Never,
    /// Each call waits for a person.
    Always,
}
