//! Sorts what the SDK says by what a person can do about it.

use super::Error;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error as StdError;

/// Longest reason that is passed on, in characters.
const REASON_MAX: usize = 300;

/// What was done, to what, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// As policies name it, such as `dynamodb:PutItem`.
    pub(crate) action: &'static str,
    /// The table, bucket or queue.
    pub(crate) resource: &'a str,
    /// The region.
    pub(crate) region: &'a str,
}

/// AWS's own code for an error, if AWS answered with one.
pub(crate) fn code_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// The error of ours that an error of the SDK is.
pub(crate) fn sorted<E>(at: At<'_>, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let action = at.action.to_owned();
    let resource = at.resource.to_owned();
    let reason = reason(error);
    match error {
        SdkError::ConstructionFailure(_) if reason.to_ascii_lowercase().contains("region") => Error::Region { reason },
        SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) if lacks_credentials(error) => {
            Error::Credentials { action, reason }
        }
        SdkError::ConstructionFailure(_) => Error::Refused { action, resource, reason },
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Error::Unavailable { action, resource, reason },
        SdkError::DispatchFailure(_) => Error::Unreachable { action, resource, reason },
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            answered(at, status, answer.err().code().unwrap_or_default(), answer.err().message(), reason)
        }
        // Too late, or not understood: whatever was asked may have been done.
        _ => Error::Unavailable { action, resource, reason },
    }
}

/// Codes: "Common errors" in the API references of DynamoDB, S3 and SQS (checked 2026-11-21).
fn answered(at: At<'_>, status: u16, code: &str, message: Option<&str>, reason: String) -> Error {
    let action = at.action.to_owned();
    let resource = at.resource.to_owned();
    let region = at.region.to_owned();
    // SQS's older protocol has a prefix and its newer one another word.
    match code.rsplit(['.', '#']).next().unwrap_or(code) {
        "ResourceNotFoundException" => Error::TableMissing { table: resource, region },
        "NoSuchBucket" => Error::BucketMissing { bucket: resource, region },
        "QueueDoesNotExist" | "NonExistentQueue" => Error::QueueMissing { queue: resource, region },
        "AccessDeniedException" | "AccessDenied" | "KmsAccessDenied" | "Forbidden" => {
            Error::Denied { action: message.and_then(named_action).unwrap_or(action), resource }
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Error::Region { reason }
        }
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => Error::Clock { action, reason },
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_of_time(&reason) => Error::Clock { action, reason },
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidToken"
        | "InvalidSecurity"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => Error::Credentials { action, reason },
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestThrottled"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException"
        | "SlowDown"
        | "OverLimit" => Error::Throttled { action, resource, reason },
        "TransactionConflictException"
        | "TransactionInProgressException"
        | "ReplicatedWriteConflictException"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "InternalServerError"
        | "InternalError"
        | "QueueDeletedRecently"
        | "RequestTimeout"
        | "ServiceUnavailable" => Error::Unavailable { action, resource, reason },
        "ValidationException" if at.action.starts_with("dynamodb:") && is_of_layout(&reason) => {
            Error::TableWrong { table: resource, reason }
        }
        _ if status == 301 || status == 307 => Error::Region { reason },
        // S3 answers questions for heads without a body.
        _ if status == 403 => Error::Denied { action, resource },
        _ if status == 429 => Error::Throttled { action, resource, reason },
        _ if status >= 500 => Error::Unavailable { action, resource, reason },
        _ => Error::Refused { action, resource, reason },
    }
}

/// The action that AWS says is missing: it can be another than the one asked for, such as that for the table's key.
fn named_action(message: &str) -> Option<String> {
    let rest = message.split("to perform: ").nth(1)?;
    let action: String = rest.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == ':').take(100).collect();
    action.contains(':').then_some(action)
}

fn is_of_time(reason: &str) -> bool {
    ["Signature expired", "Signature not yet current", "time"].iter().any(|word| reason.contains(word))
}

fn is_of_layout(reason: &str) -> bool {
    ["index", "schema", "One of the required keys", "Missing the key"].iter().any(|word| reason.contains(word))
}

fn lacks_credentials(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|error| error.is::<CredentialsError>() || error.to_string().contains("credentials"))
}

/// What went wrong, innermost cause included, without what was sent.
fn reason<E: ProvideErrorMetadata + StdError + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    let told = match error {
        SdkError::ServiceError(answer) => match (answer.err().code(), answer.err().message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => format!("status {}", answer.raw().status().as_u16()),
        },
        other => {
            let mut told: Vec<String> = chain(other).map(ToString::to_string).collect();
            told.dedup();
            told.join(": ")
        }
    };
    told.chars().take(REASON_MAX).collect()
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
