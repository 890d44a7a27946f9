use crate::{BudgetBound, Due, Head, Rejection, Run};
use serde::{Deserialize, Serialize};

/// The next call does not fit the budget, because attempts whose answers were lost are on the books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetExceeded {
    /// Which bound it does not fit.
    pub bound: BudgetBound,
}

impl BudgetExceeded {
    pub(crate) fn apply(&self, run: &Run, head: &mut Head) -> Result<(), Rejection> {
        let Due::Model { .. } = head.due else { return Err(run.rejection("budget_exceeded")) };
        run.exceed(head, self.bound);
        Ok(())
    }
}
