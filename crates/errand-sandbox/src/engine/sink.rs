//! Where an output stream goes: the first bytes are kept, the whole goes to a file once there is more, both bounded.

use std::fs::File;
use std::io::Write;

use rustix::fs::{Mode, OFlags};

use crate::exec::{OnOutput, Output, Stream};
use crate::session::paths::open_beneath;
use crate::session::{Session, give};

const FOLDER: &str = ".errand/outputs";

pub(crate) struct Sink<'a> {
    session: &'a Session,
    stream: Stream,
    keep_max: u64,
    file_max: u64,
    output: Output,
    file: Option<File>,
    file_bytes: u64,
    /// Set once the file was tried, so that it is tried once.
    tried: bool,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(session: &'a Session, stream: Stream, keep_max: u64, file_max: u64) -> Sink<'a> {
        let output = Output::default();
        Sink { session, stream, keep_max, file_max, output, file: None, file_bytes: 0, tried: false }
    }

    pub(crate) fn take(&mut self, bytes: &[u8], on_output: &mut Option<OnOutput>) {
        self.output.total_bytes += bytes.len() as u64;
        let room = self.keep_max.saturating_sub(self.output.kept.len() as u64);
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (keep, rest) = bytes.split_at(kept);
        if !keep.is_empty() {
            self.output.kept.extend_from_slice(keep);
            if let Some(on_output) = on_output {
                on_output(self.stream, keep);
            }
        }
        if !rest.is_empty() {
            self.overflow(rest);
        }
    }

    fn overflow(&mut self, rest: &[u8]) {
        if !std::mem::replace(&mut self.tried, true) && self.file_max > self.keep_max {
            self.begin_file();
        }
        let room = self.file_max.saturating_sub(self.file_bytes);
        let part = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (write, lost) = rest.split_at(part);
        let written = self.file.as_mut().is_some_and(|file| file.write_all(write).is_ok());
        if written {
            self.file_bytes += write.len() as u64;
            self.output.lost_bytes += lost.len() as u64;
        } else {
            // A full disk, or a place that hostile code has spoilt: the count says what is missing.
            self.file = None;
            self.output.lost_bytes += rest.len() as u64;
        }
    }

    fn begin_file(&mut self) {
        let name = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let Some((mut file, path)) = fresh(self.session, name) else { return };
        if file.write_all(&self.output.kept).is_ok() {
            self.file_bytes = self.output.kept.len() as u64;
            self.output.file = Some(path);
            self.file = Some(file);
        }
    }

    pub(crate) fn finish(self) -> Output {
        self.output
    }
}

/// A new file for an output, numbered after those that are there.
fn fresh(session: &Session, stream: &str) -> Option<(File, String)> {
    let folder = session.make_folders(FOLDER).ok()?;
    let names = crate::session::walk::names(std::os::fd::AsFd::as_fd(&folder)).ok()?;
    let number = |name: &std::ffi::CString| name.to_str().ok()?.split_once('.')?.0.parse::<u32>().ok();
    let first = names.iter().filter_map(number).filter(|n| *n < 1_000_000).max().unwrap_or(0) + 1;
    (first..first + 16).find_map(|number| {
        let name = format!("{number:04}.{stream}.txt");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = open_beneath(std::os::fd::AsFd::as_fd(&folder), &name, flags, Mode::from_raw_mode(0o644)).ok()?;
        give(&fd, session.owner()).ok()?;
        Some((File::from(fd), format!("{FOLDER}/{name}")))
    })
}
