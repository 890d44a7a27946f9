//! `errand models`: which providers are set up, what each offers, and what is taken when nobody names a model.

use super::{Context, start};
use crate::args::Models;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::host::providers;
use crate::text;
use crate::view::{Audience, print, print_json};
use errand_core::Price;
use errand_engine::ports::{ModelFacts, Models as _};
use errand_models::{Offer, Provider, State, VENDORS};
use serde_json::{Value, json};
use std::time::Duration;

/// How long providers may take to list their models, all at once.
const WAIT: Duration = Duration::from_secs(10);

pub(super) async fn models(context: &Context, args: Models) -> Result<Exit, Error> {
    let config = context.plain()?;
    let named = args.name.as_deref();
    let is_provider = |name: &str| VENDORS.iter().any(|vendor| vendor.name == name) || matches!(name, "azure" | "ollama");
    match named.filter(|name| !is_provider(name)) {
        Some(model) => one(context, &config, model).await,
        None => all(context, &config, named).await,
    }
}

/// Providers with their models, and the default choice.
async fn all(context: &Context, config: &Config, only: Option<&str>) -> Result<Exit, Error> {
    let mut found = errand_models::survey(&config.models, only, WAIT).await?;
    if only.is_none() {
        // The price table of each would bury what can be used.
        found.iter_mut().filter(|one| matches!(one.state, State::Unset { .. })).for_each(|one| one.models.clear());
    }
    let providers = providers(config)?;
    let chosen = match only {
        Some(_) => None,
        None => Some(start::choose(config, &providers).await),
    };
    let machines = context.audience() == Audience::Machines;
    for provider in &found {
        if machines { print_json(&provider_json(provider)) } else { show(provider) }
    }
    match chosen {
        None => {}
        Some(Ok(chosen)) => {
            let why = chosen.why.unwrap_or_else(|| "named in the settings".to_owned());
            let name = &chosen.model.name;
            match machines {
                true => print_json(&json!({"type": "default_model", "name": name, "why": why})),
                false => print(&format!("\ndefault: {} ({})", text::neutral(name), text::neutral(&why))),
            }
        }
        Some(Err(error)) => match machines {
            true => print_json(&json!({"type": "default_model", "error": error.code, "message": error.message})),
            false => print(&format!("\ndefault: none: {}", error.message)),
        },
    }
    Ok(Exit::Done)
}

/// What is known of one model, from the table and from its provider.
async fn one(context: &Context, config: &Config, name: &str) -> Result<Exit, Error> {
    let providers = providers(config)?;
    let facts = providers.facts(name)?;
    let offer = providers.ask(name, WAIT).await?.unwrap_or_default();
    if context.audience() == Audience::Machines {
        print_json(&model_json(name, &offer, Some(&facts)));
        return Ok(Exit::Done);
    }
    print(&text::neutral(name));
    match (&facts.endpoint, facts.scripted) {
        (_, true) => print("  answers   from a script, not an AI"),
        (Some(host), false) => print(&format!("  answers   from {}", text::neutral(host))),
        (None, false) => {}
    }
    print(&format!("  price     {}", facts.price.map_or("not known: tokens are bounded, not dollars".to_owned(), price)));
    let context_tokens = offer.context_tokens.or(facts.context_tokens);
    print(&format!("  context   {}", context_tokens.map_or("not known".to_owned(), tokens)));
    if !facts.scripted {
        print(&format!("  image     counts as {} at most", tokens(facts.image_tokens)));
    }
    let able = abilities(&offer);
    if !able.is_empty() {
        print(&format!("  can       {}", able.join(", ")));
    }
    Ok(Exit::Done)
}

fn show(provider: &Provider) {
    let title = provider.title;
    match &provider.state {
        State::Ready { host } => print(&format!("{title} ({})", text::neutral(host))),
        State::Unlisted { host } => {
            print(&format!("{title} ({}): name one of your deployments, azure/DEPLOYMENT", text::neutral(host)));
        }
        State::Unset { variables } => {
            let joined = variables.join(if provider.name == "azure" { " and " } else { " or " });
            let prices = match provider.models.is_empty() && errand_models::lists_prices(provider.name) {
                true => format!("; its prices: errand models {}", provider.name),
                false => String::new(),
            };
            print(&format!("{title}: set {joined}{prices}"));
        }
        State::Failed { error } => print(&format!("{title}: {}", text::neutral(&error.message))),
    }
    for (name, offer, facts) in &provider.models {
        print(format!("  {:<44} {}", text::neutral(name), known(offer, facts.as_ref())).trim_end());
    }
}

fn known(offer: &Offer, facts: Option<&ModelFacts>) -> String {
    let mut known = Vec::new();
    known.extend(facts.and_then(|facts| facts.price).map(price));
    known.extend(offer.context_tokens.or(facts.and_then(|facts| facts.context_tokens)).map(tokens));
    known.extend(abilities(offer).into_iter().map(str::to_owned));
    known.join("; ")
}

fn abilities(offer: &Offer) -> Vec<&'static str> {
    let all =
        [(offer.tools, "tools", "no tools"), (offer.images, "images", "no images"), (offer.reasoning, "reasoning", "")];
    let told = all.into_iter().filter_map(|(can, yes, no)| can.map(|can| if can { yes } else { no }));
    told.filter(|word| !word.is_empty()).collect()
}

fn tokens(tokens: u64) -> String {
    format!("{} tokens", text::count(tokens))
}

/// US dollars per million tokens.
fn price(price: Price) -> String {
    if price == Price::FREE {
        return "free".to_owned();
    }
    let [input, cached, output] = [price.input, price.cached_input, price.output].map(dollars);
    format!("${input:.3} in, ${cached:.3} cached, ${output:.2} out")
}

/// Dollars from the nanodollars that prices are kept in; for display only.
fn dollars(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn provider_json(provider: &Provider) -> Value {
    let models: Vec<Value> =
        provider.models.iter().map(|(name, offer, facts)| model_json(name, offer, facts.as_ref())).collect();
    let (state, host, set, error) = match &provider.state {
        State::Ready { host } => ("ready", Some(host), &[][..], None),
        State::Unlisted { host } => ("unlisted", Some(host), &[][..], None),
        State::Unset { variables } => ("unset", None, *variables, None),
        State::Failed { error } => ("failed", None, &[][..], Some(error)),
    };
    json!({
        "type": "provider", "name": provider.name, "title": provider.title, "state": state, "host": host, "set": set,
        "error": error.map(|error| json!({"code": error.kind.code(), "message": error.message})), "models": models,
    })
}

fn model_json(name: &str, offer: &Offer, facts: Option<&ModelFacts>) -> Value {
    let price = facts.and_then(|facts| facts.price).map(|price| {
        json!({"input": dollars(price.input), "cached_input": dollars(price.cached_input), "output": dollars(price.output)})
    });
    json!({
        "type": "model", "name": name, "usd_per_million_tokens": price,
        "context_tokens": offer.context_tokens.or(facts.and_then(|facts| facts.context_tokens)),
        "image_tokens": facts.map(|facts| facts.image_tokens),
        "tools": offer.tools, "images": offer.images, "reasoning": offer.reasoning,
        "scripted": facts.is_some_and(|facts| facts.scripted),
    })
}
