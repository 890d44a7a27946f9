//! Images that a person shows to the model: checked, and kept as blobs.

use crate::error::Error;
use crate::text;
use errand_core::Image;
use errand_store_local::LocalBlobs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes of all images together: about what providers take in a request.
const BYTES_MAX: u64 = 20 << 20;

/// Most images of one task.
const IMAGES_MAX: usize = 20;

/// Keeps the images in the files at `paths`.
pub(crate) fn keep(blobs: &LocalBlobs, paths: &[PathBuf]) -> Result<Vec<Image>, Error> {
    if paths.len() > IMAGES_MAX {
        let message = format!("{} images were given, at most {IMAGES_MAX} are taken", paths.len());
        return Err(Error::new("image_unusable", message));
    }
    let one = |path: &PathBuf| {
        let bytes = read(path)?;
        let media_type =
            Image::media_type_of(&bytes).ok_or_else(|| unusable(path, "it is no PNG, JPEG, GIF or WebP image"))?;
        let sha256 = blobs.put_blocking(&bytes)?;
        Ok(Image { media_type: media_type.to_owned(), bytes: bytes.len() as u64, sha256 })
    };
    let images: Vec<Image> = paths.iter().map(one).collect::<Result<_, Error>>()?;
    let bytes: u64 = images.iter().map(|image| image.bytes).sum();
    match bytes > BYTES_MAX {
        true => Err(Error::new(
            "image_unusable",
            format!("the images have {bytes} bytes together, at most {BYTES_MAX} are taken"),
        )),
        false => Ok(images),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let metadata = std::fs::metadata(path).map_err(|error| unusable(path, &error.to_string()))?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(unusable(path, &format!("it must be a plain file of at most {} MiB", BYTES_MAX >> 20)));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| unusable(path, &error.to_string()))?;
    Ok(bytes)
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::new("image_unusable", format!("the image {} cannot be used: {reason}", text::path(path)))
}
