//! Every bound of a run in one struct. Hitting one is an ordinary outcome with a code of its own.

use serde::{Deserialize, Serialize};

/// The bounds of one run; what each costs when it is hit stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Longest task or user message, in bytes. Longer: refused with `task_too_long`.
    pub task_bytes: u64,
    /// Most tool calls in one model reply. The rest of the calls are answered with `too_many_calls`.
    pub calls_per_turn: u32,
    /// Longest arguments of one tool call, in bytes. Longer: the call is answered with `arguments_too_long`.
    pub argument_bytes: u64,
    /// Most of a tool's result that the model is shown, in bytes; the rest goes to a file.
    pub observation_bytes: u64,
    /// Most output tokens asked of one model call.
    pub output_tokens: u64,
    /// Most output tokens of all turns of the run together, as far as the provider counts them; 0 for no bound. Hit: the
    /// run ends as `budget_exceeded`, with what it has said so far.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub answer_tokens: u64,
    /// Fewest output tokens a model call is worth making for; a budget that buys less is exceeded.
    pub output_tokens_min: u64,
    /// Malformed model replies in a row before the run fails with `model_malformed`.
    pub malformed_replies: u32,
    /// Failed model attempts in a row before the run fails with the last attempt's code.
    pub model_attempts: u32,
    /// The same where another model can take over: attempts in a row before it does.
    pub fallback_attempts: u32,
    /// How full the model's window may get, in per cent, before the conversation is shortened.
    pub compact_percent: u32,
    /// Most output tokens of a summary.
    pub summary_tokens: u64,
    /// The last turn is not summarised but kept as it is unless it is longer than this, in bytes.
    pub kept_turn_bytes: u64,
    /// First delay between model attempts, in milliseconds; doubles with each one.
    pub backoff_ms: u64,
    /// Longest delay between model attempts, in milliseconds, unless the provider asks for more.
    pub backoff_ms_max: u64,
    /// Time one model call may take, in milliseconds.
    pub model_call_ms: u64,
    /// How deep sub-runs may nest.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            task_bytes: 1 << 20,
            calls_per_turn: 16,
            argument_bytes: 256 << 10,
            observation_bytes: 16 << 10,
            output_tokens: 8_192,
            answer_tokens: 0,
            output_tokens_min: 256,
            malformed_replies: 3,
            model_attempts: 6,
            fallback_attempts: 2,
            compact_percent: 80,
            summary_tokens: 4_096,
            kept_turn_bytes: 32 << 10,
            backoff_ms: 1_000,
            backoff_ms_max: 60_000,
            model_call_ms: 240_000,
            depth: 3,
        }
    }
}
