//! What engine and worker say to each other: frames over a pipe, parsed strictly, for either side may be hostile.
//!
//! A frame is a byte for its kind, four for its length (little-endian) and that many bytes. Every kind has a bound, which
//! is checked before anything is read or kept for it; numbers have fixed places; nothing may follow them.

use crate::exec::Stream;

/// The words of this module; both sides must speak the same, which they do when they are one binary.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a frame before what it holds.
pub(crate) const HEADER_BYTES: usize = 5;
/// Longest code of one script or cell, in bytes.
pub const CODE_BYTES_MAX: usize = 1 << 20;
/// Longest piece of output, and longest value, in bytes.
pub(crate) const PIECE_BYTES_MAX: usize = 32 << 10;

const START: u8 = 1;
const RUN: u8 = 2;
const READY: u8 = 64;
const STDOUT: u8 = 65;
const STDERR: u8 = 66;
const VALUE: u8 = 67;
const ENDED: u8 = 68;
const ENDED_BYTES: usize = 1 + 4 + 8 + 8 + 8;

/// Bytes that are no frame of this protocol: what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame(pub(crate) &'static str);

/// What the engine asks of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// Once, before anything else: what all code of this worker may use.
    Start {
        /// Memory of the interpreter.
        memory_bytes: u64,
        /// Bytes of each output stream that are sent; what comes after them is only counted.
        output_bytes: u64,
    },
    /// Code to run over the variables that the code before it left.
    Run {
        /// Wall time.
        wall_ms: u64,
        /// Python.
        code: &'a str,
    },
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// To `Start`: the protocol's version, and what bounds the worker beside its interpreter ([`super::harden`]).
    Ready { version: u32, walls: u32 },
    /// Output as it comes.
    Output(Stream, &'a [u8]),
    /// What the last expression of the code came to; nothing when that is `None`.
    Value(&'a str),
    /// To `Run`: it is over.
    Ended(Ended),
}

/// How a piece of code ended, as its worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) how: How,
    /// Exit status, where it ended by itself.
    pub(crate) code: i32,
    /// Bytes of each stream in all, sent or not.
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    /// Processor time.
    pub(crate) cpu_us: u64,
}

/// The ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Itself,
    OutOfTime,
    OutOfMemory,
}

/// A frame's kind, what it holds, and how long it is in all.
type Split<'a> = (u8, &'a [u8], usize);

/// The frame at the beginning of `bytes`; none while it is not whole.
fn split(bytes: &[u8], bound: fn(u8) -> Option<usize>) -> Result<Option<Split<'_>>, BadFrame> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let bound = bound(header[0]).ok_or(BadFrame("a frame of no known kind"))?;
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let length = usize::try_from(length).ok().filter(|length| *length <= bound).ok_or(BadFrame("a frame too long"))?;
    Ok(rest.get(..length).map(|held| (header[0], held, HEADER_BYTES + length)))
}

/// The request at the beginning of `bytes` and its length; none while it is not whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, BadFrame> {
    let bound = |kind| match kind {
        START => Some(16),
        RUN => Some(8 + CODE_BYTES_MAX),
        _ => None,
    };
    let Some((kind, held, length)) = split(bytes, bound)? else { return Ok(None) };
    let mut fields = Fields(held);
    let request = if kind == START {
        let (memory_bytes, output_bytes) = (fields.u64()?, fields.u64()?);
        fields.end()?;
        Request::Start { memory_bytes, output_bytes }
    } else {
        Request::Run { wall_ms: fields.u64()?, code: text(fields.0)? }
    };
    Ok(Some((request, length)))
}

/// The reply at the beginning of `bytes` and its length; none while it is not whole.
pub(crate) fn reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, BadFrame> {
    let bound = |kind| match kind {
        READY => Some(8),
        STDOUT | STDERR | VALUE => Some(PIECE_BYTES_MAX),
        ENDED => Some(ENDED_BYTES),
        _ => None,
    };
    let Some((kind, held, length)) = split(bytes, bound)? else { return Ok(None) };
    let reply = match kind {
        READY => ready(held)?,
        STDOUT => Reply::Output(Stream::Stdout, held),
        STDERR => Reply::Output(Stream::Stderr, held),
        VALUE => Reply::Value(text(held)?),
        _ => Reply::Ended(ended(held)?),
    };
    Ok(Some((reply, length)))
}

fn ready(held: &[u8]) -> Result<Reply<'_>, BadFrame> {
    let mut fields = Fields(held);
    let (version, walls) = (fields.u32()?, fields.u32()?);
    fields.end()?;
    Ok(Reply::Ready { version, walls })
}

fn ended(held: &[u8]) -> Result<Ended, BadFrame> {
    let mut fields = Fields(held);
    let how = match fields.take::<1>()? {
        [0] => How::Itself,
        [1] => How::OutOfTime,
        [2] => How::OutOfMemory,
        _ => return Err(BadFrame("an end of no known kind")),
    };
    let code = i32::from_le_bytes(fields.take()?);
    let (stdout_bytes, stderr_bytes, cpu_us) = (fields.u64()?, fields.u64()?, fields.u64()?);
    fields.end()?;
    Ok(Ended { how, code, stdout_bytes, stderr_bytes, cpu_us })
}

fn text(bytes: &[u8]) -> Result<&str, BadFrame> {
    std::str::from_utf8(bytes).map_err(|_| BadFrame("text that is no UTF-8"))
}

/// What is left of a frame's numbers.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(BadFrame("a frame too short"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, BadFrame> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, BadFrame> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn end(&self) -> Result<(), BadFrame> {
        if self.0.is_empty() { Ok(()) } else { Err(BadFrame("a frame too long")) }
    }
}

impl Request<'_> {
    /// Adds the request's frame to `out`. Code is at most [`CODE_BYTES_MAX`] long: the engine refuses more.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Request::Start { memory_bytes, output_bytes } => {
                frame(out, START, &[&memory_bytes.to_le_bytes(), &output_bytes.to_le_bytes()]);
            }
            Request::Run { wall_ms, code } => frame(out, RUN, &[&wall_ms.to_le_bytes(), code.as_bytes()]),
        }
    }
}

impl Reply<'_> {
    /// Adds the reply's frame to `out`. Pieces are at most [`PIECE_BYTES_MAX`] long.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Ready { version, walls } => frame(out, READY, &[&version.to_le_bytes(), &walls.to_le_bytes()]),
            Reply::Output(Stream::Stdout, piece) => frame(out, STDOUT, &[piece]),
            Reply::Output(Stream::Stderr, piece) => frame(out, STDERR, &[piece]),
            Reply::Value(text) => frame(out, VALUE, &[text.as_bytes()]),
            Reply::Ended(ended) => {
                let how = match ended.how {
                    How::Itself => 0,
                    How::OutOfTime => 1,
                    How::OutOfMemory => 2,
                };
                let numbers = [ended.stdout_bytes, ended.stderr_bytes, ended.cpu_us].map(u64::to_le_bytes);
                frame(out, ENDED, &[&[how], &ended.code.to_le_bytes(), &numbers.concat()]);
            }
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    // Every bound of this module is far below 4 GiB; a length that were not is refused by the reader.
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
