//! Rows of the table: their keys and their attributes. The layout is told in `docs/guide/aws.md` and ADR 0013.
//!
//! Everything of one run is one partition, and the sort keys are in the order in which a load must read it: first the run's
//! own row with its entry in the due index, then the records, then the items. Whoever clears an entry that was read before
//! the items cannot take away a wake-up that came with an item not read; whoever commits on records that were read before
//! the items has missed none that the items could follow from.

use crate::Error;
use aws_sdk_dynamodb::types::AttributeValue;
use errand_core::{Hash, ItemKey, RunId};
use std::collections::HashMap;

/// A row as the SDK has it.
pub(crate) type Row = HashMap<String, AttributeValue>;

/// Key of the partition: the run's id, or what kind of thing it is.
pub(crate) const PARTITION: &str = "pk";
/// Key within the partition.
pub(crate) const SORT: &str = "sk";
/// Form of the row, on rows that lead to others.
pub(crate) const FORM: &str = "v";
/// The form that this code writes.
pub(crate) const FORM_KNOWN: u64 = 1;
/// Tenant of a run.
pub(crate) const TENANT: &str = "tn";
/// Bytes as they are.
pub(crate) const PLAIN: &str = "b";
/// Bytes compressed.
pub(crate) const PACKED: &str = "z";
/// Digest of bytes that lie in the bucket.
pub(crate) const SPILLED: &str = "s";
/// Ledger hash of a record, or digest of the bytes of a head.
pub(crate) const HASH: &str = "h";
/// Who wrote the row last: a nonce by which a write that is tried twice finds itself.
pub(crate) const WRITER: &str = "w";

/// Partition of the due index, on runs that have an entry there.
pub(crate) const DUE_PARTITION: &str = "dp";
/// When a run is due, in milliseconds since 1970.
pub(crate) const DUE: &str = "da";
/// Version of the entry in the due index, also when there is none.
pub(crate) const DUE_VERSION: &str = "dv";
/// The index of runs that are due: [`DUE_PARTITION`] and [`DUE`].
pub(crate) const DUE_INDEX: &str = "due";
/// Partitions of the due index: one takes 1,000 writes a second (DynamoDB, checked 2026-11-21).
pub(crate) const DUE_PARTITIONS: u64 = 8;

/// Partition of the list of runs: tenant and how the run ended, or `open`.
pub(crate) const LIST_PARTITION: &str = "lp";
/// What lists show of a run from its beginning.
pub(crate) const FIRST: &str = "fi";
/// What lists show of the end of a run.
pub(crate) const LAST: &str = "la";
/// The index of runs by tenant: [`LIST_PARTITION`] and [`PARTITION`].
pub(crate) const LIST_INDEX: &str = "runs";

/// Sort key of a run's own row.
pub(crate) const RUN: &str = "1";
/// Where the sort keys of records begin.
pub(crate) const RECORDS: &str = "2/";
/// Where they end.
pub(crate) const RECORDS_END: &str = "2~";
/// Where the sort keys of items begin.
const ITEMS: &str = "3/";
/// Longest key of an item that is written out, in bytes. A sort key takes 1,024 (DynamoDB, checked 2026-11-21).
const ITEM_KEY_MAX: usize = 512;

/// Sort key of a record.
pub(crate) fn record_key(number: u64) -> String {
    format!("{RECORDS}{number:010}")
}

/// Number of the record with this sort key, if it is one.
pub(crate) fn record_number(sort: &str) -> Option<u64> {
    sort.strip_prefix(RECORDS)?.parse().ok()
}

/// Sort key of an item. Senders choose part of it, so a long one is told by its digest.
pub(crate) fn item_key(key: &ItemKey) -> String {
    let text = key.to_string();
    if text.len() <= ITEM_KEY_MAX {
        return format!("{ITEMS}{text}");
    }
    let kind = text.split('/').next().unwrap_or_default();
    format!("{ITEMS}{kind}~{}", Hash::of(text.as_bytes()))
}

/// True if a row with this sort key is an item.
pub(crate) fn is_item(sort: &str) -> bool {
    sort.starts_with(ITEMS)
}

/// Partition of the due index that a run is in.
pub(crate) fn due_partition(run: RunId) -> String {
    let sum = run.to_string().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    due_partition_at(sum % DUE_PARTITIONS)
}

/// Partition `number` of the due index.
pub(crate) fn due_partition_at(number: u64) -> String {
    format!("due/{number}")
}

/// The two attributes of a key.
pub(crate) fn key(partition: impl Into<String>, sort: impl Into<String>) -> Row {
    [(PARTITION.to_owned(), text(partition)), (SORT.to_owned(), text(sort))].into()
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn bytes(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(value))
}

/// The text of an attribute.
pub(crate) fn text_of<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?.as_s().ok().map(String::as_str)
}

/// The number of an attribute.
pub(crate) fn number_of(row: &Row, name: &str) -> Option<u64> {
    row.get(name)?.as_n().ok()?.parse().ok()
}

/// The bytes of an attribute.
pub(crate) fn bytes_of<'a>(row: &'a Row, name: &str) -> Option<&'a [u8]> {
    row.get(name)?.as_b().ok().map(AsRef::as_ref)
}

/// The digest of an attribute.
pub(crate) fn hash_of(row: &Row, name: &str) -> Option<Hash> {
    bytes_of(row, name)?.try_into().ok().map(Hash)
}

/// An error about a row that lacks what it must have.
pub(crate) fn unreadable(what: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Unreadable { what: what.into(), reason: reason.into() }
}

/// Refuses rows of newer code.
pub(crate) fn check_form(row: &Row, what: &str) -> Result<(), Error> {
    match number_of(row, FORM) {
        Some(found) if found <= FORM_KNOWN => Ok(()),
        Some(found) => Err(Error::Newer { what: what.to_owned(), found, known: FORM_KNOWN }),
        None => Err(unreadable(what, "it has no form")),
    }
}

/// 64 random bits, by which a write is told from all others.
///
/// # Errors
/// When the system has no entropy to give, which then holds for every write.
pub(crate) fn nonce() -> Result<Vec<u8>, Error> {
    let mut nonce = [0; 8];
    let failed = |error: getrandom::Error| unreadable("the system's random device", error.to_string());
    getrandom::fill(&mut nonce).map_err(failed)?;
    Ok(nonce.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_reads_the_run_then_its_records_then_its_items() {
        let message = ItemKey::Message { id: String::new() };
        let keys = [RUN.to_owned(), record_key(1), record_key(9_999_999_999), RECORDS_END.to_owned(), item_key(&message)];
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(record_number(&record_key(17)), Some(17));
        assert!(is_item(&keys[4]) && !is_item(&keys[1]) && record_number(&keys[4]).is_none());
    }

    #[test]
    fn a_key_of_any_length_fits_and_is_its_own() {
        let key = |id: &str| item_key(&ItemKey::Message { id: id.to_owned() });
        let (one, other) = ("é".repeat(600), "é".repeat(601));
        assert!(key(&one).len() < 200 && key(&one) != key(&other), "{}", key(&one));
        assert_eq!(key("a/b"), "3/message/a/b");
        let sorted = ItemKey::Raise { id: one.clone() };
        assert_ne!(item_key(&sorted), key(&one));
    }

    #[test]
    fn runs_spread_over_the_due_index() {
        let at = errand_core::Timestamp::from_millis(1_790_000_000_000);
        let parts = (0..64).map(|entropy| due_partition(RunId::new(at, entropy)));
        assert_eq!(parts.collect::<std::collections::BTreeSet<_>>().len(), DUE_PARTITIONS as usize);
    }
}
