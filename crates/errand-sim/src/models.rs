//! Models of the simulated world: quick, slow, failing, lying, talking nonsense.

use crate::check::within_budgets;
use crate::world::Sim;
use async_trait::async_trait;
use errand_core::{
    Finish, Message, ModelError, ModelErrorKind, ModelReply, ModelRequest, Price, RequestedCall, SUMMARY_PROMPT, Usage,
};
use errand_engine::ports::{DeltaSink, ModelFacts, Models};

/// What the simulated model's tokens cost.
pub(crate) const PRICE: Price = Price { input: 2_000_000_000, cached_input: 500_000_000, output: 8_000_000_000 };

#[async_trait]
impl Models for Sim {
    fn facts(&self, _: &str) -> Result<ModelFacts, ModelError> {
        Ok(ModelFacts { image_tokens: 0, price: Some(PRICE), context_tokens: None, endpoint: None, scripted: true })
    }

    async fn call(&self, request: &ModelRequest, _: &dyn DeltaSink) -> Result<ModelReply, ModelError> {
        let usage = self.usage(request);
        let bad = self.chance(|faults| faults.bad_model);
        let kinds = if self.lock().faults.many_models { 11 } else { 9 };
        let kind = if bad { self.lock().rng.below(kinds) } else { 99 };
        // A call that the provider refuses at once costs nothing; any other is paid for from here on.
        if kind == 0 {
            let _ends = self.call_begins(Usage::default());
            let retry_after_ms = { self.lock().rng.between(1_000, 3_700_000) };
            self.sleep_ms(50).await;
            return Err(failed(ModelErrorKind::RateLimited, Some(retry_after_ms), false));
        }
        let _ends = self.call_begins(usage);
        let latency = {
            let mut state = self.lock();
            match kind {
                1 => state.rng.between(230_000, 400_000),
                _ => state.rng.between(50, 20_000),
            }
        };
        self.sleep_ms(latency).await;
        self.turn().await;
        match kind {
            2 => return Err(failed(ModelErrorKind::Unavailable, None, true)),
            3 => return Err(failed(ModelErrorKind::Garbled, None, true)),
            9 => return Err(failed(ModelErrorKind::ContextFull, None, true)),
            10 => return Err(failed(ModelErrorKind::QuotaExhausted, None, true)),
            _ => {}
        }
        let usage = match kind {
            4 => None,
            // Nobody uses so much; the run may end for it, and nothing else may happen.
            8 => Some(Usage { input_tokens: u64::MAX, cached_input_tokens: u64::MAX, ..usage }),
            _ => Some(usage),
        };
        Ok(self.reply(request, usage, kind))
    }
}

impl Sim {
    fn usage(&self, request: &ModelRequest) -> Usage {
        let bytes: u64 = request.messages.iter().map(Message::bytes).sum();
        let mut state = self.lock();
        let input_tokens = state.rng.between(bytes / 5, bytes.max(1));
        let cached_input_tokens = state.rng.below(input_tokens + 1);
        let output_tokens = state.rng.between(1, request.max_output_tokens.min(400));
        Usage { input_tokens, cached_input_tokens, output_tokens, reasoning_tokens: 0 }
    }

    fn call_begins(&self, usage: Usage) -> UnderWay {
        self.trace(|| format!("model call begins: {}", PRICE.cost(&usage)));
        let mut state = self.lock();
        let task = state.current;
        state.truth.model_called(task, PRICE.cost(&usage));
        if let Some(run) = state.truth.run_of(task)
            && let Err(what) = within_budgets(&state, run)
        {
            state.truth.violate(what);
        }
        UnderWay { sim: self.clone(), task }
    }

    fn reply(&self, request: &ModelRequest, usage: Option<Usage>, kind: u64) -> ModelReply {
        let turns = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count() as u64;
        let mut state = self.lock();
        let mut reply = ModelReply {
            opaque: None,
            model: "sim".to_owned(),
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            finish: Finish::Stop,
            usage,
        };
        match kind {
            5 => return reply,
            6 => return ModelReply { finish: Finish::Length, text: "on and on".to_owned(), ..reply },
            7 => {
                reply.calls.push(call("no_such_tool", "{"));
                return reply;
            }
            _ => {}
        }
        if request.messages.last() == Some(&Message::user(SUMMARY_PROMPT)) {
            reply.text = format!("{turns} turns in short");
            return reply;
        }
        let calm = state.calm;
        let ends = state.rng.chance(if calm { 700 } else { 120 + turns.min(8) * 110 });
        if ends || request.tools.is_empty() {
            let misfit = request.output.is_some() && !calm && state.rng.chance(300);
            reply.text = format!("{} after {turns} turns", if misfit { "misfit" } else { "the answer" });
            return reply;
        }
        let count = state.rng.between(1, 3);
        for _ in 0..count {
            let tool = &request.tools[state.rng.below(request.tools.len() as u64) as usize];
            let seconds = state.rng.between(1, 5_000);
            let arguments = if state.rng.chance(60) { "bad".to_owned() } else { seconds.to_string() };
            reply.calls.push(call(&tool.name, &arguments));
        }
        reply
    }
}

fn call(name: &str, arguments: &str) -> RequestedCall {
    RequestedCall { id: "c".to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
}

fn failed(kind: ModelErrorKind, retry_after_ms: Option<u64>, may_be_charged: bool) -> ModelError {
    ModelError { kind, message: "the simulated provider failed".to_owned(), retry_after_ms, may_be_charged }
}

/// A model call that goes on until this is dropped, also with its worker.
struct UnderWay {
    sim: Sim,
    task: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.sim.lock().truth.model_ended(self.task);
    }
}
