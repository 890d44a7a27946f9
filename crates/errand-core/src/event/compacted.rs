use crate::{ContextSize, Due, Finish, Hash, Head, ModelReply, ModelTask, Rejection, Run, Status};
use serde::{Deserialize, Serialize};

/// A summarizer shortened the conversation. What was said stays in the log; the model is sent the summary from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// What was asked.
    pub request: Hash,
    /// What it said: the summary.
    pub reply: ModelReply,
    /// What was said as rules by whoever began the runs: it is kept word for word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The last record that the summary covers. What came after it is sent as it was said.
    pub through: u64,
    /// Size of the conversation from now on, without instructions and tools.
    pub size: TextSize,
}

/// Size of a part of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TextSize {
    /// Bytes of text.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Images.
    #[serde(default)]
    pub images: u32,
}

impl Compacted {
    /// True if a reply can serve as a summary; one that was cut off is better than none.
    pub fn is_summary(reply: &ModelReply) -> bool {
        reply.finish != Finish::Refused && !reply.text.trim().is_empty()
    }

    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Due::Model { task: task @ ModelTask::Compact { .. }, .. } = head.due else {
            return Err(run.rejection("compacted"));
        };
        if let Some(usage) = self.reply.usage {
            let totals = &mut head.totals;
            totals.cached_tokens = totals.cached_tokens.saturating_add(usage.cached_input_tokens);
            totals.output_tokens = totals.output_tokens.saturating_add(usage.output_tokens);
            totals.summary_tokens = totals.summary_tokens.saturating_add(usage.output_tokens);
        }
        head.faults.model = 0;
        if !Compacted::is_summary(&self.reply) {
            return self.try_again(run, head, task);
        }
        head.faults.malformed = 0;
        head.context = ContextSize::default();
        run.config.count_fixed(&mut head.context);
        head.context.add_many(self.size.bytes, self.size.messages);
        head.context.add_images(self.size.images);
        head.turns = 0;
        run.model_due_for(head, ModelTask::Turn, None);
        Ok(())
    }

    fn try_again(&self, run: &Run, head: &mut Head, task: ModelTask) -> Result<(), Rejection> {
        head.faults.malformed += 1;
        if head.faults.malformed > run.config.limits.malformed_replies {
            let message = format!(
                "the conversation had to be shortened, and {} replies of the summarizer in a row could not be used; \
                 try another summarizer",
                head.faults.malformed
            );
            run.end(head, Status::Failed { code: "model_malformed".to_owned(), message });
        } else {
            if run.config.has_fallback(head, task) {
                head.fall_back(task);
            }
            run.model_due_for(head, task, None);
        }
        Ok(())
    }
}
