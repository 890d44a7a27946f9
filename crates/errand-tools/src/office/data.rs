//! What `data` takes.

use super::{Job, ending};
use crate::arguments::Refused;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a result can be written as, by the ending of its path.
const WRITTEN: [&str; 6] = [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx"];
/// Rows that are shown if nobody says how many.
const ROWS_OF_RESULT: u32 = 50;
const ROWS_OF_SAMPLE: u32 = 10;

/// Arguments of the tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    action: Action,
    #[serde(default)]
    files: Vec<String>,
    query: Option<String>,
    output: Option<String>,
    rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Sql,
    Profile,
    Sample,
}

impl Data {
    /// What no schema can say: which arguments go together.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let is_sql = self.action == Action::Sql;
        let refuse = |problem: String| Err(Refused::invalid(problem));
        if is_sql && self.query.as_deref().is_none_or(|query| query.trim().is_empty()) {
            return refuse("`query` is missing: give the SQL".to_owned());
        }
        if !is_sql && self.files.is_empty() {
            return refuse("`files` is missing: name the files to look at".to_owned());
        }
        if let Some(name) = [("query", self.query.is_some()), ("output", self.output.is_some())]
            .into_iter()
            .find_map(|(name, is_given)| (is_given && !is_sql).then_some(name))
        {
            return refuse(format!("`{name}` is for the action sql only"));
        }
        if self.action == Action::Profile && self.rows.is_some() {
            return refuse("`rows` is for the actions sql and sample only".to_owned());
        }
        match self.output.as_deref().map(ending) {
            Some(ending) if !WRITTEN.contains(&ending.as_str()) => {
                refuse(format!("`output` must end with one of {}", WRITTEN.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// As the program takes it.
    pub(crate) fn job(self) -> Job {
        let rows = self.rows.unwrap_or(if self.action == Action::Sample { ROWS_OF_SAMPLE } else { ROWS_OF_RESULT });
        let request = json!({
            "action": self.action, "files": self.files, "query": self.query, "output": self.output, "rows": rows,
        });
        Job { program: "data.py", request }
    }
}
