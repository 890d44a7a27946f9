//! What stands around the data: title, legend, axes, grid.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Ink, Lettering, Point};
use super::{Chart, Error};
use plotters::style::RGBColor;

pub(super) const MARGIN: f64 = 28.0;
pub(super) const SMALL: f64 = 13.0;
const TITLE: f64 = 21.0;
const TEXT: Ink = RGBColor(0x22, 0x26, 0x2b);
pub(super) const MUTED: Ink = RGBColor(0x4b, 0x52, 0x5b);
const GRID: Ink = RGBColor(0xe4, 0xe7, 0xeb);
const BASE: Ink = RGBColor(0x8b, 0x92, 0x9b);

/// Colours that people with any colour vision tell apart on white: the palette of Okabe and Ito (2008) without its
/// yellow, which is too pale for lines, and with two greys.
pub(super) const INKS: [Ink; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x40, 0x46, 0x4d),
    RGBColor(0xa3, 0xa9, 0xb1),
];

/// The place for the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Field {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Field {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn x(&self, share: f64) -> f64 {
        self.left + share * self.width()
    }

    pub(super) fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.share(value) * (self.bottom - self.top)
    }
}

/// A text in the colour of labels.
pub(super) fn muted(size: f64, anchor: Anchor) -> Lettering {
    Lettering { size, ink: MUTED, anchor, upright: false }
}

/// Draws the title and the legend, if any. Gives the place below them.
pub(super) fn head(chart: &Chart, legend: &[(&str, Ink)], canvas: &mut dyn Canvas) -> Result<f64, Error> {
    let (width, _) = canvas.size();
    let mut top = MARGIN;
    if !chart.title.trim().is_empty() {
        for line in wrapped(canvas, &chart.title, TITLE, width - 2.0 * MARGIN, 2) {
            let style = Lettering { size: TITLE, ink: TEXT, anchor: Anchor::Start, upright: false };
            canvas.text(&line, (MARGIN, top + 0.8 * TITLE), style)?;
            top += 1.3 * TITLE;
        }
        top += 4.0;
    }
    if legend.is_empty() {
        return Ok(top);
    }
    let mut left = MARGIN;
    for (name, ink) in legend {
        let name = cut(canvas, name, SMALL, 240.0);
        let room = canvas.width_of(&name, SMALL) + 42.0;
        if left > MARGIN && left + room > width - MARGIN {
            (left, top) = (MARGIN, top + 1.6 * SMALL);
        }
        canvas.rectangle((left, top + 1.0), (left + 12.0, top + 13.0), *ink)?;
        canvas.text(&name, (left + 18.0, top + 11.5), muted(SMALL, Anchor::Start))?;
        left += room;
    }
    Ok(top + 1.6 * SMALL + 4.0)
}

/// Draws the y axis with its grid, and the x axis's line and name. Gives the place for the data; below it, `below`
/// points are left for the labels of the x axis.
pub(super) fn axes(chart: &Chart, axis: &Axis, top: f64, below: f64, canvas: &mut dyn Canvas) -> Result<Field, Error> {
    let (width, height) = canvas.size();
    let mut top = top;
    if !chart.y_label.trim().is_empty() {
        let label = cut(canvas, &chart.y_label, SMALL, width - 2.0 * MARGIN);
        canvas.text(&label, (MARGIN, top + 12.0), muted(SMALL, Anchor::Start))?;
        top += 1.5 * SMALL + 6.0;
    }
    let widest = axis.ticks.iter().map(|tick| canvas.width_of(&tick.label, SMALL)).fold(0.0, f64::max);
    let mut bottom = height - MARGIN - below;
    if !chart.x_label.trim().is_empty() {
        bottom -= 1.6 * SMALL;
    }
    let field = Field { left: MARGIN + widest + 10.0, top: top + 8.0, right: width - MARGIN, bottom };
    for tick in &axis.ticks {
        let y = field.y(axis, tick.at);
        canvas.line(&[(field.left, y), (field.right, y)], GRID, 1.0)?;
        canvas.text(&tick.label, (field.left - 10.0, y + 0.35 * SMALL), muted(SMALL, Anchor::End))?;
    }
    if !chart.x_label.trim().is_empty() {
        let label = cut(canvas, &chart.x_label, SMALL, field.width());
        let middle = (field.left + field.right) / 2.0;
        canvas.text(&label, (middle, height - MARGIN + 4.0), muted(SMALL, Anchor::Middle))?;
    }
    Ok(field)
}

/// The line the data stands on.
pub(super) fn base(field: &Field, y: f64, canvas: &mut dyn Canvas) -> Result<(), Error> {
    canvas.line(&[(field.left, y), (field.right, y)], BASE, 1.25)
}

/// A short stroke below the x axis, with a label.
pub(super) fn x_tick(label: &str, at: Point, canvas: &mut dyn Canvas) -> Result<(), Error> {
    canvas.line(&[at, (at.0, at.1 + 5.0)], BASE, 1.0)?;
    canvas.text(label, (at.0, at.1 + 10.0 + 0.8 * SMALL), muted(SMALL, Anchor::Middle))
}

/// `text`, cut with … so that it fits `width`.
pub(super) fn cut(canvas: &dyn Canvas, text: &str, size: f64, width: f64) -> String {
    let text = text.trim();
    if canvas.width_of(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(400).collect();
    while kept.pop().is_some() {
        let shown = format!("{}…", kept.trim_end());
        if canvas.width_of(&shown, size) <= width {
            return shown;
        }
    }
    String::new()
}

/// `text` in at most `lines_max` lines that fit `width`; the last is cut.
fn wrapped(canvas: &dyn Canvas, text: &str, size: f64, width: f64, lines_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let longer = if lines[last].is_empty() { word.to_owned() } else { format!("{} {word}", lines[last]) };
        if lines.len() == lines_max || lines[last].is_empty() || canvas.width_of(&longer, size) <= width {
            lines[last] = longer;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.iter().map(|line| cut(canvas, line, size, width)).collect()
}
