//! What the programs have in common: logs as Lambda wants them, and a start that fails with its reason.

use crate::Error;
use errand_core::Timestamp;
use lambda_runtime::{Context, Diagnostic};
use lambda_runtime_api_client::{Client, body::Body, build_request};

/// Where a start that failed is told (Lambda's Runtime API, checked 2026-11-22).
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";

/// Logs go to standard output, as JSON and from the level on that the function's logging settings say.
pub fn logs() {
    lambda_runtime::tracing::init_default_subscriber();
}

/// What was opened; if that failed Lambda is told why, by the error's code, and the program ends.
///
/// # Errors
/// The reason.
pub async fn opened<T>(opened: Result<T, Error>) -> Result<T, lambda_runtime::Error> {
    let error = match opened {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    tracing::error!(code = error.code(), %error, "the function cannot start");
    if let Err(problem) = tell(&error).await {
        tracing::error!(%problem, "Lambda could not be told why the function cannot start");
    }
    Err(error.into())
}

async fn tell(error: &Error) -> Result<(), lambda_runtime::Error> {
    let diagnostic = Diagnostic { error_type: error.code().to_owned(), error_message: error.to_string() };
    let body = Body::from(serde_json::to_vec(&diagnostic)?);
    let request = build_request().method("POST").uri(INIT_ERROR);
    let request = request.header("lambda-runtime-function-error-type", error.code());
    Client::builder().build()?.call(request.body(body)?).await?;
    Ok(())
}

/// When an invocation must be answered.
pub fn deadline(context: &Context) -> Timestamp {
    Timestamp::from_millis(context.deadline)
}
