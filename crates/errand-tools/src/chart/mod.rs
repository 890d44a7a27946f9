//! The tool `chart`: a picture of numbers, as PNG and as SVG.
//!
//! [`Chart`] is what the model asks for, `data` turns it or a CSV file into numbers, `axis` chooses scales and their
//! labels, `canvas` draws points and text on either kind of picture, `plot` and `pie` compose. Needs no font of the host.

mod axis;
mod canvas;
mod data;
mod dates;
mod font;
mod frame;
mod pie;
mod plot;

use crate::arguments::Refused;
pub(crate) use data::CSV_BYTES_MAX;
use serde::Deserialize;

/// Arguments of the tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chart {
    kind: Kind,
    path: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    x_label: String,
    #[serde(default)]
    y_label: String,
    x: Option<Vec<Label>>,
    series: Option<Vec<Inline>>,
    csv: Option<Csv>,
    bins: Option<usize>,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Bar,
    Line,
    Scatter,
    Pie,
    Histogram,
}

/// An x value as the model wrote it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Label {
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inline {
    #[serde(default)]
    name: String,
    y: Vec<f64>,
}

/// Which columns of which file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Csv {
    path: String,
    x: Option<String>,
    y: Vec<String>,
}

/// A picture in both forms.
pub(crate) struct Drawn {
    /// Path and bytes of each file.
    pub(crate) files: [(String, Vec<u8>); 2],
    /// What was drawn, for the model.
    pub(crate) text: String,
}

impl Chart {
    /// What no schema can say: which arguments go together.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        match (&self.csv, &self.series) {
            (Some(_), Some(_)) => return Err(Refused::invalid("give either `csv` or `series`, not both")),
            (None, None) => return Err(Refused::invalid("the data is missing: give `series` (with `x`) or `csv`")),
            _ => {}
        }
        if self.csv.is_some() && self.x.is_some() {
            return Err(Refused::invalid("`x` does not go with `csv`: name the column in `csv.x`"));
        }
        if self.bins.is_some() && self.kind != Kind::Histogram {
            return Err(Refused::invalid("`bins` is for a histogram only"));
        }
        if self.stem().is_empty() || self.stem().ends_with('/') {
            return Err(Refused::invalid("`path` names no file: give one such as charts/sales"));
        }
        data::check(self)
    }

    /// The CSV file of the workspace that the data comes from, if it does.
    pub(crate) fn csv_path(&self) -> Option<&str> {
        self.csv.as_ref().map(|csv| csv.path.as_str())
    }

    /// Draws it. `csv` holds the bytes of [`Chart::csv_path`].
    pub(crate) fn draw(&self, csv: Option<&[u8]>) -> Result<Drawn, Error> {
        let data = data::read(self, csv)?;
        let size = (self.width.unwrap_or(960), self.height.unwrap_or(600));
        let svg = canvas::svg(size, |canvas| self.compose(&data, canvas))?;
        let png = canvas::png(size, |canvas| self.compose(&data, canvas))?;
        let stem = self.stem();
        let files = [(format!("{stem}.png"), png), (format!("{stem}.svg"), svg)];
        let text = format!("drew {} into {stem}.png and {stem}.svg", data.summary());
        Ok(Drawn { files, text })
    }

    fn compose(&self, data: &data::Data, canvas: &mut dyn canvas::Canvas) -> Result<(), Error> {
        match self.kind {
            Kind::Pie => pie::draw(self, data, canvas),
            _ => plot::draw(self, data, canvas),
        }
    }

    /// The path without its ending.
    fn stem(&self) -> &str {
        let path = self.path.as_str();
        path.strip_suffix(".png").or_else(|| path.strip_suffix(".svg")).unwrap_or(path)
    }
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The CSV file cannot be read as a table.
    #[error("{path:?} cannot be read as CSV: {problem}")]
    Csv { path: String, problem: String },
    #[error("{path:?} has no column {column:?}; it has {}", columns.join(", "))]
    Column { path: String, column: String, columns: Vec<String> },
    #[error("the data does not fit: {problem}")]
    Data { problem: String },
    /// The plotting library failed.
    #[error("drawing failed: {problem}")]
    Drawing { problem: String },
}

impl Error {
    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Csv { .. } => "csv_unreadable",
            Error::Column { .. } => "csv_column_unknown",
            Error::Data { .. } => "chart_data_invalid",
            Error::Drawing { .. } => "chart_failed",
        }
    }

    fn data(problem: impl Into<String>) -> Self {
        Error::Data { problem: problem.into() }
    }
}

#[cfg(test)]
mod tests;
