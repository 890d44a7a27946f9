//! The tools `document` and `data`: programs of ours, in Python, in a box that shows an image with what they need and has no way
//! out. Nothing of what a model writes becomes code: the programs get it as JSON.
//!
//! [`document`] and [`data`] are what a model asks for; `python/` holds the programs: `common` (how they are asked and answer, and
//! which files they open), `tables` and `books` (files as tables, and workbooks), `data`, `document` with `markdown` (Markdown as a tree) and
//! a writer for each kind of file.

mod data;
mod document;

use crate::code::{self, Bounds, Told};
use crate::text;
use crate::workspace::{Desk, Error, Look};
pub(crate) use data::Data;
pub(crate) use document::Document;
use errand_core::Outcome;
use errand_engine::ports::ToolReply;
use errand_sandbox::{Exec, ExecOutcome, Exit, Images};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The image with what the programs import, and what it must hold.
pub(crate) const IMAGE: Look<'_> = Look {
    name: "data",
    packages: &["duckdb", "markdown-it-py", "matplotlib", "openpyxl", "pandas", "pillow", "python-docx", "reportlab"],
};
/// Whether `document` and `data` find their image among these, so that their calls need not wait for it.
pub fn has_office_image(images: &Images) -> bool {
    images.named(IMAGE.name).is_ok() && images.holds(IMAGE.name, IMAGE.packages)
}

/// Whether that image can probably be made on this host, which takes a while at the first call.
pub fn can_build_office_image(search_path: Option<&std::ffi::OsStr>) -> bool {
    Images::can_build(IMAGE.name, search_path)
}

/// Longest time of the work itself, once the image is there.
const WORK_MAX: Duration = Duration::from_secs(120);
/// Time kept back from a call's own for keeping the workspace.
const RESERVE: Duration = Duration::from_secs(5);
/// Nothing is begun with less time than this.
const LEAST: Duration = Duration::from_secs(2);
/// Longest answer of a program, and longest text in it, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const TEXT_BYTES_MAX: usize = 128 << 10;
/// Bytes kept back from what is shown for the names of files.
const FRAME_BYTES: usize = 1024;
/// Where files are made before they take their names; what a program that was killed left there goes.
const MAKING: &str = ".errand/making";
/// What a box finds in `/run/errand`.
const PROGRAMS: [(&str, &str); 9] = [
    ("books.py", include_str!("python/books.py")),
    ("common.py", include_str!("python/common.py")),
    ("data.py", include_str!("python/data.py")),
    ("document.py", include_str!("python/document.py")),
    ("docx_out.py", include_str!("python/docx_out.py")),
    ("html_out.py", include_str!("python/html_out.py")),
    ("markdown.py", include_str!("python/markdown.py")),
    ("pdf_out.py", include_str!("python/pdf_out.py")),
    ("tables.py", include_str!("python/tables.py")),
];

/// A program, and what it is to do.
pub(crate) struct Job {
    program: &'static str,
    request: Value,
}

/// What a program answers.
#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<Problem>,
    text: String,
}

/// Why a program did not do what it was asked for. What it says beside is for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Problem {
    BinaryFile,
    ChartDataInvalid,
    ColumnUnknown,
    DocumentEmpty,
    DocumentFailed,
    FileNotFound,
    FileNotPlain,
    FileTooLarge,
    FileUnreadable,
    IsAFolder,
    NotAFolder,
    OfficeFailed,
    OutOfMemory,
    OverQuota,
    ResultTooLarge,
    SandboxPathRefused,
    SqlDenied,
    SqlFailed,
    SqlInvalid,
    TableUnreadable,
}

impl Problem {
    /// The stable code.
    fn code(self) -> &'static str {
        match self {
            Problem::BinaryFile => "binary_file",
            Problem::ChartDataInvalid => "chart_data_invalid",
            Problem::ColumnUnknown => "column_unknown",
            Problem::DocumentEmpty => "document_empty",
            Problem::DocumentFailed => "document_failed",
            Problem::FileNotFound => "file_not_found",
            Problem::FileNotPlain => "file_not_plain",
            Problem::FileTooLarge => "file_too_large",
            Problem::FileUnreadable => "file_unreadable",
            Problem::IsAFolder => "is_a_folder",
            Problem::NotAFolder => "not_a_folder",
            Problem::OfficeFailed => "office_failed",
            Problem::OutOfMemory => "out_of_memory",
            Problem::OverQuota => "over_quota",
            Problem::ResultTooLarge => "result_too_large",
            Problem::SandboxPathRefused => "sandbox_path_refused",
            Problem::SqlDenied => "sql_denied",
            Problem::SqlFailed => "sql_failed",
            Problem::SqlInvalid => "sql_invalid",
            Problem::TableUnreadable => "table_unreadable",
        }
    }
}

impl Job {
    /// Does it in a box and keeps what it leaves in the workspace.
    pub(crate) fn run(self, desk: &mut Desk<'_>, bounds: Bounds) -> ToolReply {
        match self.attempt(desk, bounds) {
            Ok(reply) => reply,
            Err(error) => ToolReply::free(Outcome::error(error.code(), error.chain())),
        }
    }

    fn attempt(self, desk: &mut Desk<'_>, bounds: Bounds) -> Result<ToolReply, Error> {
        let time = bounds.time.saturating_sub(RESERVE);
        let begun = Instant::now();
        // Of its time a call keeps a part for the work.
        let chosen = desk.choose_with(bounds.least, IMAGE, begun + time * 3 / 4)?;
        let isolation = chosen.isolation();
        let wall = time.saturating_sub(begun.elapsed()).min(WORK_MAX);
        if wall < LEAST {
            return Err(Error::NoTimeLeft);
        }
        let sandbox = code::confinement(isolation.report());
        let exec = self.exec(wall, bounds.observation_bytes, desk);
        let done = isolation.run(desk.session_to_change(), exec)?;
        if done.exit != Exit::Code(0) {
            // Only a program that was killed left something, and else there is nothing to remove.
            let _ = desk.session().remove(MAKING);
        }
        let told = told(&done);
        let kept = desk.keep();
        Ok(ToolReply { sandbox: Some(sandbox), ..code::reply(told, kept, bounds.observation_bytes) })
    }

    fn exec(self, wall: Duration, observation_bytes: usize, desk: &Desk<'_>) -> Exec {
        let Job { program, mut request } = self;
        request["bytes_max"] = json!(observation_bytes.saturating_sub(FRAME_BYTES).clamp(FRAME_BYTES, TEXT_BYTES_MAX));
        let mut exec = Exec::new(["python3", "-u", "-s", &format!("/run/errand/{program}")]);
        exec.files = PROGRAMS.iter().map(|(name, code)| ((*name).to_owned(), code.as_bytes().to_vec())).collect();
        exec.files.push(("request.json".to_owned(), request.to_string().into_bytes()));
        exec.limits.wall = wall;
        exec.limits.output_bytes = ANSWER_BYTES_MAX;
        exec.is_sealed = true;
        exec.cancel = Some(desk.cancel.clone());
        exec
    }
}

/// What came of the program, as it is shown.
fn told(done: &ExecOutcome) -> Told {
    let answer = (done.exit == Exit::Code(0)).then(|| serde_json::from_slice::<Answer>(&done.stdout.kept).ok()).flatten();
    let (code, text) = match answer {
        Some(Answer { error, text }) => (error.map(Problem::code), text),
        None => match code::ended(done.exit, done.wall) {
            (Some(code), text) if code != "non_zero_exit" => (Some(code), text),
            (_, ended) => {
                let said = String::from_utf8_lossy(&done.stderr.kept);
                let said = text::bounded(said.trim_end().lines().last().unwrap_or_default(), FRAME_BYTES, "");
                (Some(Problem::OfficeFailed.code()), format!("the tool ended without an answer, {ended}: {said}"))
            }
        },
    };
    let text = if text.ends_with('\n') { text } else { text + "\n" };
    Told { code, text, wall: done.wall }
}

/// The ending of a path, in lower case and with its point.
fn ending(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.')
        .filter(|(stem, _)| !stem.is_empty())
        .map_or_else(String::new, |(_, ending)| format!(".{}", ending.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests;
