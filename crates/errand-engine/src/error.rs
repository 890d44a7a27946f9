use crate::ports::PortError;
use errand_core::{CallId, RecordError, Rejection, RunId};

/// What the engine refuses or cannot do. Each has a stable code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An adapter failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// There is no such run.
    #[error("there is no run {run}; `errand runs` lists those there are")]
    UnknownRun {
        /// Which.
        run: RunId,
    },
    /// There is no such record.
    #[error("run {run} has no record {number}: it has records 1 to {last}")]
    NoSuchRecord {
        /// Which run.
        run: RunId,
        /// Which record.
        number: u64,
        /// Its last one.
        last: u64,
    },
    /// A task without text.
    #[error("the task is empty: say what is to be done")]
    EmptyTask,
    /// A task or message that is too long.
    #[error("the text has {bytes} bytes, at most {limit} are taken: put the long part into a file")]
    TaskTooLong {
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A budget in dollars for a model without a price.
    #[error(
        "no price is known for model `{model}`, so a budget in dollars cannot be kept: give its price, or bound tokens instead"
    )]
    PriceUnknown {
        /// Which model.
        model: String,
    },
    /// Nothing is waiting for this decision or answer.
    #[error("call {call} of run {run} is not waiting for this: {why}")]
    NotWaiting {
        /// Which run.
        run: RunId,
        /// Which call.
        call: CallId,
        /// Where it stands.
        why: String,
    },
    /// Edited arguments that do not fit the tool.
    #[error("the edited arguments cannot be used: {error}")]
    ArgumentsInvalid {
        /// What is wrong.
        error: String,
    },
    /// The run has ended.
    #[error("run {run} has ended ({status}); {hint}")]
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        status: &'static str,
        /// What can be done.
        hint: &'static str,
    },
    /// A budget that is not exceeded.
    #[error("run {run} is not paused at its budget (it is {status})")]
    NotPaused {
        /// Which run.
        run: RunId,
        /// Where it stands.
        status: &'static str,
    },
    /// The core refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The log is not one.
    #[error(transparent)]
    Log(#[from] errand_core::LogError),
}

impl Error {
    /// The stable code that users and programs see.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Port(error) => error.code(),
            Error::UnknownRun { .. } => "run_not_found",
            Error::NoSuchRecord { .. } => "record_not_found",
            Error::EmptyTask => "task_empty",
            Error::TaskTooLong { .. } => "task_too_long",
            Error::PriceUnknown { .. } => "price_unknown",
            Error::NotWaiting { .. } => "not_waiting",
            Error::ArgumentsInvalid { .. } => "arguments_invalid",
            Error::Ended { .. } => "run_ended",
            Error::NotPaused { .. } => "not_paused",
            Error::Rejected(_) => "rejected",
            Error::Record(_) | Error::Log(_) => "log_damaged",
        }
    }
}
