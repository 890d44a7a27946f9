//! From a model's name to whoever answers for it.

use crate::http::Endpoint;
use crate::prices;
use crate::scripted::{PREFIX, ScriptedModels};
use crate::settings::{OPENAI_BASE_URL, Settings, SettingsError};
use async_trait::async_trait;
use errand_core::{ModelError, ModelErrorKind, ModelReply, ModelRequest, Price};
use errand_engine::ports::{DeltaSink, ModelFacts, Models};
use std::collections::BTreeMap;

/// All models that settings give access to.
///
/// | name | goes to |
/// |---|---|
/// | `scripted/NAME` | a script |
/// | anything else, with a base URL set | that endpoint, unchanged |
/// | `openai/NAME`, or a bare name of OpenAI's | OpenAI |
/// | `ollama/NAME` | Ollama on this machine |
#[derive(Debug)]
pub struct Providers {
    scripts: ScriptedModels,
    custom: Option<Endpoint>,
    openai: Option<Endpoint>,
    ollama: Endpoint,
    prices: BTreeMap<String, Price>,
}

/// Where a request goes.
enum Route<'a> {
    Script,
    Http { endpoint: &'a Endpoint, model: &'a str },
}

impl Providers {
    /// Checks the settings and reads the scripts. Nothing is connected to yet.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let mut scripts = ScriptedModels::built_in();
        if let Some(folder) = &settings.script_dir {
            scripts
                .add_folder(folder)
                .map_err(|error| SettingsError::ScriptDir { folder: folder.clone(), reason: error.to_string() })?;
        }
        let endpoint = |base: &str, key, name| Endpoint::new(base, key, name, settings);
        let custom = settings.base_url.as_deref();
        let openai = settings.openai_key.as_ref();
        Ok(Self {
            scripts,
            custom: custom.map(|base| endpoint(base, settings.api_key.as_ref(), "ERRAND_MODEL_API_KEY")).transpose()?,
            openai: openai.map(|key| endpoint(OPENAI_BASE_URL, Some(key), "OPENAI_API_KEY")).transpose()?,
            ollama: endpoint(&settings.ollama_url, None, "")?,
            prices: settings.prices.clone(),
        })
    }

    /// The scripts, for listing them or adding more.
    pub fn scripts(&mut self) -> &mut ScriptedModels {
        &mut self.scripts
    }

    pub(crate) fn custom(&self) -> Option<&Endpoint> {
        self.custom.as_ref()
    }

    pub(crate) fn ollama(&self) -> &Endpoint {
        &self.ollama
    }

    fn route<'a>(&'a self, name: &'a str) -> Result<Route<'a>, ModelError> {
        if name.starts_with(PREFIX) {
            return Ok(Route::Script);
        }
        if let Some(endpoint) = &self.custom {
            return Ok(Route::Http { endpoint, model: name });
        }
        if let Some(model) = name.strip_prefix("ollama/").filter(|model| !model.is_empty()) {
            return Ok(Route::Http { endpoint: &self.ollama, model });
        }
        let model = name.strip_prefix("openai/").filter(|model| !model.is_empty());
        let Some(model) = model.or_else(|| is_openai_name(name).then_some(name)) else {
            return Err(refuse(
                ModelErrorKind::UnknownModel,
                format!(
                    "there is no provider for model `{}`; use openai/NAME, ollama/NAME or scripted/NAME, or set \
                     ERRAND_MODEL_BASE_URL to an OpenAI-compatible endpoint that knows it",
                    shortened(name)
                ),
            ));
        };
        match &self.openai {
            Some(endpoint) => Ok(Route::Http { endpoint, model }),
            None => Err(refuse(
                ModelErrorKind::Auth,
                format!(
                    "model `{}` needs a key: set OPENAI_API_KEY, or ERRAND_MODEL_BASE_URL to another endpoint that \
                     knows it",
                    shortened(name)
                ),
            )),
        }
    }

    /// The user's own price goes first; then a model on this machine without a key is free; then the table speaks, for the
    /// provider's own host only.
    fn http_facts(&self, name: &str, endpoint: &Endpoint, model: &str) -> ModelFacts {
        let listed = prices::listed(endpoint.host_name(), model);
        let own = self.prices.get(name).copied();
        // A server on this machine that wants a key may be a gateway to one that wants money.
        let free = (endpoint.is_loopback() && !endpoint.has_key()).then_some(Price::FREE);
        ModelFacts {
            image_tokens: 0,
            price: own.or(free).or(listed.map(|listed| listed.price)),
            context_tokens: listed.and_then(|listed| listed.context_tokens),
            endpoint: Some(endpoint.host().to_owned()),
            scripted: false,
        }
    }
}

#[async_trait]
impl Models for Providers {
    fn facts(&self, model: &str) -> Result<ModelFacts, ModelError> {
        match self.route(model)? {
            Route::Script => self.scripts.facts(model),
            Route::Http { endpoint, model: known } => Ok(self.http_facts(model, endpoint, known)),
        }
    }

    async fn call(&self, request: &ModelRequest, deltas: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        match self.route(&request.model)? {
            Route::Script => self.scripts.call(request, deltas).await,
            Route::Http { endpoint, model } => endpoint.call(request, model, deltas).await,
        }
    }
}

/// Bare names that are OpenAI's: `gpt-…`, `chatgpt-…`, `codex-…`, `o1`, `o3-mini`, `o4-mini-2025-04-16`, …
fn is_openai_name(name: &str) -> bool {
    let reasoning = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    reasoning || ["gpt-", "chatgpt-", "codex-"].iter().any(|prefix| name.starts_with(prefix))
}

fn shortened(name: &str) -> &str {
    name.char_indices().nth(80).map_or(name, |(end, _)| &name[..end])
}

fn refuse(kind: ModelErrorKind, message: String) -> ModelError {
    ModelError { kind, message, retry_after_ms: None, may_be_charged: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    fn facts(settings: &Settings, model: &str) -> Result<ModelFacts, ModelError> {
        Providers::new(settings).unwrap().facts(model)
    }

    #[test]
    fn what_is_missing_is_said_before_anything_is_sent() {
        let bare = Settings::default();
        let error = facts(&bare, "gpt-4o").unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Auth);
        assert!(error.message.contains("set OPENAI_API_KEY"), "{error}");
        let error = facts(&bare, "llama3").unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::UnknownModel);
        assert!(error.message.contains("ERRAND_MODEL_BASE_URL"), "{error}");
        let error = facts(&bare, "scripted/nope").unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::UnknownModel);
        assert!(error.message.contains("assistant, echo, hello"), "{error}");
        assert_eq!(facts(&bare, "openai/").unwrap_err().kind, ModelErrorKind::UnknownModel);
    }

    #[test]
    fn prices_belong_to_the_host_they_are_of() {
        let openai = Settings { openai_key: Some(Secret::new("k")), ..Settings::default() };
        let price = facts(&openai, "openai/gpt-4o").unwrap().price;
        assert_eq!(price, facts(&openai, "gpt-4o").unwrap().price);
        assert!(price.is_some_and(|price| price != Price::FREE));
        assert_eq!(facts(&openai, "ollama/qwen3").unwrap().price, Some(Price::FREE));

        let at = |base: &str| Settings { base_url: Some(base.to_owned()), ..Settings::default() };
        assert_eq!(facts(&at("http://localhost:8080/v1"), "gpt-4o").unwrap().price, Some(Price::FREE));
        assert_eq!(facts(&at("https://reseller.example/v1"), "gpt-4o").unwrap().price, None);
        assert_eq!(facts(&at("https://api.openai.com/v1"), "gpt-4o").unwrap().price, price);
    }

    #[test]
    fn the_users_price_goes_first() {
        let mine = Price { input: 1, cached_input: 1, output: 2 };
        let settings = Settings {
            base_url: Some("https://reseller.example/v1".to_owned()),
            prices: BTreeMap::from([("big-one".to_owned(), mine)]),
            ..Settings::default()
        };
        assert_eq!(facts(&settings, "big-one").unwrap().price, Some(mine));
    }

    #[test]
    fn scripts_say_that_they_are_scripts() {
        let facts = facts(&Settings::default(), "scripted/hello").unwrap();
        assert!(facts.scripted);
        assert_eq!(facts.price, Some(Price::FREE));
    }
}
