use crate::{Allowance, Due, Head, Rejection, Run, Status};
use serde::{Deserialize, Serialize};

/// The budget was raised. A paused run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRaised {
    /// By how much.
    pub by: Allowance,
    /// Who raised it.
    pub who: String,
}

impl BudgetRaised {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        if head.due != Due::Budget {
            return Err(run.rejection("budget_raised"));
        }
        head.raised += self.by;
        head.status = Status::Running;
        run.model_due(head, None);
        Ok(())
    }
}
