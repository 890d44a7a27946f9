//! Images of a request: data URLs with a picture in them that says what it is.

use super::input::{base64, digest};
use errand_core::Image;

/// Longest image, in bytes.
const IMAGE_BYTES: usize = 20 << 20;

/// Why an image is not taken.
pub(super) enum Refused {
    /// It lies on another server.
    Elsewhere,
    /// It is no image that can be used.
    Unusable(String),
}

/// The image of a data URL, and its bytes.
pub(super) fn from_url(url: &str) -> Result<(Image, Vec<u8>), Refused> {
    let unusable = |why: &str| Refused::Unusable(why.to_owned());
    let Some((scheme, rest)) = url.split_once(':') else { return Err(unusable("the image is no URL; send a data URL")) };
    if !scheme.eq_ignore_ascii_case("data") {
        return Err(Refused::Elsewhere);
    }
    let (kind, data) = rest.split_once(',').ok_or_else(|| unusable("the data URL has no data: a comma is missing"))?;
    let media_type = kind.strip_suffix(";base64").ok_or_else(|| unusable("the data URL is not in base64"))?;
    let bytes = base64(data).ok_or_else(|| unusable("the data of the image is not base64"))?;
    if bytes.len() > IMAGE_BYTES {
        return Err(Refused::Unusable(format!("the image has {} bytes, at most {IMAGE_BYTES} are taken", bytes.len())));
    }
    let found = Image::media_type_of(&bytes).ok_or_else(|| unusable("the data is no PNG, JPEG, GIF or WebP"))?;
    let told = if media_type.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { media_type };
    if !told.eq_ignore_ascii_case(found) {
        let told: String = told.chars().take(40).collect();
        return Err(Refused::Unusable(format!("the image says it is `{told}`, and is {found}")));
    }
    let image = Image { media_type: found.to_owned(), bytes: bytes.len() as u64, sha256: digest(&bytes) };
    Ok((image, bytes))
}
