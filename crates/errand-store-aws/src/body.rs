//! The bytes of a row: in it, compressed in it, or in the bucket under their digest, whichever costs least.

use crate::row::{self, PACKED, PLAIN, Row, SPILLED};
use crate::{AwsBlobs, Error, packed};
use errand_core::Hash;

/// What one write unit pays for, in bytes (DynamoDB, checked 2026-11-21).
const UNIT: usize = 1 << 10;
/// From here on a put to S3 costs less than the write units (8 of them; list prices of us-east-1, checked 2026-11-21).
const INLINE_MAX: usize = 8 << 10;

/// Bytes of a row on their way in.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Packed(Vec<u8>),
    Spilled,
}

/// Compressing has to save a write unit, or the way to the bucket.
fn form(bytes: &[u8]) -> Form {
    if bytes.len() <= UNIT {
        return Form::Plain;
    }
    let packed = packed::pack(bytes).filter(|packed| packed.len().div_ceil(UNIT) < bytes.len().div_ceil(UNIT));
    match packed {
        Some(packed) if packed.len() <= INLINE_MAX => Form::Packed(packed),
        None if bytes.len() <= INLINE_MAX => Form::Plain,
        _ => Form::Spilled,
    }
}

/// Puts `bytes` into `row`, or into the bucket and their digest into `row`.
pub(crate) async fn write(row: &mut Row, bytes: &[u8], blobs: &AwsBlobs) -> Result<(), Error> {
    let (name, value) = match form(bytes) {
        Form::Plain => (PLAIN, row::bytes(bytes)),
        Form::Packed(packed) => (PACKED, row::bytes(packed)),
        Form::Spilled => (SPILLED, row::bytes(blobs.put_bytes(bytes).await?.0.to_vec())),
    };
    row.insert(name.to_owned(), value);
    Ok(())
}

/// The bytes of `row` again. `what` says what it is, for errors.
pub(crate) async fn read(row: &Row, what: &str, blobs: &AwsBlobs) -> Result<Vec<u8>, Error> {
    if let Some(bytes) = row::bytes_of(row, PLAIN) {
        return Ok(bytes.to_vec());
    }
    if let Some(packed) = row::bytes_of(row, PACKED) {
        return packed::unpack(packed).ok_or_else(|| row::unreadable(what, "its compressed bytes are damaged"));
    }
    let Some(hash) = row::hash_of(row, SPILLED) else { return Err(row::unreadable(what, "it has no bytes")) };
    match blobs.get_bytes(&hash).await? {
        Some(bytes) => Ok(bytes),
        None => Err(gone(hash, what, blobs)),
    }
}

fn gone(hash: Hash, what: &str, blobs: &AwsBlobs) -> Error {
    Error::BlobGone { hash, what: what.to_owned(), bucket: blobs.bucket().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_form_that_costs_least() {
        let noise = |length: usize| {
            let mut state = 7u32;
            let next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            std::iter::repeat_with(next).take(length).collect::<Vec<u8>>()
        };
        let kind = |bytes: &[u8]| match form(bytes) {
            Form::Plain => "plain",
            Form::Packed(_) => "packed",
            Form::Spilled => "spilled",
        };
        assert_eq!(kind(&[7; 1024]), "plain", "one unit is as few as can be");
        assert_eq!(kind(&[7; 1025]), "packed");
        assert_eq!(kind(&noise(8 << 10)), "plain");
        assert_eq!(kind(&noise((8 << 10) + 1)), "spilled");
        assert_eq!(kind(&[7; 400 << 10]), "packed", "what shrinks that much stays");
        assert_eq!(kind(&noise(400 << 10)), "spilled");
    }
}
