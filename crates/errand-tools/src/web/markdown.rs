//! A web page as Markdown: its main content, without what people do not see.

use dom_query::{Document, Selection};
use dom_smoothie::{Config, Readability, TextMode};
use url::Url;

/// Pages with more tags are not taken apart but only freed of them: what makes a page so large is no text, and a parser can
/// be made to take very long.
const TAGS_MAX: usize = 60_000;
/// Deepest nesting that is taken apart; browsers stop at 512.
const DEPTH_MAX: usize = 600;
/// Most attributes of one tag: a parser compares each with all before it.
const ATTRIBUTES_MAX: usize = 1_000;
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
    let plain = || Page { title: String::new(), text: without_tags(html) };
    if !is_parsed(html) {
        return plain();
    }
    let document = Document::from(html);
    if !is_flat(&document) {
        return plain();
    }
    let title = one_line(&document.select_single("title").text());
    clean(&document, url);
    let whole = Document::from(document.html());
    // Parsed a second time, a page may be another one.
    if !is_flat(&whole) {
        return plain();
    }
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

/// Whether a page is small and flat enough to be parsed. A guess from its tags, so that nothing is made to take long; how
/// deep the tree really is, [`is_flat`] sees.
fn is_parsed(html: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    for (number, piece) in html.split('<').skip(1).enumerate() {
        if number >= TAGS_MAX || open.len() > DEPTH_MAX {
            return false;
        }
        let (is_end, piece) = piece.strip_prefix('/').map_or((false, piece), |rest| (true, rest));
        if !piece.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        if has_too_many_attributes(piece) {
            return false;
        }
        let tag = piece.split('>').next().unwrap_or_default();
        let name = tag.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if is_end {
            close(&mut open, name);
        } else if holds_more(tag, name, &open) {
            open.push(name);
        }
    }
    open.len() <= DEPTH_MAX
}

/// Whether a tag has more attributes than are taken: words outside of quotes, up to where it ends.
fn has_too_many_attributes(piece: &str) -> bool {
    let (mut quote, mut words, mut in_word) = (None, 0, false);
    for c in piece.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '>') => break,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() || c == '/' => in_word = false,
            (None, _) if !in_word => {
                in_word = true;
                words += 1;
            }
            (None, _) => {}
        }
    }
    words > ATTRIBUTES_MAX
}

/// Whether what follows a begin tag stands in its element.
fn holds_more(tag: &str, name: &str, open: &[&str]) -> bool {
    let is_drawing = |name: &str| is_among(name, &["svg", "math"]);
    if is_drawing(name) || open.iter().any(|one| is_drawing(one)) {
        return !tag.ends_with('/');
    }
    !is_void(name)
}

/// Takes back the last element of this name with those in it. An end tag of what is not open, or is open around the table
/// it stands in, is nothing to a parser.
fn close(open: &mut Vec<&str>, name: &str) {
    for (at, one) in open.iter().enumerate().rev() {
        if one.eq_ignore_ascii_case(name) {
            open.truncate(at);
            return;
        }
        if one.eq_ignore_ascii_case("table") {
            return;
        }
    }
}

/// Elements that hold nothing, and those that are closed by the next of their kind, outside of drawings.
fn is_void(name: &str) -> bool {
    const VOID: [&str; 22] = [
        "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option", "p",
        "param", "source", "td", "th", "tr", "track", "wbr",
    ];
    is_among(name, &VOID)
}

fn is_among(name: &str, names: &[&str]) -> bool {
    names.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// Whether no element is nested too deep for what walks the tree by recursion. Walks it without.
fn is_flat(document: &Document) -> bool {
    let (mut at, mut depth) = (document.root(), 0_usize);
    loop {
        if let Some(child) = at.first_child() {
            (at, depth) = (child, depth + 1);
            if depth > DEPTH_MAX {
                return false;
            }
            continue;
        }
        while at.next_sibling().is_none() {
            match at.parent() {
                Some(parent) if depth > 0 => (at, depth) = (parent, depth - 1),
                _ => return true,
            }
        }
        match at.next_sibling() {
            Some(sibling) if depth > 0 => at = sibling,
            _ => return true,
        }
    }
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
