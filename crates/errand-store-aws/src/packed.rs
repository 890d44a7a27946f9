//! How bytes are kept compressed: their length (4 bytes, little-endian), then one LZ4 block.

use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};

/// Longer ones are kept as they are: taking them out again must not ask for any amount of memory.
const BYTES_MAX: usize = 64 << 20;

/// The compressed form, if it saves at least an eighth.
pub(crate) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.is_empty() || bytes.len() > BYTES_MAX {
        return None;
    }
    let packed = compress_prepend_size(bytes);
    (packed.len() <= bytes.len() - bytes.len() / 8).then_some(packed)
}

/// The bytes again; none if these are no compressed form.
pub(crate) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let says = u32::from_le_bytes(*packed.first_chunk()?);
    if says as usize > BYTES_MAX {
        return None;
    }
    decompress_size_prepended(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_is_packed_and_comes_back() {
        let text = "a line of a log, and another; ".repeat(1000).into_bytes();
        let packed = pack(&text).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert!(unpack(&packed).unwrap() == text);
        assert_eq!((pack(b""), pack(b"short")), (None, None));
    }

    #[test]
    fn what_is_no_packed_form_is_none() {
        let packed = pack(&[7; 10_000]).unwrap();
        let claims = |length: u32| [&length.to_le_bytes()[..], &packed[4..]].concat();
        assert_eq!(unpack(&claims(10_000)).unwrap(), [7; 10_000]);
        for bytes in [claims(9_999), claims(u32::MAX), claims(65 << 20), packed[..20].to_vec(), vec![], vec![9; 3]] {
            assert_eq!(unpack(&bytes), None);
        }
    }
}
