//! What the caller decides: where requests go, with which key, and how long they may take.

use crate::vendors::VENDORS;
use errand_core::Price;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The address of an Ollama on this machine (<https://docs.ollama.com/api/introduction>, checked 2026-11-21).
pub const OLLAMA_BASE_URL: &str = "http://127.0.0.1:11434";

/// Tokens of context that Ollama is asked to keep room for, if nobody says otherwise. Its own default, 4,096, is less
/// than the instructions and tools of an assistant take; twice as much memory as a laptop has helps nobody.
pub const OLLAMA_CONTEXT_TOKENS: u64 = 32_768;

/// A key. Never printed: `Debug` shows only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself, for the one header it belongs in and for taking it out of texts.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which API an endpoint is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Responses for OpenAI itself, Chat Completions for everybody else.
    #[default]
    Auto,
    /// Chat Completions: `POST {base}/chat/completions`.
    Chat,
    /// Responses: `POST {base}/responses`.
    Responses,
    /// Anthropic's Messages: `POST {base}/v1/messages`.
    Anthropic,
    /// Gemini: `POST {base}/v1beta/models/NAME:streamGenerateContent`.
    Gemini,
    /// Ollama's own: `POST {base}/api/chat`.
    Ollama,
}

impl Dialect {
    /// Reads `auto`, `chat`, `responses`, `anthropic`, `gemini` or `ollama`.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        match text {
            "auto" => Ok(Dialect::Auto),
            "chat" => Ok(Dialect::Chat),
            "responses" => Ok(Dialect::Responses),
            "anthropic" => Ok(Dialect::Anthropic),
            "gemini" => Ok(Dialect::Gemini),
            "ollama" => Ok(Dialect::Ollama),
            other => Err(SettingsError::Dialect { given: other.to_owned() }),
        }
    }
}

/// How long each part of a call may take. The time of the whole call is bounded by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together. Default 10 s.
    pub connect: Duration,
    /// From sending the request to the first piece of text, reasoning or tool call. Default 180 s: a model that
    /// reasons may be silent for minutes.
    pub first_token: Duration,
    /// Between two events once the first piece has come. Default 90 s.
    pub idle: Duration,
    /// For the question whether a local server is there. Default 300 ms.
    pub probe: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(180),
            idle: Duration::from_secs(90),
            probe: Duration::from_millis(300),
        }
    }
}

/// Everything [`Providers`](crate::Providers) goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An endpoint that takes every model name but `scripted/…`, unchanged.
    pub base_url: Option<String>,
    /// The key for `base_url`. Without one, nothing is sent: a vendor's key goes to that vendor only.
    pub api_key: Option<Secret>,
    /// Keys of vendors by the variable they are read from, see [`VENDORS`]. Each goes to its vendor only.
    pub keys: BTreeMap<&'static str, Secret>,
    /// Where `azure/DEPLOYMENT` goes.
    pub azure: Azure,
    /// Where `ollama/NAME` goes, with or without `/v1` at its end.
    pub ollama_url: String,
    /// Tokens of context that Ollama keeps room for; less where a model takes less.
    pub ollama_context_tokens: u64,
    /// Which API to speak at `base_url`. `Chat` and `Responses` hold for OpenAI and Azure too.
    pub dialect: Dialect,
    /// Whether to ask providers to show the reasoning, or a summary of it. Off by default: OpenAI refuses it to
    /// organisations that are not verified.
    pub reasoning_summaries: bool,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Most bytes of one reply on the wire. Default 32 MiB: a streamed token takes about 250 bytes.
    pub reply_bytes_max: u64,
    /// Prices by model name as the user gives it; they go before the built-in table.
    pub prices: BTreeMap<String, Price>,
    /// A folder with scripts, `NAME.toml` each; they go before the built-in ones.
    pub script_dir: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: None,
            api_key: None,
            keys: BTreeMap::new(),
            azure: Azure::default(),
            ollama_url: OLLAMA_BASE_URL.to_owned(),
            ollama_context_tokens: OLLAMA_CONTEXT_TOKENS,
            dialect: Dialect::Auto,
            reasoning_summaries: false,
            timeouts: Timeouts::default(),
            reply_bytes_max: 32 << 20,
            prices: BTreeMap::new(),
            script_dir: None,
        }
    }
}

/// A resource of Azure OpenAI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Azure {
    /// Its address, such as `https://NAME.openai.azure.com`. `None`: there is none.
    pub endpoint: Option<String>,
    /// The version of the classic API, such as `2024-10-21`. `None`: the v1 API, which has no versions.
    pub api_version: Option<String>,
    /// The deployment that is taken when nobody names a model.
    pub deployment: Option<String>,
}

/// The variable with Azure's key.
pub const AZURE_KEY: &str = "AZURE_OPENAI_API_KEY";

impl Settings {
    /// Settings from variables: `ERRAND_MODEL_BASE_URL`, `ERRAND_MODEL_API_KEY`, `ERRAND_MODEL_DIALECT`,
    /// `ERRAND_OLLAMA_URL`, `ERRAND_SCRIPT_DIR`, and those of [`read_keys`](Self::read_keys). An empty variable counts as
    /// absent.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let text = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let mut settings = Self {
            base_url: text("ERRAND_MODEL_BASE_URL"),
            api_key: text("ERRAND_MODEL_API_KEY").map(Secret::new),
            ollama_url: text("ERRAND_OLLAMA_URL").unwrap_or_else(|| OLLAMA_BASE_URL.to_owned()),
            dialect: text("ERRAND_MODEL_DIALECT").map_or(Ok(Dialect::Auto), |text| Dialect::parse(&text))?,
            script_dir: text("ERRAND_SCRIPT_DIR").map(PathBuf::from),
            ..Self::default()
        };
        settings.read_keys(lookup);
        Ok(settings)
    }

    /// Takes over the keys of all vendors, and `AZURE_OPENAI_ENDPOINT`, `AZURE_OPENAI_API_VERSION`,
    /// `AZURE_OPENAI_DEPLOYMENT`.
    pub fn read_keys(&mut self, lookup: &dyn Fn(&str) -> Option<String>) {
        let text = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let variables = VENDORS.iter().flat_map(|vendor| vendor.keys).chain([&AZURE_KEY]);
        let keys = variables.filter_map(|variable| Some((*variable, Secret::new(text(variable)?))));
        self.keys.extend(keys);
        self.azure = Azure {
            endpoint: text("AZURE_OPENAI_ENDPOINT"),
            api_version: text("AZURE_OPENAI_API_VERSION").filter(|version| version != "v1"),
            deployment: text("AZURE_OPENAI_DEPLOYMENT"),
        };
    }

    /// The key in the first of `variables` that holds one.
    pub(crate) fn key(&self, variables: &[&'static str]) -> Option<(&'static str, &Secret)> {
        variables.iter().find_map(|variable| Some((*variable, self.keys.get(variable)?)))
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address of an endpoint is not one.
    #[error("model base URL `{given}` cannot be used: {reason}; give one like https://host/v1")]
    BaseUrl {
        /// What was given, without user name and password.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No such dialect.
    #[error("model dialect `{given}` is none of auto, chat, responses, anthropic, gemini, ollama")]
    Dialect {
        /// What was given.
        given: String,
    },
    /// The folder with scripts cannot be read.
    #[error("script folder {folder} cannot be read: {reason}", folder = folder.display())]
    ScriptDir {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A key that no HTTP header can carry.
    #[error("{name} holds characters that no HTTP header can carry; set it again without line breaks or quotes")]
    Key {
        /// The variable or setting.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_variables_and_takes_empty_ones_for_absent() {
        let lookup = |name: &str| match name {
            "OPENAI_API_KEY" => Some(" sk-1 ".to_owned()),
            "ERRAND_MODEL_BASE_URL" => Some(String::new()),
            "ERRAND_MODEL_DIALECT" => Some("responses".to_owned()),
            _ => None,
        };
        let settings = Settings::from_lookup(&lookup).unwrap();
        assert_eq!(settings.key(&["OPENAI_API_KEY"]), Some(("OPENAI_API_KEY", &Secret::new("sk-1"))));
        assert_eq!(settings.base_url, None);
        assert_eq!(settings.dialect, Dialect::Responses);
    }

    #[test]
    fn an_unknown_dialect_is_refused() {
        let lookup = |name: &str| (name == "ERRAND_MODEL_DIALECT").then(|| "grpc".to_owned());
        let error = Settings::from_lookup(&lookup).unwrap_err();
        assert_eq!(error.to_string(), "model dialect `grpc` is none of auto, chat, responses, anthropic, gemini, ollama");
    }

    #[test]
    fn keys_are_not_printed() {
        let settings = Settings { api_key: Some(Secret::new("sk-very-secret")), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("very-secret"));
    }
}
