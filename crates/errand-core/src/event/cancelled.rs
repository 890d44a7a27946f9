use crate::{Head, Rejection, Run, Status};
use serde::{Deserialize, Serialize};

/// Somebody stopped the run. Nothing new starts after this record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Why, if they said.
    pub reason: String,
    /// Who.
    pub by: String,
}

impl Cancelled {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        if head.status.is_ended() {
            return Err(run.rejection("cancelled"));
        }
        run.end(head, Status::Cancelled { reason: self.reason.clone() });
        Ok(())
    }
}
