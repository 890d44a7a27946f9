//! How a failure is told to people.

/// An error with its code and all that is below it, on one line.
pub(crate) fn told(error: &errand_sandbox::Error) -> String {
    let mut text = format!("error [{}]: {error}", error.code());
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
