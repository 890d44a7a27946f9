use crate::{Due, Head, ModelError, ModelErrorKind, ModelTask, Rejection, Run, Status, Timestamp};
use serde::{Deserialize, Serialize};

/// Longest wait that a provider is granted: a week.
const RETRY_AFTER_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// A model call failed. Whether it is tried again follows from the error and the number of failures in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFailed {
    /// What went wrong.
    pub error: ModelError,
}

impl ModelFailed {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head, at: Timestamp) -> Result<(), Rejection> {
        let Due::Model { task, .. } = head.due else { return Err(run.rejection("model_failed")) };
        head.faults.model += 1;
        let kind = self.error.kind;
        let limits = &run.config.limits;
        let fallback = run.config.has_fallback(head, task);
        let attempts = if fallback { limits.fallback_attempts } else { limits.model_attempts };
        if kind.is_retryable() && head.faults.model < attempts {
            let wait = self.wait_ms(run, head.faults.model);
            run.model_due_for(head, task, Some(at.plus(wait)));
        } else if let Some(task) = self.shorter(head, task) {
            run.model_due_for(head, task, None);
        } else if fallback {
            head.fall_back(task);
            run.model_due_for(head, task, None);
        } else {
            let tries =
                if head.faults.model > 1 { format!(" (after {} attempts)", head.faults.model) } else { String::new() };
            let message = format!("{}{tries}", self.error.message);
            run.end(head, Status::Failed { code: kind.code().to_owned(), message });
        }
        Ok(())
    }

    /// The task that makes a conversation which the model does not take short enough, if that was not tried yet.
    fn shorter(&self, head: &Head, task: ModelTask) -> Option<ModelTask> {
        match task {
            _ if self.error.kind != ModelErrorKind::ContextFull => None,
            ModelTask::Turn => (head.turns > 0).then_some(ModelTask::Compact { cut: false }),
            ModelTask::Compact { cut: false } => Some(ModelTask::Compact { cut: true }),
            ModelTask::Compact { cut: true } => None,
        }
    }

    /// Back-off that doubles with each failure, spread by up to half so that many runs do not come back at once;
    /// never less than the provider asks for.
    fn wait_ms(&self, run: &Run, failures: u32) -> u64 {
        let limits = &run.config.limits;
        let doubled = limits.backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let base = doubled.min(limits.backoff_ms_max);
        let spread = u64::from(run.hash.0[0]) * (base / 2) / 255;
        self.error.retry_after_ms.map_or(base / 2 + spread, |asked| asked.max(base / 2).min(RETRY_AFTER_MS_MAX) + spread)
    }
}
