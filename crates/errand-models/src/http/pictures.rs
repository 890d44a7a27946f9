//! The bytes of the images in a conversation, in the form that every dialect wants.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errand_core::{Hash, Image, ModelError, ModelErrorKind, ModelRequest};
use errand_engine::ports::{Blobs, PortError};
use std::collections::BTreeMap;

/// Most bytes of all images in one request. The tightest bound of the vendors is Anthropic's, 32 MB for a request, of
/// which base64 takes a third (<https://platform.claude.com/docs/en/build-with-claude/vision>, checked 2026-11-21).
const BYTES_MAX: u64 = 22 << 20;

/// Images by digest, in base64.
#[derive(Debug, Default)]
pub(crate) struct Pictures(BTreeMap<Hash, String>);

impl Pictures {
    /// Fetches the images of a request.
    pub(crate) async fn of(request: &ModelRequest, blobs: Option<&dyn Blobs>) -> Result<Self, ModelError> {
        let images: BTreeMap<Hash, &Image> =
            request.messages.iter().flat_map(|message| message.images()).map(|image| (image.sha256, image)).collect();
        let bytes: u64 = images.values().map(|image| image.bytes).sum();
        if bytes > BYTES_MAX {
            let message = format!(
                "the images of the conversation have {bytes} bytes, at most {BYTES_MAX} are sent: show fewer or smaller ones"
            );
            return Err(refuse(message));
        }
        let mut pictures = BTreeMap::new();
        for hash in images.into_keys() {
            pictures.insert(hash, STANDARD.encode(fetch(&hash, blobs).await?));
        }
        Ok(Self(pictures))
    }

    /// The image in base64.
    pub(crate) fn base64(&self, image: &Image) -> &str {
        self.0.get(&image.sha256).map(String::as_str).unwrap_or_default()
    }

    /// The image as a `data:` address.
    pub(crate) fn data_url(&self, image: &Image) -> String {
        format!("data:{};base64,{}", image.media_type, self.base64(image))
    }
}

async fn fetch(hash: &Hash, blobs: Option<&dyn Blobs>) -> Result<Vec<u8>, ModelError> {
    let Some(blobs) = blobs else {
        return Err(refuse("images cannot be fetched here: there is no store of blobs".to_owned()));
    };
    match blobs.get(hash).await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(refuse(format!("image {hash} of the conversation is gone from the data folder"))),
        Err(PortError::Retry { message }) => Err(ModelError { kind: ModelErrorKind::Unavailable, ..refuse(message) }),
        Err(error @ PortError::Broken { .. }) => Err(refuse(format!("image {hash} cannot be read: {error}"))),
    }
}

fn refuse(message: String) -> ModelError {
    ModelError { kind: ModelErrorKind::BadRequest, message, retry_after_ms: None, may_be_charged: false }
}
