//! The body of an answer, read in pieces.

use super::breaker::Pass;
use super::error::Error;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When the time of the call is up.
    pub(super) deadline: Instant,
    /// How long that was.
    pub(super) timeout: Duration,
    /// Longest silence.
    pub(super) idle: Duration,
}

/// A body that is still being received. Dropping it closes the connection.
pub(crate) struct Body {
    pub(super) inner: reqwest::Response,
    pub(super) endpoint: String,
    pub(super) times: Times,
    /// Taken when the body has ended or broken; nothing is to be judged if the status was an error of the server already.
    pub(super) pass: Option<Pass>,
    /// A compression that is not understood.
    pub(super) encoding: Option<String>,
}

/// What was read of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    /// The bytes, decompressed.
    pub(crate) bytes: Vec<u8>,
    /// Whether that was all.
    pub(crate) whole: bool,
}

impl Body {
    /// The next piece, decompressed; none at the end.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after a silence that is too long (30 s unless the request says otherwise) or when the call's time is up; [`Error::ResponseBroken`].
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(encoding) = self.encoding.take() {
            return Err(self.broken(format!("it is encoded as {encoding:?}, which was not asked for")));
        }
        let Times { deadline, timeout, idle } = self.times;
        let silent = Instant::now() + idle;
        let (until, what, waited) = if silent < deadline {
            (silent, "sent nothing more", idle)
        } else {
            (deadline, "did not end its answer", timeout)
        };
        match timeout_at(until, self.inner.chunk()).await {
            Ok(Ok(Some(bytes))) => Ok(Some(bytes)),
            Ok(Ok(None)) => {
                self.judge(Pass::succeeded);
                Ok(None)
            }
            Ok(Err(error)) => Err(self.broken(super::client::deepest(&error))),
            Err(_) => {
                self.judge(Pass::failed);
                Err(Error::TimedOut { endpoint: self.endpoint.clone(), what, seconds: waited.as_secs() })
            }
        }
    }

    /// Reads up to `bytes_max` bytes and leaves the rest: a stream without an end, or a small file that decompresses into
    /// a large one, costs no more than that.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub(crate) async fn read(mut self, bytes_max: usize) -> Result<Read, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let room = bytes_max - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                self.judge(Pass::succeeded);
                return Ok(Read { bytes, whole: false });
            }
        }
        Ok(Read { bytes, whole: true })
    }

    fn judge(&mut self, verdict: impl FnOnce(Pass)) {
        if let Some(pass) = self.pass.take() {
            verdict(pass);
        }
    }

    fn broken(&mut self, problem: String) -> Error {
        self.judge(Pass::failed);
        Error::ResponseBroken { endpoint: self.endpoint.clone(), problem }
    }
}
