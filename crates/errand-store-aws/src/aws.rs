//! The way to AWS: one HTTP client, one configuration, a client of each service.

use crate::error::{At, sorted};
use crate::{AwsAssistants, AwsBlobs, AwsHeads, AwsInbox, AwsQueue, AwsRunnerQueues, AwsStore, Error, Settings};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use errand_engine::ports::World;
use std::sync::Arc;
use std::time::Duration;

/// Time for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for one try of a call to DynamoDB, which answers in milliseconds.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Time for a call with all its tries.
const OPERATION: Duration = Duration::from_secs(20);
/// Time for one try of a call to SQS, which may wait 20 s for a message.
const ATTEMPT_SQS: Duration = Duration::from_secs(30);
/// Time for a call to SQS with all its tries.
const OPERATION_SQS: Duration = Duration::from_secs(60);
/// Time for one try of a call to S3, whose bodies can be large.
const ATTEMPT_S3: Duration = Duration::from_secs(60);
/// Time for a call to S3 with all its tries.
const OPERATION_S3: Duration = Duration::from_secs(180);

/// Tries of a call, the first included.
const TRIES: u32 = 4;
/// Longest wait before the second try; it doubles from try to try. The SDK's own second is a fifth of a step's patience.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How long a call that a runner of a fleet took is hidden from the others.
const TAKEN: Duration = Duration::from_secs(20);

/// Clients of the services, and the names of what is used there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Aws {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) settings: Arc<Settings>,
    pub(crate) region: Arc<str>,
}

/// What the SDK is configured with unless it is told otherwise: TLS by rustls and ring, region and endpoint of `settings`.
/// For those who must add something, such as fixed credentials in a test.
pub fn loader(settings: &Settings) -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let retries = RetryConfig::standard().with_max_attempts(TRIES).with_initial_backoff(FIRST_WAIT);
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).retry_config(retries);
    let loader = match &settings.region {
        Some(region) => loader.region(Region::new(region.clone())),
        None => loader,
    };
    match &settings.endpoint {
        Some(endpoint) => loader.endpoint_url(endpoint),
        None => loader,
    }
}

impl Aws {
    /// Finds region and credentials as the SDK does and makes the clients. Nothing is asked of AWS yet but, depending on
    /// where this runs, for credentials.
    ///
    /// # Errors
    /// [`Error::Region`] if no region is to be found.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        let config = loader(&settings).load().await;
        Self::with(&config, settings)
    }

    /// The clients, from a configuration made with [`loader`].
    ///
    /// # Errors
    /// [`Error::Region`] if it has no region.
    pub fn with(config: &SdkConfig, settings: Settings) -> Result<Self, Error> {
        let Some(region) = config.region() else {
            return Err(Error::Region { reason: "none is set".to_owned() });
        };
        let timeouts = |attempt, operation| {
            let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(attempt);
            timeouts.operation_timeout(operation).build()
        };
        let dynamodb = aws_sdk_dynamodb::config::Builder::from(config).timeout_config(timeouts(ATTEMPT, OPERATION));
        let s3 = aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts(ATTEMPT_S3, OPERATION_S3));
        // Buckets of emulators are not names of hosts.
        let s3 = s3.force_path_style(settings.endpoint.is_some());
        let sqs = aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts(ATTEMPT_SQS, OPERATION_SQS));
        Ok(Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
            region: region.as_ref().into(),
            settings: Arc::new(settings),
        })
    }

    /// Asks each service once whether it knows the table, the bucket and the queues, and lets us at them: for a start that
    /// fails early and clearly.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn check(&self) -> Result<(), Error> {
        let nobody = |name: &str| (name.to_owned(), AttributeValue::S("check".to_owned()));
        let key = [nobody(crate::row::PARTITION), nobody(crate::row::SORT)].into();
        let asked = self.dynamodb.get_item().table_name(&self.settings.table).set_key(Some(key)).send().await;
        asked.map_err(|error| sorted(self.at_table("dynamodb:GetItem"), &error))?;
        for (index, partition) in
            [(crate::row::DUE_INDEX, crate::row::DUE_PARTITION), (crate::row::LIST_INDEX, crate::row::LIST_PARTITION)]
        {
            let query = self.query_index(index).key_condition_expression(format!("{partition} = :nobody"));
            self.page(query.expression_attribute_values(":nobody", crate::row::text("check")).limit(1)).await?;
        }
        let asked = self.s3.head_bucket().bucket(&self.settings.bucket).send().await;
        asked.map_err(|error| {
            let lacking = error.as_service_error().is_some_and(|error| error.is_not_found());
            let (bucket, region) = (self.settings.bucket.clone(), self.region.to_string());
            if lacking { Error::BucketMissing { bucket, region } } else { sorted(self.at_bucket("s3:ListBucket"), &error) }
        })?;
        for queue in [&self.settings.steps, &self.settings.calls, &self.settings.dead] {
            let asked = self.sqs.get_queue_attributes().queue_url(queue).send().await;
            asked.map_err(|error| sorted(self.at_queue("sqs:GetQueueAttributes", queue), &error))?;
        }
        Ok(())
    }

    /// Where runs are kept.
    pub fn store(&self) -> AwsStore {
        AwsStore::new(self.clone())
    }

    /// Where blobs are kept.
    pub fn blobs(&self) -> AwsBlobs {
        AwsBlobs::new(self.clone())
    }

    /// Where heads are kept.
    pub fn heads(&self) -> AwsHeads {
        AwsHeads::new(self.clone())
    }

    /// Where assistants are kept.
    pub fn assistants(&self) -> AwsAssistants {
        AwsAssistants::new(self.clone())
    }

    /// The sending side of the queues.
    pub fn queue(&self, world: Arc<dyn World>) -> AwsQueue {
        AwsQueue::new(self.clone(), world)
    }

    /// The receiving side of the queue at `url`: one of the settings' or a runner's. It takes up to `at_once` messages (1 to
    /// 10) in one call: no more than are worked on at the same time, or some wait while others could have them.
    ///
    /// Over the dead letters, every delivery counts as one too many, so that a worker treats it as what it is.
    pub fn inbox(&self, url: &str, world: Arc<dyn World>, at_once: usize) -> AwsInbox {
        AwsInbox::new(self.clone(), world, url, at_once, self.settings.visibility)
    }

    /// The queue of calls for runners that are a fleet: who takes one sends it on to a queue of its own, so what it takes is
    /// hidden for a moment only, and another's soon if it dies with it.
    pub fn fleet_calls(&self, world: Arc<dyn World>, at_once: usize) -> AwsInbox {
        AwsInbox::new(self.clone(), world, &self.settings.calls, at_once, TAKEN)
    }

    /// The queues of runners, each of which works on up to `at_once` messages (1 to 10) at the same time.
    pub fn runner_queues(&self, world: Arc<dyn World>, at_once: usize) -> AwsRunnerQueues {
        AwsRunnerQueues::new(self.clone(), world, at_once)
    }

    /// The names and addresses.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn at_table(&self, action: &'static str) -> At<'_> {
        At { action, resource: &self.settings.table, region: &self.region }
    }

    pub(crate) fn at_queue<'a>(&'a self, action: &'static str, queue: &'a str) -> At<'a> {
        At { action, resource: queue, region: &self.region }
    }

    pub(crate) fn at_bucket(&self, action: &'static str) -> At<'_> {
        At { action, resource: &self.settings.bucket, region: &self.region }
    }
}
