//! How a failure is told to people.

/// An error with its code and all that is below it, on one line.
pub(crate) fn told(error: &errand_sandbox::Error) -> String {
    chain(error.code(), error)
}

/// The same, of any error.
pub(crate) fn chain(code: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("error [{code}]: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
