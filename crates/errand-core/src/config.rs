//! What a run is pinned to when it starts: model, instructions, tools, limits, budget.

use crate::{Budget, ContextSize, Hash, Head, Limits, ModelTask, Price, TenantId, ToolDefinition};
use serde::{Deserialize, Serialize};

/// The configuration of one run. It is part of record 1 and never changes, except by a fork or a raised budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// Who pays.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub tenant: TenantId,
    /// The model that thinks.
    pub model: ModelChoice,
    /// Models that take over for the rest of the run, in order, when the one before fails for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelChoice>,
    /// Models that shorten a conversation that grows too long, in order; after them the one that thinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summarizers: Vec<ModelChoice>,
    /// The assistant's instructions, sent as the system message.
    pub instructions: String,
    /// The tools on offer, in the order the model is told of them.
    pub tools: Vec<ToolSpec>,
    /// The bounds of the run.
    pub limits: Limits,
    /// What the run may spend.
    pub budget: Budget,
    /// The form that the answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSchema>,
    /// The assistant that all this comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant: Option<AssistantRef>,
    /// The weakest tier of boxes that code of the run may run in. `None`: what the runner's settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tier: Option<Tier>,
}

impl RunConfig {
    /// The tool called `name`, if the run has it.
    pub fn tool(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.iter().find(|tool| tool.definition.name == name)
    }

    /// Counts what every request begins with: instructions, tools, the form of the answer.
    pub(crate) fn count_fixed(&self, context: &mut ContextSize) {
        context.add(self.instructions.len() as u64);
        for tool in &self.tools {
            let definition = &tool.definition;
            context.add((definition.name.len() + definition.description.len() + definition.parameters.len()) as u64);
        }
        if let Some(output) = &self.output {
            context.add((output.name.len() + output.schema.len()) as u64);
        }
    }

    /// All models that the run may ask, each once.
    pub fn models(&self) -> impl Iterator<Item = &ModelChoice> {
        std::iter::once(&self.model).chain(&self.fallbacks).chain(&self.summarizers)
    }

    /// The model that is asked for `task`, where a run stands at `head`.
    pub fn model_for(&self, head: &Head, task: ModelTask) -> &ModelChoice {
        let thinks = |index: usize| match index {
            0 => &self.model,
            _ => self.fallbacks.get(index - 1).or(self.fallbacks.last()).unwrap_or(&self.model),
        };
        let thinking = head.model as usize;
        match task {
            ModelTask::Turn => thinks(thinking),
            ModelTask::Compact { .. } => {
                let index = head.summarizer as usize;
                self.summarizers.get(index).unwrap_or_else(|| thinks(thinking + (index - self.summarizers.len())))
            }
        }
    }

    /// True if there is another model for `task` after the one at `head`.
    pub fn has_fallback(&self, head: &Head, task: ModelTask) -> bool {
        let left = self.fallbacks.len() - (head.model as usize).min(self.fallbacks.len());
        match task {
            ModelTask::Turn => left > 0,
            ModelTask::Compact { .. } => (head.summarizer as usize) < self.summarizers.len() + left,
        }
    }
}

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// Name, `[a-zA-Z0-9_-]{1,64}`: some providers want one.
    pub name: String,
    /// JSON Schema of the answer, as text.
    pub schema: String,
}

/// A version of an assistant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssistantRef {
    /// Its name.
    pub name: String,
    /// Its version, from 1; 0 if it came from a file and is not kept.
    pub version: u64,
    /// Digest of its text.
    pub sha256: Hash,
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
    /// Most input tokens that one image is counted as.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub image_tokens: u64,
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
    /// The weakest tier of boxes that its code may run in. `None`: what the runner's settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tier: Option<Tier>,
    /// What its code may reach outside of its box. `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressGrant>,
}

/// What code may reach outside of its box, as it was granted when the run began: never more, whatever the settings become.
/// Its words are those of whoever grants it; the core only keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressGrant {
    /// The hosts, each as `HOST[:PORT]` with what it is limited to.
    pub hosts: Vec<String>,
    /// Bytes that may pass, both ways together, over the whole run.
    pub bytes_max: u64,
    /// Secrets by name, each as `NAME=HOST,…`: the code sees placeholders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

impl ToolSpec {
    /// True if a call is carried out at once, within the attempt that asks for it.
    pub fn is_immediate(&self) -> bool {
        self.executor == Executor::Inline && !self.asks(self.class)
    }

    /// True if a person is asked before a call of this class is made.
    pub fn asks(&self, class: Class) -> bool {
        match self.approval {
            Approval::Never => false,
            Approval::Always => true,
            Approval::Effectful => class == Class::Effectful,
        }
    }
}

/// How strongly a box is isolated, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// An interpreter with limits in a process of its own.
    T0,
    /// Own namespaces on the shared kernel.
    T1,
    /// A container runtime, which may bring a kernel of its own.
    T2,
}

impl Tier {
    /// `t0`, `t1` or `t2`.
    pub fn name(self) -> &'static str {
        match self {
            Tier::T0 => "t0",
            Tier::T1 => "t1",
            Tier::T2 => "t2",
        }
    }

    /// The tier of that name.
    pub fn of(name: &str) -> Option<Tier> {
        [Tier::T0, Tier::T1, Tier::T2].into_iter().find(|tier| tier.name() == name)
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
    /// A runner, over the run's workspace: where runners are a fleet of their own, calls of one run go to the same one.
    Sandbox,
    /// A person answers.
    Person,
    /// Time passes.
    Timer,
    /// A run of its own, with a slice of this run's budget.
    SubRun,
    /// The caller. The run ends with the call, and a later run of the thread begins with what came of it.
    Caller,
}

impl Executor {
    /// True if a machine carries calls out, for which a person can be asked first.
    pub fn is_machine(self) -> bool {
        matches!(self, Executor::Inline | Executor::Worker | Executor::Sandbox | Executor::SubRun)
    }
}

/// Whether a person is asked before a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody is asked.
    Never,
    /// Each call waits for a person.
    Always,
    /// Calls that would change something, that is of class `effectful`, wait for a person.
    Effectful,
}
