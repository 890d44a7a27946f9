//! What can go wrong between a tool and its endpoint.

use errand_core::{Outcome, Timestamp};

/// Why there is no answer, or not all of it. The text is for the model: it names the endpoint, never the whole URL, whose
/// query may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No URL, or one that is not taken.
    #[error("the URL cannot be used: {problem}")]
    UrlInvalid {
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The guard would not let it through.
    #[error("{target} is not spoken to: {reason}; whoever runs this can allow it with the setting allow_addresses")]
    AddressRefused {
        /// Host and port.
        target: String,
        /// What kind of address it is.
        reason: String,
    },
    /// The name has no address.
    #[error("the host {host:?} was not found: {problem}; check the name")]
    HostNotFound {
        /// The name.
        host: String,
        /// What the resolver said.
        problem: String,
    },
    /// No connection, or no TLS on it.
    #[error("no connection to {endpoint}: {problem}; check the address, or try later")]
    ConnectFailed {
        /// Origin.
        endpoint: String,
        /// What the system said.
        problem: String,
    },
    /// It took too long.
    #[error("{endpoint} {what} within {seconds} s; try later, or ask for less")]
    TimedOut {
        /// Origin.
        endpoint: String,
        /// What it did not do.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// A redirect that is not followed.
    #[error("the redirect from {endpoint} is not followed: {problem}")]
    RedirectRefused {
        /// Origin that sent it.
        endpoint: String,
        /// Why.
        problem: String,
    },
    /// What came is not HTTP, or ended too early.
    #[error("the answer of {endpoint} is broken: {problem}; try again, or another address")]
    ResponseBroken {
        /// Origin.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The circuit breaker is open.
    #[error("{endpoint} failed several times in a row and is left alone; it may be tried again at {}", moment(*until))]
    Unavailable {
        /// Origin, or another name of an endpoint.
        endpoint: String,
        /// From when on one call is let through.
        until: Timestamp,
    },
}

fn moment(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    millis.map_or_else(|| time.to_string(), |time| time.to_string())
}

impl Error {
    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::UrlInvalid { .. } => "url_invalid",
            Error::AddressRefused { .. } => "address_refused",
            Error::HostNotFound { .. } => "host_not_found",
            Error::ConnectFailed { .. } => "connect_failed",
            Error::TimedOut { .. } => "timed_out",
            Error::RedirectRefused { .. } => "redirect_refused",
            Error::ResponseBroken { .. } => "response_broken",
            Error::Unavailable { .. } => "endpoint_unavailable",
        }
    }

    /// As the outcome of a call that changed nothing.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::error(self.code(), self.to_string())
    }
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) error: Error,
    /// Whether a request that may change something may have reached a server: what it asks for may have been done.
    pub(crate) sent: bool,
}

impl Failure {
    /// As the outcome of the call.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.sent {
            let reason =
                format!("the request may have been received before this went wrong ({}): {self}", self.error.code());
            return Outcome::Unknown { reason };
        }
        self.error.outcome()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, sent: false }
    }
}
