//! Heads: one small row each, replaced on the condition that it holds what the writer knows. Those of one kind are one
//! partition, in the order of their names.

use crate::row::{self, HASH, PLAIN, Row, WRITER};
use crate::table::{Change, Part};
use crate::{Aws, Error};
use async_trait::async_trait;
use errand_core::Hash;
use errand_engine::ports::{HEAD_BYTES_MAX, Heads, PortError, is_head_name, is_head_part};

/// The heads of a table.
#[derive(Debug, Clone)]
pub struct AwsHeads {
    aws: Aws,
}

impl AwsHeads {
    pub(crate) fn new(aws: Aws) -> Self {
        Self { aws }
    }

    async fn replace_row(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, Error> {
        let key = key(name)?;
        if bytes.len() > HEAD_BYTES_MAX {
            let reason = format!("it has {} bytes, {HEAD_BYTES_MAX} are the most", bytes.len());
            return Err(Error::Unfit { what: format!("the head {name}"), reason });
        }
        // Compared by digest, so that what is expected need not be sent.
        let writer = row::nonce()?;
        let values =
            [(":new", row::bytes(bytes)), (":hash", row::bytes(Hash::of(bytes).0)), (":writer", row::bytes(writer.clone()))];
        let mut values: Row = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let condition = match expected {
            None => "attribute_not_exists(pk)".to_owned(),
            Some(expected) => {
                values.insert(":expected".to_owned(), row::bytes(Hash::of(expected).0));
                format!("{HASH} = :expected")
            }
        };
        let update = format!("SET {PLAIN} = :new, {HASH} = :hash, {WRITER} = :writer");
        match self.aws.change(Change { key, update, condition, values }).await? {
            Ok(()) => Ok(true),
            // A write that was tried twice finds itself.
            Err(found) => Ok(found.is_some_and(|found| row::bytes_of(&found, WRITER) == Some(&writer))),
        }
    }

    async fn list_rows(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        if !is_head_part(kind) {
            return Err(no_name(kind));
        }
        let prefix = format!("{kind}.");
        let from = match after {
            // Names of other kinds come before all of this one or after.
            Some(after) if !after.starts_with(&prefix) && after > prefix.as_str() => return Ok(Vec::new()),
            Some(after) => after.strip_prefix(&prefix).unwrap_or(" "),
            None => " ",
        };
        if limit == 0 {
            return Ok(Vec::new());
        }
        // No character of a name comes before a blank, and none is empty.
        let query = self.aws.query().key_condition_expression("pk = :kind AND sk > :from");
        let query = query.expression_attribute_values(":kind", row::text(partition(kind)));
        let query = query.expression_attribute_values(":from", row::text(if from.is_empty() { " " } else { from }));
        let rows = self.aws.rows(query, limit).await?;
        rows.iter().map(|row| Ok((format!("{prefix}{}", sort(row)?), bytes(row)?))).collect()
    }
}

/// Where a head lies; an error for a name that is none.
fn key(name: &str) -> Result<Row, Error> {
    if !is_head_name(name) {
        return Err(no_name(name));
    }
    Ok(match name.split_once('.') {
        Some((kind, rest)) => row::key(partition(kind), rest),
        None => row::key(format!("head/{name}"), "head"),
    })
}

fn partition(kind: &str) -> String {
    format!("heads/{kind}")
}

fn no_name(name: &str) -> Error {
    let name: String = name.chars().take(64).collect();
    let reason = "a name has 1 to 64 letters, digits, `_` and `-`, or two such parts with a `.` between".to_owned();
    Error::Unfit { what: format!("`{}` is no name of a head", name.escape_debug()), reason }
}

fn sort(row: &Row) -> Result<&str, Error> {
    row::text_of(row, row::SORT).ok_or_else(|| row::unreadable("a head", "it has no key"))
}

fn bytes(row: &Row) -> Result<Vec<u8>, Error> {
    row::bytes_of(row, PLAIN).map(<[u8]>::to_vec).ok_or_else(|| row::unreadable("a head", "it has no bytes"))
}

#[async_trait]
impl Heads for AwsHeads {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError> {
        let found = self.aws.row(key(name)?).await?;
        Ok(found.as_ref().map(bytes).transpose()?)
    }

    async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError> {
        Ok(self.replace_row(name, expected, bytes).await?)
    }

    /// A transaction, since a try of it that is repeated is told from a removal by somebody else.
    async fn remove(&self, name: &str, expected: &[u8]) -> Result<bool, PortError> {
        let values = [(":expected".to_owned(), row::bytes(Hash::of(expected).0))].into();
        let gone = Part::Gone(key(name)?, format!("{HASH} = :expected"), values);
        Ok(self.aws.transact(vec![gone]).await?.is_ok())
    }

    async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, PortError> {
        Ok(self.list_rows(kind, after, limit).await?)
    }
}
