//! A person's word on a run, over HTTP.

use super::{run_id, show};
use crate::fields::Fields;
use crate::http::body;
use crate::responses::json;
use crate::{Api, Failure};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use errand_core::{CallId, CallState, Decision, RunId, RunLog};
use errand_keys::Principal;

/// What every one of them reads first.
struct Asked {
    who: Principal,
    run: RunId,
    log: RunLog,
    fields: Fields,
}

impl Asked {
    async fn read(api: &Api, who: Principal, id: &str, headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        let run = run_id(id)?;
        let fields = Fields::of(body::json_or_nothing(api, headers, body).await?, "")?;
        let log = api.load(&who, run).await?;
        Ok(Self { who, run, log, fields })
    }

    /// The call that was named, or the only one that waits for this.
    fn call(&mut self, waits: impl Fn(&CallState) -> bool) -> Result<CallId, Failure> {
        if let Some(named) = self.fields.text("call")? {
            return named
                .parse()
                .map_err(|_| Failure::bad("call_id_invalid", "a call is named as events show it, such as 2.0").at("call"));
        }
        let (run, head) = (self.run, &self.log.run.head);
        let pending: Vec<CallId> = head.due.calls().iter().filter(|call| waits(&call.state)).map(|call| call.id).collect();
        match pending[..] {
            [call] => Ok(call),
            _ if head.status.is_ended() => {
                let message = format!("run {run} has ended ({}): nothing can be decided any longer", head.status.code());
                Err(Failure::new(409, "run_ended", message))
            }
            [] => Err(Failure::new(409, "not_waiting", format!("no call of run {run} is waiting for this"))),
            _ => {
                let names: Vec<String> = pending.iter().map(CallId::to_string).collect();
                let message = format!("calls {} of run {run} wait for this: name one as `call`", names.join(", "));
                Err(Failure::bad("call_ambiguous", message).at("call"))
            }
        }
    }
}

/// Who decided, for the record.
pub(crate) fn by(who: &Principal) -> String {
    who.key.as_ref().map_or_else(|| "api".to_owned(), |key| format!("api key {key}"))
}

async fn stands(api: &Api, who: &Principal, run: RunId) -> Result<Response, Failure> {
    Ok(json(show::run(&api.load(who, run).await?, api.now())))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut asked = Asked::read(&api, who, &id, &headers, body).await?;
    let reason = asked.fields.text("reason")?.unwrap_or_default();
    asked.fields.end()?;
    api.driver.cancel(asked.run, &reason, &by(&asked.who)).await?;
    stands(&api, &asked.who, asked.run).await
}

pub(super) async fn approve(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut asked = Asked::read(&api, who, &id, &headers, body).await?;
    let decision = match asked.fields.value("arguments") {
        None => Decision::Approve,
        Some(serde_json::Value::String(arguments)) => Decision::Edit { arguments },
        Some(arguments) => Decision::Edit { arguments: arguments.to_string() },
    };
    decide(&api, asked, decision).await
}

pub(super) async fn reject(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut asked = Asked::read(&api, who, &id, &headers, body).await?;
    let decision = Decision::Reject { reason: asked.fields.required_text("reason")? };
    decide(&api, asked, decision).await
}

async fn decide(api: &Api, mut asked: Asked, decision: Decision) -> Result<Response, Failure> {
    let call = asked.call(|state| decision.fits(state))?;
    asked.fields.end()?;
    api.driver.decide(asked.run, call, decision, &by(&asked.who)).await?;
    stands(api, &asked.who, asked.run).await
}

pub(super) async fn answer(
    State(api): State<Api>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut asked = Asked::read(&api, who, &id, &headers, body).await?;
    let text = asked.fields.required_text("text")?;
    let call = asked.call(|state| matches!(state, CallState::Person { .. }))?;
    asked.fields.end()?;
    api.driver.answer(asked.run, call, &text).await?;
    stands(&api, &asked.who, asked.run).await
}
