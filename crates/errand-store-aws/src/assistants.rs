//! Assistants: a row for each version, and one row for each name by which all of them are found.

use crate::row::{self, Row};
use crate::table::Part;
use crate::{Aws, AwsBlobs, Error, body};
use async_trait::async_trait;
use errand_engine::ports::{Assistants, PortError};

/// Longest text kept, in bytes.
const BYTES_MAX: usize = 1 << 20;
/// Partition of the names.
const NAMES: &str = "assistants";

/// The assistants of a table; long texts lie in the bucket.
#[derive(Debug, Clone)]
pub struct AwsAssistants {
    aws: Aws,
    blobs: AwsBlobs,
}

impl AwsAssistants {
    pub(crate) fn new(aws: Aws) -> Self {
        let blobs = aws.blobs();
        Self { aws, blobs }
    }

    async fn put_row(&self, name: &str, version: u64, text: &str) -> Result<bool, Error> {
        if !is_name(name) {
            return Ok(false);
        }
        if text.len() > BYTES_MAX {
            let reason = format!("its text has {} bytes, {BYTES_MAX} are the most", text.len());
            return Err(Error::Unfit { what: format!("the assistant {name}"), reason });
        }
        let mut row = row::key(partition(name), sort(version));
        body::write(&mut row, text.as_bytes(), &self.blobs).await?;
        let listed = row::key(NAMES, name);
        Ok(self.aws.transact(vec![Part::New(row), Part::Row(listed)]).await?.is_ok())
    }

    async fn get_row(&self, name: &str, version: u64) -> Result<Option<String>, Error> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(row) = self.aws.row(row::key(partition(name), sort(version))).await? else { return Ok(None) };
        let what = format!("version {version} of assistant {name}");
        let bytes = body::read(&row, &what, &self.blobs).await?;
        let text = String::from_utf8(bytes).map_err(|error| row::unreadable(what, error.to_string()))?;
        Ok(Some(text))
    }

    async fn newest_row(&self, name: &str) -> Result<u64, Error> {
        if !is_name(name) {
            return Ok(0);
        }
        let query = self.aws.query().key_condition_expression("pk = :name").scan_index_forward(false);
        let query = query.expression_attribute_values(":name", row::text(partition(name))).projection_expression("sk");
        let rows = self.aws.rows(query, 1).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        let version = row::text_of(row, row::SORT).and_then(|sort| sort.parse().ok());
        version.ok_or_else(|| row::unreadable(format!("assistant {name}"), "its key is no version"))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn partition(name: &str) -> String {
    format!("assistant/{name}")
}

fn sort(version: u64) -> String {
    format!("{version:020}")
}

#[async_trait]
impl Assistants for AwsAssistants {
    async fn put(&self, name: &str, version: u64, text: &str) -> Result<bool, PortError> {
        Ok(self.put_row(name, version, text).await?)
    }

    async fn get(&self, name: &str, version: u64) -> Result<Option<String>, PortError> {
        Ok(self.get_row(name, version).await?)
    }

    async fn newest(&self, name: &str) -> Result<u64, PortError> {
        Ok(self.newest_row(name).await?)
    }

    async fn names(&self) -> Result<Vec<String>, PortError> {
        let query = self.aws.query().key_condition_expression("pk = :names");
        let query = query.expression_attribute_values(":names", row::text(NAMES));
        let rows: Vec<Row> = self.aws.rows(query, usize::MAX).await?;
        Ok(rows.iter().filter_map(|row| row::text_of(row, row::SORT).map(str::to_owned)).collect())
    }
}
