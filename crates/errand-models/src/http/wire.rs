//! Bytes off the wire, never more than a bound.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::Response;

/// Why the bytes of an answer stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The connection broke.
    #[error("the connection broke off")]
    Broke(#[source] reqwest::Error),
    /// The answer is longer than allowed.
    #[error("it is longer than {bytes_max} bytes and may be endless; ask for fewer output tokens")]
    TooLong {
        /// The bound.
        bytes_max: u64,
    },
}

/// The bytes of an answer, with an error in place of what goes beyond `bytes_max`.
pub(crate) fn bounded(response: Response, bytes_max: u64) -> impl Stream<Item = Result<Bytes, WireError>> + Send {
    let mut left = bytes_max;
    response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(WireError::Broke)?;
        left = left.checked_sub(chunk.len() as u64).ok_or(WireError::TooLong { bytes_max })?;
        Ok(chunk)
    })
}

/// All the bytes, if there are no more than `bytes_max`.
pub(crate) async fn collect(response: Response, bytes_max: u64) -> Result<Vec<u8>, WireError> {
    let mut chunks = std::pin::pin!(bounded(response, bytes_max));
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// True if HTTP itself tells where the answer ends, so that an end is not just a closed connection.
pub(crate) fn is_framed(response: &Response) -> bool {
    let headers = response.headers();
    headers.contains_key(reqwest::header::CONTENT_LENGTH)
        || headers
            .get(reqwest::header::TRANSFER_ENCODING)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
}
