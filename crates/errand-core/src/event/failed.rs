use crate::{Head, Rejection, Run, Status};
use serde::{Deserialize, Serialize};

/// The engine gave the run up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Stable code.
    pub code: String,
    /// What a person reads: what failed, and what to do.
    pub message: String,
}

impl Failed {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        if head.status.is_ended() {
            return Err(run.rejection("failed"));
        }
        run.end(head, Status::Failed { code: self.code.clone(), message: self.message.clone() });
        Ok(())
    }
}
