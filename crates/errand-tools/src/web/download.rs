//! An answer that is kept as a file of the workspace.

use super::ContentType;
use crate::execute::{Work, failed};
use crate::text;
use errand_core::Outcome;
use errand_engine::ports::ToolReply;
use url::Url;

/// The folder for what is downloaded.
const FOLDER: &str = "downloads";
/// Longest part of a file's name that is taken from the URL.
const NAME_CHARS_MAX: usize = 80;

/// A file to keep.
pub(crate) struct Download {
    /// Where it came from.
    pub(crate) url: Url,
    /// Its type.
    pub(crate) content_type: ContentType,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
    /// What the model is shown besides the file's place, type and size; `{file}` stands for that.
    pub(crate) shown: String,
}

/// Writes the file and tells of it.
pub(crate) async fn save(work: &Work<'_>, download: Download) -> ToolReply {
    let id = work.job.call.id.to_string().replace('.', "-");
    let path = format!("{FOLDER}/{id}-{}", name(&download.url, &download.content_type));
    let media = match download.content_type.media.as_str() {
        "" => "type not given",
        media => media,
    };
    let file = format!("{path} ({media}, {})", text::size(download.bytes.len() as u64));
    let shown = download.shown.replacen("{file}", &file, 1);
    work.in_workspace(move |desk| {
        if let Err(error) = desk.session_to_change().put_file(&path, &download.bytes) {
            return failed(&error.into());
        }
        match desk.keep() {
            Ok((workspace, _)) => ToolReply { workspace, ..ToolReply::free(Outcome::Ok { text: shown }) },
            Err(error) => failed(&error),
        }
    })
    .await
}

/// A name made of what the URL ends with, harmless in every shell.
fn name(url: &Url, content_type: &ContentType) -> String {
    let last = url.path_segments().and_then(|mut parts| parts.rfind(|part| !part.is_empty())).unwrap_or("page");
    let kept = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_') { letter } else { '_' };
    let plain: String = last.chars().map(kept).collect();
    let plain = plain[plain.len().saturating_sub(NAME_CHARS_MAX)..].trim_matches(['.', '-', '_']);
    let plain = if plain.is_empty() { "page" } else { plain };
    let has_ending = plain.rsplit_once('.').is_some_and(|(_, ending)| (1..=5).contains(&ending.len()));
    if has_ending { plain.to_owned() } else { format!("{plain}.{}", content_type.extension()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(url: &str, media: &str) -> String {
        name(&url.parse().unwrap(), &ContentType::parse(media))
    }

    #[test]
    fn names_come_from_the_url() {
        assert_eq!(named("https://a.example/x/report.pdf?y=1", "application/pdf"), "report.pdf");
        assert_eq!(named("https://a.example/", "application/pdf"), "page.pdf");
        assert_eq!(named("https://a.example/a%20b/..%2f$(rm)", "image/png"), "2f__rm.png");
        assert_eq!(named("https://a.example/export", ""), "export.bin");
    }

    proptest! {
        #[test]
        fn no_url_makes_an_odd_name(path in "\\PC{0,300}") {
            let name = named(&format!("https://a.example/{path}"), "");
            prop_assert!(name.len() <= NAME_CHARS_MAX + 4 && !name.starts_with('.') && !name.contains('/'));
        }
    }
}
