//! A body cut into events.

use super::dialect::Framing;
use super::wire::WireError;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use sse_stream::SseByteStream;

/// Why there is no next event.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The connection broke; what came before is good.
    Broke,
    /// What came is none: what is wrong, without a word of it.
    Garbled(String),
}

/// The data of each event. An unfinished last one is left out.
pub(crate) fn frames<'a>(
    framing: Framing,
    bytes: impl Stream<Item = Result<Bytes, WireError>> + Send + 'a,
) -> BoxStream<'a, Result<String, FrameError>> {
    match framing {
        Framing::Events => Box::pin(SseByteStream::new(bytes).map(|event| match event {
            Ok(event) => Ok(event.data.unwrap_or_default()),
            Err(sse_stream::Error::Body(error)) => Err(match error.downcast_ref::<WireError>() {
                Some(WireError::Broke(_)) => FrameError::Broke,
                _ => FrameError::Garbled(error.to_string()),
            }),
            Err(error) => Err(FrameError::Garbled(error.to_string())),
        })),
        Framing::Lines => lines(bytes),
    }
}

/// Bytes of lines that are not handed out yet.
struct Lines<S> {
    bytes: S,
    buffer: Vec<u8>,
    /// Up to here there is no line break.
    searched: usize,
}

fn lines<'a>(bytes: impl Stream<Item = Result<Bytes, WireError>> + Send + 'a) -> BoxStream<'a, Result<String, FrameError>> {
    let lines = Lines { bytes: Box::pin(bytes), buffer: Vec::new(), searched: 0 };
    Box::pin(stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await {
            Ok(Some(line)) => Some((Ok(line), Some(lines))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl<S: Stream<Item = Result<Bytes, WireError>> + Unpin> Lines<S> {
    async fn next(&mut self) -> Result<Option<String>, FrameError> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(length) = found.map(|found| self.searched + found) {
                let line: Vec<u8> = self.buffer.drain(..=length).collect();
                self.searched = 0;
                return text(line).map(Some);
            }
            self.searched = self.buffer.len();
            match self.bytes.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(WireError::Broke(_))) => return Err(FrameError::Broke),
                Some(Err(error)) => return Err(FrameError::Garbled(error.to_string())),
                None => return Ok(None),
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> Result<String, FrameError> {
    String::from_utf8(bytes).map_err(|_| FrameError::Garbled("it is not UTF-8".to_owned()))
}
