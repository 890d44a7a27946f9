//! The built-in price table, `schemas/prices.toml`.

use crate::scripted::Dollars;
use crate::vendors::VENDORS;
use errand_core::Price;
use serde::Deserialize;
use std::sync::LazyLock;

/// What is known of a model beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// What its tokens cost.
    pub price: Price,
    /// Input and output tokens it takes at most, if known.
    pub context_tokens: Option<u64>,
    /// Most input tokens that one image is counted as, if known.
    pub image_tokens: Option<u64>,
    /// False if it is known to take no images.
    pub images: bool,
    /// Where this was read.
    pub source: &'static str,
    /// The day it was read, `YYYY-MM-DD`.
    pub checked: &'static str,
}

/// What `model` costs at the provider whose host is `host`, if the table says. Names match exactly or with a date
/// after them (`gpt-4o-2024-08-06`), unless that very date has an entry of its own.
pub fn listed(host: &str, model: &str) -> Option<Listed> {
    let provider = TABLE.provider.iter().find(|provider| provider.host == host)?;
    let exact = provider.model.iter().find(|entry| entry.name == model);
    let entry = exact.or_else(|| {
        let undated = undated(model)?;
        provider.model.iter().find(|entry| entry.name == undated)
    })?;
    Some(Listed {
        price: entry.price.price()?,
        context_tokens: entry.context_tokens,
        image_tokens: entry.image_tokens.or(provider.image_tokens),
        images: entry.images.unwrap_or(true),
        source: &entry.source,
        checked: &entry.checked,
    })
}

/// Whether the table lists models of this vendor.
pub fn lists_prices(vendor: &str) -> bool {
    VENDORS.iter().find(|known| known.name == vendor).is_some_and(|vendor| names(vendor.host()).next().is_some())
}

/// Names of the models that the table knows at the provider whose host is `host`.
pub(crate) fn names(host: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    let of_host = TABLE.provider.iter().filter(move |provider| provider.host == host);
    of_host.flat_map(|provider| provider.model.iter().map(|entry| &*entry.name))
}

/// The name before a date, `-YYYY-MM-DD` (OpenAI) or `-YYYYMMDD` (Anthropic).
fn undated(model: &str) -> Option<&str> {
    ["-0000-00-00", "-00000000"].iter().find_map(|shape| {
        let (name, date) = model.split_at_checked(model.len().checked_sub(shape.len())?)?;
        let fits = shape.bytes().zip(date.bytes()).all(|(want, got)| match want {
            b'0' => got.is_ascii_digit(),
            want => got == want,
        });
        (fits && !name.is_empty()).then_some(name)
    })
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let text = include_str!("../../../schemas/prices.toml");
    toml::from_str(text).expect("the table is part of this build and a test reads it")
});

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    provider: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    host: String,
    image_tokens: Option<u64>,
    model: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    price: Dollars,
    context_tokens: Option<u64>,
    image_tokens: Option<u64>,
    images: Option<bool>,
    source: String,
    checked: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_models_are_listed() {
        use crate::vendors::{VENDORS, Vendor};
        for model in VENDORS.iter().filter_map(|vendor| vendor.default_model) {
            let (vendor, name) = Vendor::of(model).unwrap();
            assert!(listed(vendor.host(), name).is_some(), "{model}");
        }
    }

    #[test]
    fn every_entry_has_a_source_a_date_and_a_sane_price() {
        for provider in &TABLE.provider {
            for entry in &provider.model {
                let price = entry.price.price().expect("a price");
                assert!(price.input > 0 && price.output >= price.input && price.cached_input <= price.input, "{entry:?}");
                assert!(entry.source.starts_with("https://"), "{entry:?}");
                assert!(undated(&format!("m-{}", entry.checked)).is_some(), "{entry:?}");
                let same = provider.model.iter().filter(|other| other.name == entry.name).count();
                assert_eq!(same, 1, "{} is listed twice", entry.name);
            }
        }
    }

    #[test]
    fn dates_fall_back_to_the_name_without() {
        let named = listed("api.openai.com", "gpt-4o").expect("listed");
        assert_eq!(named.price, Price { input: 2_500_000_000, cached_input: 1_250_000_000, output: 10_000_000_000 });
        assert_eq!(listed("api.openai.com", "gpt-4o-2024-08-06"), Some(named));
        // The first version cost more and has an entry of its own.
        assert_ne!(listed("api.openai.com", "gpt-4o-2024-05-13"), Some(named));
        assert_eq!(
            listed("api.anthropic.com", "claude-haiku-4-5-20251001"),
            listed("api.anthropic.com", "claude-haiku-4-5")
        );
        assert!(listed("api.anthropic.com", "claude-haiku-4-5").is_some());
        assert_eq!(listed("api.openai.com", "gpt-4o-mega"), None);
        assert_eq!(listed("evil.example", "gpt-4o"), None);
    }
}
