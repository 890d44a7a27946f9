//! A web page as Markdown: its main content, without what people do not see.

use dom_query::{Document, Selection};
use dom_smoothie::{Config, Readability, TextMode};
use url::Url;

/// Pages with more tags are not taken apart but only freed of them: what makes a page so large is no text, and a parser can
/// be made to take very long.
const TAGS_MAX: usize = 60_000;
/// Deepest nesting that is taken apart; browsers stop at 512.
const DEPTH_MAX: usize = 600;
/// With less than so many letters the main content was not found, and the whole page is shown.
const MAIN_CHARS_MIN: usize = 200;

/// What people never read.
const NEVER_READ: &str = "script, style, noscript, template, svg, canvas, iframe, object, embed, link, button, input, select, \
    textarea, dialog, [hidden], [aria-hidden=\"true\"], [type=\"hidden\"]";
/// What stands around the content of a page.
const AROUND: &str = "nav, header, footer, aside, [role=\"navigation\"], [role=\"banner\"], [role=\"contentinfo\"]";

/// A page as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// Its title; may be empty.
    pub(crate) title: String,
    /// Its content in Markdown, links absolute.
    pub(crate) text: String,
}

/// Reads a page that was found at `url`. Slow for large pages: not for a thread that must not block.
pub(crate) fn page(html: &str, url: &Url) -> Page {
    let (tags, depth) = measure(html);
    if tags > TAGS_MAX || depth > DEPTH_MAX {
        return Page { title: String::new(), text: without_tags(html) };
    }
    let document = Document::from(html);
    let title = one_line(&document.select_single("title").text());
    clean(&document, url);
    let whole = Document::from(document.html());
    let main =
        main_content(document, url).filter(|text| text.chars().filter(|c| c.is_alphanumeric()).count() >= MAIN_CHARS_MIN);
    let text = main.unwrap_or_else(|| {
        let all = whole.md(None).trim().to_owned();
        whole.select(AROUND).remove();
        let inner = whole.md(None).trim().to_owned();
        if inner.is_empty() { all } else { inner }
    });
    Page { title, text }
}

fn main_content(document: Document, url: &Url) -> Option<String> {
    let config = Config { text_mode: TextMode::Markdown, max_elements_to_parse: TAGS_MAX, ..Config::default() };
    let mut readability = Readability::with_document(document, Some(url.as_str()), Some(config)).ok()?;
    if !readability.is_probably_readable() {
        return None;
    }
    Some(readability.parse().ok()?.text_content.trim().to_owned())
}

/// Takes away what is not seen, and makes links absolute.
fn clean(document: &Document, url: &Url) {
    document.select(NEVER_READ).remove();
    for element in document.select("[style]").iter() {
        if is_unseen(&element.attr("style").unwrap_or_default()) {
            element.remove();
        }
    }
    let base = document.select_single("base[href]").attr("href").and_then(|href| url.join(&href).ok());
    let base = base.unwrap_or_else(|| url.clone());
    for link in document.select("a[href]").iter() {
        absolute(&link, "href", &base);
    }
    for image in document.select("img").iter() {
        image.remove_attr("srcset");
        match image.attr("src") {
            Some(src) if !src.trim_start().starts_with("data:") => absolute(&image, "src", &base),
            _ => image.remove(),
        }
    }
}

fn absolute(element: &Selection<'_>, name: &str, base: &Url) {
    let given = element.attr(name).unwrap_or_default();
    match base.join(given.trim()) {
        Ok(to) if matches!(to.scheme(), "http" | "https" | "mailto" | "tel") => element.set_attr(name, to.as_str()),
        _ => element.remove_attr(name),
    }
}

/// Whether a style hides an element. Text that is hidden from people is often meant for machines.
fn is_unseen(style: &str) -> bool {
    let style: String = style.to_ascii_lowercase().split_whitespace().collect();
    style.split(';').any(|rule| {
        let rule = rule.trim_end_matches("!important");
        let zero =
            |value: &str| value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%').parse() == Ok(0.0_f32);
        match rule.split_once(':') {
            Some(("display", value)) => value == "none",
            Some(("visibility", value)) => matches!(value, "hidden" | "collapse"),
            Some(("opacity" | "font-size", value)) => zero(value),
            _ => false,
        }
    })
}

/// How many tags there are, and how deep they can be nested at most.
fn measure(html: &str) -> (usize, usize) {
    let (mut tags, mut depth, mut deepest) = (0, 0_usize, 0);
    for (at, _) in html.match_indices('<') {
        tags += 1;
        let rest = &html.as_bytes()[at + 1..];
        match rest.first() {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(letter) if letter.is_ascii_alphabetic() && !is_void(rest) => depth += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    (tags, deepest)
}

/// Elements that hold nothing, and those that are closed by the next of their kind.
fn is_void(tag: &[u8]) -> bool {
    const VOID: [&[u8]; 23] = [
        b"area", b"base", b"br", b"col", b"dd", b"dt", b"embed", b"hr", b"img", b"input", b"li", b"link", b"meta",
        b"option", b"p", b"param", b"source", b"td", b"th", b"tr", b"track", b"wbr", b"path",
    ];
    let end = tag.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(tag.len());
    VOID.iter().any(|name| name.eq_ignore_ascii_case(&tag[..end]))
}

/// The text between the tags, without that of scripts and styles.
fn without_tags(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = ["script", "style"]
            .iter()
            .find(|name| rest.get(1..=name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name)));
        let end = match skipped {
            Some(name) => find_ignoring_case(rest, &format!("</{name}")),
            None => rest.find('>'),
        };
        let Some(end) = end else { return squeezed(&text) };
        rest = &rest[end..];
        rest = rest.find('>').map_or("", |at| &rest[at + 1..]);
        text.push(' ');
    }
    text.push_str(rest);
    squeezed(&text)
}

fn find_ignoring_case(text: &str, what: &str) -> Option<usize> {
    text.as_bytes().windows(what.len()).position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

fn squeezed(text: &str) -> String {
    let lines = text.lines().map(one_line).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
