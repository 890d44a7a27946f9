use super::{Digest, Error, First, Line, VERSION};
use errand_core::{Hash, RunId, RunLog, Timestamp};
use std::io::Write;

/// Writes a bundle: first the runs of the thread with [`Writer::log`], then what their files hold with
/// [`Writer::blob`], then [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    digest: Digest,
    entries: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a bundle about `run`.
    ///
    /// # Errors
    /// [`Error::Io`], as in all that follows.
    pub fn new(out: W, run: RunId, made: Timestamp, files: bool) -> Result<Self, Error> {
        let mut writer = Self { out, digest: Digest::default(), entries: 0 };
        let first = First { errand_bundle: VERSION, run, made, files };
        writer.put(&line(&first))?;
        Ok(writer)
    }

    /// Adds a run with its items.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&mut self, log: &RunLog) -> Result<(), Error> {
        let run = log.run.id;
        for sealed in &log.records {
            let bytes = sealed.bytes.as_bytes();
            let head = Line::Record { run, number: sealed.record.number, hash: sealed.hash, bytes: bytes.len() as u64 };
            self.entry(&head, bytes)?;
        }
        for item in log.items.values() {
            // An item is plain data with text keys only, so serialising it cannot fail.
            let bytes = serde_json::to_vec(item).unwrap_or_default();
            self.entry(&Line::Item { run, bytes: bytes.len() as u64 }, &bytes)?;
        }
        Ok(())
    }

    /// Adds a blob.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blob(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.entry(&Line::Blob { hash: Hash::of(bytes), bytes: bytes.len() as u64 }, bytes)
    }

    /// Writes the last line, and gives back the output.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<W, Error> {
        let last = line(&Line::End { entries: self.entries, sha256: self.digest.0 });
        self.put(&last)?;
        self.out.flush().map_err(failed)?;
        Ok(self.out)
    }

    fn entry(&mut self, head: &Line, payload: &[u8]) -> Result<(), Error> {
        let mut bytes = line(head);
        bytes.extend_from_slice(payload);
        bytes.push(b'\n');
        self.entries += 1;
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.digest.take(bytes);
        self.out.write_all(bytes).map_err(failed)
    }
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    // Plain data with text keys only, so serialising it cannot fail.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { action: "written", source }
}
