//! Showing lines of a text file.

use super::Error;
use errand_sandbox::{EntryKind, Session};
use std::fmt::Write;

/// A file is read in pieces of this size.
const PIECE: u64 = 1 << 20;
/// This much of a file's beginning tells whether it is text.
const SNIFF: usize = 8192;
/// Lines longer than this are cut.
const LINE_BYTES_MAX: usize = 4000;

/// Lines from `first_line` on, as many as asked for and as fit, then what else there is.
pub(super) fn read(
    session: &Session,
    path: &str,
    first_line: u64,
    lines: Option<u64>,
    bytes_max: usize,
) -> Result<String, Error> {
    let size = size_of_text(session, path)?;
    if size == 0 {
        return Ok(format!("{path} is empty"));
    }
    let mut page =
        Page { first_line, lines: lines.unwrap_or(u64::MAX), room: bytes_max.saturating_sub(200), ..Page::default() };
    let mut pieces = Pieces { session, path, offset: 0, size };
    let mut rest: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.next()? {
        rest.extend_from_slice(&piece);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        rest[..whole].split_inclusive(|byte| *byte == b'\n').for_each(|line| page.take(line));
        rest.drain(..whole);
        if rest.len() as u64 > PIECE {
            // A line without end: what is beyond it is found by code, not by reading.
            return Err(Error::Binary { path: path.to_owned(), bytes: size });
        }
    }
    if !rest.is_empty() {
        page.take(&rest);
    }
    page.show(path)
}

/// The size of a text file; an error if there is none.
pub(super) fn size_of_text(session: &Session, path: &str) -> Result<u64, Error> {
    let entry = session.stat(path)?.ok_or_else(|| Error::NotFound { path: path.to_owned() })?;
    if entry.kind == EntryKind::Folder {
        return Err(Error::Folder { path: path.to_owned() });
    }
    let start = session.read_file(path, 0, SNIFF as u64)?;
    if is_binary(&start.bytes) {
        return Err(Error::Binary { path: path.to_owned(), bytes: start.size });
    }
    Ok(start.size)
}

/// Whether bytes from the beginning of a file are no UTF-8 text. A character cut off at the end does not count.
pub(super) fn is_binary(start: &[u8]) -> bool {
    let start = &start[..start.len().min(SNIFF)];
    let broken = std::str::from_utf8(start).is_err_and(|error| error.error_len().is_some());
    broken || start.contains(&0)
}

struct Pieces<'a> {
    session: &'a Session,
    path: &'a str,
    offset: u64,
    size: u64,
}

impl Pieces<'_> {
    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.offset >= self.size {
            return Ok(None);
        }
        let piece = self.session.read_file(self.path, self.offset, PIECE)?.bytes;
        self.offset += piece.len() as u64;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// The lines that are shown, gathered while all are counted.
#[derive(Default)]
struct Page {
    first_line: u64,
    lines: u64,
    room: usize,
    text: String,
    shown: u64,
    seen: u64,
    full: bool,
}

impl Page {
    fn take(&mut self, line: &[u8]) {
        self.seen += 1;
        if self.seen < self.first_line || self.shown >= self.lines || self.full {
            return;
        }
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let cut = crate::text::bounded(line, LINE_BYTES_MAX.min(self.room), " of this line");
        if self.text.len() + cut.len() + 1 > self.room {
            self.full = true;
            return;
        }
        self.text.push_str(&cut);
        self.text.push('\n');
        self.shown += 1;
    }

    fn show(mut self, path: &str) -> Result<String, Error> {
        if self.seen < self.first_line {
            return Err(Error::PastEnd { path: path.to_owned(), lines: self.seen, first_line: self.first_line });
        }
        let last = self.first_line + self.shown - 1;
        if self.first_line > 1 || last < self.seen {
            let _ = write!(self.text, "[lines {} to {last} of {}", self.first_line, self.seen);
            if last < self.seen {
                let _ = write!(self.text, "; go on with first_line {}", last + 1);
            }
            self.text.push(']');
        }
        Ok(self.text)
    }
}
