//! What models there are: of every provider, whether it is set up, and what it lists.

use crate::http::{Endpoint, Offer};
use crate::providers::Providers;
use crate::settings::{Settings, SettingsError};
use crate::vendors::VENDORS;
use errand_core::ModelError;
use errand_engine::ports::{ModelFacts, Models};
use futures::future::join_all;
use std::time::Duration;

/// A provider, and what it offers.
#[derive(Debug)]
pub struct Provider {
    /// What stands before the `/` in the names of its models; empty for the endpoint of `ERRAND_MODEL_BASE_URL`.
    pub name: &'static str,
    /// What it calls itself.
    pub title: &'static str,
    /// Whether it can be used.
    pub state: State,
    /// Its models by full name, with what is known of each: as far as it lists them, or, where it is not set up, the price
    /// table does.
    pub models: Vec<(String, Offer, Option<ModelFacts>)>,
}

/// Whether a provider can be used.
#[derive(Debug)]
pub enum State {
    /// It answers.
    Ready {
        /// Its host.
        host: String,
    },
    /// It is set up, but names no models that could be listed.
    Unlisted {
        /// Its host.
        host: String,
    },
    /// Something has to be set first.
    Unset {
        /// The variables.
        variables: &'static [&'static str],
    },
    /// It was asked and did not answer well.
    Failed {
        /// Why.
        error: ModelError,
    },
}

/// All providers, or the one called `only`; those that are set up are asked for their models, all at once and for `wait` at
/// most.
pub async fn survey(settings: &Settings, only: Option<&str>, wait: Duration) -> Result<Vec<Provider>, SettingsError> {
    let providers = Providers::new(settings)?;
    let mut all: Vec<(&'static str, &'static str, &'static [&'static str], Option<&Endpoint>)> = Vec::new();
    if let Some(endpoint) = providers.custom() {
        all.push(("", "ERRAND_MODEL_BASE_URL", &[], Some(endpoint)));
    } else {
        let vendor =
            |vendor: &'static crate::Vendor| (vendor.name, vendor.title, vendor.keys, providers.vendor(vendor.name));
        all.extend(VENDORS.iter().map(vendor));
        let azure = providers.azure().filter(|azure| azure.has_key());
        all.push(("azure", "Azure OpenAI", &["AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"], azure));
        all.push(("ollama", "Ollama", &[], Some(providers.ollama())));
    }
    all.retain(|(name, ..)| only.is_none_or(|only| only == *name));
    let asked = all.into_iter().map(|(name, title, variables, endpoint)| {
        let providers = &providers;
        async move { look(providers, name, title, variables, endpoint, wait).await }
    });
    Ok(join_all(asked).await)
}

async fn look(
    providers: &Providers,
    name: &'static str,
    title: &'static str,
    variables: &'static [&'static str],
    endpoint: Option<&Endpoint>,
    wait: Duration,
) -> Provider {
    let Some(endpoint) = endpoint else {
        return Provider { name, title, state: State::Unset { variables }, models: providers.priced(name) };
    };
    let host = endpoint.host().to_owned();
    // Azure lists what could be deployed, and not what was.
    if name == "azure" {
        return Provider { name, title, state: State::Unlisted { host }, models: Vec::new() };
    }
    match endpoint.offers(wait).await {
        Ok(offers) => {
            let models = offers.into_iter().filter(|offer| offer.chats != Some(false)).map(|offer| {
                let full = if name.is_empty() { offer.name.clone() } else { format!("{name}/{}", offer.name) };
                let facts = providers.facts(&full).ok();
                (full, offer, facts)
            });
            Provider { name, title, state: State::Ready { host }, models: models.collect() }
        }
        Err(error) => Provider { name, title, state: State::Failed { error }, models: Vec::new() },
    }
}
