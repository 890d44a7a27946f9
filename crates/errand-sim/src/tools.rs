//! Tools of the simulated world, one of every class and executor.

use crate::world::Sim;
use async_trait::async_trait;
use errand_core::{Approval, Class, Executor, Outcome, RunId, Timestamp, ToolDefinition, ToolSpec, Verdict};
use errand_engine::ports::{ToolJob, ToolReply, Tools};

/// The tools of every simulated run.
pub(crate) fn specs() -> Vec<ToolSpec> {
    [
        ("look", Class::Pure, Executor::Inline, Approval::Never),
        ("fetch", Class::Pure, Executor::Worker, Approval::Never),
        ("save", Class::Idempotent, Executor::Worker, Approval::Never),
        ("pay", Class::Effectful, Executor::Worker, Approval::Never),
        ("wire", Class::Effectful, Executor::Worker, Approval::Always),
        ("ask", Class::Pure, Executor::Person, Approval::Never),
        ("nap", Class::Pure, Executor::Timer, Approval::Never),
        ("delegate", Class::Idempotent, Executor::SubRun, Approval::Never),
    ]
    .map(|(name, class, executor, approval)| ToolSpec {
        definition: ToolDefinition { name: name.to_owned(), description: String::new(), parameters: "{}".to_owned() },
        class,
        executor,
        approval,
        timeout_ms: 60_000,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    })
    .to_vec()
}

#[async_trait]
impl Tools for Sim {
    fn check(&self, spec: &ToolSpec, arguments: &str, now: Timestamp) -> Verdict {
        let Ok(number) = arguments.parse::<u64>() else {
            return Verdict::Refused { code: "arguments_invalid".to_owned(), error: "not a number".to_owned() };
        };
        let until = match spec.executor {
            Executor::Timer => Some(now.plus(number * 1_000)),
            Executor::Person if number % 3 == 0 => Some(now.plus(number * 1_000)),
            _ => None,
        };
        Verdict::Accepted { class: None, until, share: None }
    }

    fn check_answer(&self, _: &str, answer: &str) -> Result<(), String> {
        if answer.starts_with("misfit") { Err("it is a misfit".to_owned()) } else { Ok(()) }
    }

    async fn run(&self, job: ToolJob<'_>) -> ToolReply {
        self.trace(|| format!("tool {} {} begins", job.call.tool, job.call.idempotency_key()));
        {
            let mut state = self.lock();
            let current = state.current;
            let effectful = job.spec.class == Class::Effectful;
            let inline = job.spec.executor == Executor::Inline;
            state.truth.tool_called(current, job.run, job.call.idempotency_key(), effectful, inline);
        }
        if job.spec.executor == Executor::Inline {
            return ToolReply::free(Outcome::Ok { text: "seen".to_owned() });
        }
        let bad = self.chance(|faults| faults.bad_tool);
        let latency = {
            let mut state = self.lock();
            let slow = bad && state.rng.chance(500);
            if slow { state.rng.between(50_000, 100_000) } else { state.rng.between(10, 8_000) }
        };
        self.sleep_ms(latency).await;
        self.turn().await;
        let outcome = match bad {
            true => Outcome::error("broken", "the simulated tool failed"),
            false => Outcome::Ok { text: "done".to_owned() },
        };
        ToolReply::free(outcome)
    }

    async fn release(&self, _: RunId) {}
}
