//! What the head of an answer says of its body.

use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// A media type without its parameters, in lower case, and the charset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// Such as `text/html`; empty if none was given.
    pub(crate) media: String,
    /// Such as `utf-8`, as given.
    pub(crate) charset: Option<String>,
}

impl ContentType {
    /// From the headers of an answer.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self::parse(&value.unwrap_or_default())
    }

    /// From the value of the header.
    pub(crate) fn parse(value: &str) -> Self {
        let mut parts = value.split(';');
        let media: String = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let media = media.chars().filter(|letter| letter.is_ascii_graphic()).take(100).collect();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']).to_owned();
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        Self { media, charset: charset.filter(|charset| !charset.is_empty()) }
    }

    /// A web page.
    pub(crate) fn is_html(&self) -> bool {
        matches!(self.media.as_str(), "text/html" | "application/xhtml+xml")
    }

    /// Something that is read as it is: text, JSON, XML, CSV, scripts.
    pub(crate) fn is_text(&self) -> bool {
        let media = self.media.as_str();
        media.starts_with("text/")
            || media.ends_with("+json")
            || media.ends_with("+xml")
            || media.ends_with("+yaml")
            || matches!(
                media,
                "application/json"
                    | "application/x-ndjson"
                    | "application/jsonl"
                    | "application/xml"
                    | "application/yaml"
                    | "application/x-yaml"
                    | "application/toml"
                    | "application/javascript"
                    | "application/x-javascript"
                    | "application/ecmascript"
                    | "application/graphql"
                    | "application/sql"
                    | "application/x-sh"
                    | "application/x-www-form-urlencoded"
            )
    }

    /// Whether the body has to tell for itself what it is.
    pub(crate) fn is_unsaid(&self) -> bool {
        matches!(self.media.as_str(), "" | "application/octet-stream" | "binary/octet-stream" | "application/x-unknown")
    }

    /// The usual ending of a file of this type.
    pub(crate) fn extension(&self) -> &'static str {
        match self.media.as_str() {
            "application/pdf" => "pdf",
            "application/zip" => "zip",
            "application/gzip" | "application/x-gzip" => "gz",
            "application/json" => "json",
            "application/xml" | "text/xml" => "xml",
            "application/msword" => "doc",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation" => "pptx",
            "application/vnd.ms-excel" => "xls",
            "image/png" => "png",
            "image/jpeg" => "jpg",
            "image/gif" => "gif",
            "image/webp" => "webp",
            "image/svg+xml" => "svg",
            "audio/mpeg" => "mp3",
            "video/mp4" => "mp4",
            "text/csv" => "csv",
            "text/html" | "application/xhtml+xml" => "html",
            media if media.starts_with("text/") => "txt",
            _ => "bin",
        }
    }
}

/// Whether bytes look like text: no control bytes but those of lines, in their beginning.
pub(crate) fn looks_like_text(bytes: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(4096)];
    let control = |byte: &u8| *byte < 0x20 && !matches!(*byte, b'\n' | b'\r' | b'\t' | 0x0c | 0x1b);
    beginning.starts_with(&[0xff, 0xfe]) || beginning.starts_with(&[0xfe, 0xff]) || !beginning.iter().any(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_as_they_are_written() {
        let read = |value: &str| {
            let read = ContentType::parse(value);
            (read.media, read.charset.unwrap_or_default())
        };
        assert_eq!(read("Text/HTML; Charset=\"ISO-8859-1\""), ("text/html".into(), "ISO-8859-1".into()));
        assert_eq!(read("text/plain;charset=utf-8;format=flowed"), ("text/plain".into(), "utf-8".into()));
        assert_eq!(read("application/json"), ("application/json".into(), String::new()));
        assert_eq!(read(";;charset="), (String::new(), String::new()));
    }

    #[test]
    fn types_are_told_apart() {
        let of = ContentType::parse;
        assert!(of("text/html").is_html() && of("text/csv").is_text() && of("application/ld+json").is_text());
        assert!(!of("application/pdf").is_text() && !of("image/png").is_text() && of("").is_unsaid());
        assert!(looks_like_text("Grüße\n".as_bytes()) && !looks_like_text(b"%PDF-1.7\n\0\x01"));
    }
}
