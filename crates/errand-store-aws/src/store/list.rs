//! Lists of runs. Runs that have ended are filed under how; the others under [`OPEN`], and where one of those stands is read
//! from its last record. A list is the merge of those files, newest first.

use super::AwsStore;
use super::read::run_of;
use crate::Error;
use crate::row::{self, Row};
use errand_core::{Record, RunId, TenantId, Timestamp, Totals};
use errand_engine::ports::{Page, RunFilter, RunSummary};
use futures::future;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Runs on a page unless the filter says otherwise.
const PAGE: u32 = 50;
/// The most.
const PAGE_MAX: u32 = 1_000;
/// Runs that are looked at together.
const TOGETHER: usize = 16;
/// The file of runs that have not ended, as far as lists know.
pub(super) const OPEN: &str = "open";
/// The status codes of runs that have ended.
const ENDED: [&str; 4] = ["done", "failed", "cancelled", "budget_exceeded"];

/// What lists show of a run's beginning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct First {
    #[serde(default)]
    tenant: TenantId,
    started: Timestamp,
    task: String,
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<RunId>,
}

impl First {
    pub(super) fn of(summary: &RunSummary) -> Self {
        let RunSummary { tenant, started, task, model, parent, .. } = summary.clone();
        Self { tenant, started, task, model, parent }
    }

    pub(super) fn to_text(&self) -> String {
        // Plain data with text keys only.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What lists show of where a run stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Last {
    number: u64,
    at: Timestamp,
    status: String,
    totals: Totals,
}

impl Last {
    pub(super) fn of(record: &Record) -> Self {
        let head = &record.head;
        Self { number: record.number, at: record.at, status: head.status.code().to_owned(), totals: head.totals }
    }

    pub(super) fn to_text(&self) -> String {
        // Plain data with text keys only.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The file of a tenant's runs with this status.
pub(super) fn list_partition(tenant: &TenantId, status: &str) -> String {
    format!("{tenant}/{status}")
}

/// One file, read from its newest run on.
struct File {
    partition: String,
    before: Option<String>,
    rows: VecDeque<(RunId, Row)>,
    from: Option<Row>,
    is_read: bool,
}

impl AwsStore {
    pub(super) async fn list_rows(&self, filter: &RunFilter) -> Result<Page, Error> {
        let limit = if filter.limit == 0 { PAGE } else { filter.limit.min(PAGE_MAX) } as usize;
        let ended = ENDED.iter().filter(|status| filter.status.as_ref().is_none_or(|wanted| wanted == *status));
        let mut files: Vec<File> =
            ended.chain([&OPEN]).map(|status| File::new(&filter.tenant, status, filter.before)).collect();
        let mut runs = Vec::new();
        while runs.len() <= limit {
            let next = self.newest(&mut files, (limit + 1 - runs.len()).min(TOGETHER)).await?;
            if next.is_empty() {
                break;
            }
            let summaries = next.into_iter().map(|(run, row)| self.summary(run, row));
            let summaries = future::try_join_all(summaries).await?.into_iter().flatten();
            runs.extend(summaries.filter(|run| filter.status.as_ref().is_none_or(|wanted| *wanted == run.status)));
        }
        let has_more = runs.len() > limit;
        runs.truncate(limit);
        Ok(Page { runs, has_more })
    }

    /// The newest `count` runs of all files.
    async fn newest(&self, files: &mut [File], count: usize) -> Result<Vec<(RunId, Row)>, Error> {
        let mut newest: Vec<(RunId, Row)> = Vec::with_capacity(count);
        while newest.len() < count {
            let empty = files.iter_mut().filter(|file| file.rows.is_empty() && !file.is_read);
            future::try_join_all(empty.map(|file| self.read_on(file, count))).await?;
            let next = files.iter_mut().filter(|file| !file.rows.is_empty()).max_by_key(|file| file.rows[0].0);
            let Some(found) = next.and_then(|file| file.rows.pop_front()) else { break };
            // One that ended just now can be in two files for a moment.
            if newest.last().is_none_or(|(run, _)| *run != found.0) {
                newest.push(found);
            }
        }
        Ok(newest)
    }

    async fn read_on(&self, file: &mut File, count: usize) -> Result<(), Error> {
        while file.rows.is_empty() && !file.is_read {
            let query = self.aws.query_index(row::LIST_INDEX).scan_index_forward(false).limit(count as i32);
            let query = query.expression_attribute_values(":file", row::text(&file.partition));
            let query = match &file.before {
                Some(before) => query
                    .key_condition_expression("lp = :file AND pk < :before")
                    .expression_attribute_values(":before", row::text(before)),
                None => query.key_condition_expression("lp = :file"),
            };
            let (rows, from) = self.aws.page(query.set_exclusive_start_key(file.from.take())).await?;
            file.is_read = from.is_none();
            file.from = from;
            for row in rows {
                file.rows.push_back((run_of(&row)?, row));
            }
        }
        Ok(())
    }

    /// A run as a list shows it; `None` if it is not there.
    async fn summary(&self, run: RunId, listed: Row) -> Result<Option<RunSummary>, Error> {
        let First { tenant, started, task, model, parent } = parsed(&listed, row::FIRST, run)?;
        let last = match listed.contains_key(row::LAST) {
            true => parsed(&listed, row::LAST, run)?,
            false => {
                let Some(record) = self.last_row(run).await? else { return Ok(None) };
                if record.head.status.is_ended() {
                    self.list_as_ended(run, &tenant, &record).await;
                }
                Last::of(&record)
            }
        };
        let Last { number, at, status, totals } = last;
        Ok(Some(RunSummary { run, tenant, started, at, number, task, model, status, totals, parent }))
    }
}

impl File {
    fn new(tenant: &TenantId, status: &str, before: Option<RunId>) -> Self {
        let before = before.map(|run| run.to_string());
        Self { partition: list_partition(tenant, status), before, rows: VecDeque::new(), from: None, is_read: false }
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(row: &Row, name: &str, run: RunId) -> Result<T, Error> {
    let text = row::text_of(row, name).unwrap_or_default();
    serde_json::from_str(text).map_err(|error| row::unreadable(format!("the row of run {run}"), error.to_string()))
}
