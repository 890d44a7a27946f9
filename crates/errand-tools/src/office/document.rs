//! What `document` takes.

use super::{Job, ending};
use crate::arguments::Refused;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is written, by the ending of its path.
const WRITTEN: [&str; 4] = [".docx", ".pdf", ".html", ".xlsx"];
/// Most cells that a model writes out itself; more come from a file.
const CELLS_MAX: usize = 50_000;

/// Arguments of the tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    to: Vec<String>,
    markdown: Option<String>,
    from: Option<String>,
    sheets: Option<Vec<Sheet>>,
    title: Option<String>,
    author: Option<String>,
    language: Option<String>,
    page: Option<Page>,
    landscape: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Page {
    A4,
    Letter,
}

/// A sheet of a workbook: from a file, or as it stands here.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Vec<Value>>>,
    #[serde(default)]
    charts: Vec<SheetChart>,
}

/// A chart beside the rows, which the program that shows the workbook draws.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SheetChart {
    kind: SheetChartKind,
    x: String,
    y: Vec<String>,
    title: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum SheetChartKind {
    Bar,
    Line,
    Pie,
    Scatter,
}

impl Document {
    /// What no schema can say: which arguments go together.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let refuse = |problem: &str| Err(Refused::invalid(problem));
        let endings: Vec<String> = self.to.iter().map(|path| ending(path)).collect();
        if let Some((path, _)) = self.to.iter().zip(&endings).find(|(_, ending)| !WRITTEN.contains(&ending.as_str())) {
            let path = path.chars().take(100).collect::<String>();
            return refuse(&format!("`to` holds {path:?}, which must end with one of {}", WRITTEN.join(", ")));
        }
        if self.to.iter().collect::<BTreeSet<_>>().len() < self.to.len() {
            return refuse("`to` names a file twice");
        }
        let (has_book, has_text) = (endings.iter().any(|one| one == ".xlsx"), endings.iter().any(|one| one != ".xlsx"));
        match (&self.markdown, &self.from) {
            (Some(_), Some(_)) => return refuse("give either `markdown` or `from`, not both"),
            (None, None) if has_text => return refuse("the text is missing: give `markdown` or `from`"),
            (None, None) if self.sheets.is_none() => {
                return refuse("the tables are missing: give `sheets`, or Markdown that has tables");
            }
            _ => {}
        }
        if self.sheets.is_some() && !has_book {
            return refuse("`sheets` is for a workbook: name one that ends with .xlsx in `to`");
        }
        self.sheets.iter().flatten().try_for_each(Sheet::check)
    }

    /// As the program takes it.
    pub(crate) fn job(self) -> Job {
        let request = json!({
            "to": self.to, "markdown": self.markdown, "from": self.from, "sheets": self.sheets, "title": self.title,
            "author": self.author, "language": self.language, "page": self.page, "landscape": self.landscape,
        });
        Job { program: "document.py", request }
    }
}

impl Sheet {
    fn check(&self) -> Result<(), Refused> {
        let refuse = |problem: String| Err(Refused::invalid(format!("sheet {:?}: {problem}", self.name)));
        match (&self.from, &self.columns, &self.rows) {
            (Some(_), None, None) => Ok(()),
            (None, Some(columns), Some(rows)) => {
                if let Some(row) = rows.iter().position(|row| row.len() > columns.len()) {
                    return refuse(format!("row {} has more cells than there are columns", row + 1));
                }
                if rows.iter().map(Vec::len).sum::<usize>() > CELLS_MAX {
                    return refuse(format!("more than {CELLS_MAX} cells: write them to a CSV file and give `from`"));
                }
                Ok(())
            }
            _ => refuse("give either `from`, or `columns` and `rows`".to_owned()),
        }
    }
}
