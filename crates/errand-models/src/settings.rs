//! What the caller decides: where requests go, with which key, and how long they may take.

use errand_core::Price;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The address of OpenAI's API (<https://developers.openai.com/api/reference/overview>, checked 2026-11-21).
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

/// The OpenAI-compatible address of an Ollama on this machine
/// (<https://docs.ollama.com/api/openai-compatibility>, checked 2026-11-21).
pub const OLLAMA_BASE_URL: &str = "http://127.0.0.1:11434/v1";

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

/// Which of OpenAI's two APIs an endpoint is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Responses for OpenAI itself, Chat Completions for everybody else.
    #[default]
    Auto,
    /// Chat Completions: `POST {base}/chat/completions`.
    Chat,
    /// Responses: `POST {base}/responses`.
    Responses,
}

impl Dialect {
    /// Reads `auto`, `chat` or `responses`.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        match text {
            "auto" => Ok(Dialect::Auto),
            "chat" => Ok(Dialect::Chat),
            "responses" => Ok(Dialect::Responses),
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
    /// An OpenAI-compatible endpoint that takes every model name but `scripted/…`, unchanged.
    pub base_url: Option<String>,
    /// The key for `base_url`. Without one, nothing is sent: OpenAI's key goes to OpenAI only.
    pub api_key: Option<Secret>,
    /// The key for OpenAI.
    pub openai_key: Option<Secret>,
    /// Where `ollama/NAME` goes.
    pub ollama_url: String,
    /// Which API to speak.
    pub dialect: Dialect,
    /// Whether to ask for summaries of the reasoning in the Responses dialect. Off by default: OpenAI refuses it to
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
            openai_key: None,
            ollama_url: OLLAMA_BASE_URL.to_owned(),
            dialect: Dialect::Auto,
            reasoning_summaries: false,
            timeouts: Timeouts::default(),
            reply_bytes_max: 32 << 20,
            prices: BTreeMap::new(),
            script_dir: None,
        }
    }
}

impl Settings {
    /// Settings from variables: `OPENAI_API_KEY`, `ERRAND_MODEL_BASE_URL`, `ERRAND_MODEL_API_KEY`,
    /// `ERRAND_MODEL_DIALECT`, `ERRAND_SCRIPT_DIR`. An empty variable counts as absent.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let lookup = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        Ok(Self {
            base_url: lookup("ERRAND_MODEL_BASE_URL"),
            api_key: lookup("ERRAND_MODEL_API_KEY").map(Secret::new),
            openai_key: lookup("OPENAI_API_KEY").map(Secret::new),
            dialect: lookup("ERRAND_MODEL_DIALECT").map_or(Ok(Dialect::Auto), |text| Dialect::parse(&text))?,
            script_dir: lookup("ERRAND_SCRIPT_DIR").map(PathBuf::from),
            ..Self::default()
        })
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
    #[error("model dialect `{given}` is none of auto, chat, responses")]
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
        assert_eq!(settings.openai_key, Some(Secret::new("sk-1")));
        assert_eq!(settings.base_url, None);
        assert_eq!(settings.dialect, Dialect::Responses);
    }

    #[test]
    fn an_unknown_dialect_is_refused() {
        let lookup = |name: &str| (name == "ERRAND_MODEL_DIALECT").then(|| "grpc".to_owned());
        let error = Settings::from_lookup(&lookup).unwrap_err();
        assert_eq!(error.to_string(), "model dialect `grpc` is none of auto, chat, responses");
    }

    #[test]
    fn keys_are_not_printed() {
        let settings = Settings { openai_key: Some(Secret::new("sk-very-secret")), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("very-secret"));
    }
}
