//! In what endpoints of one dialect differ.

use crate::settings::Settings;
use errand_core::ModelError;
use reqwest::Url;

/// Whose endpoint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum House {
    OpenAi,
    Azure,
    DeepSeek,
    Mistral,
    Other,
}

/// Details of how an endpoint is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) house: House,
    /// Whether reasoning is asked to be shown.
    pub(crate) shows_reasoning: bool,
    /// Tokens of context that Ollama is asked to keep room for.
    pub(crate) context_tokens: u64,
    /// Whether a form is asked for as `json_object` with a schema beside it, for a server that knows no `json_schema`.
    pub(crate) has_older_form: bool,
}

impl Manner {
    pub(crate) fn of(base: &Url, settings: &Settings) -> Self {
        let host = base.host_str().unwrap_or_default();
        let house = match host {
            "api.openai.com" => House::OpenAi,
            "api.deepseek.com" => House::DeepSeek,
            "api.mistral.ai" => House::Mistral,
            // <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle> (checked 2026-11-21).
            host if host.ends_with(".azure.com") => House::Azure,
            _ => House::Other,
        };
        Self {
            house,
            shows_reasoning: settings.reasoning_summaries,
            context_tokens: settings.ollama_context_tokens,
            has_older_form: false,
        }
    }

    /// True if a refusal says that of forms only `json_object` is known. llama-cpp-python's server (0.3.36, source read
    /// 2026-11-21) says so with status 500, so the words decide.
    pub(crate) fn is_refusal_of_form(&self, error: &ModelError) -> bool {
        let says = |word: &str| error.message.contains(word);
        self.house == House::Other && !self.has_older_form && says("response_format") && says("json_object")
    }

    /// True where a form of the answer and tools go together, as the vendor's documentation has it. Elsewhere a form
    /// that is enforced keeps the model from calling tools, or the request is refused.
    pub(crate) fn takes_form_with_tools(&self) -> bool {
        matches!(self.house, House::OpenAi | House::Azure)
    }
}
