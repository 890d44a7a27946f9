use super::Driver;
use super::step::reserve;
use crate::ports::{Delta, DeltaSink, ToolJob, Watch};
use errand_core::{
    Amount, Call, CallId, Due, Event, Executor, Finish, ModelError, ModelErrorKind, ModelFailed, ModelReplied, ModelReply,
    ModelRequest, ModelTask, Nonce, Observation, Outcome, Price, RequestedCall, RunId, RunLog, Spent, Verdict,
};
use futures::future::{Either, select};
use std::pin::pin;

impl Driver {
    /// Calls the model and carries out the quick pure calls it asks for. `None` if it was stopped on the way.
    pub(super) async fn perform(&self, log: &RunLog, request: &ModelRequest, by: Nonce) -> Option<(Event, Spent)> {
        let Due::Model { timeout_ms, task, .. } = log.run.head.due else { return None };
        let deltas = Deltas { watch: &*self.watch, run: log.run.id, record: log.run.number + 1 };
        // A summary is said to nobody.
        let sink: &dyn DeltaSink = if task == ModelTask::Turn { &deltas } else { &() };
        let call = async {
            let answer = pin!(self.models.call(request, sink));
            match select(answer, pin!(self.world.sleep(timeout_ms))).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err(timed_out(timeout_ms)),
            }
        };
        let answer = self.in_flight.run(log.run.id, by, call).await.ok()?;
        Some(match answer {
            Ok(reply) if task != ModelTask::Turn => {
                let spent = cost(log, &reply);
                (Event::Compacted(Box::new(log.compact(request, reply))), spent)
            }
            Ok(reply) => {
                let spent = cost(log, &reply);
                let verdicts = self.verdicts(log, &reply);
                let observations = self.observe_inline(log, &reply, &verdicts).await;
                let misfit = self.misfit(log, &reply);
                let replied = ModelReplied { request: request.digest(), reply, verdicts, observations, misfit };
                (Event::ModelReplied(Box::new(replied)), spent)
            }
            Err(error) => {
                let amount = if error.may_be_charged { reserve(log) } else { Amount::ZERO };
                let confirmed = !error.may_be_charged;
                (Event::ModelFailed(ModelFailed { error }), Spent { amount, confirmed })
            }
        })
    }

    /// Why an answer does not have the form that was asked for.
    fn misfit(&self, log: &RunLog, reply: &ModelReply) -> Option<String> {
        let output = log.run.config.output.as_ref()?;
        let is_answer = reply.calls.is_empty() && reply.finish == Finish::Stop && !reply.text.trim().is_empty();
        if is_answer { self.tools.check_answer(&output.schema, &reply.text).err() } else { None }
    }

    fn verdicts(&self, log: &RunLog, reply: &ModelReply) -> Vec<Verdict> {
        let limits = &log.run.config.limits;
        let check = |(index, call): (usize, &RequestedCall)| {
            if index >= limits.calls_per_turn as usize {
                let error = format!("at most {} calls are taken in one reply: make this one later", limits.calls_per_turn);
                return refused("too_many_calls", error);
            }
            if call.arguments.len() as u64 > limits.argument_bytes {
                let error = format!(
                    "the arguments have {} bytes, at most {} are taken: write long content in parts",
                    call.arguments.len(),
                    limits.argument_bytes
                );
                return refused("arguments_too_long", error);
            }
            let Some(spec) = log.run.config.tool(&call.name) else {
                let known: Vec<&str> = log.run.config.tools.iter().map(|tool| tool.definition.name.as_str()).collect();
                return refused(
                    "unknown_tool",
                    format!(
                        "there is no tool `{}`; there are: {}",
                        call.name,
                        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                    ),
                );
            };
            if spec.executor == Executor::SubRun && log.run.head.depth >= limits.depth {
                return refused("too_deep", format!("runs nest at most {} deep: do this yourself", limits.depth));
            }
            if spec.executor == Executor::Caller {
                return object_or_refused(&call.arguments);
            }
            self.tools.check(spec, &call.arguments, self.world.now())
        };
        reply.calls.iter().enumerate().map(check).collect()
    }

    async fn observe_inline(&self, log: &RunLog, reply: &ModelReply, verdicts: &[Verdict]) -> Vec<Observation> {
        let mut observations = Vec::new();
        // The claim ends a margin after the model's time: quick calls that are not so quick must not outlive it.
        let start = self.world.now();
        for (index, (call, verdict)) in (0u32..).zip(reply.calls.iter().zip(verdicts)) {
            let Some(spec) = log.run.config.tool(&call.name) else { continue };
            if !matches!(verdict, Verdict::Accepted { .. }) || !spec.is_immediate() {
                continue;
            }
            let id = CallId { record: log.run.number + 1, index };
            let job = ToolJob {
                run: log.run.id,
                call: Call { born: log.run.id, id, tool: &call.name, arguments: &call.arguments },
                spec,
                workspace: log.workspace(),
                timeout_ms: spec.timeout_ms.min((self.settings.margin_ms / 2).saturating_sub(self.world.now().since(start))),
                observation_bytes: log.run.config.limits.observation_bytes,
                has_called_before: log.has_called_before(id),
                min_tier: spec.min_tier.max(log.run.config.min_tier),
                egress_bytes: log.egress_bytes(),
                now: self.world.now(),
            };
            let timeout_ms = job.timeout_ms;
            observations.push(self.observe(job, timeout_ms).await);
        }
        observations
    }

    /// Carries out a call, for at most `timeout` milliseconds: its own time, and that of calls it takes turns with.
    pub(super) async fn observe(&self, job: ToolJob<'_>, timeout: u64) -> Observation {
        let call = job.call.id;
        match select(pin!(self.tools.run(job)), pin!(self.world.sleep(timeout))).await {
            Either::Left((reply, _)) => Observation {
                call,
                outcome: reply.outcome,
                spent: reply.spent,
                payer: None,
                sandbox_ms: reply.sandbox_ms,
                workspace: reply.workspace,
                sandbox: reply.sandbox,
                egress: reply.egress,
            },
            Either::Right(_) => {
                let text = format!("the call did not end within {timeout} ms and was stopped");
                Observation::free(call, Outcome::error("timed_out", text))
            }
        }
    }
}

/// What a reply cost. Without usage from the provider the whole reserve is booked, unconfirmed.
fn cost(log: &RunLog, reply: &ModelReply) -> Spent {
    match reply.usage {
        Some(usage) => {
            let usd = log.run.model().price.unwrap_or(Price::FREE).cost(&usage);
            let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
            Spent { amount: Amount { usd, tokens }, confirmed: true }
        }
        None => Spent { amount: reserve(log), confirmed: false },
    }
}

fn timed_out(timeout_ms: u64) -> ModelError {
    ModelError {
        kind: ModelErrorKind::TimedOut,
        message: format!("the model did not finish its reply within {} s", timeout_ms / 1000),
        retry_after_ms: None,
        may_be_charged: true,
    }
}

/// A caller checks the arguments of its own tools. What is no JSON object cannot even be handed to it.
fn object_or_refused(arguments: &str) -> Verdict {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(arguments) {
        Ok(_) => Verdict::ACCEPTED,
        Err(error) => refused("arguments_invalid", format!("the arguments are not a JSON object: {error}")),
    }
}

fn refused(code: &str, error: String) -> Verdict {
    Verdict::Refused { code: code.to_owned(), error }
}

struct Deltas<'a> {
    watch: &'a dyn Watch,
    run: RunId,
    record: u64,
}

impl DeltaSink for Deltas<'_> {
    fn delta(&self, delta: Delta) {
        self.watch.delta(self.run, self.record, delta);
    }
}
