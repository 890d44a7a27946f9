//! The tool `fetch`: a page to read.

use super::head::looks_like_text;
use super::markdown::page;
use super::{ContentType, Download, decode, save};
use crate::cache::Cache;
use crate::execute::Work;
use crate::net::{Request, Response};
use crate::text;
use errand_core::{Hash, Outcome};
use errand_engine::ports::ToolReply;
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;
use std::fmt::Write;
use std::time::Duration;
use url::Url;

/// Most of a page that is read, in bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Largest file that is taken, in bytes.
const FILE_BYTES_MAX: usize = 32 << 20;
/// Bytes kept back from what is shown for the note on reading on, and the one of the cache.
const FRAME_BYTES: usize = 192;
/// Bytes of an error page that are shown.
const ERROR_BYTES: usize = 2000;
/// For how long a page that is read in parts stays as it was, in seconds.
const PAGES_TTL_S: u32 = 900;

/// Arguments of `fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fetch {
    url: String,
    #[serde(default)]
    start: u64,
    #[serde(default)]
    raw: bool,
}

impl Fetch {
    /// Gets it.
    pub(crate) async fn run(self, work: &Work<'_>) -> ToolReply {
        let url = match work.services.network.url(&self.url) {
            Ok(url) => url,
            Err(error) => return ToolReply::free(error.outcome()),
        };
        let bytes_max = work.bounds().observation_bytes;
        let key = Hash::of(format!("{url}\n{}", self.raw).as_bytes());
        if self.start > 0
            && let Some(known) = work.services.pages.get(&key, PAGES_TTL_S, work.job.now)
        {
            return ToolReply::free(shown(&known.text, self.start, bytes_max));
        }
        let mut headers = HeaderMap::new();
        let accept = "text/markdown, text/html;q=0.9, application/xhtml+xml;q=0.9, text/plain;q=0.8, */*;q=0.5";
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let request = Request::new(Method::GET, url, headers);
        let time = Duration::from_millis(work.job.timeout_ms);
        match work.services.network.send(request, work.job.now, time).await {
            Ok(response) => self.answer(work, key, response).await,
            Err(failure) => ToolReply::free(failure.outcome()),
        }
    }

    async fn answer(&self, work: &Work<'_>, key: Hash, response: Response) -> ToolReply {
        let Response { url, status, headers, body } = response;
        let content_type = ContentType::of(&headers);
        let may_be_read = content_type.is_html() || content_type.is_text() || content_type.is_unsaid();
        let bytes_max = if may_be_read && !content_type.is_unsaid() { PAGE_BYTES_MAX } else { FILE_BYTES_MAX };
        let mut read = match body.read(bytes_max).await {
            Ok(read) => read,
            Err(error) => return ToolReply::free(error.outcome()),
        };
        let is_text = may_be_read && looks_like_text(&read.bytes);
        if is_text && read.bytes.len() > PAGE_BYTES_MAX {
            read.bytes.truncate(PAGE_BYTES_MAX);
            read.whole = false;
        }
        let found = Found { url, content_type, raw: self.raw, bytes: read.bytes, whole: read.whole };
        if status.is_client_error() || status.is_server_error() {
            let text = if is_text { found.read().await } else { String::new() };
            return ToolReply::free(Outcome::error(
                "http_status",
                format!("HTTP {status}\n{}", text::head(&text, ERROR_BYTES)),
            ));
        }
        if !is_text {
            return found.save(work).await;
        }
        let text = found.read().await;
        work.services.pages.put(key, &text, work.job.now);
        ToolReply::free(shown(&text, self.start, work.bounds().observation_bytes))
    }
}

/// What was found at a URL.
struct Found {
    url: Url,
    content_type: ContentType,
    raw: bool,
    bytes: Vec<u8>,
    whole: bool,
}

impl Found {
    /// As a model reads it, with a head that says what it is.
    async fn read(self) -> String {
        let worker = tokio::task::spawn_blocking(move || self.convert());
        worker.await.unwrap_or_else(|_| "[the page could not be converted; fetch it with raw true]".to_owned())
    }

    fn convert(self) -> String {
        let source = decode(&self.bytes, self.content_type.charset.as_deref());
        let is_html = self.content_type.is_html() || (self.content_type.is_unsaid() && begins_as_html(&source));
        let (title, text) = if is_html && !self.raw {
            let page = page(&source, &self.url);
            (page.title, page.text)
        } else {
            (String::new(), source)
        };
        let mut shown = String::new();
        if !title.is_empty() {
            let _ = writeln!(shown, "title: {}", text::head(&title, 300));
        }
        let media = if self.content_type.media.is_empty() { "not given" } else { &self.content_type.media };
        let _ = write!(shown, "url: {}\ntype: {media}\n\n", self.url);
        match text.trim() {
            "" if is_html => shown.push_str("[the page has no text of its own; it may need a browser]"),
            "" => shown.push_str("[it is empty]"),
            text => shown.push_str(text),
        }
        if !self.whole {
            let _ = write!(shown, "\n[it is longer than {} MiB and was cut there]", PAGE_BYTES_MAX >> 20);
        }
        shown
    }

    async fn save(self, work: &Work<'_>) -> ToolReply {
        if !self.whole {
            let text = format!("the file is larger than {} MiB, which is the most that is taken", FILE_BYTES_MAX >> 20);
            return ToolReply::free(Outcome::error("response_too_large", text));
        }
        let shown = format!("url: {}\nthis is no text; it was saved as {{file}}", self.url);
        let Found { url, content_type, bytes, .. } = self;
        save(work, Download { url, content_type, bytes, shown }).await
    }
}

fn begins_as_html(text: &str) -> bool {
    let beginning = text.trim_start().get(..14).unwrap_or_default().to_ascii_lowercase();
    beginning.starts_with("<!doctype html") || beginning.starts_with("<html")
}

/// The part of the text from character `start` on, as much as may be shown, and how to read on.
fn shown(text: &str, start: u64, bytes_max: usize) -> Outcome {
    let total = text.chars().count() as u64;
    if start > 0 && start >= total {
        return Outcome::error("past_end", format!("the page has {total} characters: give a smaller start"));
    }
    let from = text.char_indices().nth(usize::try_from(start).unwrap_or(usize::MAX)).map_or(text.len(), |(at, _)| at);
    let rest = &text[from..];
    if start == 0 && rest.len() <= bytes_max {
        return Outcome::Ok { text: rest.to_owned() };
    }
    let part = text::head(rest, bytes_max.saturating_sub(FRAME_BYTES));
    let end = start + part.chars().count() as u64;
    let more = if end < total { format!("; to read on, fetch it with start {end}") } else { "; this is the end".to_owned() };
    Outcome::Ok { text: format!("{part}\n[characters {start} to {end} of {total}{more}]") }
}

/// A page that was read before, for reading on.
pub(crate) type Pages = Cache;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(outcome: Outcome) -> String {
        match outcome {
            Outcome::Ok { text } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_short_page_is_shown_as_it_is() {
        assert_eq!(text_of(shown("short", 0, 100)), "short");
        assert!(matches!(shown("short", 5, 100), Outcome::Error { code, .. } if code == "past_end"));
    }

    proptest! {
        #[test]
        fn reading_on_gives_all_of_the_page(page in "\\PC{1,3000}", bytes_max in 300_usize..2000) {
            let (mut whole, mut start) = (String::new(), 0);
            loop {
                let part = text_of(shown(&page, start, bytes_max));
                prop_assert!(part.len() <= bytes_max);
                let Some((text, note)) = part.rsplit_once("\n[characters ") else {
                    prop_assert_eq!(&part, &page);
                    return Ok(());
                };
                whole.push_str(text);
                let Some(next) = note.split("start ").nth(1) else { break };
                start = next.trim_end_matches(']').parse().unwrap();
            }
            prop_assert_eq!(whole, page);
        }
    }
}
