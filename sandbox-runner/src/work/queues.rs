//! The queues, the table and the bucket on AWS that a runner works with.

use super::Ports;
use crate::problem;
use errand_store_aws::{Aws, Settings};
use errand_store_local::SystemWorld;
use std::sync::Arc;

/// Messages asked for at a time: what is in one runner's hands no other can have.
const AT_ONCE: usize = 1;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Work for the runs in this DynamoDB table; needs the bucket and the queues
    #[arg(long, env = "ERRAND_AWS_TABLE", value_name = "NAME", requires_all = ["bucket", "steps_queue", "calls_queue", "dead_queue"])]
    pub(crate) table: Option<String>,
    /// The S3 bucket of their blobs
    #[arg(long, env = "ERRAND_AWS_BUCKET", value_name = "NAME", requires = "table")]
    bucket: Option<String>,
    /// The SQS queue of records that are due
    #[arg(long, env = "ERRAND_AWS_STEPS_QUEUE", value_name = "URL", requires = "table")]
    steps_queue: Option<String>,
    /// The SQS queue of calls that are due
    #[arg(long, env = "ERRAND_AWS_CALLS_QUEUE", value_name = "URL", requires = "table")]
    calls_queue: Option<String>,
    /// The SQS queue of messages that nobody could make use of
    #[arg(long, env = "ERRAND_AWS_DEAD_QUEUE", value_name = "URL", requires = "table")]
    dead_queue: Option<String>,
    /// The region [default: what the AWS SDK finds]
    #[arg(long, env = "ERRAND_AWS_REGION", value_name = "REGION")]
    aws_region: Option<String>,
    /// Another address for all of AWS, such as an emulator's
    #[arg(long, env = "ERRAND_AWS_ENDPOINT", value_name = "URL")]
    aws_endpoint: Option<String>,
}

impl Args {
    /// Connects, and asks for all of it once, so that what is wrong is told at the start. `None` if no table is given.
    pub(crate) async fn connect(&self) -> Result<Option<Ports>, String> {
        let (Some(table), Some(bucket), Some(steps), Some(calls), Some(dead)) =
            (&self.table, &self.bucket, &self.steps_queue, &self.calls_queue, &self.dead_queue)
        else {
            return Ok(None);
        };
        let mut settings = Settings::new(table, bucket, [steps, calls, dead]);
        settings.region.clone_from(&self.aws_region);
        settings.endpoint.clone_from(&self.aws_endpoint);
        let told = |error: errand_store_aws::Error| problem::chain(error.code(), &error);
        let aws = Aws::connect(settings).await.map_err(told)?;
        aws.check().await.map_err(told)?;
        let world = Arc::new(SystemWorld);
        Ok(Some(Ports {
            store: Arc::new(aws.store()),
            blobs: Arc::new(aws.blobs()),
            heads: Arc::new(aws.heads()),
            queue: Arc::new(aws.queue(world.clone())),
            calls: Arc::new(aws.fleet_calls(world.clone(), AT_ONCE)),
            runners: Arc::new(aws.runner_queues(world, AT_ONCE)),
        }))
    }
}
