//! Where on AWS everything lies.

use std::time::Duration;

/// The tenant that messages are sent for, as long as messages name none.
pub const TENANT: &str = "default";

/// How long a delivery stays hidden unless the queue's owner says otherwise: the longest tool call (15 min) and then some,
/// as in `QueueLimits` of the laptop.
const VISIBILITY: Duration = Duration::from_secs(1_200);

/// Names of what Terraform makes, and how it is reached. Credentials are found by the SDK: environment, profile, web
/// identity, container, instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The region; none means what the SDK finds in the environment or the profile.
    pub region: Option<String>,
    /// Another address for every service, such as that of an emulator. S3 is then spoken to by paths.
    pub endpoint: Option<String>,
    /// The one table.
    pub table: String,
    /// The one bucket.
    pub bucket: String,
    /// Address of the queue of records that are due, and of tool calls that need no runner.
    pub steps: String,
    /// Address of the queue of tool calls for any runner. The name of each runner's own queue begins with this one's.
    pub calls: String,
    /// Address of the queue of messages that nobody could make use of.
    pub dead: String,
    /// Time a worker has before a message is delivered again. Whole seconds, at most 12 hours (SQS, checked 2026-11-21).
    pub visibility: Duration,
}

impl Settings {
    /// Settings for one table, bucket and set of queues, in the region that the SDK finds.
    pub fn new(table: &str, bucket: &str, [steps, calls, dead]: [&str; 3]) -> Self {
        Self {
            region: None,
            endpoint: None,
            table: table.to_owned(),
            bucket: bucket.to_owned(),
            steps: steps.to_owned(),
            calls: calls.to_owned(),
            dead: dead.to_owned(),
            visibility: VISIBILITY,
        }
    }
}
