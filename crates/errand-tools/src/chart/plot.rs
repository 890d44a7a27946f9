//! Charts on two axes: bars, lines, dots, histograms.

use super::axis::{self, Axis, Tick};
use super::canvas::{Anchor, Canvas, Ink, Lettering, Point};
use super::data::{Data, Series, X};
use super::frame::{self, Field, INKS, MUTED, SMALL, cut, muted};
use super::{Chart, Error, Kind, dates};

/// Labels of the x axis that stand upright take at most this many points.
const UPRIGHT_MAX: f64 = 130.0;
/// With at most this many bars each says its value.
const VALUES_SHOWN_MAX: usize = 24;
/// With at most this many points each point of a line gets a mark.
const MARKS_MAX: usize = 60;

pub(super) fn draw(chart: &Chart, data: &Data, canvas: &mut dyn Canvas) -> Result<(), Error> {
    let legend: Vec<(&str, Ink)> = match data.series.as_slice() {
        [_] => Vec::new(),
        many => many.iter().zip(INKS).map(|(series, ink)| (series.name.as_str(), ink)).collect(),
    };
    let top = frame::head(chart, &legend, canvas)?;
    match (&data.x, data.kind) {
        (_, Kind::Histogram) => histogram(chart, data, top, canvas),
        (X::Names(names), Kind::Bar) => bars(chart, data, names, top, canvas),
        _ => points(chart, data, top, canvas),
    }
}

/// The ends of all values.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// How many ticks fit a height or width.
fn count(length: f64, each: f64) -> usize {
    (length / each).clamp(2.0, 12.0) as usize
}

fn bars(chart: &Chart, data: &Data, names: &[String], top: f64, canvas: &mut dyn Canvas) -> Result<(), Error> {
    let (low, high) = ends(data.values());
    // A bar's length is its meaning: the axis always begins at 0.
    // Room for the values written below negative bars.
    let low = if low < 0.0 { low - (high.max(0.0) - low) * 0.08 } else { 0.0 };
    let axis = Axis::rounded(low, high.max(0.0), count(canvas.size().1, 90.0));
    let lines = NameLabels::fit(names, canvas.size().0 - 120.0, canvas);
    let field = frame::axes(chart, &axis, top, lines.height, canvas)?;
    let slot = field.width() / names.len() as f64;
    let gap = if names.len() > 60 { 0.1 } else { 0.25 };
    let width = slot * (1.0 - gap) / data.series.len() as f64;
    let zero = field.y(&axis, 0.0);
    let shown = data.series.len() * names.len() <= VALUES_SHOWN_MAX;
    for (nth, series) in data.series.iter().enumerate() {
        for (group, y) in series.y.iter().enumerate() {
            let Some(y) = *y else { continue };
            let left = field.left + slot * (group as f64 + gap / 2.0) + width * nth as f64;
            let inner = if width > 8.0 { 1.0 } else { 0.0 };
            let at = field.y(&axis, y);
            canvas.rectangle((left + inner, at.min(zero)), (left + width - inner, at.max(zero)), INKS[nth])?;
            let label = axis::brief(y);
            if shown && canvas.width_of(&label, SMALL) < width + slot * gap {
                let baseline = if y < 0.0 { at + 1.2 * SMALL } else { at - 0.4 * SMALL };
                canvas.text(&label, (left + width / 2.0, baseline), muted(SMALL, Anchor::Middle))?;
            }
        }
    }
    frame::base(&field, zero, canvas)?;
    lines.draw(&field, slot, canvas)
}

/// How the names below an axis are written: across if they fit, upright otherwise, some left out if they still do not.
struct NameLabels {
    labels: Vec<String>,
    upright: bool,
    every: usize,
    height: f64,
}

impl NameLabels {
    fn fit(names: &[String], width: f64, canvas: &dyn Canvas) -> Self {
        let slot = width / names.len() as f64;
        let widest = names.iter().map(|name| canvas.width_of(name, SMALL)).fold(0.0, f64::max);
        let upright = widest > slot - 6.0;
        let room = if upright { UPRIGHT_MAX } else { slot };
        let labels: Vec<String> = names.iter().map(|name| cut(canvas, name, SMALL, room)).collect();
        let longest = labels.iter().map(|label| canvas.width_of(label, SMALL)).fold(0.0, f64::max);
        let height = if upright { longest + 14.0 } else { 2.0 * SMALL };
        let every = if upright { (1.5 * SMALL / slot).ceil().max(1.0) as usize } else { 1 };
        Self { labels, upright, every, height }
    }

    fn draw(&self, field: &Field, slot: f64, canvas: &mut dyn Canvas) -> Result<(), Error> {
        for (index, label) in self.labels.iter().enumerate().step_by(self.every) {
            let middle = field.left + slot * (index as f64 + 0.5);
            if self.upright {
                let style = Lettering { size: SMALL, ink: MUTED, anchor: Anchor::End, upright: true };
                canvas.text(label, (middle + 0.35 * SMALL, field.bottom + 8.0), style)?;
            } else {
                canvas.text(label, (middle, field.bottom + 8.0 + 0.8 * SMALL), muted(SMALL, Anchor::Middle))?;
            }
        }
        Ok(())
    }
}

/// Lines and dots.
fn points(chart: &Chart, data: &Data, top: f64, canvas: &mut dyn Canvas) -> Result<(), Error> {
    let (low, high) = ends(data.values());
    // Close to 0, the axis includes it; far from it, it would flatten the data.
    let low = if low > 0.0 && low < 0.4 * high { 0.0 } else { low };
    let axis = Axis::rounded(low, high, count(canvas.size().1, 90.0));
    let names = match &data.x {
        X::Names(names) => Some(NameLabels::fit(names, canvas.size().0 - 120.0, canvas)),
        _ => None,
    };
    let below = names.as_ref().map_or(2.0 * SMALL, |names| names.height);
    let field = frame::axes(chart, &axis, top, below, canvas)?;
    let across = match (&data.x, names) {
        (X::Names(names), Some(labels)) => {
            let slot = field.width() / names.len() as f64;
            labels.draw(&field, slot, canvas)?;
            (0..names.len()).map(|index| (index as f64 + 0.5) / names.len() as f64).collect()
        }
        _ => numbers_across(data, &field, canvas)?,
    };
    frame::base(&field, field.bottom, canvas)?;
    let few = across.len() * data.series.len() <= MARKS_MAX;
    for (nth, series) in data.series.iter().enumerate() {
        let places = places(series, &across, &field, &axis);
        if data.kind == Kind::Scatter {
            let radius = if across.len() > 500 { 2.0 } else { 4.0 };
            places.iter().flatten().try_for_each(|at| mark(nth, *at, radius, canvas))?;
        } else {
            line(nth, &places, few, canvas)?;
        }
    }
    Ok(())
}

/// Draws the x axis of numbers or dates. Gives where each x lies, from 0 to 1.
fn numbers_across(data: &Data, field: &Field, canvas: &mut dyn Canvas) -> Result<Vec<f64>, Error> {
    let (X::Numbers(values) | X::Days(values)) = &data.x else { return Ok(Vec::new()) };
    let (low, high) = ends(values.iter().copied());
    let room = if data.kind == Kind::Scatter { 0.03 } else { 0.01 };
    let fit = count(field.width(), 100.0);
    let mut axis = Axis::tight(low, high, fit, room);
    if matches!(data.x, X::Days(_)) {
        axis.ticks = dates::ticks(axis.low, axis.high, fit);
    } else if is_years(values) {
        axis.ticks = axis
            .ticks
            .into_iter()
            .filter(|tick| tick.at.fract() == 0.0)
            .map(|tick| Tick { label: tick.at.to_string(), ..tick })
            .collect();
    }
    for tick in &axis.ticks {
        frame::x_tick(&tick.label, (field.x(axis.share(tick.at)), field.bottom), canvas)?;
    }
    Ok(values.iter().map(|value| axis.share(*value)).collect())
}

/// Whole numbers that read as years are written without a comma.
fn is_years(values: &[f64]) -> bool {
    values.iter().all(|value| value.fract() == 0.0 && (1000.0..=2999.0).contains(value))
}

fn places(series: &Series, across: &[f64], field: &Field, axis: &Axis) -> Vec<Option<Point>> {
    series.y.iter().zip(across).map(|(y, share)| y.map(|y| (field.x(*share), field.y(axis, y)))).collect()
}

/// A line with a gap wherever a value is missing.
fn line(nth: usize, places: &[Option<Point>], few: bool, canvas: &mut dyn Canvas) -> Result<(), Error> {
    for piece in places.split(Option::is_none) {
        let piece: Vec<Point> = piece.iter().flatten().copied().collect();
        match piece.as_slice() {
            [] => {}
            [alone] => mark(nth, *alone, 3.5, canvas)?,
            many => canvas.line(many, INKS[nth], 2.25)?,
        }
        if few {
            piece.iter().try_for_each(|at| mark(nth, *at, 3.5, canvas))?;
        }
    }
    Ok(())
}

/// Marks differ in form as well as in colour.
fn mark(nth: usize, at: Point, radius: f64, canvas: &mut dyn Canvas) -> Result<(), Error> {
    let ((x, y), r, ink) = (at, radius, INKS[nth]);
    match nth % 4 {
        0 => canvas.dot(at, r, ink),
        1 => canvas.rectangle((x - 0.9 * r, y - 0.9 * r), (x + 0.9 * r, y + 0.9 * r), ink),
        2 => canvas.area(&[(x, y - 1.3 * r), (x + 1.15 * r, y + 0.8 * r), (x - 1.15 * r, y + 0.8 * r)], ink),
        _ => canvas.area(&[(x, y - 1.35 * r), (x + 1.35 * r, y), (x, y + 1.35 * r), (x - 1.35 * r, y)], ink),
    }
}

fn histogram(chart: &Chart, data: &Data, top: f64, canvas: &mut dyn Canvas) -> Result<(), Error> {
    let mut values: Vec<f64> = data.values().collect();
    values.sort_by(f64::total_cmp);
    let bins = chart.bins.unwrap_or_else(|| bins_for(&values));
    let (low, high) = (values[0], values[values.len() - 1]);
    let across = Axis::tight(low, high, count(canvas.size().0, 100.0), 0.0);
    let mut counts = vec![0u64; bins];
    for value in &values {
        counts[((across.share(*value) * bins as f64) as usize).min(bins - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1) as f64;
    let mut axis = Axis::rounded(0.0, most, count(canvas.size().1, 90.0));
    axis.ticks.retain(|tick| tick.at.fract() == 0.0);
    let field = frame::axes(chart, &axis, top, 2.0 * SMALL, canvas)?;
    let width = field.width() / bins as f64;
    let inner = if width > 6.0 { 0.75 } else { 0.0 };
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let left = field.left + width * index as f64;
        let at = field.y(&axis, *count as f64);
        canvas.rectangle((left + inner, at), (left + width - inner, field.bottom), INKS[0])?;
    }
    frame::base(&field, field.bottom, canvas)?;
    for tick in &across.ticks {
        frame::x_tick(&tick.label, (field.x(across.share(tick.at)), field.bottom), canvas)?;
    }
    Ok(())
}

/// The rule of Freedman and Diaconis (1981), from sorted values.
fn bins_for(sorted: &[f64]) -> usize {
    let quartile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    let width = 2.0 * (quartile(0.75) - quartile(0.25)) / (sorted.len() as f64).cbrt();
    let span = sorted[sorted.len() - 1] - sorted[0];
    let sturges = (sorted.len() as f64).log2().ceil() + 1.0;
    let bins = if width > 0.0 { (span / width).ceil() } else { sturges };
    if bins.is_finite() { bins.clamp(5.0, 60.0) as usize } else { 10 }
}
