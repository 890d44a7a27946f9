//! Providers of a search over HTTP.

use super::{Hit, Provider, Query, Reach, Since, ask};
use crate::net::Request;
use crate::secret::Secret;
use async_trait::async_trait;
use errand_core::Outcome;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use url::Url;

/// Where Brave searches.
pub(super) const BRAVE: &str = "https://api.search.brave.com/res/v1/web/search";
/// Where Tavily searches.
pub(super) const TAVILY: &str = "https://api.tavily.com/search";

/// The Brave Search API, "Web Search": `GET /res/v1/web/search` with `q`, `count` (at most 20), `freshness`, and the key in
/// `X-Subscription-Token` (<https://api-dashboard.search.brave.com/docs>, checked 2026-11-21).
pub(super) struct Brave {
    pub(super) url: Url,
    pub(super) key: Secret,
}

#[async_trait]
impl Provider for Brave {
    async fn search(&self, query: &Query, reach: Reach<'_>) -> Result<Vec<Hit>, Outcome> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("q", &with_site(query)).append_pair("count", &query.count.min(20).to_string());
        if let Some(since) = query.since {
            let freshness = match since {
                Since::Day => "pd",
                Since::Week => "pw",
                Since::Month => "pm",
                Since::Year => "py",
            };
            url.query_pairs_mut().append_pair("freshness", freshness);
        }
        let mut headers = json_headers();
        headers.insert("x-subscription-token", secret(self.key.expose())?);
        let answer = ask(Request::new(Method::GET, url, headers), reach).await?;
        let date = |one: &Value| text(&one["page_age"]).or_else(|| text(&one["age"]));
        Ok(hits(&answer["web"]["results"], "description", date))
    }
}

/// The Tavily Search API: `POST /search` with `query`, `max_results` (at most 20), `time_range`, `include_domains`, and the
/// key as a bearer token (<https://docs.tavily.com/documentation/api-reference/endpoint/search>, checked 2026-11-21).
pub(super) struct Tavily {
    pub(super) url: Url,
    pub(super) key: Secret,
}

#[async_trait]
impl Provider for Tavily {
    async fn search(&self, query: &Query, reach: Reach<'_>) -> Result<Vec<Hit>, Outcome> {
        let mut body = json!({"query": query.text, "max_results": query.count.min(20)});
        if let Some(since) = query.since {
            body["time_range"] = json!(word(since));
        }
        if let Some(site) = &query.site {
            body["include_domains"] = json!([site]);
        }
        let mut headers = json_headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", self.key.expose()))?);
        let body = Some(body.to_string().into());
        let request = Request { body, ..Request::new(Method::POST, self.url.clone(), headers) };
        let answer = ask(request, reach).await?;
        Ok(hits(&answer["results"], "content", |one| text(&one["published_date"])))
    }
}

/// SearXNG: `GET /search` with `q`, `format=json` (which an instance must have turned on) and `time_range`
/// (<https://docs.searxng.org/dev/search_api.html>, checked 2026-11-21).
pub(super) struct Searxng {
    url: Url,
}

impl Searxng {
    /// By the address of the instance, with or without `/search`.
    pub(super) fn at(base: &Url) -> Self {
        let mut url = base.clone();
        let path = base.path().trim_end_matches('/').trim_end_matches("/search");
        url.set_path(&format!("{path}/search"));
        Self { url }
    }
}

#[async_trait]
impl Provider for Searxng {
    async fn search(&self, query: &Query, reach: Reach<'_>) -> Result<Vec<Hit>, Outcome> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("q", &with_site(query)).append_pair("format", "json");
        if let Some(since) = query.since {
            url.query_pairs_mut().append_pair("time_range", word(since));
        }
        let request = Request::new(Method::GET, url, json_headers());
        let answer = ask(request, reach).await?;
        Ok(hits(&answer["results"], "content", |one| text(&one["publishedDate"])))
    }
}

fn hits(results: &Value, about: &str, date: impl Fn(&Value) -> Option<String>) -> Vec<Hit> {
    let hit = |one: &Value| {
        let url = text(&one["url"])?;
        let (title, about) = (text(&one["title"]).unwrap_or_default(), text(&one[about]).unwrap_or_default());
        Some(Hit { title, url, text: about, date: date(one).unwrap_or_default() })
    };
    results.as_array().into_iter().flatten().filter_map(hit).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn with_site(query: &Query) -> String {
    query.site.as_ref().map_or_else(|| query.text.clone(), |site| format!("{} site:{site}", query.text))
}

fn word(since: Since) -> &'static str {
    match since {
        Since::Day => "day",
        Since::Week => "week",
        Since::Month => "month",
        Since::Year => "year",
    }
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))])
}

fn secret(value: &str) -> Result<HeaderValue, Outcome> {
    let value = HeaderValue::from_str(value);
    let mut value =
        value.map_err(|_| Outcome::error("search_failed", "the key of the search holds characters it cannot"))?;
    value.set_sensitive(true);
    Ok(value)
}
