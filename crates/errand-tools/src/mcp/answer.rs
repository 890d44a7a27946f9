//! What a tool of a server answers, as a model is shown it; what is no text becomes a file of the workspace.

use crate::text;
use crate::workspace::Desk;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use errand_core::Outcome;
use errand_engine::ports::ToolReply;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;
use std::fmt::Write;

/// Most files of one answer.
const FILES_MAX: usize = 20;
/// Folder of the workspace in which they are kept.
const FOLDER: &str = "received";

/// An answer, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What the model is shown.
    pub(super) text: String,
    /// Paths and bytes.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// Whether the server calls it an error.
    pub(super) is_error: bool,
}

/// Reads an answer. `stem` begins the names of its files.
pub(super) fn read(result: CallToolResult, stem: &str) -> Answer {
    let mut answer = Answer { is_error: result.is_error.unwrap_or(false), ..Answer::default() };
    for block in result.content {
        match block {
            ContentBlock::Text(block) => answer.line(&block.text),
            ContentBlock::Image(block) => answer.file("image", &block.data, Some(&block.mime_type), stem),
            ContentBlock::Audio(block) => answer.file("audio", &block.data, Some(&block.mime_type), stem),
            ContentBlock::Resource(block) => match block.resource {
                ResourceContents::TextResourceContents { uri, text, .. } => {
                    answer.line(&format!("resource {uri}:\n{text}"));
                }
                ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                    answer.file(&format!("resource {uri}"), &blob, mime_type.as_deref(), stem);
                }
                _ => answer.line("[a resource of a form that is not known]"),
            },
            ContentBlock::ResourceLink(link) => {
                let about = link.description.map(|text| format!(": {text}")).unwrap_or_default();
                answer.line(&format!("resource {} at {}{about}", link.name, link.uri));
            }
            _ => answer.line("[content of a form that is not known]"),
        }
    }
    if let Some(structured) = result.structured_content
        && serde_json::from_str::<Value>(&answer.text).ok().as_ref() != Some(&structured)
    {
        answer.line(&structured.to_string());
    }
    if answer.text.is_empty() {
        answer.line("it answered nothing");
    }
    answer
}

impl Answer {
    fn line(&mut self, line: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(line);
    }

    fn file(&mut self, what: &str, data: &str, mime: Option<&str>, stem: &str) {
        let compact: String = data.split_ascii_whitespace().collect();
        let Ok(bytes) = STANDARD.decode(compact) else {
            return self.line(&format!("[{what}: it is no base64 and was left out]"));
        };
        if self.files.len() >= FILES_MAX {
            return self.line(&format!("[{what}: left out, at most {FILES_MAX} files of one answer are kept]"));
        }
        let path = format!("{FOLDER}/{stem}-{}.{}", self.files.len() + 1, ending(mime.unwrap_or_default()));
        let mime = mime.filter(|mime| mime.len() < 100).map(|mime| format!(", {mime}")).unwrap_or_default();
        self.line(&format!("[{what}: {}{mime}, kept as {path}]", text::size(bytes.len() as u64)));
        self.files.push((path, bytes));
    }

    /// The reply, with the files put where it says they are.
    pub(super) fn keep(mut self, desk: &mut Desk<'_>) -> ToolReply {
        let kept = (|| {
            let session = desk.session_to_change();
            for (path, bytes) in &self.files {
                session.put_file(path, bytes)?;
            }
            Ok::<_, crate::workspace::Error>(desk.keep()?.0)
        })();
        match kept {
            Ok(workspace) => ToolReply { workspace, ..self.reply() },
            Err(error) => {
                let _ = write!(self.text, "\nthe files could not be kept: {}", error.chain());
                self.reply()
            }
        }
    }

    /// The reply, as far as it is text.
    pub(super) fn reply(self) -> ToolReply {
        ToolReply::free(match self.is_error {
            true => Outcome::error("tool_failed", self.text),
            false => Outcome::Ok { text: self.text },
        })
    }
}

/// The end of a file's name, for media types that are usual.
fn ending(mime: &str) -> &'static str {
    match mime.split(';').next().unwrap_or_default().trim() {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "image/svg+xml" => "svg",
        "audio/wav" | "audio/x-wav" => "wav",
        "audio/mpeg" => "mp3",
        "audio/ogg" => "ogg",
        "application/pdf" => "pdf",
        "application/json" => "json",
        "application/zip" => "zip",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/plain" => "txt",
        _ => "bin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(result: Value) -> Answer {
        read(serde_json::from_value(result).unwrap(), "s_t-2.0")
    }

    #[test]
    fn all_forms_of_content_are_shown() {
        let answer = answer(json!({
            "content": [
                { "type": "text", "text": "a" },
                { "type": "image", "data": "AQI=", "mimeType": "image/png" },
                { "type": "audio", "data": "!", "mimeType": "audio/wav" },
                { "type": "resource", "resource": { "uri": "x:1", "text": "inside" } },
                { "type": "resource", "resource": { "uri": "x:2", "blob": "AQI=", "mimeType": "x/y" } },
                { "type": "resource_link", "uri": "x:3", "name": "n", "description": "d" }
            ],
            "structuredContent": { "k": 1 },
            "isError": true
        }));
        let expected = "a\n[image: 2 bytes, image/png, kept as received/s_t-2.0-1.png]\n\
            [audio: it is no base64 and was left out]\nresource x:1:\ninside\n\
            [resource x:2: 2 bytes, x/y, kept as received/s_t-2.0-2.bin]\nresource n at x:3: d\n{\"k\":1}";
        assert_eq!(answer.text, expected);
        assert_eq!(answer.files.len(), 2);
        assert!(matches!(answer.reply().outcome, Outcome::Error { code, .. } if code == "tool_failed"));
    }

    #[test]
    fn structured_content_is_not_shown_twice() {
        let both = json!({ "content": [{ "type": "text", "text": "{ \"k\": 1 }" }], "structuredContent": { "k": 1 } });
        assert_eq!(answer(both).text, "{ \"k\": 1 }");
        assert_eq!(answer(json!({ "content": [] })).text, "it answered nothing");
    }
}
