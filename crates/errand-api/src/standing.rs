//! Where a run stands for somebody who waits for it.

use errand_core::{CallState, Head, Next, RunLog, Status, Timestamp};

/// Where a run stands, as far as whoever follows it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It goes on by itself, now or at some time.
    Going,
    /// A person must say something.
    Person,
    /// Its budget must be raised.
    Paused,
    /// It has ended.
    Ended,
}

/// Where the run stands at `now`.
pub fn standing(log: &RunLog, now: Timestamp) -> Standing {
    let head = &log.run.head;
    match head.status {
        _ if head.status.is_ended() => Standing::Ended,
        // Somebody has said what is missing; the record that takes it in is on its way.
        _ if matches!(log.next(now), Next::Commit { .. }) => Standing::Going,
        Status::Paused => Standing::Paused,
        Status::Waiting if asks(head) => Standing::Person,
        _ => Standing::Going,
    }
}

fn asks(head: &Head) -> bool {
    let asks = |state: &CallState| matches!(state, CallState::Approval | CallState::Person { .. } | CallState::Unknown);
    head.due.calls().iter().any(|call| asks(&call.state))
}
