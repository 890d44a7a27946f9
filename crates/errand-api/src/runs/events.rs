//! The numbered events of a run: as a list, or as they happen.
//!
//! A stream's event has its number as `id`, so a client that comes back with `Last-Event-ID` is told the rest and nothing
//! twice. Pieces of a reply on its way have no number: they are shown to who looks on and are not kept; the event with the
//! whole reply follows them.

use super::{page, run_id};
use crate::api::stopping;
use crate::events::{Projector, PublicEvent};
use crate::feed::{Listener, Partial, Pulse};
use crate::http::sse;
use crate::query::Query;
use crate::responses::json;
use crate::{Api, Failure};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use errand_core::{RunId, RunLog};
use errand_keys::Principal;
use futures::Stream;
use serde_json::json as object;
use std::collections::VecDeque;

/// Events of a page, if nobody says how many; and at most.
const PAGE: (u64, u64) = (1_000, 10_000);

pub(super) async fn events(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let mut query = Query::read(query)?;
    let run = run_id(&id)?;
    let limit = page(&mut query, PAGE)?;
    let after = query.count("after")?;
    query.end()?;
    let last = headers.get("last-event-id").map(|id| {
        let number = id.to_str().ok().and_then(|id| id.trim().parse::<u64>().ok());
        number
            .ok_or_else(|| Failure::bad("parameter_invalid", "Last-Event-ID is the number of an event").at("last-event-id"))
    });
    let after = last.transpose()?.or(after).unwrap_or(0);
    let log = api.load(&who, run).await?;
    if wants_stream(&headers) {
        return Ok(sse::response(stream(api, who, run, after)));
    }
    let mut events = project(&log);
    events.retain(|event| event.seq > after);
    let has_more = events.len() as u64 > limit;
    events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = events.last().map_or(after, |event| event.seq);
    Ok(json(object!({"data": events, "has_more": has_more, "after": last})))
}

/// A client that says nothing gets the stream, as browsers' `EventSource` and `curl` do.
fn wants_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accepts.contains("text/event-stream") || !accepts.contains("application/json")
}

fn project(log: &RunLog) -> Vec<PublicEvent> {
    let mut projector = Projector::new(log.run.id);
    log.records.iter().flat_map(|sealed| projector.push(&sealed.record)).collect()
}

fn stream(api: Api, who: Principal, run: RunId, after: u64) -> impl Stream<Item = Bytes> + Send + 'static {
    let listener = api.feed.listen(run);
    let projector = Projector::new(run);
    let following =
        Following { api, who, run, after, listener, projector, walked: 0, ready: VecDeque::new(), stage: Stage::New };
    futures::stream::unfold(following, |mut following| async move { following.next().await.map(|bytes| (bytes, following)) })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Following,
    Ended,
}

struct Following {
    api: Api,
    who: Principal,
    run: RunId,
    after: u64,
    listener: Listener,
    projector: Projector,
    walked: u64,
    ready: VecDeque<Bytes>,
    stage: Stage,
}

impl Following {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            match self.stage {
                Stage::Ended => return None,
                Stage::New => {
                    self.stage = Stage::Following;
                    self.read().await;
                    self.catch_up();
                }
                Stage::Following => self.wait().await,
            }
        }
    }

    async fn read(&mut self) {
        let log = match self.api.reload(&self.who, self.run).await {
            Ok(log) => log,
            Err(failure) => return self.end(&failure),
        };
        let from = usize::try_from(self.walked).unwrap_or(usize::MAX).min(log.records.len());
        for sealed in &log.records[from..] {
            for event in self.projector.push(&sealed.record) {
                let Ok(serde_json::Value::Object(data)) = serde_json::to_value(&event) else { continue };
                let name = data.get("type").and_then(|name| name.as_str()).unwrap_or("event").to_owned();
                if event.seq > self.after {
                    let data = serde_json::Value::Object(data).to_string();
                    self.ready.push_back(sse::event(&name, Some(event.seq), &data));
                }
            }
        }
        self.walked = log.run.number;
        if log.run.head.status.is_ended() {
            self.stage = Stage::Ended;
        }
    }

    /// What an attempt showed before anybody listened.
    fn catch_up(&mut self) {
        let Some(Partial { record, attempt, text, reasoning }) = self.listener.partial() else { return };
        if record > self.walked && self.stage == Stage::Following {
            self.piece("attempt", object!({"record": record, "attempt": attempt}));
            for (name, text) in [("reasoning_delta", reasoning), ("text_delta", text)] {
                if !text.is_empty() {
                    self.piece(name, object!({"text": text}));
                }
            }
        }
    }

    fn piece(&mut self, name: &str, mut data: serde_json::Value) {
        data["type"] = name.into();
        data["run"] = self.run.to_string().into();
        self.ready.push_back(sse::event(name, None, &data.to_string()));
    }

    async fn wait(&mut self) {
        let quiet = self.api.limits.keep_alive;
        tokio::select! {
            (pulse, _) = self.listener.pulse() => match pulse {
                Pulse::Recorded => self.read().await,
                Pulse::Attempt { record, attempt } if record > self.walked => {
                    self.piece("attempt", object!({"record": record, "attempt": attempt}));
                }
                Pulse::Attempt { .. } => {}
                Pulse::Text(text) => self.piece("text_delta", object!({"text": &*text})),
                Pulse::Reasoning(text) => self.piece("reasoning_delta", object!({"text": &*text})),
            },
            () = tokio::time::sleep(quiet) => {
                self.ready.push_back(sse::comment("keep-alive"));
                self.read().await;
            }
            () = self.api.stopped() => self.end(&stopping(&format!("run {}", self.run))),
        }
    }

    fn end(&mut self, failure: &Failure) {
        self.piece("error", object!({"code": failure.code, "message": failure.message}));
        self.stage = Stage::Ended;
    }
}
