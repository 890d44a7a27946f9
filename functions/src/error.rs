//! Why a function does not start: each with a stable code, and what to do.

use errand_models::SettingsError;

/// A function cannot work as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable that it cannot do without is not set.
    #[error("{name} is not set: give the function {what} in that variable")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it holds.
        what: &'static str,
    },
    /// A variable that is no number.
    #[error("{name} is `{given}`: give the function's time-out there, in seconds, 1 to 900")]
    Number {
        /// The variable.
        name: &'static str,
        /// What it holds, cut.
        given: String,
    },
    /// The function would be stopped before a model may have answered.
    #[error(
        "the function's time-out of {has} s is too short: a model may take {model} s, so give the function (and \
         ERRAND_FUNCTION_TIMEOUT) {least} s or more"
    )]
    TooShort {
        /// What it has, in seconds.
        has: u64,
        /// What a model may take, in seconds.
        model: u64,
        /// What would do, in seconds.
        least: u64,
    },
    /// The settings of the models.
    #[error(transparent)]
    Models(#[from] SettingsError),
    /// Region or credentials.
    #[error(transparent)]
    Aws(#[from] errand_store_aws::Error),
    /// The tools.
    #[error("the tools cannot be made ready: {message}")]
    Tools {
        /// Its code.
        code: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { .. } => "setting_missing",
            Error::Number { .. } => "number_invalid",
            Error::TooShort { .. } => "function_timeout_short",
            Error::Models(_) => "config_invalid",
            Error::Aws(error) => error.code(),
            Error::Tools { code, .. } => code,
        }
    }

    /// Of something of the tools.
    pub(crate) fn tools(code: &'static str, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Error::Tools { code, message }
    }
}
