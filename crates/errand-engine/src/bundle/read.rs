use super::{Bundle, Digest, ENTRIES_MAX, Error, First, KEPT_BYTES_MAX, LINE_BYTES_MAX, Line, PAYLOAD_BYTES_MAX, VERSION};
use errand_core::{Hash, Item, RunId, RunLog, Sealed};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// Reads a bundle and checks each part of it: the form, the ledger of each run, the digest of each blob and of the
/// whole. What blobs hold is not kept.
///
/// # Errors
/// The first thing that is wrong; an altered record is named.
pub fn read(input: impl BufRead) -> Result<Bundle, Error> {
    let mut reader = Reader { input, digest: Digest::default(), entry: 0, kept: 0 };
    let first = reader.first()?;
    let mut runs: BTreeMap<RunId, Parts> = BTreeMap::new();
    let mut blobs = BTreeMap::new();
    loop {
        reader.entry += 1;
        if reader.entry > ENTRIES_MAX {
            return Err(reader.too_large("too many entries"));
        }
        let before = reader.digest;
        let (line, text) = reader.line()?;
        match line {
            Line::Record { run, number, hash, bytes } => {
                reader.keep(bytes)?;
                let payload = reader.payload(&text, bytes)?;
                // Records are stored as text, so what is none is not what was stored.
                let altered = |_| Error::Record { run, source: errand_core::RecordError::Altered { number } };
                let payload = String::from_utf8(payload).map_err(altered)?;
                runs.entry(run).or_default().record(run, number, hash, &payload)?;
            }
            Line::Item { run, bytes } => {
                reader.keep(bytes)?;
                let payload = reader.payload(&text, bytes)?;
                let item = serde_json::from_slice(&payload).map_err(|error| reader.unreadable(error.to_string()))?;
                runs.entry(run).or_default().items.push(item);
            }
            Line::Blob { hash, bytes } => {
                let payload = reader.payload(&text, bytes)?;
                if Hash::of(&payload) != hash {
                    return Err(Error::Blob { hash });
                }
                blobs.insert(hash, bytes);
            }
            Line::End { entries, sha256 } => {
                reader.end(entries, sha256, before)?;
                break;
            }
        }
    }
    let mut logs = BTreeMap::new();
    for (run, parts) in runs {
        logs.insert(run, parts.fold(run)?);
    }
    let bundle = Bundle { run: first.run, made: first.made, files: first.files, logs, blobs };
    bundle.log()?;
    Ok(bundle)
}

/// A run as it is read.
#[derive(Default)]
struct Parts {
    records: Vec<Sealed>,
    items: Vec<Item>,
}

impl Parts {
    fn record(&mut self, run: RunId, number: u64, hash: Hash, bytes: &str) -> Result<(), Error> {
        let before = self.records.last().map_or(Hash::default(), |last| last.hash);
        let expected = self.records.len() as u64 + 1;
        let failed = |source| Error::Record { run, source };
        if number != expected {
            return Err(failed(errand_core::RecordError::Gap { expected, found: number }));
        }
        self.records.push(Sealed::open(bytes, hash, &before, number).map_err(failed)?);
        Ok(())
    }

    fn fold(self, run: RunId) -> Result<RunLog, Error> {
        let unreadable = |reason: String| Error::Unreadable { entry: 0, reason };
        // A fork shares records of its origin, and its last record is always its own.
        if self.records.last().is_none_or(|last| last.record.run != run) {
            return Err(unreadable(format!("the records of run {run} are those of another run")));
        }
        RunLog::fold(run, self.records, self.items).map_err(|error| unreadable(format!("run {run}: {error}")))
    }
}

struct Reader<R> {
    input: R,
    digest: Digest,
    entry: u64,
    kept: u64,
}

impl<R: BufRead> Reader<R> {
    fn first(&mut self) -> Result<First, Error> {
        #[derive(Deserialize)]
        struct Version {
            errand_bundle: u32,
        }
        let text = match self.text_line() {
            Err(Error::TooLarge { .. }) => return Err(self.unreadable("it does not begin as a bundle does")),
            other => other?,
        };
        let Version { errand_bundle } =
            serde_json::from_slice(&text).map_err(|_| self.unreadable("it does not begin as a bundle does"))?;
        if errand_bundle > VERSION {
            return Err(Error::Newer { found: errand_bundle });
        }
        let first = serde_json::from_slice(&text).map_err(|error| self.unreadable(error.to_string()))?;
        self.digest.take(&text);
        Ok(first)
    }

    fn line(&mut self) -> Result<(Line, Vec<u8>), Error> {
        let text = self.text_line()?;
        let line = serde_json::from_slice(&text).map_err(|error| self.unreadable(error.to_string()))?;
        Ok((line, text))
    }

    /// A line with its line break.
    fn text_line(&mut self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut text).map_err(failed)?;
        match text.last() {
            Some(b'\n') => Ok(text),
            _ if read as u64 == LINE_BYTES_MAX => Err(self.too_large("the line before its bytes")),
            _ => Err(Error::Truncated { entry: self.entry }),
        }
    }

    /// The bytes of an entry, with the line break after them checked and taken off. A length is believed only as far
    /// as bytes come.
    fn payload(&mut self, line: &[u8], bytes: u64) -> Result<Vec<u8>, Error> {
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(self.too_large("a record, item or blob"));
        }
        let mut entry = line.to_vec();
        (&mut self.input).take(bytes + 1).read_to_end(&mut entry).map_err(failed)?;
        if (entry.len() - line.len()) as u64 != bytes + 1 {
            return Err(Error::Truncated { entry: self.entry });
        }
        if entry.last() != Some(&b'\n') {
            return Err(self.unreadable("it is longer than it says"));
        }
        self.digest.take(&entry);
        entry.pop();
        Ok(entry.split_off(line.len()))
    }

    fn keep(&mut self, bytes: u64) -> Result<(), Error> {
        self.kept = self.kept.saturating_add(bytes);
        if self.kept > KEPT_BYTES_MAX { Err(self.too_large("all records and items together")) } else { Ok(()) }
    }

    fn end(&mut self, entries: u64, said: Hash, digest: Digest) -> Result<(), Error> {
        if digest.0 != said {
            return Err(Error::Altered { found: digest.0, said });
        }
        if entries != self.entry - 1 {
            return Err(self.unreadable(format!("{} entries were read, and it says {entries}", self.entry - 1)));
        }
        let mut more = [0u8; 1];
        match self.input.read(&mut more).map_err(failed)? {
            0 => Ok(()),
            _ => Err(self.unreadable("something follows after the end")),
        }
    }

    fn unreadable(&self, reason: impl Into<String>) -> Error {
        Error::Unreadable { entry: self.entry, reason: reason.into() }
    }

    fn too_large(&self, what: &'static str) -> Error {
        Error::TooLarge { entry: self.entry, what }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { action: "read", source }
}
