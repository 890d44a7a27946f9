//! From an answer with status 200 to a reply.

use super::client::Endpoint;
use super::dialect::{Ended, Reader, Step};
use super::frames::{FrameError, frames};
use super::wire;
use errand_core::{ModelError, ModelReply};
use errand_engine::ports::DeltaSink;
use futures::StreamExt;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the end of the HTTP answer is waited for after the end of the reply: long enough for one that is already
/// here, so that the connection can be used again.
const TAIL_WAIT: Duration = Duration::from_millis(20);

/// Gathers the reply. `until` is when the first piece must have come, or the whole of an answer that is not streamed.
pub(super) async fn reply(
    endpoint: &Endpoint,
    response: Response,
    reader: Box<dyn Reader>,
    until: Instant,
    deltas: &dyn DeltaSink,
) -> Result<ModelReply, ModelError> {
    let encoding = header(&response, &CONTENT_ENCODING);
    if !matches!(encoding.as_str(), "" | "identity") {
        return Err(endpoint.garbled("it is compressed, which was not asked for; is there a proxy in between?"));
    }
    let kind = header(&response, &CONTENT_TYPE);
    if kind.contains("html") {
        return Err(endpoint.garbled("it is a web page; check the base URL"));
    }
    if kind.contains("json") && !kind.contains("ndjson") && !kind.contains("jsonl") {
        let whole = timeout_at(until, read_whole(endpoint, response, reader, deltas)).await;
        return whole.unwrap_or_else(|_| Err(endpoint.silent("whole answer", endpoint.timeouts().first_token)));
    }
    read_stream(endpoint, response, reader, until, deltas).await
}

/// Reads events until the reply is whole.
async fn read_stream(
    endpoint: &Endpoint,
    response: Response,
    mut reader: Box<dyn Reader>,
    first_token_at: Instant,
    deltas: &dyn DeltaSink,
) -> Result<ModelReply, ModelError> {
    let timeouts = endpoint.timeouts();
    let framed = wire::is_framed(&response);
    let mut frames = frames(endpoint.framing(), wire::bounded(response, endpoint.reply_bytes_max()));
    let ended = loop {
        let (what, wait, until) = match reader.has_content() {
            false => ("first token", timeouts.first_token, first_token_at),
            true => ("next piece", timeouts.idle, Instant::now() + timeouts.idle),
        };
        let frame = timeout_at(until, frames.next()).await.map_err(|_| endpoint.silent(what, wait))?;
        let data = match frame {
            None => break if framed { Ended::Framed } else { Ended::Open },
            // A connection that breaks after the last event has lost nothing; the reader knows.
            Some(Err(FrameError::Broke)) => break Ended::Open,
            Some(Err(FrameError::Garbled(what))) => return Err(endpoint.garbled(what)),
            Some(Ok(data)) => data,
        };
        match data.trim() {
            "" => {}
            "[DONE]" => break Ended::Marked,
            data => {
                let taken = match reader.usual_event(data, deltas) {
                    Some(taken) => taken,
                    None => {
                        let event = serde_json::from_str(data).map_err(|_| endpoint.garbled("an event is not JSON"))?;
                        reader.event(&event, deltas)
                    }
                };
                if taken.map_err(|broken| endpoint.broken(broken))? == Step::Done {
                    break Ended::Marked;
                }
            }
        }
    };
    if ended == Ended::Marked {
        // Whether the tail comes in time changes nothing but the reuse of the connection.
        let _ = timeout(TAIL_WAIT, frames.next()).await;
    }
    reader.finish(ended).map_err(|broken| endpoint.broken(broken))
}

/// Reads the answer of a server that does not stream.
async fn read_whole(
    endpoint: &Endpoint,
    response: Response,
    mut reader: Box<dyn Reader>,
    deltas: &dyn DeltaSink,
) -> Result<ModelReply, ModelError> {
    let body = wire::collect(response, endpoint.reply_bytes_max()).await.map_err(|error| endpoint.garbled(error))?;
    let taken = match reader.usual_whole(&body, deltas) {
        Some(taken) => taken,
        None => {
            let body = serde_json::from_slice(&body).map_err(|_| endpoint.garbled("it is not the JSON it says it is"))?;
            reader.whole(&body, deltas)
        }
    };
    taken.map_err(|broken| endpoint.broken(broken))?;
    reader.finish(Ended::Marked).map_err(|broken| endpoint.broken(broken))
}

fn header(response: &Response, name: &HeaderName) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}
