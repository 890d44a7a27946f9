//! Which model to take when nobody named one.

use crate::providers::Providers;
use crate::settings::{Settings, SettingsError};
use errand_core::ModelError;

/// OpenAI's model when nothing else is said: the middle one of its newest family, good with tools at a fifth of the
/// price of the largest (2026-11-21).
pub const OPENAI_DEFAULT: &str = "openai/gpt-6.1-terra";

/// The script when there is no model.
pub const SCRIPT_DEFAULT: &str = "scripted/assistant";

/// A model and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub model: String,
    /// The reason, for people.
    pub why: String,
}

/// No model can be chosen, and falling back to another than the user meant would be wrong.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// The settings are not usable.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An endpoint was given, but it does not tell its models.
    #[error("ERRAND_MODEL_BASE_URL is set, but which model to use is not known; name one with --model")]
    NotListed(#[source] ModelError),
    /// An endpoint was given, and it has no model.
    #[error("the endpoint at {host} lists no model; name one with --model")]
    NoneListed {
        /// Its host.
        host: String,
    },
}

/// The first of: what an endpoint given by the user lists first, OpenAI if its key is there, a local Ollama that
/// answers and has a model, the script.
pub async fn choose_default(settings: &Settings) -> Result<Choice, ChooseError> {
    let providers = Providers::new(settings)?;
    if let Some(endpoint) = providers.custom() {
        let models = endpoint.models(settings.timeouts.connect).await.map_err(ChooseError::NotListed)?;
        let host = endpoint.host().to_owned();
        let model = first_chat_model(models).ok_or_else(|| ChooseError::NoneListed { host: host.clone() })?;
        return Ok(Choice { model, why: format!("the first model that {host} lists") });
    }
    if settings.openai_key.is_some() {
        return Ok(Choice { model: OPENAI_DEFAULT.to_owned(), why: "OPENAI_API_KEY is set".to_owned() });
    }
    let script = |why: &str| Choice { model: SCRIPT_DEFAULT.to_owned(), why: why.to_owned() };
    Ok(match providers.ollama().models(settings.timeouts.probe).await {
        Ok(models) => match first_chat_model(models) {
            Some(model) => Choice { model: format!("ollama/{model}"), why: "a local Ollama answers".to_owned() },
            None => script("a local Ollama answers but has no model; get one with `ollama pull qwen3`"),
        },
        Err(_) => script("no key in the environment and no local Ollama; set OPENAI_API_KEY or start Ollama"),
    })
}

/// The first model that is not for embeddings only.
fn first_chat_model(models: Vec<String>) -> Option<String> {
    models.into_iter().find(|model| !model.contains("embed"))
}
