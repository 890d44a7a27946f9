use crate::{Due, Head, Rejection, Run};
use serde::{Deserialize, Serialize};

/// A person said something while the run was at work. The model reads it at its next turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messaged {
    /// What was said, oldest first.
    pub messages: Vec<UserMessage>,
}

/// One thing a person said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMessage {
    /// Chosen by the sender, unique within the run: sending it twice is harmless.
    pub id: String,
    /// The text.
    pub text: String,
}

impl Messaged {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Due::Model { not_before, task, .. } = head.due else { return Err(run.rejection("messaged")) };
        for message in &self.messages {
            head.context.add(message.text.len() as u64);
        }
        run.model_due_for(head, task, not_before);
        Ok(())
    }
}
