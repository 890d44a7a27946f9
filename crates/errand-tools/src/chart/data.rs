//! From what the model wrote, or a CSV file, to numbers.

use super::{Chart, Csv, Error, Kind, Label, dates};
use crate::arguments::Refused;

/// A CSV file larger than this is to be boiled down by code first.
pub(crate) const CSV_BYTES_MAX: u64 = 64 << 20;
/// Most points in a picture, all series together: more cannot be told apart.
const POINTS_MAX: usize = 20_000;
/// Most values of a histogram.
const VALUES_MAX: usize = 2_000_000;
/// Most groups of bars.
const GROUPS_MAX: usize = 200;
/// Most slices of a pie.
const SLICES_MAX: usize = 12;

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Data {
    pub(super) kind: Kind,
    pub(super) x: X,
    pub(super) series: Vec<Series>,
}

/// The x values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum X {
    /// There are none (histogram).
    None,
    Numbers(Vec<f64>),
    /// Days since 1970-01-01.
    Days(Vec<f64>),
    Names(Vec<String>),
}

/// A row of values; `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) y: Vec<Option<f64>>,
}

impl X {
    fn len(&self) -> usize {
        match self {
            X::None => 0,
            X::Numbers(values) | X::Days(values) => values.len(),
            X::Names(names) => names.len(),
        }
    }
}

impl Data {
    /// All values.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|series| series.y.iter().flatten().copied())
    }

    /// One line on what it is.
    pub(super) fn summary(&self) -> String {
        let kind = format!("{:?}", self.kind).to_lowercase();
        let (count, low, high) = self
            .values()
            .fold((0usize, f64::INFINITY, f64::NEG_INFINITY), |(n, low, high), y| (n + 1, low.min(y), high.max(y)));
        let series = match self.series.len() {
            1 => String::new(),
            many => format!(" of {many} series"),
        };
        let missing = self.series.iter().map(|series| series.y.iter().filter(|y| y.is_none()).count()).sum::<usize>();
        let missing = if missing == 0 { String::new() } else { format!("; {missing} cells were empty") };
        format!("a {kind} chart{series} with {count} values from {low} to {high}{missing}")
    }
}

/// What can be said of the arguments before any file is read.
pub(super) fn check(chart: &Chart) -> Result<(), Refused> {
    if let Some(csv) = &chart.csv {
        return match (chart.kind, &csv.x) {
            (Kind::Histogram, None) | (Kind::Bar | Kind::Line | Kind::Scatter | Kind::Pie, Some(_)) => Ok(()),
            (Kind::Histogram, Some(_)) => Err(Refused::invalid("a histogram has no `csv.x`: leave it out")),
            (_, None) => Err(Refused::invalid("`csv.x` is missing: name the column with the x values")),
        };
    }
    let made = inline(chart).and_then(|data| fits(&data));
    made.map_err(|error| Refused::invalid(error.to_string()))
}

/// The data of `chart`.
pub(super) fn read(chart: &Chart, csv: Option<&[u8]>) -> Result<Data, Error> {
    let data = match (&chart.csv, csv) {
        (Some(columns), Some(bytes)) => from_csv(chart.kind, columns, bytes)?,
        (Some(columns), None) => {
            return Err(Error::Csv { path: columns.path.clone(), problem: "it was not read".to_owned() });
        }
        (None, _) => inline(chart)?,
    };
    fits(&data)?;
    Ok(data)
}

fn inline(chart: &Chart) -> Result<Data, Error> {
    let series: Vec<Series> = chart
        .series
        .iter()
        .flatten()
        .map(|series| Series { name: series.name.clone(), y: series.y.iter().copied().map(Some).collect() })
        .collect();
    let x = match (&chart.x, chart.kind) {
        (None, Kind::Histogram) => X::None,
        (Some(_), Kind::Histogram) => return Err(Error::data("a histogram has no `x`: leave it out")),
        (Some(labels), kind) => x_of(kind, labels.clone()),
        (None, Kind::Line) => {
            X::Numbers((1..=series.iter().map(|series| series.y.len()).max().unwrap_or(0)).map(|n| n as f64).collect())
        }
        (None, _) => return Err(Error::data("`x` is missing")),
    };
    Ok(Data { kind: chart.kind, x, series })
}

/// Numbers if all are, dates if all are, names otherwise. Bars and slices always have names.
fn x_of(kind: Kind, labels: Vec<Label>) -> X {
    let names_only = matches!(kind, Kind::Bar | Kind::Pie);
    let number = |label: &Label| match label {
        Label::Number(number) => Some(*number),
        Label::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
    };
    let day = |label: &Label| match label {
        Label::Text(text) => dates::days(text),
        Label::Number(_) => None,
    };
    if !names_only && let Some(numbers) = labels.iter().map(number).collect() {
        return X::Numbers(numbers);
    }
    if !names_only && let Some(days) = labels.iter().map(day).collect() {
        return X::Days(days);
    }
    X::Names(
        labels
            .into_iter()
            .map(|label| match label {
                Label::Number(number) => number.to_string(),
                Label::Text(text) => text,
            })
            .collect(),
    )
}

fn fits(data: &Data) -> Result<(), Error> {
    if data.kind != Kind::Histogram
        && let Some(series) = data.series.iter().find(|series| series.y.len() != data.x.len())
    {
        let (ys, xs) = (series.y.len(), data.x.len());
        return Err(Error::data(format!(
            "series {:?} has {ys} values for {xs} x values: both must be the same",
            series.name
        )));
    }
    let count = data.values().count();
    let most = if data.kind == Kind::Histogram { VALUES_MAX } else { POINTS_MAX };
    if count > most {
        return Err(Error::data(format!("{count} points are too many, at most {most}: summarise them first")));
    }
    if count == 0 {
        return Err(Error::data("there is not a single value"));
    }
    if data.values().any(|y| !y.is_finite() || y.abs() > 1e300) {
        return Err(Error::data("a value is infinite or beyond 1e300"));
    }
    let several = data.series.len() > 1;
    if several && data.kind != Kind::Pie && data.series.iter().any(|series| series.name.trim().is_empty()) {
        return Err(Error::data("with several series each needs a `name`, for the legend"));
    }
    match data.kind {
        Kind::Pie => fits_pie(data),
        Kind::Histogram if several => Err(Error::data("a histogram takes one series")),
        Kind::Scatter if matches!(data.x, X::Names(_)) => {
            Err(Error::data("the x values of a scatter chart must all be numbers or all be dates such as 2026-01-31"))
        }
        Kind::Bar if data.x.len() > GROUPS_MAX => {
            Err(Error::data(format!("{} bars are too many, at most {GROUPS_MAX}: draw a line or a histogram", data.x.len())))
        }
        _ => Ok(()),
    }
}

fn fits_pie(data: &Data) -> Result<(), Error> {
    if data.series.len() > 1 {
        return Err(Error::data("a pie takes one series"));
    }
    if data.values().any(|y| y < 0.0) || data.values().sum::<f64>() <= 0.0 {
        return Err(Error::data("the slices of a pie must not be negative, nor all be zero: draw bars"));
    }
    if data.x.len() > SLICES_MAX {
        return Err(Error::data(format!(
            "{} slices are too many, at most {SLICES_MAX}: join the small ones or draw bars",
            data.x.len()
        )));
    }
    Ok(())
}

fn from_csv(kind: Kind, columns: &Csv, bytes: &[u8]) -> Result<Data, Error> {
    let broken = |problem: String| Error::Csv { path: columns.path.clone(), problem };
    // Spreadsheets put a byte order mark before the first name.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(false).trim(csv::Trim::All).from_reader(bytes);
    let header: Vec<String> = reader.headers().map_err(|e| broken(e.to_string()))?.iter().map(str::to_owned).collect();
    let find = |column: &String| {
        header.iter().position(|name| name == column.trim()).ok_or_else(|| Error::Column {
            path: columns.path.clone(),
            column: column.clone(),
            columns: header.iter().take(50).cloned().collect(),
        })
    };
    let x_at = columns.x.as_ref().map(find).transpose()?;
    let y_at = columns.y.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mut labels = Vec::new();
    let mut series: Vec<Series> =
        columns.y.iter().map(|name| Series { name: name.trim().to_owned(), y: Vec::new() }).collect();
    let rows_max = if kind == Kind::Histogram { VALUES_MAX } else { POINTS_MAX };
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|e| broken(e.to_string()))?;
        if row >= rows_max {
            return Err(Error::data(format!("{:?} has more than {rows_max} rows: summarise them first", columns.path)));
        }
        labels.extend(x_at.map(|at| Label::Text(record[at].to_owned())));
        for (series, at) in series.iter_mut().zip(&y_at) {
            let cell = number(&record[*at]).map_err(|cell| {
                broken(format!("row {} of column {:?} holds {cell:?}, which is no number", row + 1, series.name))
            })?;
            series.y.push(cell);
        }
    }
    let x = if x_at.is_some() { x_of(kind, labels) } else { X::None };
    Ok(Data { kind, x, series })
}

/// A cell as a number; `None` if it is empty or says that nothing is there.
fn number(cell: &str) -> Result<Option<f64>, String> {
    if cell.is_empty() || matches!(cell.to_ascii_lowercase().as_str(), "na" | "n/a" | "nan" | "null" | "none" | "-") {
        return Ok(None);
    }
    match cell.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number)),
        _ => Err(cell.chars().take(40).collect()),
    }
}
