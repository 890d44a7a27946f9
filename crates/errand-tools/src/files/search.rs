//! Looking for a text or a pattern in the lines of the workspace's files.

use super::read::is_binary;
use super::{ENTRIES_MAX, Error};
use crate::text;
use crate::workspace::{Desk, Error as WorkspaceError, OWN_FOLDER};
use errand_sandbox::EntryKind;
use regex::{Regex, RegexBuilder};
use std::fmt::Write;

/// A file is searched up to this many bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// A search ends after this many bytes.
const BYTES_MAX: u64 = 512 << 20;
/// A compiled pattern may take this many bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// A line is shown up to this many bytes.
const LINE_BYTES_MAX: usize = 300;

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) enum Matcher {
    Text(String),
    Regex(Regex),
}

impl Matcher {
    pub(super) fn new(pattern: &str, regex: bool) -> Result<Self, String> {
        if !regex {
            return Ok(Matcher::Text(pattern.to_owned()));
        }
        let built =
            RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).nest_limit(50).build();
        built.map(Matcher::Regex).map_err(|error| text::head(&error.to_string(), 400).to_owned())
    }

    fn matches(&self, line: &str) -> bool {
        match self {
            Matcher::Text(text) => line.contains(text.as_str()),
            Matcher::Regex(regex) => regex.is_match(line),
        }
    }
}

/// Lines that match, as `path:line: text`, as many as fit.
pub(super) fn search(desk: &Desk<'_>, path: &str, matcher: &Matcher, bytes_max: usize) -> Result<String, Error> {
    let mut found = Found { room: bytes_max.saturating_sub(200), ..Found::default() };
    let mut bytes = 0;
    for file in files(desk, path)? {
        if desk.cancel.is_cancelled() {
            return Err(WorkspaceError::Stopped.into());
        }
        // A file that a program removed or locked meanwhile is none to search.
        let Ok(range) = desk.session().read_file(&file, 0, FILE_BYTES_MAX) else { continue };
        if is_binary(&range.bytes) {
            continue;
        }
        found.cut_files += usize::from(range.size > FILE_BYTES_MAX);
        bytes += range.bytes.len() as u64;
        if bytes > BYTES_MAX {
            found.ended_early = true;
            break;
        }
        let content = String::from_utf8_lossy(&range.bytes);
        for (index, line) in content.lines().enumerate().filter(|(_, line)| matcher.matches(line)) {
            found.take(&file, index + 1, line);
        }
        found.files += 1;
    }
    Ok(found.show())
}

/// The files beneath `path`, or the file there.
fn files(desk: &Desk<'_>, path: &str) -> Result<Vec<String>, Error> {
    let session = desk.session();
    if !matches!(path, "" | "." | "/workspace" | "/workspace/") {
        match session.stat(path)? {
            None => return Err(Error::NotFound { path: path.to_owned() }),
            Some(entry) if entry.kind == EntryKind::File => return Ok(vec![entry.path]),
            Some(_) => {}
        }
    }
    let entries = session.list(path, true, ENTRIES_MAX)?;
    let own = |path: &str| path.starts_with(OWN_FOLDER);
    Ok(entries
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::File && !own(&entry.path))
        .map(|entry| entry.path)
        .collect())
}

#[derive(Default)]
struct Found {
    room: usize,
    text: String,
    shown: usize,
    count: usize,
    files: usize,
    cut_files: usize,
    ended_early: bool,
}

impl Found {
    fn take(&mut self, path: &str, number: usize, line: &str) {
        self.count += 1;
        let line = format!("{path}:{number}: {}\n", text::bounded(line.trim_end(), LINE_BYTES_MAX, ""));
        if self.shown + 1 == self.count && self.text.len() + line.len() <= self.room {
            self.text.push_str(&line);
            self.shown += 1;
        }
    }

    fn show(mut self) -> String {
        if self.count == 0 {
            let _ = write!(self.text, "no line matches in {} text files", self.files);
        } else if self.count > self.shown {
            let _ = write!(
                self.text,
                "[{} of {} matching lines shown; narrow the search for the others]",
                self.shown, self.count
            );
        }
        if self.cut_files > 0 {
            let _ = write!(self.text, "\n[{} files were searched in their first 8 MiB only]", self.cut_files);
        }
        if self.ended_early {
            let _ = write!(self.text, "\n[the search ended after 512 MiB: give a path]");
        }
        self.text.trim_end().to_owned()
    }
}
