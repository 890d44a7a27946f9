//! Pies: slices clockwise from the top, each with its name and share beside it.

use super::canvas::{Anchor, Canvas, Ink, Point};
use super::data::{Data, X};
use super::frame::{self, INKS, SMALL, cut, muted};
use super::{Chart, Error};
use plotters::style::{RGBColor, WHITE};
use std::f64::consts::TAU;

pub(super) fn draw(chart: &Chart, data: &Data, canvas: &mut dyn Canvas) -> Result<(), Error> {
    let X::Names(names) = &data.x else { return Err(Error::data("`x` must name the slices")) };
    let top = frame::head(chart, &[], canvas)? + 10.0;
    let (width, height) = canvas.size();
    let radius = ((height - top - frame::MARGIN - 40.0) / 2.0).min(width / 2.0 - 190.0).max(60.0);
    let centre = (width / 2.0, (top + height - frame::MARGIN) / 2.0);
    let values: Vec<f64> = data.series[0].y.iter().map(|y| y.unwrap_or(0.0)).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    // Scaled first: a sum of huge values would be infinite.
    let total: f64 = values.iter().map(|value| value / largest).sum();
    let mut begun = 0.0;
    let mut labels = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let share = value / largest / total;
        if share > 0.0 {
            canvas.area(&slice(centre, radius, begun, begun + share), ink(index))?;
            labels.push((index, share, begun + share / 2.0));
        }
        begun += share;
    }
    if labels.len() > 1 {
        labels.iter().try_for_each(|(_, share, middle)| {
            canvas.line(&[centre, around(centre, radius, middle - share / 2.0)], WHITE, 1.5)
        })?;
    }
    write_labels(names, &labels, centre, radius, canvas)
}

/// Names beside the slices, pushed apart where they would touch.
fn write_labels(
    names: &[String],
    labels: &[(usize, f64, f64)],
    centre: Point,
    radius: f64,
    canvas: &mut dyn Canvas,
) -> Result<(), Error> {
    let (width, height) = canvas.size();
    for right in [true, false] {
        let mut side: Vec<_> = labels.iter().filter(|(_, _, middle)| (*middle < 0.5) == right).collect();
        if !right {
            side.reverse();
        }
        let line = 1.35 * SMALL;
        let mut rows: Vec<f64> = side.iter().map(|(_, _, middle)| around(centre, radius + 18.0, *middle).1).collect();
        for row in 1..rows.len() {
            rows[row] = rows[row].max(rows[row - 1] + line);
        }
        // Those pushed below the edge push back.
        let mut floor = height - frame::MARGIN;
        for row in rows.iter_mut().rev() {
            *row = row.min(floor);
            floor = *row - line;
        }
        for ((index, share, middle), y) in side.into_iter().zip(rows) {
            let elbow = around(centre, radius + 10.0, *middle);
            let aside = if right { 1.0 } else { -1.0 };
            let x = (centre.0 + aside * (radius + 24.0)).max(frame::MARGIN);
            let end = if right { elbow.0.max(x - 6.0) } else { elbow.0.min(x + 6.0) };
            canvas.line(&[around(centre, radius + 2.0, *middle), elbow, (end, y)], ink(*index), 1.25)?;
            let percent = format!(" {:.1}%", share * 100.0);
            let room = if right { width - x } else { x } - frame::MARGIN - canvas.width_of(&percent, SMALL);
            let label = format!("{}{percent}", cut(canvas, &names[*index], SMALL, room.max(20.0)));
            let anchor = if right { Anchor::Start } else { Anchor::End };
            canvas.text(&label, (x, y + 0.35 * SMALL), muted(SMALL, anchor))?;
        }
    }
    Ok(())
}

/// The place at a share of the way around, from the top.
fn around(centre: Point, radius: f64, share: f64) -> Point {
    let (sin, cos) = (share * TAU).sin_cos();
    (centre.0 + radius * sin, centre.1 - radius * cos)
}

fn slice(centre: Point, radius: f64, from: f64, to: f64) -> Vec<Point> {
    let steps = ((to - from) * 240.0).ceil().max(2.0) as usize;
    let rim = (0..=steps).map(|step| around(centre, radius, from + (to - from) * step as f64 / steps as f64));
    if to - from > 0.9999 { rim.collect() } else { std::iter::once(centre).chain(rim).collect() }
}

/// After the eighth slice the colours begin again, lighter.
fn ink(index: usize) -> Ink {
    let own = INKS[index % INKS.len()];
    if index < INKS.len() {
        return own;
    }
    let lighter = |channel: u8| channel / 2 + 127;
    RGBColor(lighter(own.0), lighter(own.1), lighter(own.2))
}
