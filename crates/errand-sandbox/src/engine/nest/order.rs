//! What a nest is told about one box: bytes in a file in memory, written by the runner, read where nothing may allocate.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::engine::launch::above_two;

/// What is to become of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Its main process is executed by its init.
    Program = 1,
    /// Its main process comes from a zygote.
    Join,
    /// Its main process tries to get out.
    Probe,
}

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Kind> {
        [Kind::Program, Kind::Join, Kind::Probe].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One box, as the runner describes it.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Where the workspace lies, for a nest that opens it itself, and the device and inode it must have.
    pub(crate) workspace: Option<(CString, (u64, u64))>,
    /// Size and inodes of `/tmp`.
    pub(crate) tmp: [CString; 2],
    /// Absolute path in the box.
    pub(crate) cwd: CString,
    /// Files of `/run/errand`.
    pub(crate) files: Vec<(CString, Vec<u8>)>,
    pub(crate) rlimits: Vec<(u32, u64)>,
    pub(crate) processors: Vec<u64>,
    pub(crate) candidates: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
}

/// Most arguments and variables together: their addresses are kept on init's stack.
pub(crate) const STRINGS_MAX: usize = 2000;

impl Order {
    fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        let (source, identity) = self.workspace.as_ref().map_or((c"", (0, 0)), |(source, id)| (source.as_c_str(), *id));
        text(&mut to, source);
        long(&mut to, identity.0);
        long(&mut to, identity.1);
        self.tmp.iter().chain([&self.cwd]).for_each(|string| text(&mut to, string));
        long(&mut to, self.files.len() as u64);
        for (name, content) in &self.files {
            text(&mut to, name);
            bytes(&mut to, content);
        }
        long(&mut to, self.rlimits.len() as u64);
        for (resource, value) in &self.rlimits {
            long(&mut to, u64::from(*resource));
            long(&mut to, *value);
        }
        long(&mut to, self.processors.len() as u64);
        self.processors.iter().for_each(|word| long(&mut to, *word));
        for list in [&self.candidates, &self.argv, &self.env] {
            long(&mut to, list.len() as u64);
            list.iter().for_each(|string| text(&mut to, string));
        }
        to
    }

    /// As a sealed file in memory; gives its length beside.
    pub(crate) fn to_file(&self) -> rustix::io::Result<(OwnedFd, usize)> {
        let bytes = self.encode();
        let file = memfd_create("order", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or(&[]),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok((above_two(file)?, bytes.len()))
    }
}

fn long(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, content: &[u8]) {
    long(to, content.len() as u64);
    to.extend_from_slice(content);
}

fn text(to: &mut Vec<u8>, string: &CStr) {
    bytes(to, string.to_bytes_with_nul());
}

/// Reads one value after the other; nothing where the bytes end too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn long(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn text(&mut self) -> Option<&'a CStr> {
        CStr::from_bytes_with_nul(self.bytes()?).ok()
    }
}

/// A list in an order: how many there are, and where they begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) count: u64,
    pub(super) reader: Reader<'a>,
}

impl<'a> List<'a> {
    /// The list that begins here; `skip` reads one of its things.
    fn here<T>(reader: &mut Reader<'a>, skip: impl Fn(&mut Reader<'a>) -> Option<T>) -> Option<List<'a>> {
        let count = reader.long()?;
        let list = List { count, reader: *reader };
        for _ in 0..count {
            skip(reader)?;
        }
        Some(list)
    }

    pub(super) fn texts(mut self) -> impl Iterator<Item = &'a CStr> {
        (0..self.count).map_while(move |_| self.reader.text())
    }

    pub(super) fn longs(mut self) -> impl Iterator<Item = u64> {
        (0..self.count).map_while(move |_| self.reader.long())
    }

    pub(super) fn pairs(mut self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.count).map_while(move |_| Some((self.reader.long()?, self.reader.long()?)))
    }

    pub(super) fn files(mut self) -> impl Iterator<Item = (&'a CStr, &'a [u8])> {
        (0..self.count).map_while(move |_| Some((self.reader.text()?, self.reader.bytes()?)))
    }
}

/// An order as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) source: &'a CStr,
    pub(super) identity: (u64, u64),
    pub(super) tmp: [&'a CStr; 2],
    pub(super) cwd: &'a CStr,
    pub(super) files: List<'a>,
    pub(super) rlimits: List<'a>,
    pub(super) processors: List<'a>,
    pub(super) candidates: List<'a>,
    pub(super) argv: List<'a>,
    pub(super) env: List<'a>,
}

impl<'a> Read<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Option<Read<'a>> {
        let mut reader = Reader(bytes);
        let from = &mut reader;
        Some(Read {
            source: from.text()?,
            identity: (from.long()?, from.long()?),
            tmp: [from.text()?, from.text()?],
            cwd: from.text()?,
            files: List::here(from, |from| Some((from.text()?, from.bytes()?)))?,
            rlimits: List::here(from, |from| Some((from.long()?, from.long()?)))?,
            processors: List::here(from, Reader::long)?,
            candidates: List::here(from, |from| from.text())?,
            argv: List::here(from, |from| from.text())?,
            env: List::here(from, |from| from.text())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            workspace: Some((c"/somewhere".into(), (7, 9))),
            tmp: [c"4096".into(), c"64".into()],
            cwd: c"/workspace".into(),
            files: vec![(c"a".into(), b"one\0two".to_vec()), (c"b".into(), Vec::new())],
            rlimits: vec![(4, 0), (7, 1024)],
            processors: vec![3],
            candidates: vec![c"/bin/true".into()],
            argv: vec![c"true".into(), c"".into()],
            env: vec![c"A=1".into()],
        }
    }

    #[test]
    fn an_order_is_read_as_it_was_written_and_no_part_of_it_is() {
        let bytes = order().encode();
        let read = Read::of(&bytes).unwrap();
        assert_eq!((read.source, read.identity, read.tmp), (c"/somewhere", (7, 9), [c"4096", c"64"]));
        assert_eq!(read.files.files().collect::<Vec<_>>(), [(c"a", b"one\0two".as_slice()), (c"b", b"".as_slice())]);
        assert_eq!(read.rlimits.pairs().collect::<Vec<_>>(), [(4, 0), (7, 1024)]);
        assert_eq!(read.processors.longs().collect::<Vec<_>>(), [3]);
        assert_eq!(read.argv.texts().collect::<Vec<_>>(), [c"true", c""]);
        assert_eq!(read.env.texts().collect::<Vec<_>>(), [c"A=1"]);
        for length in 0..bytes.len() {
            assert!(Read::of(&bytes[..length]).is_none(), "{length} of {} bytes", bytes.len());
        }
    }
}
