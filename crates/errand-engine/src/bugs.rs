//! Planted bugs: each takes one rule of the step protocol away, and the simulation must notice. Without the feature
//! `bugs` none can be switched on.

/// A rule that can be taken away. ADR 0005 tells which interleaving each one repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say which rule is missing")]
#[cfg_attr(not(feature = "bugs"), allow(dead_code, reason = "only the simulation names all of them"))]
pub enum Bug {
    StaleMessageDropped,
    EndNotDispatchedAgain,
    CancelNotDispatchedAgain,
    HandOutBeforeCommit,
    LosesToItself,
    LoserAcknowledges,
    RefusedClaimDropped,
    GoingOnForgotten,
    LastResultSkipsClaim,
    OutsideWakesNobody,
    NoSweep,
    CancelStopsAtCancelled,
    EndedParentNotified,
    ClaimNotLookedAt,
    ClaimsNotCounted,
    NoClaim,
    LiveAttemptEndsRun,
    ReceiptLostAfterCancel,
    CancelNotCheckedBeforeSending,
    OnlyOwnRunChecked,
    LateMessageNotRead,
    FenceIgnored,
    UnknownSentAgain,
    ForkForgetsFences,
    DeadLetterFailsLiveRun,
    DeadlineNotChecked,
    WasteNotWritten,
    NothingReserved,
    TimerAcknowledgedEarly,
    SubRunNotWithdrawn,
    ResultSenderSilent,
}

#[cfg(feature = "bugs")]
impl Bug {
    /// All of them.
    pub const ALL: [Bug; 31] = [
        Bug::StaleMessageDropped,
        Bug::EndNotDispatchedAgain,
        Bug::CancelNotDispatchedAgain,
        Bug::HandOutBeforeCommit,
        Bug::LosesToItself,
        Bug::LoserAcknowledges,
        Bug::RefusedClaimDropped,
        Bug::GoingOnForgotten,
        Bug::LastResultSkipsClaim,
        Bug::OutsideWakesNobody,
        Bug::NoSweep,
        Bug::CancelStopsAtCancelled,
        Bug::EndedParentNotified,
        Bug::ClaimNotLookedAt,
        Bug::ClaimsNotCounted,
        Bug::NoClaim,
        Bug::LiveAttemptEndsRun,
        Bug::ReceiptLostAfterCancel,
        Bug::CancelNotCheckedBeforeSending,
        Bug::OnlyOwnRunChecked,
        Bug::LateMessageNotRead,
        Bug::FenceIgnored,
        Bug::UnknownSentAgain,
        Bug::ForkForgetsFences,
        Bug::DeadLetterFailsLiveRun,
        Bug::DeadlineNotChecked,
        Bug::WasteNotWritten,
        Bug::NothingReserved,
        Bug::TimerAcknowledgedEarly,
        Bug::SubRunNotWithdrawn,
        Bug::ResultSenderSilent,
    ];
}

/// The bugs that are switched on: at most one, so that each is found by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bugs {
    #[cfg(feature = "bugs")]
    planted: Option<Bug>,
}

impl Bugs {
    /// Switches one on.
    #[cfg(feature = "bugs")]
    pub fn plant(bug: Bug) -> Self {
        Self { planted: Some(bug) }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        #[cfg(feature = "bugs")]
        return self.planted == Some(bug);
        #[cfg(not(feature = "bugs"))]
        {
            let _ = bug;
            false
        }
    }
}
