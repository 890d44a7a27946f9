//! How a blob is kept compressed: its length and that of what follows (8 bytes each, little-endian), then one LZ4 block.

use lz4_flex::block::{compress_into, decompress, get_maximum_output_size};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Shorter ones fill a block of the disk either way.
const BYTES_MIN: usize = 4 << 10;
/// Longer ones are kept as they are: taking them out again must not ask for any amount of memory.
const BYTES_MAX: usize = 64 << 20;
const LENGTHS: usize = 16;

/// The compressed form, if it saves at least an eighth.
pub(crate) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
        return None;
    }
    let mut packed = vec![0; LENGTHS + get_maximum_output_size(bytes.len())];
    let block = compress_into(bytes, &mut packed[LENGTHS..]).ok()?;
    packed.truncate(LENGTHS + block);
    packed[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    packed[8..LENGTHS].copy_from_slice(&(block as u64).to_le_bytes());
    (packed.len() <= bytes.len() - bytes.len() / 8).then_some(packed)
}

/// The bytes again; none if these are no compressed form.
pub(crate) fn unpack(packed: Vec<u8>) -> Option<Vec<u8>> {
    let (lengths, block) = packed.split_first_chunk()?;
    let (bytes, following) = lengths_of(lengths);
    if bytes > BYTES_MAX as u64 || following != block.len() as u64 {
        return None;
    }
    let bytes = usize::try_from(bytes).ok()?;
    decompress(block, bytes).ok().filter(|unpacked| unpacked.len() == bytes)
}

/// Whether the file is whole and says that it holds so many bytes.
pub(crate) fn is_of(file: &Path, bytes: usize) -> bool {
    let mut lengths = [0; LENGTHS];
    let Ok(mut file) = File::open(file) else { return false };
    let Ok(metadata) = file.metadata() else { return false };
    if file.read_exact(&mut lengths).is_err() {
        return false;
    }
    let (says, following) = lengths_of(&lengths);
    says == bytes as u64 && Some(metadata.len()) == following.checked_add(LENGTHS as u64)
}

fn lengths_of(lengths: &[u8; LENGTHS]) -> (u64, u64) {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number(&lengths[..8]), number(&lengths[8..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_is_packed_and_comes_back() {
        let text = "a line of a log, and another; ".repeat(1000).into_bytes();
        let packed = pack(&text).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert!(unpack(packed).unwrap() == text);
        assert_eq!(pack(&text[..BYTES_MIN - 1]), None, "too short");
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let noise: Vec<u8> = std::iter::repeat_with(next).take(100_000).collect();
        assert!(pack(&noise).is_none(), "does not shrink");
    }

    #[test]
    fn what_is_no_packed_form_is_none() {
        let packed = pack(&[7; 10_000]).unwrap();
        let claims = |length: u64| [&length.to_le_bytes()[..], &packed[8..]].concat();
        assert_eq!(unpack(claims(10_000)).unwrap(), [7; 10_000]);
        for bytes in
            [claims(9_999), claims(10_001), claims(u64::MAX), claims(1 << 40), packed[..20].to_vec(), vec![], vec![9; 7]]
        {
            assert_eq!(unpack(bytes), None);
        }
    }
}
