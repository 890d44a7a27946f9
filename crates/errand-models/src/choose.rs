//! Which model to take when nobody named one.

use crate::http::Offer;
use crate::providers::Providers;
use crate::settings::{AZURE_KEY, Azure, Settings, SettingsError};
use crate::vendors::VENDORS;
use errand_core::ModelError;

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

/// The first of: what an endpoint given by the user lists first, a vendor whose key is there (in the order of
/// [`VENDORS`]), a deployment of Azure OpenAI that is named, a local Ollama that answers and has a model, the script.
pub async fn choose_default(settings: &Settings) -> Result<Choice, ChooseError> {
    let providers = Providers::new(settings)?;
    if let Some(endpoint) = providers.custom() {
        let models = endpoint.offers(settings.timeouts.connect).await.map_err(ChooseError::NotListed)?;
        let host = endpoint.host().to_owned();
        let model = first_chat_model(models).ok_or_else(|| ChooseError::NoneListed { host: host.clone() })?;
        return Ok(Choice { model, why: format!("the first model that {host} lists") });
    }
    if let Some(choice) = choose_by_key(settings) {
        return Ok(choice);
    }
    let script = |why: String| Choice { model: SCRIPT_DEFAULT.to_owned(), why };
    Ok(match providers.ollama().offers(settings.timeouts.probe).await {
        Ok(models) => match first_chat_model(models) {
            Some(model) => Choice { model: format!("ollama/{model}"), why: "a local Ollama answers".to_owned() },
            None => script("a local Ollama answers but has no model; get one with `ollama pull qwen3`".to_owned()),
        },
        Err(_) => script(no_model(settings)),
    })
}

/// The model that a key in the settings decides on, if one does.
pub fn choose_by_key(settings: &Settings) -> Option<Choice> {
    let vendor = VENDORS.iter().find_map(|vendor| {
        let (variable, _) = settings.key(vendor.keys)?;
        Some(Choice { model: vendor.default_model?.to_owned(), why: format!("{variable} is set") })
    });
    vendor.or_else(|| {
        let Azure { endpoint: Some(_), deployment: Some(deployment), .. } = &settings.azure else { return None };
        settings.key(&[AZURE_KEY])?;
        Some(Choice { model: format!("azure/{deployment}"), why: "AZURE_OPENAI_DEPLOYMENT is set".to_owned() })
    })
}

/// Why it came to the script. A key of a vendor that sells many people's models says nothing of which is meant.
fn no_model(settings: &Settings) -> String {
    let vendor = VENDORS.iter().find_map(|vendor| Some((vendor.name, settings.key(vendor.keys)?.0)));
    match vendor {
        Some((name, variable)) => format!("{variable} is set but no model is named; see `errand models {name}`"),
        None if settings.keys.contains_key(AZURE_KEY) => {
            "Azure has a key but no deployment is named; use --model azure/DEPLOYMENT".to_owned()
        }
        None => "no key in the environment and no local Ollama; set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY, \
                 or start Ollama"
            .to_owned(),
    }
}

/// The first model that converses, as far as its name and its provider tell.
fn first_chat_model(models: Vec<Offer>) -> Option<String> {
    let converses = |model: &Offer| model.chats != Some(false) && !model.name.contains("embed");
    models.into_iter().find(converses).map(|model| model.name)
}
