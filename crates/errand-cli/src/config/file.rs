//! `errand.toml`.

use super::Environment;
use crate::error::Error;
use crate::text;
use errand_core::Price;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest settings file read, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// All that a settings file may hold. Keys are not among it: they come from the environment only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) data: Option<PathBuf>,
    pub(super) model: Option<String>,
    pub(super) fallbacks: Option<Vec<String>>,
    pub(super) summarizers: Option<Vec<String>>,
    pub(super) assistant: Option<String>,
    pub(super) model_base_url: Option<String>,
    pub(super) model_dialect: Option<String>,
    pub(super) ollama_url: Option<String>,
    #[serde(deserialize_with = "text_or_number")]
    pub(super) ollama_context: Option<String>,
    pub(super) reasoning_summaries: bool,
    pub(super) script_dir: Option<PathBuf>,
    pub(super) listen: Option<String>,
    pub(super) e2b_listen: Option<String>,
    pub(super) require_key: bool,
    #[serde(deserialize_with = "text_or_number")]
    pub(super) budget: Option<String>,
    #[serde(deserialize_with = "text_or_number")]
    pub(super) budget_tokens: Option<String>,
    pub(super) pause_at_budget: bool,
    #[serde(deserialize_with = "text_or_number")]
    pub(super) max_steps: Option<String>,
    pub(super) max_time: Option<String>,
    pub(super) approve: Option<Vec<String>>,
    pub(super) tools: Option<Vec<String>>,
    pub(super) allow_addresses: Option<Vec<String>>,
    #[serde(deserialize_with = "one_or_many")]
    pub(super) tool_dir: Vec<PathBuf>,
    pub(super) search: Search,
    pub(super) sandbox: Sandbox,
    pub(super) secrets: BTreeMap<String, PathBuf>,
    pub(super) prices: BTreeMap<String, Dollars>,
}

/// Who searches for the tool `search`. The key comes from the environment only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Search {
    pub(super) provider: Option<String>,
    pub(super) url: Option<String>,
    pub(super) path: Option<PathBuf>,
}

/// How code is kept in boxes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sandbox {
    pub(super) min_tier: Option<String>,
    pub(super) hard_quotas: bool,
    pub(super) idle: Option<String>,
    pub(super) warm: Option<usize>,
    pub(super) image: Option<String>,
    pub(super) sessions: Option<usize>,
    pub(super) sessions_per_tenant: Option<usize>,
    pub(super) runtime: Option<PathBuf>,
    pub(super) runtime_flags: Vec<String>,
    pub(super) allow_shared_kernel: bool,
    pub(super) egress: Egress,
}

/// What code in boxes may be granted to reach, at most.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Egress {
    pub(super) hosts: Option<Vec<String>>,
    pub(super) mib: Option<u64>,
    pub(super) secrets: BTreeMap<String, Vec<String>>,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dollars {
    input: f64,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: f64,
}

impl Dollars {
    pub(super) fn nanos(self) -> Option<Price> {
        let nanos = |dollars: f64| (0.0..=1e6).contains(&dollars).then(|| (dollars * 1e9).round() as u64);
        Some(Price {
            // Which tokens a provider writes to its cache is its own affair: the dearer of both is the price of input.
            input: nanos(self.input)?.max(nanos(self.cache_write.unwrap_or(self.input))?),
            cached_input: nanos(self.cached_input.unwrap_or(self.input))?,
            output: nanos(self.output)?,
        })
    }
}

impl File {
    /// The settings file that was named, else the user's, else nothing. Never one of the current folder: it can belong to
    /// somebody else, and a settings file says where keys and conversations are sent and what needs approval.
    pub(super) fn find(named: Option<&PathBuf>, environment: &dyn Environment) -> Result<(Self, Option<PathBuf>), Error> {
        let named = named.cloned().or_else(|| environment.path("ERRAND_CONFIG"));
        if let Some(path) = named {
            return Ok((Self::read(&path)?, Some(path)));
        }
        let xdg = environment.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let user = xdg.or_else(|| environment.path("HOME").map(|home| home.join(".config")));
        let user = user.map(|folder| folder.join("errand/errand.toml"));
        match user.filter(|path| path.is_file()) {
            Some(path) => Ok((Self::read(&path)?, Some(path))),
            None => Ok((Self::default(), None)),
        }
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let failed = |reason: String| {
            Error::new("config_invalid", format!("the settings file {} cannot be used: {reason}", text::path(path)))
        };
        let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
        let length = metadata.len();
        if !metadata.is_file() {
            return Err(failed("it is no plain file".to_owned()));
        }
        if length > BYTES_MAX {
            return Err(failed(format!("it has {length} bytes, at most {BYTES_MAX} are read")));
        }
        let content = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let mut file = Self::parse(&content).map_err(failed)?;
        // A path to what is run, or to a key, does not depend on the folder somebody happens to be in.
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let absolute = std::path::absolute(&folder).unwrap_or(folder);
        file.tool_dir.iter_mut().chain(file.secrets.values_mut()).for_each(|path| *path = absolute.join(&*path));
        Ok(file)
    }

    pub(super) fn parse(content: &str) -> Result<Self, String> {
        toml::from_str(content).map_err(|error| text::neutral(error.to_string().trim()))
    }
}

/// Takes `tool_dir = "a"` and `tool_dir = ["a", "b"]` alike.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let path = |value: toml::Value| match value {
        toml::Value::String(text) => Ok(PathBuf::from(text)),
        other => Err(serde::de::Error::custom(format!("expected a path, found {}", other.type_str()))),
    };
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Array(list) => list.into_iter().map(path).collect(),
        one => Ok(vec![path(one)?]),
    }
}

/// Takes `budget = 0.5` and `budget = "none"` alike.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(Some(text)),
        toml::Value::Integer(number) => Ok(Some(number.to_string())),
        toml::Value::Float(number) => Ok(Some(number.to_string())),
        other => Err(serde::de::Error::custom(format!("expected a number or a text, found {}", other.type_str()))),
    }
}
