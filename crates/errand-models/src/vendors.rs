//! Vendors of models by name: where they are and which variable holds their key.

use crate::settings::Dialect;

/// A vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendor {
    /// What stands before the `/` in a model's name.
    pub name: &'static str,
    /// What it calls itself.
    pub title: &'static str,
    /// Variables that may hold the key; the first that does counts.
    pub keys: &'static [&'static str],
    /// Its address.
    pub base_url: &'static str,
    /// What it is spoken to in.
    pub dialect: Dialect,
    /// How bare names of its models begin, so that they need no `name/`.
    pub bare: &'static [&'static str],
    /// The model that is taken when only a key is there; none where the vendor sells other people's models.
    pub default_model: Option<&'static str>,
}

/// OpenAI's model when nothing else is said: the middle one of its newest family, good with tools at a fifth of the
/// price of the largest (2026-11-21).
pub const OPENAI_DEFAULT: &str = "openai/gpt-6.1-terra";
/// Anthropic's: the middle one of its newest family (2026-11-21).
pub const ANTHROPIC_DEFAULT: &str = "anthropic/claude-sonnet-5-5";
/// Google's: its newest model that is not a preview (2026-11-21).
pub const GEMINI_DEFAULT: &str = "gemini/gemini-3.8-flash";

/// All vendors known by name, those first that are chosen first. Addresses and variables checked 2026-11-21: the first
/// three in the vendors' references, the others in <https://github.com/anomalyco/models.dev/tree/dev/providers> or in
/// public settings of several clients that agree.
pub const VENDORS: &[Vendor] = &[
    Vendor {
        name: "openai",
        title: "OpenAI",
        keys: &["OPENAI_API_KEY"],
        base_url: "https://api.openai.com/v1",
        dialect: Dialect::Auto,
        bare: &["gpt-", "chatgpt-", "codex-", "o1", "o3", "o4"],
        default_model: Some(OPENAI_DEFAULT),
    },
    Vendor {
        name: "anthropic",
        title: "Anthropic",
        keys: &["ANTHROPIC_API_KEY"],
        base_url: "https://api.anthropic.com",
        dialect: Dialect::Anthropic,
        bare: &["claude-"],
        default_model: Some(ANTHROPIC_DEFAULT),
    },
    Vendor {
        name: "gemini",
        title: "Google Gemini",
        keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        base_url: "https://generativelanguage.googleapis.com/v1beta",
        dialect: Dialect::Gemini,
        bare: &["gemini-"],
        default_model: Some(GEMINI_DEFAULT),
    },
    compatible("openrouter", "OpenRouter", &["OPENROUTER_API_KEY"], "https://openrouter.ai/api/v1"),
    compatible("groq", "Groq", &["GROQ_API_KEY"], "https://api.groq.com/openai/v1"),
    compatible("mistral", "Mistral", &["MISTRAL_API_KEY"], "https://api.mistral.ai/v1"),
    compatible("deepseek", "DeepSeek", &["DEEPSEEK_API_KEY"], "https://api.deepseek.com/v1"),
    compatible("xai", "xAI", &["XAI_API_KEY"], "https://api.x.ai/v1"),
    compatible("together", "Together", &["TOGETHER_API_KEY"], "https://api.together.xyz/v1"),
    compatible("fireworks", "Fireworks", &["FIREWORKS_API_KEY"], "https://api.fireworks.ai/inference/v1"),
    compatible("cerebras", "Cerebras", &["CEREBRAS_API_KEY"], "https://api.cerebras.ai/v1"),
];

/// A vendor that speaks Chat Completions.
const fn compatible(
    name: &'static str,
    title: &'static str,
    keys: &'static [&'static str],
    base_url: &'static str,
) -> Vendor {
    Vendor { name, title, keys, base_url, dialect: Dialect::Chat, bare: &[], default_model: None }
}

impl Vendor {
    /// The host of its address.
    pub(crate) fn host(&self) -> &'static str {
        let rest = self.base_url.split_once("://").map_or(self.base_url, |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    /// The vendor of a model's name, and the name without the vendor.
    pub(crate) fn of(model: &str) -> Option<(&'static Vendor, &str)> {
        let prefixed = model.split_once('/').filter(|(_, rest)| !rest.is_empty());
        let named = prefixed.and_then(|(name, rest)| Some((VENDORS.iter().find(|vendor| vendor.name == name)?, rest)));
        named.or_else(|| {
            let is_bare = |vendor: &&Vendor| vendor.bare.iter().any(|start| model.starts_with(start));
            Some((VENDORS.iter().find(is_bare)?, model))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_vendor() {
        let of = |model| Vendor::of(model).map(|(vendor, rest)| (vendor.name, rest));
        assert_eq!(of("openrouter/anthropic/claude-sonnet-5"), Some(("openrouter", "anthropic/claude-sonnet-5")));
        assert_eq!(of("claude-haiku-4-5"), Some(("anthropic", "claude-haiku-4-5")));
        assert_eq!(of("o3-mini"), Some(("openai", "o3-mini")));
        assert_eq!(of("gemini-2.5-pro"), Some(("gemini", "gemini-2.5-pro")));
        assert_eq!((of("llama3"), of("openai/"), of("nobody/x")), (None, None, None));
    }

    #[test]
    fn a_default_model_is_one_of_its_vendor() {
        for vendor in VENDORS {
            if let Some(model) = vendor.default_model {
                assert_eq!(Vendor::of(model).map(|(vendor, _)| vendor.name), Some(vendor.name));
            }
        }
    }
}
