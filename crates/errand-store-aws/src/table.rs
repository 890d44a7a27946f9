//! The few things that are done to the table. Conditions that do not hold are answers here, not errors, and come with the
//! row as it is.

use crate::error::{At, code_of, sorted};
use crate::row::{self, Row};
use crate::{Aws, Error};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError as TransactError;
use aws_sdk_dynamodb::types::{
    CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure as OnFailure, TransactWriteItem, Update,
};
use std::time::Duration;

/// Tries of a write that another transaction on the same row got in the way of.
const TRIES: u32 = 8;
/// Longest wait before the second try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// A condition that did not hold: the row as it is, `None` if there is none.
pub(crate) type Found = Option<Row>;

/// A change of a row: what is set or removed, on which condition, with which values.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) key: Row,
    pub(crate) update: String,
    pub(crate) condition: String,
    pub(crate) values: Row,
}

/// One part of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Writes a row whose key is not there yet.
    New(Row),
    /// Writes a row, whatever is there.
    Row(Row),
    /// Changes a row.
    Change(Change),
    /// Removes a row on a condition: the key, the condition, its values.
    Gone(Row, String, Row),
}

/// The condition that a row is not there yet.
const IS_NEW: &str = "attribute_not_exists(pk)";

impl Aws {
    /// Writes a row whose key is not there yet. `Err` within: the row that is there.
    pub(crate) async fn put_new(&self, row: Row) -> Result<Result<(), Row>, Error> {
        let key = key_of(&row);
        let put = self.dynamodb.put_item().table_name(&self.settings.table).set_item(Some(row));
        let put = put.condition_expression(IS_NEW).return_values_on_condition_check_failure(OnFailure::AllOld);
        for attempt in 0.. {
            let error = match put.clone().send().await {
                Ok(_) => return Ok(Ok(())),
                Err(error) => error,
            };
            if let Some(found) = conditional(&error) {
                // What is there cannot go; emulators need not send it along.
                let found = match found {
                    Some(found) => Some(found),
                    None => self.row(key.clone()).await?,
                };
                return found.map(Err).ok_or_else(|| row::unreadable("a row", "it is there and is not"));
            }
            self.again(self.at_table("dynamodb:PutItem"), attempt, &error).await?;
        }
        unreachable!("the loop ends by returning")
    }

    /// Changes a row on a condition.
    pub(crate) async fn change(&self, change: Change) -> Result<Result<(), Found>, Error> {
        let update = self.dynamodb.update_item().table_name(&self.settings.table).set_key(Some(change.key));
        let update = update.update_expression(change.update).condition_expression(change.condition);
        let values = Some(change.values).filter(|values| !values.is_empty());
        let update = update.set_expression_attribute_values(values);
        let update = update.return_values_on_condition_check_failure(OnFailure::AllOld);
        for attempt in 0.. {
            let error = match update.clone().send().await {
                Ok(_) => return Ok(Ok(())),
                Err(error) => error,
            };
            if let Some(found) = conditional(&error) {
                return Ok(Err(found));
            }
            self.again(self.at_table("dynamodb:UpdateItem"), attempt, &error).await?;
        }
        unreachable!("the loop ends by returning")
    }

    /// Does all parts or none. `Err` within: what was found where a condition did not hold, one entry a part.
    ///
    /// The SDK gives each call a token and repeats it with its own tries, so one that took hold is not done twice.
    pub(crate) async fn transact(&self, parts: Vec<Part>) -> Result<Result<(), Vec<Option<Found>>>, Error> {
        let action = "dynamodb:TransactWriteItems";
        let items = parts.into_iter().map(|part| self.item(part)).collect::<Result<Vec<_>, _>>()?;
        for attempt in 0.. {
            let call = self.dynamodb.transact_write_items().set_transact_items(Some(items.clone()));
            let error = match call.send().await {
                Ok(_) => return Ok(Ok(())),
                Err(error) => error,
            };
            if let Some(reasons) = failed_conditions(&error) {
                return Ok(Err(reasons));
            }
            if let Some(error) = self.cancelled(action, &error) {
                if attempt + 1 >= TRIES || !error.may_pass() {
                    return Err(error);
                }
                wait(attempt).await?;
                continue;
            }
            self.again(self.at_table(action), attempt, &error).await?;
        }
        unreachable!("the loop ends by returning")
    }

    fn item(&self, part: Part) -> Result<TransactWriteItem, Error> {
        let table = &self.settings.table;
        let unfit = |error: aws_sdk_dynamodb::error::BuildError| row::unreadable("a transaction", error.to_string());
        let item = TransactWriteItem::builder();
        Ok(match part {
            Part::New(row) => {
                let put = Put::builder().table_name(table).set_item(Some(row)).condition_expression(IS_NEW);
                let put = put.return_values_on_condition_check_failure(OnFailure::AllOld);
                item.put(put.build().map_err(unfit)?).build()
            }
            Part::Row(row) => item.put(Put::builder().table_name(table).set_item(Some(row)).build().map_err(unfit)?).build(),
            Part::Change(change) => {
                let update = Update::builder().table_name(table).set_key(Some(change.key));
                let update = update.update_expression(change.update).condition_expression(change.condition);
                let update = update.set_expression_attribute_values(Some(change.values));
                let update = update.return_values_on_condition_check_failure(OnFailure::AllOld);
                item.update(update.build().map_err(unfit)?).build()
            }
            Part::Gone(key, condition, values) => {
                let delete = Delete::builder().table_name(table).set_key(Some(key)).condition_expression(condition);
                let delete = delete.set_expression_attribute_values(Some(values));
                item.delete(delete.build().map_err(unfit)?).build()
            }
        })
    }

    /// Why a transaction was cancelled, if not for its conditions.
    fn cancelled(&self, action: &'static str, error: &SdkError<TransactError>) -> Option<Error> {
        let reasons = reasons(error)?;
        let told = |reason: &CancellationReason| format!("{}: {}", code(reason), reason.message().unwrap_or_default());
        let bad = reasons.iter().find(|reason| !matches!(code(reason), "None" | ""))?;
        let (action, resource, reason) = (action.to_owned(), self.settings.table.clone(), told(bad));
        Some(match code(bad) {
            "TransactionConflict" | "DuplicateItem" => Error::Unavailable { action, resource, reason },
            "ThrottlingError" | "ProvisionedThroughputExceeded" => Error::Throttled { action, resource, reason },
            "AccessDenied" => Error::Denied { action, resource },
            _ => Error::Refused { action, resource, reason },
        })
    }

    /// One row, as it is now.
    pub(crate) async fn row(&self, key: Row) -> Result<Option<Row>, Error> {
        let get = self.dynamodb.get_item().table_name(&self.settings.table).set_key(Some(key)).consistent_read(true);
        let got = get.send().await.map_err(|error| sorted(self.at_table("dynamodb:GetItem"), &error))?;
        Ok(got.item)
    }

    /// A query of the table as it is now; a caller adds the condition.
    pub(crate) fn query(&self) -> QueryFluentBuilder {
        self.dynamodb.query().table_name(&self.settings.table).consistent_read(true)
    }

    /// A query of an index, which is a moment behind.
    pub(crate) fn query_index(&self, index: &str) -> QueryFluentBuilder {
        self.dynamodb.query().table_name(&self.settings.table).index_name(index)
    }

    /// One page of a query: its rows, and where the next begins if there is more.
    pub(crate) async fn page(&self, query: QueryFluentBuilder) -> Result<(Vec<Row>, Option<Row>), Error> {
        let page = query.send().await.map_err(|error| sorted(self.at_table("dynamodb:Query"), &error))?;
        Ok((page.items.unwrap_or_default(), page.last_evaluated_key.filter(|key| !key.is_empty())))
    }

    /// The first `limit` rows of a query, in as many pages as it takes.
    pub(crate) async fn rows(&self, query: QueryFluentBuilder, limit: usize) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut from = None;
        loop {
            let left = limit - rows.len();
            let query = query.clone().set_exclusive_start_key(from);
            let query = if left < i32::MAX as usize { query.limit(left as i32) } else { query };
            let (page, next) = self.page(query).await?;
            rows.extend(page);
            from = next;
            if from.is_none() || rows.len() >= limit {
                rows.truncate(limit);
                return Ok(rows);
            }
        }
    }

    /// Waits before the next try if another transaction was in the way; any other error is one.
    async fn again<E>(&self, at: At<'_>, attempt: u32, error: &SdkError<E>) -> Result<(), Error>
    where
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let in_the_way = matches!(code_of(error), Some("TransactionConflictException" | "TransactionInProgressException"));
        if !in_the_way || attempt + 1 >= TRIES {
            return Err(sorted(at, error));
        }
        wait(attempt).await
    }
}

/// Waits for a random part of a time that doubles from try to try, so that those who met do not meet again.
async fn wait(attempt: u32) -> Result<(), Error> {
    let share = row::nonce()?.first().copied().unwrap_or_default();
    let longest = FIRST_WAIT * 2u32.saturating_pow(attempt.min(6));
    tokio::time::sleep(longest * (u32::from(share) + 1) / 256).await;
    Ok(())
}

/// The row that a condition did not hold for, if that is what the error says.
fn conditional<E: ConditionFailed>(error: &SdkError<E>) -> Option<Found> {
    error.as_service_error()?.found()
}

/// Errors that can say that a condition did not hold.
trait ConditionFailed {
    fn found(&self) -> Option<Found>;
}

macro_rules! condition_failed {
    ($($error:ty),*) => {$(
        impl ConditionFailed for $error {
            fn found(&self) -> Option<Found> {
                match self {
                    Self::ConditionalCheckFailedException(failed) => Some(failed.item().cloned()),
                    _ => None,
                }
            }
        }
    )*};
}

condition_failed!(
    aws_sdk_dynamodb::operation::put_item::PutItemError,
    aws_sdk_dynamodb::operation::update_item::UpdateItemError
);

fn reasons(error: &SdkError<TransactError>) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactError::TransactionCanceledException(cancelled) => Some(cancelled.cancellation_reasons()),
        _ => None,
    }
}

fn code(reason: &CancellationReason) -> &str {
    reason.code().unwrap_or_default()
}

/// What was found for each part, if a condition is among what failed: it then would not hold the next time either.
fn failed_conditions(error: &SdkError<TransactError>) -> Option<Vec<Option<Found>>> {
    let reasons = reasons(error)?;
    let found = |reason: &CancellationReason| (code(reason) == "ConditionalCheckFailed").then(|| reason.item().cloned());
    let found: Vec<Option<Found>> = reasons.iter().map(found).collect();
    found.iter().any(Option::is_some).then_some(found)
}

fn key_of(row: &Row) -> Row {
    let parts = [row::PARTITION, row::SORT].into_iter();
    parts.filter_map(|name| Some((name.to_owned(), row.get(name)?.clone()))).collect()
}
