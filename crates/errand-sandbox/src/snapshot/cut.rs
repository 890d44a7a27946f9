//! Cutting what a file holds into chunks, at places that its content decides.

use std::io::{ErrorKind, Read, Result};

use fastcdc::v2020::FastCDC;

/// Shorter files are one chunk.
pub(super) const MIN: usize = 64 << 10;
/// Chunks of ordinary data have about this many bytes: few enough requests to a store that counts them, small enough that a
/// change costs little.
const AVERAGE: usize = 256 << 10;
pub(super) const MAX: usize = 1 << 20;

/// Reads chunk after chunk, holding at most two of the longest.
pub(super) struct Cutter<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<R: Read> Cutter<R> {
    pub(super) fn new(from: R) -> Self {
        Cutter { from, buffer: Vec::new(), start: 0, ended: false }
    }

    /// The next chunk; none at the end.
    ///
    /// # Errors
    /// Those of the reader.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        if !self.ended && self.buffer.len() - self.start < MAX {
            self.fill()?;
        }
        let rest = &self.buffer[self.start..];
        let bytes = match rest.len() {
            0 => return Ok(None),
            few if few <= MIN => few,
            many => FastCDC::new(rest, MIN, AVERAGE, MAX).cut(0, many.min(MAX)).1,
        };
        let from = self.start;
        self.start += bytes;
        Ok(Some(&self.buffer[from..self.start]))
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let wanted = (2 * MAX - self.buffer.len()) as u64;
        let read = loop {
            match (&mut self.from).take(wanted).read_to_end(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ended = (read as u64) < wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Bytes that look like nothing, the same each time.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(bytes);
        let mut chunks = Vec::new();
        while let Some(chunk) = cutter.next().unwrap() {
            chunks.push(chunk.to_vec());
        }
        chunks
    }

    #[test]
    fn nothing_is_lost_and_no_chunk_is_too_long_or_needlessly_short() {
        let most = 5 * MAX + 7;
        let all = noise(most);
        for bytes in [0, 1, MIN - 1, MIN, MIN + 1, MAX, 2 * MAX, 2 * MAX + 1, most] {
            let chunks = cut(&all[..bytes]);
            assert_eq!(chunks.concat(), &all[..bytes], "{bytes}");
            assert!(chunks.iter().all(|chunk| chunk.len() <= MAX));
            assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() >= MIN));
        }
        assert_eq!(cut(&all[..MIN]).len(), 1);
        assert_eq!(cut(&vec![0; 3 * MAX]).len(), 3, "one byte over and over has no places to cut at");
    }

    #[test]
    fn an_insertion_moves_few_chunks() {
        let before = noise(20 << 20);
        let mut after = before.clone();
        after.splice(1_000_000..1_000_000, *b"inserted near the beginning");
        let known: HashSet<Vec<u8>> = cut(&before).into_iter().collect();
        let fresh: usize = cut(&after).iter().filter(|chunk| !known.contains(*chunk)).map(Vec::len).sum();
        assert!(fresh <= 2 * MAX, "{fresh} bytes of {} are new", after.len());
    }

    #[test]
    fn how_the_bytes_arrive_does_not_matter() {
        struct Drops<'a>(&'a [u8]);
        impl Read for Drops<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
                let few = buffer.len().min(self.0.len()).min(7919);
                buffer[..few].copy_from_slice(&self.0[..few]);
                self.0 = &self.0[few..];
                Ok(few)
            }
        }
        let bytes = noise(3 << 20);
        let mut cutter = Cutter::new(Drops(&bytes));
        let mut chunks = Vec::new();
        while let Some(chunk) = cutter.next().unwrap() {
            chunks.push(chunk.to_vec());
        }
        assert_eq!(chunks, cut(&bytes));
    }
}
