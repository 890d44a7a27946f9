//! What can go wrong with AWS: each with a stable code, and what to do.

mod sort;

use errand_core::{Hash, LogError, RunId};
use errand_engine::ports::PortError;
pub(crate) use sort::{At, code_of, sorted};

/// Something on AWS, or something kept there, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The table is not there.
    #[error("there is no DynamoDB table {table} in region {region}: create it, or name another table or region")]
    TableMissing {
        /// Its name.
        table: String,
        /// Where it was looked for.
        region: String,
    },
    /// The table has other keys or indexes than Errand's.
    #[error("the DynamoDB table {table} is not laid out as Errand needs it ({reason}): create it as the guide says")]
    TableWrong {
        /// Its name.
        table: String,
        /// What DynamoDB says.
        reason: String,
    },
    /// The bucket is not there.
    #[error("there is no S3 bucket {bucket} in region {region}: create it, or name another bucket or region")]
    BucketMissing {
        /// Its name.
        bucket: String,
        /// Where it was looked for.
        region: String,
    },
    /// The queue is not there.
    #[error("there is no SQS queue {queue} in region {region}: create it, or name another queue or region")]
    QueueMissing {
        /// Its address.
        queue: String,
        /// Where it was looked for.
        region: String,
    },
    /// A permission is missing.
    #[error("these credentials may not do {action} on {resource}: allow it in their role's policy")]
    Denied {
        /// The action, as policies name it.
        action: String,
        /// The table, bucket or queue.
        resource: String,
    },
    /// There are no credentials, or AWS does not take them.
    #[error("AWS does not take the credentials for {action} ({reason}): give others, or renew them")]
    Credentials {
        /// What was to be done, as policies name it.
        action: String,
        /// What the SDK or AWS says.
        reason: String,
    },
    /// No region, or the wrong one.
    #[error("the AWS region is missing or wrong ({reason}): set the one in which the table, bucket and queues are")]
    Region {
        /// What the SDK or AWS says.
        reason: String,
    },
    /// The clock of this machine is too far off for signatures to be taken.
    #[error("AWS refused {action} because this machine's clock is wrong ({reason}): set the clock")]
    Clock {
        /// What was to be done.
        action: String,
        /// What AWS says.
        reason: String,
    },
    /// Nobody answered.
    #[error("{resource} cannot be reached for {action} ({reason}): check the network, the region and the endpoint")]
    Unreachable {
        /// What was to be done.
        action: String,
        /// The table, bucket or queue.
        resource: String,
        /// What the connection says.
        reason: String,
    },
    /// AWS asks to slow down, and went on doing so for as long as it was tried.
    #[error("AWS throttles {action} on {resource} ({reason}): it is tried again; raise the limit if it lasts")]
    Throttled {
        /// What was to be done.
        action: String,
        /// The table, bucket or queue.
        resource: String,
        /// What AWS says.
        reason: String,
    },
    /// AWS failed, or answered too late. Whether it was done nobody knows.
    #[error("{action} on {resource} failed ({reason}): it is tried again; look at AWS's health page if it lasts")]
    Unavailable {
        /// What was to be done.
        action: String,
        /// The table, bucket or queue.
        resource: String,
        /// What AWS or the connection says.
        reason: String,
    },
    /// AWS says no, and will say so again.
    #[error("AWS refused {action} on {resource} ({reason}): mend what it names")]
    Refused {
        /// What was to be done.
        action: String,
        /// The table, bucket or queue.
        resource: String,
        /// AWS's code and message.
        reason: String,
    },
    /// A run's log is not what was written.
    #[error("run {run}: {source}")]
    Ledger {
        /// Which run.
        run: RunId,
        /// What is wrong with it, naming the record.
        source: LogError,
    },
    /// A row was written by a newer version.
    #[error("{what} was written in form {found}, this version reads up to {known}: use a newer errand")]
    Newer {
        /// Which row.
        what: String,
        /// Its form.
        found: u64,
        /// The newest that this code knows.
        known: u64,
    },
    /// A row cannot be understood.
    #[error("{what} cannot be read ({reason}): restore the table to a point in time before it was altered")]
    Unreadable {
        /// Which row.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A blob's bytes do not give its digest.
    #[error("blob {hash} in bucket {bucket} is damaged: restore an earlier version of that object")]
    BlobDamaged {
        /// Which blob.
        hash: Hash,
        /// Where it lies.
        bucket: String,
    },
    /// A blob that a row names is not there.
    #[error("blob {hash}, which {what} names, is not in bucket {bucket}: restore that object")]
    BlobGone {
        /// Which blob.
        hash: Hash,
        /// Who names it.
        what: String,
        /// Where it should lie.
        bucket: String,
    },
    /// There is no such run to write to.
    #[error("there is no run {run}: list the runs there are with `errand runs`")]
    UnknownRun {
        /// Which run.
        run: RunId,
    },
    /// A record was to be stored that does not follow the last one.
    #[error("record {number} of run {run} does not follow record {last}: load the run again")]
    Gap {
        /// Which run.
        run: RunId,
        /// The number of the record that was to be stored.
        number: u64,
        /// The number of the last one there is.
        last: u64,
    },
    /// What was to be kept is not what can be kept there.
    #[error("{what}: {reason}")]
    Unfit {
        /// What was to be kept.
        what: String,
        /// Why not, and what would fit.
        reason: String,
    },
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::TableMissing { .. } => "aws_table_missing",
            Error::TableWrong { .. } => "aws_table_wrong",
            Error::BucketMissing { .. } => "aws_bucket_missing",
            Error::QueueMissing { .. } => "aws_queue_missing",
            Error::Denied { .. } => "aws_denied",
            Error::Credentials { .. } => "aws_credentials",
            Error::Region { .. } => "aws_region",
            Error::Clock { .. } => "aws_clock",
            Error::Unreachable { .. } => "aws_unreachable",
            Error::Throttled { .. } => "aws_throttled",
            Error::Unavailable { .. } => "aws_unavailable",
            Error::Refused { .. } => "aws_refused",
            Error::Ledger { source: LogError::Record(errand_core::RecordError::Newer { .. }), .. } => "data_newer",
            Error::Ledger { .. } => "ledger_broken",
            Error::Newer { .. } => "data_newer",
            Error::Unreadable { .. } => "data_unreadable",
            Error::BlobDamaged { .. } => "blob_damaged",
            Error::BlobGone { .. } => "blob_missing",
            Error::UnknownRun { .. } => "run_unknown",
            Error::Gap { .. } => "record_gap",
            Error::Unfit { .. } => "data_unfit",
        }
    }

    /// True if it may work later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Throttled { .. } | Error::Unavailable { .. })
    }
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        if error.may_pass() { PortError::Retry { message } } else { PortError::Broken { code: error.code(), message } }
    }
}
