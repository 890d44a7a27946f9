//! The environment of a function, and the only place that reads it. Names of models' settings and keys are the laptop's.

use crate::Error;
use errand_core::Limits;
use std::time::Duration;

const TIMEOUT: &str = "ERRAND_FUNCTION_TIMEOUT";
/// The function's time-out unless it is given, in seconds: as in the guide.
const TIMEOUT_DEFAULT: u64 = 300;
/// The longest that there is, in seconds (Lambda, checked 2026-11-22).
const TIMEOUT_MAX: u64 = 900;
/// What a step needs beside its model's time, in seconds: loading, claiming, writing, handing back.
const BESIDE: u64 = 15;

/// What a function is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Table, bucket, queues, and how they are reached.
    pub aws: errand_store_aws::Settings,
    /// Models and their keys.
    pub models: errand_models::Settings,
    /// The function's own time-out. Lambda tells it to nobody before the first invocation.
    pub timeout: Duration,
}

impl Settings {
    /// From the environment of this process.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    #[expect(clippy::disallowed_methods, reason = "this is the settings module: the one place that may")]
    pub fn from_environment() -> Result<Self, Error> {
        Self::from_lookup(&|name| std::env::var(name).ok())
    }

    /// From variables as `lookup` tells them. An empty one counts as absent.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let text = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let needed = |name, what| text(name).ok_or(Error::Missing { name, what });
        let table = needed("ERRAND_AWS_TABLE", "the name of the DynamoDB table")?;
        let bucket = needed("ERRAND_AWS_BUCKET", "the name of the S3 bucket")?;
        let queues = [
            needed("ERRAND_AWS_STEPS_QUEUE", "the address of the queue of steps")?,
            needed("ERRAND_AWS_CALLS_QUEUE", "the address of the queue of calls for runners")?,
            needed("ERRAND_AWS_DEAD_QUEUE", "the address of the queue of dead letters")?,
        ];
        let mut aws = errand_store_aws::Settings::new(&table, &bucket, queues.each_ref().map(String::as_str));
        aws.region = text("ERRAND_AWS_REGION");
        aws.endpoint = text("ERRAND_AWS_ENDPOINT");
        let timeout = text(TIMEOUT).map_or(Ok(TIMEOUT_DEFAULT), |given| seconds(&given))?;
        Ok(Self { aws, models: errand_models::Settings::from_lookup(lookup)?, timeout: Duration::from_secs(timeout) })
    }

    /// Whether a step fits: a model may take as long as runs allow it by default.
    ///
    /// # Errors
    /// [`Error::TooShort`] if it does not.
    pub fn check_timeout(&self) -> Result<(), Error> {
        let (has, model) = (self.timeout.as_secs(), Limits::default().model_call_ms.div_ceil(1_000));
        let least = model + BESIDE;
        if has < least { Err(Error::TooShort { has, model, least }) } else { Ok(()) }
    }
}

fn seconds(given: &str) -> Result<u64, Error> {
    let number = given.parse().ok().filter(|seconds| (1..=TIMEOUT_MAX).contains(seconds));
    number.ok_or_else(|| Error::Number { name: TIMEOUT, given: given.chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("ERRAND_AWS_TABLE", "runs"),
        ("ERRAND_AWS_BUCKET", "blobs"),
        ("ERRAND_AWS_STEPS_QUEUE", "https://sqs/steps"),
        ("ERRAND_AWS_CALLS_QUEUE", "https://sqs/calls"),
        ("ERRAND_AWS_DEAD_QUEUE", "https://sqs/dead"),
    ];

    fn with(more: &[(&str, &str)]) -> Result<Settings, Error> {
        let lookup = |name: &str| {
            let given = more.iter().chain(&GOOD).find(|(known, _)| *known == name);
            given.map(|(_, value)| (*value).to_owned())
        };
        Settings::from_lookup(&lookup)
    }

    #[test]
    fn what_is_given_is_taken() {
        let more = [("ERRAND_AWS_REGION", "eu-central-1"), ("OPENAI_API_KEY", "sk-secret"), (TIMEOUT, " 600 ")];
        let settings = with(&more).unwrap();
        assert_eq!((settings.aws.table.as_str(), settings.aws.dead.as_str()), ("runs", "https://sqs/dead"));
        assert_eq!(settings.aws.region.as_deref(), Some("eu-central-1"));
        assert_eq!((settings.aws.endpoint.as_ref(), settings.timeout.as_secs()), (None, 600));
        assert!(settings.models.keys.contains_key("OPENAI_API_KEY"));
        assert!(!format!("{settings:?}").contains("sk-secret"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (name, _) in GOOD {
            let error = with(&[(name, " ")]).unwrap_err();
            assert_eq!(error.code(), "setting_missing");
            assert!(error.to_string().contains(name), "{error}");
        }
        for wrong in ["0", "901", "-1", "5m", "300.0", "99999999999999999999"] {
            let error = with(&[(TIMEOUT, wrong)]).unwrap_err();
            assert_eq!(error.code(), "number_invalid", "{wrong}");
            assert!(error.to_string().contains(wrong), "{error}");
        }
        assert_eq!(with(&[("ERRAND_MODEL_DIALECT", "grpc")]).unwrap_err().code(), "config_invalid");
    }

    #[test]
    fn a_step_function_outlives_its_models_time() {
        assert!(with(&[]).unwrap().check_timeout().is_ok(), "as it comes");
        assert!(with(&[(TIMEOUT, "255")]).unwrap().check_timeout().is_ok());
        let error = with(&[(TIMEOUT, "254")]).unwrap().check_timeout().unwrap_err();
        assert_eq!(error.code(), "function_timeout_short");
        assert!(error.to_string().contains("255 s or more"), "{error}");
    }
}
