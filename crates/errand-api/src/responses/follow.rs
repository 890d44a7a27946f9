//! Waiting for a response, and streaming one.

use super::emitter::{Emitter, Told};
use super::object::{State, response};
use crate::api::stopping;
use crate::feed::{Listener, Pulse};
use crate::http::sse;
use crate::standing::{Standing, standing};
use crate::{Api, Failure};
use axum::body::Bytes;
use errand_core::{RunId, RunLog};
use errand_keys::Principal;
use futures::Stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// The response as it stands.
pub(super) fn stored(api: &Api, log: &RunLog) -> Value {
    response(log, &State::of(log, api.now()), Emitter::items_of(log))
}

/// Waits until a run no longer goes on by itself, or for as long as anybody waits, and returns it as it stands then.
pub(super) async fn settled(api: &Api, who: &Principal, run: RunId) -> Result<RunLog, Failure> {
    let mut listener = api.feed.listen(run);
    let end = tokio::time::sleep(api.limits.wait);
    tokio::pin!(end);
    loop {
        let log = api.reload(who, run).await?;
        if standing(&log, api.now()) != Standing::Going {
            return Ok(log);
        }
        // Nothing is lost if a pulse is: the log is looked at again.
        let again = tokio::time::sleep(api.limits.keep_alive);
        tokio::select! {
            () = recorded(&mut listener) => {}
            () = again => {}
            () = &mut end => return Ok(log),
            () = api.stopped() => return Err(stopping(&format!("response {}", super::id::response(run)))),
        }
    }
}

async fn recorded(listener: &mut Listener) {
    while listener.pulse().await.0 != Pulse::Recorded {}
}

/// The stream of a response: what comes after event `after`, then what happens.
pub(super) fn stream(
    api: Api,
    who: Principal,
    run: RunId,
    after: Option<u64>,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let listener = api.feed.listen(run);
    let following = Following { api, who, run, after, listener, emitter: None, ready: VecDeque::new(), ended: false };
    futures::stream::unfold(following, |mut following| async move { following.next().await.map(|bytes| (bytes, following)) })
}

struct Following {
    api: Api,
    who: Principal,
    run: RunId,
    after: Option<u64>,
    listener: Listener,
    emitter: Option<Emitter>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            if self.emitter.is_none() {
                self.read().await;
                self.catch_up();
            } else {
                self.wait().await;
            }
            self.hand_out();
        }
    }

    /// Reads the log and walks over what is new in it.
    async fn read(&mut self) {
        let log = match self.api.reload(&self.who, self.run).await {
            Ok(log) => log,
            Err(failure) => return self.broken(&failure),
        };
        let state = State::of(&log, self.api.now());
        if self.emitter.is_none() {
            let mut emitter = Emitter::new(self.run, &log.run.config);
            let status = if super::begin::shown(&log).background { "queued" } else { "in_progress" };
            let begun = State { status, ..State::default() };
            emitter.tell("response.created", json!({"response": response(&log, &begun, Vec::new())}));
            if status == "queued" {
                emitter.tell("response.queued", json!({"response": response(&log, &begun, Vec::new())}));
            }
            let begun = State { status: "in_progress", ..State::default() };
            emitter.tell("response.in_progress", json!({"response": response(&log, &begun, Vec::new())}));
            self.emitter = Some(emitter);
        }
        let Some(emitter) = &mut self.emitter else { return };
        emitter.walk(&log);
        if state.is_terminal() {
            let whole = response(&log, &state, emitter.items());
            emitter.tell(state.event(), json!({"response": whole}));
            self.ended = true;
        }
    }

    /// What an attempt showed before anybody listened.
    fn catch_up(&mut self) {
        let (Some(partial), Some(emitter)) = (self.listener.partial(), &mut self.emitter) else { return };
        if !self.ended {
            emitter.attempt(partial.record, partial.attempt);
            if !partial.reasoning.is_empty() {
                emitter.reasoning(&partial.reasoning);
            }
            if !partial.text.is_empty() {
                emitter.text(&partial.text);
            }
        }
    }

    async fn wait(&mut self) {
        enum Woken {
            Pulse(Pulse, bool),
            Quiet,
            Stopped,
        }
        let quiet: Duration = self.api.limits.keep_alive;
        let woken = tokio::select! {
            (pulse, missed) = self.listener.pulse() => Woken::Pulse(pulse, missed),
            () = tokio::time::sleep(quiet) => Woken::Quiet,
            () = self.api.stopped() => Woken::Stopped,
        };
        match woken {
            Woken::Pulse(Pulse::Recorded, missed) => {
                if let Some(emitter) = self.emitter.as_mut().filter(|_| missed) {
                    emitter.lost();
                }
                self.read().await;
            }
            Woken::Pulse(pulse, _) => {
                let Some(emitter) = &mut self.emitter else { return };
                match pulse {
                    Pulse::Attempt { record, attempt } => emitter.attempt(record, attempt),
                    Pulse::Text(piece) => emitter.text(&piece),
                    Pulse::Reasoning(piece) => emitter.reasoning(&piece),
                    Pulse::Recorded => {}
                }
            }
            Woken::Quiet => {
                self.ready.push_back(sse::comment("keep-alive"));
                self.read().await;
            }
            Woken::Stopped => self.broken(&stopping(&format!("response {}", super::id::response(self.run)))),
        }
    }

    fn broken(&mut self, failure: &Failure) {
        let data = json!({"code": failure.code, "message": failure.message, "param": null});
        self.hand_out();
        match &mut self.emitter {
            Some(emitter) => emitter.tell("error", data),
            None => self.ready.push_back(event(Told { number: 0, name: "error", data })),
        }
        self.ended = true;
    }

    fn hand_out(&mut self) {
        let Some(emitter) = &mut self.emitter else { return };
        let told = emitter.take().into_iter().filter_map(|told| told.after(self.after)).map(event);
        self.ready.extend(told);
        if self.ended {
            self.ready.push_back(sse::done());
        }
    }
}

fn event(told: Told) -> Bytes {
    let mut data = told.data;
    data["type"] = told.name.into();
    data["sequence_number"] = told.number.into();
    sse::event(told.name, None, &data.to_string())
}
