//! A small site on loopback for `errand demo web`: a few pages, and a search over them in the form of SearXNG.

use crate::error::Error;
use axum::Router;
use axum::extract::Query;
use axum::http::{Uri, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use tokio::task::AbortHandle;

/// Path, title and source of each page.
const PAGES: [(&str, &str, &str); 5] = [
    ("/", "Holm, the island", include_str!("site/index.html")),
    ("/ferries/north.html", "North Line: ferry to Holm", include_str!("site/north.html")),
    ("/ferries/south.html", "South Line: ferry to Holm", include_str!("site/south.html")),
    ("/ferries/fast.html", "Fast Cat: ferry to Holm", include_str!("site/fast.html")),
    ("/news.html", "News of the harbour", include_str!("site/news.html")),
];

/// The site while it is served.
pub(crate) struct Site {
    /// Where.
    pub(crate) address: SocketAddr,
    server: AbortHandle,
}

impl Site {
    /// Serves the site on a free port of this machine, for nobody else.
    pub(crate) async fn serve() -> Result<Self, Error> {
        let failed =
            |error: std::io::Error| Error::new("demo_site_failed", format!("the demo's site cannot be served: {error}"));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let routes = Router::new().route("/search", get(move |query| search(address, query))).fallback(page);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::warn!(%error, "the demo's site is gone");
            }
        });
        Ok(Self { address, server: server.abort_handle() })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn page(uri: Uri) -> Result<Html<&'static str>, axum::http::StatusCode> {
    let found = PAGES.iter().find(|(path, ..)| *path == uri.path());
    found.map(|(_, _, source)| Html(*source)).ok_or(axum::http::StatusCode::NOT_FOUND)
}

/// What a search asks for.
#[derive(Deserialize)]
struct Asked {
    q: String,
}

/// Pages that share words with the query, those with the most first, as <https://docs.searxng.org/dev/search_api.html>
/// gives them (2026-11-21).
async fn search(address: SocketAddr, Query(asked): Query<Asked>) -> impl IntoResponse {
    let words = words(&asked.q);
    let mut found: Vec<(usize, serde_json::Value)> = PAGES
        .iter()
        .map(|(path, title, source)| {
            let text = text(source);
            let shared = self::words(&text).iter().filter(|word| words.contains(word)).count();
            let about: String = text.chars().take(160).collect();
            (shared, json!({ "title": title, "url": format!("http://{address}{path}"), "content": about }))
        })
        .filter(|(shared, _)| *shared > 0)
        .collect();
    found.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    let results: Vec<serde_json::Value> = found.into_iter().map(|(_, result)| result).collect();
    ([(header::CONTENT_TYPE, "application/json")], json!({ "query": asked.q, "results": results }).to_string())
}

/// The words of a text, each once.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 2)
        .map(|word| word.to_lowercase().trim_end_matches('s').to_owned())
        .collect();
    words.sort();
    words.dedup();
    words
}

/// What stands in the article of one of our own pages.
fn text(source: &str) -> String {
    let article = source.split_once("<article>").and_then(|(_, rest)| rest.split_once("</article>"));
    let mut text = String::new();
    let mut in_tag = false;
    for c in article.map_or("", |(article, _)| article).chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            _ if !in_tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
