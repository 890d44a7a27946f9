//! The queues of hosts of boxes: each has one of its own, made when it starts, taken away when it has left. Calls of its
//! sessions go there.

use super::send::AwsQueue;
use super::wire::{Sorted, sort};
use crate::error::sorted;
use crate::{Aws, Error};
use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use errand_core::Timestamp;
use errand_engine::ports::{Inbox, Message, PortError, Queue, RunnerQueues, World, is_head_part};
use std::sync::Arc;

/// Longest name of a queue (SQS, checked 2026-11-21).
const NAME_MAX: usize = 80;
/// Deliveries after which a message is moved to the dead letters: enough to outlast throttling.
const RECEIVES: u32 = 50;
/// Time that messages are kept, in seconds: the longest there is, 14 days (SQS, checked 2026-11-21).
const RETENTION: u32 = 1_209_600;
/// Time in which what waits in a queue that goes is sent on, in seconds.
const SENT_ON_WITHIN: i32 = 60;

/// The queues of runners. Cheap to clone.
#[derive(Clone)]
pub struct AwsRunnerQueues {
    aws: Aws,
    queue: AwsQueue,
    world: Arc<dyn World>,
    at_once: usize,
}

impl AwsRunnerQueues {
    pub(crate) fn new(aws: Aws, world: Arc<dyn World>, at_once: usize) -> Self {
        let queue = AwsQueue::new(aws.clone(), Arc::clone(&world));
        Self { aws, queue, world, at_once }
    }

    async fn make_queue(&self, runner: &str) -> Result<String, Error> {
        let (name, url) = self.queue_of(runner)?;
        let redrive = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":"{RECEIVES}"}}"#, self.dead_arn().await?);
        let make = self.aws.sqs.create_queue().queue_name(&name);
        let make = make.attributes(Attribute::VisibilityTimeout, self.aws.settings.visibility.as_secs().to_string());
        let make = make.attributes(Attribute::MessageRetentionPeriod, RETENTION.to_string());
        let make = make.attributes(Attribute::RedrivePolicy, redrive);
        make.send().await.map_err(|error| sorted(self.aws.at_queue("sqs:CreateQueue", &name), &error))?;
        Ok(url)
    }

    async fn send_to(&self, runner: &str, message: &Message) -> Result<bool, Error> {
        match self.queue.send_to(&self.queue_of(runner)?.1, message).await {
            Err(Error::QueueMissing { .. }) => Ok(false),
            sent => sent.map(|()| true),
        }
    }

    async fn dissolve_queue(&self, runner: &str, to: &dyn Queue) -> Result<(), PortError> {
        let url = self.queue_of(runner)?.1;
        let emptied = self.empty(&url, to).await?;
        if !emptied {
            return Ok(());
        }
        let deleted = self.aws.sqs.delete_queue().queue_url(&url).send().await;
        match deleted.map_err(|error| sorted(self.aws.at_queue("sqs:DeleteQueue", &url), &error)) {
            Err(Error::QueueMissing { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// False if there is no such queue.
    async fn empty(&self, url: &str, to: &dyn Queue) -> Result<bool, PortError> {
        loop {
            let receive = self.aws.sqs.receive_message().queue_url(url).max_number_of_messages(10);
            // A wait of a second makes SQS look everywhere; without it some messages are overlooked.
            let received = receive.wait_time_seconds(1).visibility_timeout(SENT_ON_WITHIN).send().await;
            let received = match received.map_err(|error| sorted(self.aws.at_queue("sqs:ReceiveMessage", url), &error)) {
                Err(Error::QueueMissing { .. }) => return Ok(false),
                received => received?,
            };
            if received.messages().is_empty() {
                return Ok(true);
            }
            for message in received.messages() {
                let body = message.body().unwrap_or_default();
                match sort(body, Timestamp::ZERO) {
                    Sorted::Due(message) | Sorted::Early(message) => to.send(message).await?,
                    Sorted::Newer(version) => self.queue.put_aside(body, &format!("it has version {version}")).await?,
                    Sorted::Unusable(reason) => self.queue.put_aside(body, &reason).await?,
                }
                let receipt = message.receipt_handle().unwrap_or_default();
                let deleted = self.aws.sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await;
                deleted.map_err(|error| sorted(self.aws.at_queue("sqs:DeleteMessage", url), &error))?;
            }
        }
    }

    /// Name and address of a runner's queue: those of the shared one with the runner's name behind it. Policies allow what
    /// begins with the former.
    fn queue_of(&self, runner: &str) -> Result<(String, String), Error> {
        let shared = &self.aws.settings.calls;
        let name = format!("{}-{runner}", shared.rsplit('/').next().unwrap_or_default());
        if is_head_part(runner) && name.len() <= NAME_MAX {
            return Ok((name, format!("{shared}-{runner}")));
        }
        let reason = format!("a queue's name has letters, digits, `_` and `-`, {NAME_MAX} at most");
        let runner: String = runner.chars().take(NAME_MAX).collect();
        Err(Error::Unfit { what: format!("the queue of runner `{}`", runner.escape_debug()), reason })
    }

    async fn dead_arn(&self) -> Result<String, Error> {
        let dead = &self.aws.settings.dead;
        let ask = self.aws.sqs.get_queue_attributes().queue_url(dead).attribute_names(Attribute::QueueArn);
        let asked = ask.send().await.map_err(|error| sorted(self.aws.at_queue("sqs:GetQueueAttributes", dead), &error))?;
        let arn = asked.attributes().and_then(|attributes| attributes.get(&Attribute::QueueArn)).cloned();
        arn.ok_or_else(|| Error::QueueMissing { queue: dead.clone(), region: self.aws.region.to_string() })
    }
}

#[async_trait]
impl RunnerQueues for AwsRunnerQueues {
    async fn make(&self, runner: &str) -> Result<Arc<dyn Inbox>, PortError> {
        let url = self.make_queue(runner).await?;
        Ok(Arc::new(self.aws.inbox(&url, Arc::clone(&self.world), self.at_once)))
    }

    async fn send(&self, runner: &str, message: &Message) -> Result<bool, PortError> {
        Ok(self.send_to(runner, message).await?)
    }

    async fn dissolve(&self, runner: &str, to: &dyn Queue) -> Result<(), PortError> {
        self.dissolve_queue(runner, to).await
    }
}
