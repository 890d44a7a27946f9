//! The tool `search`, over one of several providers.

mod providers;
mod recorded;

use super::head::ContentType;
use crate::execute::Work;
use crate::net::{Network, Request, Response};
use crate::secret::Secret;
use crate::text;
use async_trait::async_trait;
use errand_core::{Outcome, Timestamp};
use errand_engine::ports::ToolReply;
use providers::{Brave, Searxng, Tavily};
use recorded::Recorded;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most of an answer that is taken, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Results when nobody says how many.
const COUNT_DEFAULT: usize = 8;
/// Longest text of a result that is shown, in bytes.
const TEXT_BYTES: usize = 1500;

/// Arguments of `search`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    query: String,
    count: Option<usize>,
    since: Option<Since>,
    site: Option<String>,
}

/// How old a result may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Since {
    Day,
    Week,
    Month,
    Year,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) count: usize,
    pub(crate) since: Option<Since>,
    pub(crate) site: Option<String>,
}

/// A result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hit {
    pub(crate) title: String,
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) text: String,
    /// When it was written, as the provider says.
    #[serde(default)]
    pub(crate) date: String,
}

/// Time and the way out, for one search.
pub(crate) struct Reach<'a> {
    pub(crate) network: &'a Network,
    pub(crate) now: Timestamp,
    pub(crate) timeout: Duration,
}

/// Somebody who searches.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// The best results first.
    async fn search(&self, query: &Query, reach: Reach<'_>) -> Result<Vec<Hit>, Outcome>;
}

/// Who searches, as the settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchSettings {
    /// `brave`, `tavily`, `searxng` or `recorded`.
    pub provider: String,
    /// The key, for those that ask for one.
    pub key: Option<Secret>,
    /// Another address than the provider's own; SearXNG has none of its own.
    pub url: Option<String>,
    /// The file or folder of `recorded`.
    pub path: Option<PathBuf>,
}

/// Settings of the search that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the search cannot be used: {problem}")]
pub struct SearchError {
    /// What is wrong, and what to do.
    pub problem: String,
}

impl SearchError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "config_invalid"
    }
}

/// Who searches for the tool `search`.
#[derive(Clone)]
pub struct SearchProvider(Arc<dyn Provider>);

impl SearchProvider {
    /// By the settings.
    ///
    /// # Errors
    /// [`SearchError`] if the provider is unknown, or lacks its key, its address or its file.
    pub fn new(settings: SearchSettings) -> Result<Self, SearchError> {
        let refuse = |problem: String| SearchError { problem };
        let key = || {
            let needed = format!("{} needs a key: set ERRAND_SEARCH_KEY", settings.provider);
            settings.key.clone().ok_or_else(|| refuse(needed))
        };
        let url = |own: Option<&str>| -> Result<url::Url, SearchError> {
            let given = settings.url.as_deref().or(own);
            let given = given.ok_or_else(|| refuse(format!("{} needs an address: set search.url", settings.provider)))?;
            let url = given.parse::<url::Url>().map_err(|error| refuse(format!("search.url is no URL: {error}")))?;
            Ok(url)
        };
        Ok(Self(match settings.provider.as_str() {
            "brave" => Arc::new(Brave { url: url(Some(providers::BRAVE))?, key: key()? }),
            "tavily" => Arc::new(Tavily { url: url(Some(providers::TAVILY))?, key: key()? }),
            "searxng" => Arc::new(Searxng::at(&url(None)?)),
            "recorded" => {
                let path = settings.path.as_deref();
                let path = path.ok_or_else(|| refuse("recorded needs a file or folder: set search.path".to_owned()))?;
                Arc::new(Recorded::read(path).map_err(refuse)?)
            }
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(refuse(format!("there is no provider {other:?}; there are brave, tavily, searxng, recorded")));
            }
        }))
    }
}

impl Search {
    /// Searches.
    pub(crate) async fn run(self, work: &Work<'_>) -> ToolReply {
        let Some(SearchProvider(provider)) = &work.services.search else {
            let text = "nobody is set to search: whoever runs this can set search.provider (docs/guide/search.md)";
            return ToolReply::free(Outcome::error("search_not_configured", text));
        };
        let query =
            Query { text: self.query, count: self.count.unwrap_or(COUNT_DEFAULT), since: self.since, site: self.site };
        let timeout = Duration::from_millis(work.job.timeout_ms);
        let reach = Reach { network: &work.services.network, now: work.job.now, timeout };
        ToolReply::free(match provider.search(&query, reach).await {
            Ok(hits) => Outcome::Ok { text: shown(&query, &hits) },
            Err(outcome) => outcome,
        })
    }
}

fn shown(query: &Query, hits: &[Hit]) -> String {
    if hits.is_empty() {
        return format!("nothing was found for {:?}: try other or fewer words", query.text);
    }
    let mut text = String::new();
    for (number, hit) in hits.iter().take(query.count).enumerate() {
        let title = one_line(&hit.title, 300);
        let _ = write!(text, "{}. {title}\n   {}", number + 1, text::head(&hit.url, 2000));
        let date = one_line(&hit.date, 60);
        if !date.is_empty() {
            let _ = write!(text, " ({date})");
        }
        let about = one_line(&hit.text, TEXT_BYTES);
        if !about.is_empty() {
            let _ = write!(text, "\n   {about}");
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Without the tags with which providers set off words.
fn one_line(given: &str, bytes_max: usize) -> String {
    let plain = ["<strong>", "</strong>", "<b>", "</b>", "<em>", "</em>"]
        .iter()
        .fold(given.to_owned(), |text, tag| text.replace(tag, ""));
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    text::head(&line, bytes_max).to_owned()
}

/// Sends a request and reads the JSON of the answer.
async fn ask(request: Request, reach: Reach<'_>) -> Result<Value, Outcome> {
    let endpoint = request.url.origin().ascii_serialization();
    // A search changes nothing, whatever the method.
    let sent = reach.network.send(request, reach.now, reach.timeout).await;
    let Response { status, headers, body, .. } = sent.map_err(|failure| failure.error.outcome())?;
    let read = body.read(BODY_BYTES_MAX).await.map_err(|error| error.outcome())?;
    if !status.is_success() {
        let content_type = ContentType::of(&headers);
        let said = super::decode(&read.bytes[..read.bytes.len().min(500)], content_type.charset.as_deref());
        let hint = match status.as_u16() {
            401 | 403 => "its key is missing or wrong, or JSON is not turned on there",
            429 => "its quota is used up: wait, or search less",
            _ => "try again later",
        };
        return Err(Outcome::error("search_failed", format!("{endpoint} answered {status}: {hint}\n{said}")));
    }
    serde_json::from_slice(&read.bytes).map_err(|_| {
        Outcome::error("search_failed", format!("the answer of {endpoint} is not the JSON of a search: check search.url"))
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
