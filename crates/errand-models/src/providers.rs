//! From a model's name to whoever answers for it.

use crate::http::{Endpoint, Offer};
use crate::prices::{self, Listed};
use crate::scripted::{PREFIX, ScriptedModels};
use crate::settings::{Settings, SettingsError};
use crate::vendors::{VENDORS, Vendor};
use async_trait::async_trait;
use errand_core::{ModelError, ModelErrorKind, ModelReply, ModelRequest, Price};
use errand_engine::ports::{Blobs, DeltaSink, ModelFacts, Models};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// All models that settings give access to.
///
/// | name | goes to |
/// |---|---|
/// | `scripted/NAME` | a script |
/// | anything else, with a base URL set | that endpoint, unchanged |
/// | `openai/NAME`, `anthropic/NAME`, …, or a bare name of one of the first three [`VENDORS`] | that vendor |
/// | `azure/DEPLOYMENT` | Azure OpenAI |
/// | `ollama/NAME` | Ollama, on this machine if nothing else is set |
pub struct Providers {
    scripts: ScriptedModels,
    custom: Option<Endpoint>,
    vendors: BTreeMap<&'static str, Endpoint>,
    azure: Option<Endpoint>,
    ollama: Endpoint,
    prices: BTreeMap<String, Price>,
    blobs: Option<Arc<dyn Blobs>>,
}

/// Where a request goes.
enum Route<'a> {
    Script,
    Http { endpoint: &'a Endpoint, model: &'a str },
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers").field("custom", &self.custom).field("vendors", &self.vendors).finish_non_exhaustive()
    }
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
        let custom_key = settings.api_key.as_ref().map(|key| ("ERRAND_MODEL_API_KEY", key));
        let custom = settings.base_url.as_deref();
        Ok(Self {
            scripts,
            custom: custom.map(|base| Endpoint::new(base, custom_key, settings.dialect, settings)).transpose()?,
            vendors: vendors(settings)?,
            azure: Endpoint::azure(settings)?,
            ollama: Endpoint::new(&settings.ollama_url, None, crate::Dialect::Ollama, settings)?,
            prices: settings.prices.clone(),
            blobs: None,
        })
    }

    /// Images of a conversation are fetched from `blobs`. Without, a conversation with images is refused.
    pub fn with_blobs(self, blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs: Some(blobs), ..self }
    }

    /// The scripts, for listing them or adding more.
    pub fn scripts(&mut self) -> &mut ScriptedModels {
        &mut self.scripts
    }

    /// What the provider of `model` tells about it now, if it tells anything about single models.
    pub async fn ask(&self, model: &str, wait: Duration) -> Result<Option<Offer>, ModelError> {
        match self.route(model)? {
            Route::Script => Ok(None),
            Route::Http { endpoint, model } => endpoint.offer(model, wait).await,
        }
    }

    /// Name of each script, as runs ask for it.
    pub fn script_names(&self) -> Vec<String> {
        self.scripts.list().map(|(name, _)| format!("{PREFIX}{name}")).collect()
    }

    pub(crate) fn custom(&self) -> Option<&Endpoint> {
        self.custom.as_ref()
    }

    pub(crate) fn vendor(&self, name: &str) -> Option<&Endpoint> {
        self.vendors.get(name)
    }

    pub(crate) fn azure(&self) -> Option<&Endpoint> {
        self.azure.as_ref()
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
        if let Some(model) = after(name, "ollama/") {
            return Ok(Route::Http { endpoint: &self.ollama, model });
        }
        if let Some(model) = after(name, "azure/") {
            let azure = self.azure.as_ref().filter(|azure| azure.has_key());
            let endpoint = azure.ok_or_else(|| needs(name, "AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY"))?;
            return Ok(Route::Http { endpoint, model });
        }
        let Some((vendor, model)) = Vendor::of(name) else { return Err(unknown(name)) };
        match self.vendors.get(vendor.name) {
            Some(endpoint) => Ok(Route::Http { endpoint, model }),
            None => Err(needs(name, vendor.keys[0])),
        }
    }

    /// What the table says of a vendor's models, by their full names, where no key is there to ask the vendor with.
    pub(crate) fn priced(&self, vendor: &str) -> Vec<(String, Offer, Option<ModelFacts>)> {
        let Some(vendor) = VENDORS.iter().find(|known| known.name == vendor) else { return Vec::new() };
        let host = vendor.host();
        let facts = |listed: Listed| ModelFacts {
            price: Some(listed.price),
            context_tokens: listed.context_tokens,
            image_tokens: listed.image_tokens.unwrap_or_default(),
            endpoint: Some(host.to_owned()),
            scripted: false,
        };
        let models = prices::names(host).map(|name| {
            let known = prices::listed(host, name).map(facts);
            (format!("{}/{name}", vendor.name), Offer::named(name), known)
        });
        models.collect()
    }

    /// The user's own price goes first; then a model on this machine without a key is free; then the table speaks, for the
    /// provider's own host only.
    fn http_facts(&self, name: &str, endpoint: &Endpoint, model: &str) -> ModelFacts {
        let listed = prices::listed(endpoint.host_name(), model);
        let own = self.prices.get(name).copied();
        // A server on this machine that wants a key may be a gateway to one that wants money.
        let free = (endpoint.is_loopback() && !endpoint.has_key()).then_some(Price::FREE);
        // One that is known to take no images has none to count.
        let image_tokens = listed.and_then(|listed| if listed.images { listed.image_tokens } else { Some(0) });
        ModelFacts {
            image_tokens: image_tokens.unwrap_or_else(|| endpoint.image_tokens()),
            price: own.or(free).or(listed.map(|listed| listed.price)),
            context_tokens: listed.and_then(|listed| listed.context_tokens).or_else(|| endpoint.context_tokens()),
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
            Route::Http { endpoint, model } => {
                let is_blind = prices::listed(endpoint.host_name(), model).is_some_and(|listed| !listed.images);
                if is_blind && request.messages.iter().any(|message| !message.images().is_empty()) {
                    let name = shortened(&request.model);
                    let message = format!("model `{name}` takes no images; choose one that does, or leave them out");
                    return Err(refuse(ModelErrorKind::BadRequest, message));
                }
                endpoint.call(request, model, self.blobs.as_deref(), deltas).await
            }
        }
    }
}

/// The vendors whose keys are there.
fn vendors(settings: &Settings) -> Result<BTreeMap<&'static str, Endpoint>, SettingsError> {
    let mut endpoints = BTreeMap::new();
    for vendor in VENDORS {
        if let Some(key) = settings.key(vendor.keys) {
            let dialect = match (vendor.dialect, settings.dialect) {
                (crate::Dialect::Auto, chosen @ (crate::Dialect::Chat | crate::Dialect::Responses)) => chosen,
                (dialect, _) => dialect,
            };
            endpoints.insert(vendor.name, Endpoint::new(vendor.base_url, Some(key), dialect, settings)?);
        }
    }
    Ok(endpoints)
}

/// What follows `prefix`, if anything does.
fn after<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| !rest.is_empty())
}

fn unknown(name: &str) -> ModelError {
    let vendors: Vec<String> = VENDORS.iter().map(|vendor| format!("{}/NAME", vendor.name)).collect();
    let message = format!(
        "there is no provider for model `{}`; use {}, azure/DEPLOYMENT, ollama/NAME or scripted/NAME, or set \
         ERRAND_MODEL_BASE_URL to an endpoint that knows it",
        shortened(name),
        vendors.join(", ")
    );
    refuse(ModelErrorKind::UnknownModel, message)
}

fn needs(name: &str, variables: &str) -> ModelError {
    let message = format!(
        "model `{}` needs a key: set {variables}, or ERRAND_MODEL_BASE_URL to another endpoint that knows it",
        shortened(name)
    );
    refuse(ModelErrorKind::Auth, message)
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
        for (model, variable) in [
            ("claude-sonnet-5-5", "ANTHROPIC_API_KEY"),
            ("gemini/gemini-2.5-pro", "GEMINI_API_KEY"),
            ("azure/mine", "AZURE_OPENAI_ENDPOINT"),
            ("groq/llama", "GROQ_API_KEY"),
        ] {
            let error = facts(&bare, model).unwrap_err();
            assert_eq!(error.kind, ModelErrorKind::Auth);
            assert!(error.message.contains(&format!("set {variable}")), "{error}");
        }
    }

    #[test]
    fn an_image_is_bounded_for_every_model() {
        let keys = ["ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY"].map(|name| (name, Secret::new("k")));
        let settings = Settings { keys: BTreeMap::from(keys), ..Settings::default() };
        let tokens = |model| facts(&settings, model).unwrap().image_tokens;
        assert_eq!(tokens("claude-sonnet-5-5"), 5_000);
        assert_eq!(tokens("groq/llama"), 50_000);
        assert_eq!(facts(&settings, "ollama/qwen3").unwrap().context_tokens, Some(32_768));
        assert!((1..50_000).contains(&tokens("gemini/gemini-3.8-flash")));
    }

    #[test]
    fn prices_belong_to_the_host_they_are_of() {
        let openai = Settings { keys: BTreeMap::from([("OPENAI_API_KEY", Secret::new("k"))]), ..Settings::default() };
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
