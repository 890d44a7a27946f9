//! The tool `files`: looking at the workspace and changing it, from outside of any box.

mod edit;
mod read;
mod search;

use crate::arguments::Refused;
use crate::text;
use crate::workspace::{self, Desk};
use errand_core::Outcome;
use errand_engine::ports::ToolReply;
use errand_sandbox::{EntryKind, Session};
use serde::Deserialize;
use std::fmt::Write;

/// A larger file is not edited whole.
const EDIT_BYTES_MAX: u64 = 8 << 20;
/// Most files and folders that are looked at for a list or a search.
const ENTRIES_MAX: usize = 100_000;

/// Arguments of the tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    action: Action,
    #[serde(default)]
    path: String,
    first_line: Option<u64>,
    lines: Option<u64>,
    text: Option<String>,
    old: Option<String>,
    new: Option<String>,
    pattern: Option<String>,
    regex: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Read,
    Write,
    Edit,
    List,
    Search,
}

/// What is to be done, with all that it needs.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Read { path: String, first_line: u64, lines: Option<u64> },
    Write { path: String, text: String },
    Edit { path: String, old: String, new: String },
    List { folder: String },
    Search { path: String, matcher: search::Matcher },
}

impl Files {
    /// The request, if the action has all it needs and nothing it would ignore.
    pub(crate) fn request(self) -> Result<Request, Refused> {
        let given = [
            ("first_line", self.first_line.is_some()),
            ("lines", self.lines.is_some()),
            ("text", self.text.is_some()),
            ("old", self.old.is_some()),
            ("new", self.new.is_some()),
            ("pattern", self.pattern.is_some()),
            ("regex", self.regex.is_some()),
        ];
        let (needs, may): (&[&str], &[&str]) = match self.action {
            Action::Read => (&["path"], &["first_line", "lines"]),
            Action::Write => (&["path", "text"], &[]),
            Action::Edit => (&["path", "old", "new"], &[]),
            Action::List => (&[], &[]),
            Action::Search => (&["pattern"], &["regex"]),
        };
        let action = format!("{:?}", self.action).to_lowercase();
        if let Some((name, _)) = given.iter().find(|(name, set)| *set && !needs.contains(name) && !may.contains(name)) {
            return Err(Refused::invalid(format!("`{name}` is not for the action `{action}`: leave it out")));
        }
        if needs.contains(&"path") && self.path.is_empty() {
            return Err(Refused::invalid(format!("the action `{action}` needs `path`")));
        }
        let needed = |name: &str, value: Option<String>| {
            value.ok_or_else(|| Refused::invalid(format!("the action `{action}` needs `{name}`")))
        };
        Ok(match self.action {
            Action::Read => Request::Read { path: self.path, first_line: self.first_line.unwrap_or(1), lines: self.lines },
            Action::Write => Request::Write { path: self.path, text: needed("text", self.text)? },
            Action::Edit => Request::Edit { path: self.path, old: needed("old", self.old)?, new: needed("new", self.new)? },
            Action::List => Request::List { folder: self.path },
            Action::Search => {
                let pattern = needed("pattern", self.pattern)?;
                let matcher = search::Matcher::new(&pattern, self.regex.unwrap_or(false))
                    .map_err(|problem| Refused::invalid(format!("`pattern` is no regular expression: {problem}")))?;
                Request::Search { path: self.path, matcher }
            }
        })
    }
}

impl Request {
    /// Does it. At most `bytes_max` bytes are shown.
    pub(crate) fn run(self, desk: &mut Desk<'_>, bytes_max: usize) -> ToolReply {
        let mut workspace = None;
        let done = match self {
            Request::Read { path, first_line, lines } => read::read(desk.session(), &path, first_line, lines, bytes_max),
            Request::List { folder } => list(desk.session(), &folder, bytes_max),
            Request::Search { path, matcher } => search::search(desk, &path, &matcher, bytes_max),
            Request::Write { path, text } => {
                write(desk.session_to_change(), &path, &text).and_then(|text| keep(desk, text, &mut workspace))
            }
            Request::Edit { path, old, new } => {
                edit::edit(desk.session_to_change(), &path, &old, &new).and_then(|text| keep(desk, text, &mut workspace))
            }
        };
        let outcome = match done {
            Ok(text) => Outcome::Ok { text },
            Err(error) => Outcome::error(error.code(), error.text()),
        };
        ToolReply { workspace, ..ToolReply::free(outcome) }
    }
}

fn keep(desk: &mut Desk<'_>, text: String, workspace: &mut Option<errand_core::Snapshot>) -> Result<String, Error> {
    *workspace = desk.keep()?.0;
    Ok(text)
}

fn write(session: &Session, path: &str, text: &str) -> Result<String, Error> {
    let existed = session.stat(path)?.is_some();
    session.put_file(path, text.as_bytes())?;
    let done = if existed { "replaced" } else { "created" };
    Ok(format!("{done} {path}: {} bytes, {} lines", text.len(), text.lines().count()))
}

fn list(session: &Session, folder: &str, bytes_max: usize) -> Result<String, Error> {
    if !matches!(folder, "" | "." | "/workspace" | "/workspace/") {
        match session.stat(folder)?.map(|entry| entry.kind) {
            Some(EntryKind::Folder) => {}
            Some(_) => return Err(Error::NoFolder { path: folder.to_owned() }),
            None => return Err(Error::NotFound { path: folder.to_owned() }),
        }
    }
    let entries = session.list(folder, true, ENTRIES_MAX)?;
    if entries.is_empty() {
        return Ok("the folder is empty".to_owned());
    }
    let mut shown = String::new();
    for (index, entry) in entries.iter().enumerate() {
        let line = match entry.kind {
            EntryKind::File => format!("{}  {}", entry.path, text::size(entry.size)),
            EntryKind::Folder => format!("{}/", entry.path),
            EntryKind::Link => format!("{}  (link)", entry.path),
            EntryKind::Other => format!("{}  (not a plain file)", entry.path),
        };
        if shown.len() + line.len() + 80 > bytes_max {
            let left = entries.len() - index;
            let _ = writeln!(shown, "and {left} more: list a folder of them to see them");
            break;
        }
        let _ = writeln!(shown, "{line}");
    }
    Ok(shown.trim_end().to_owned())
}

/// Why a file was not read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path:?} does not exist in the workspace: list it to see what does")]
    NotFound { path: String },
    #[error("{path:?} is a folder: use the action `list`")]
    Folder { path: String },
    #[error("{path:?} is no folder: use the action `read`")]
    NoFolder { path: String },
    #[error("{path:?} is a binary file of {bytes} bytes: use `python` to look at it")]
    Binary { path: String, bytes: u64 },
    #[error("{path:?} has {bytes} bytes, more than {EDIT_BYTES_MAX}: use `python` to change it")]
    TooLarge { path: String, bytes: u64 },
    #[error("{path:?} has only {lines} lines: ask for an earlier one than {first_line}")]
    PastEnd { path: String, lines: u64, first_line: u64 },
    #[error("`old` does not stand in {path:?}: read the file and give the text exactly as it stands there, with its blanks")]
    OldNotFound { path: String },
    #[error("`old` stands {count} times in {path:?}, it must stand once: give more of the text around it")]
    OldNotUnique { path: String, count: usize },
    #[error("`old` and `new` are the same: there is nothing to change")]
    NothingToChange,
    #[error(transparent)]
    Workspace(#[from] workspace::Error),
}

impl From<errand_sandbox::Error> for Error {
    fn from(error: errand_sandbox::Error) -> Self {
        match error {
            errand_sandbox::Error::NotFound { path } => Error::NotFound { path },
            error => Error::Workspace(error.into()),
        }
    }
}

impl Error {
    /// The stable code.
    fn code(&self) -> &'static str {
        match self {
            Error::NotFound { .. } => "file_not_found",
            Error::Folder { .. } => "is_a_folder",
            Error::NoFolder { .. } => "not_a_folder",
            Error::Binary { .. } => "binary_file",
            Error::TooLarge { .. } => "file_too_large",
            Error::PastEnd { .. } => "past_end",
            Error::OldNotFound { .. } => "old_not_found",
            Error::OldNotUnique { .. } => "old_not_unique",
            Error::NothingToChange => "nothing_to_change",
            Error::Workspace(error) => error.code(),
        }
    }

    fn text(&self) -> String {
        match self {
            Error::Workspace(error) => error.chain(),
            other => other.to_string(),
        }
    }
}
