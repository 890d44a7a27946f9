//! Two kinds of pictures behind one way to draw: points from the top left, text by its baseline.

use super::Error;
use super::font::Font;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, Drawable, PathElement, PointCollection, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, IntoTextStyle, RGBColor, ShapeStyle, TextStyle, WHITE};

/// What an SVG asks its viewer for. The first is the font of the PNG.
const FAMILY: &str = "Ubuntu, Helvetica, Arial, sans-serif";
/// The SVG backend divides sizes by this, and puts the baseline so far (in em) below a point at the top of a text.
const SVG_SIZE_PER_EM: f64 = 1.24;
const SVG_BASELINE_EM: f64 = 0.76;
/// An SVG counts in quarters of a point, because the backend knows whole numbers only.
const SVG_SCALE: u32 = 4;
/// A PNG has so many pixels for each point, and is drawn twice as large again so that edges come out smooth.
const PNG_SCALE: u32 = 2;
const SMOOTHING: u32 = 2;

/// A point, from the top left.
pub(super) type Point = (f64, f64);

/// Which end of a text its point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    /// Where the text begins from its point, in its own widths.
    fn shift(self) -> f64 {
        match self {
            Anchor::Start => 0.0,
            Anchor::Middle => -0.5,
            Anchor::End => -1.0,
        }
    }
}

/// A colour.
pub(super) type Ink = RGBColor;

/// How a text looks and lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lettering {
    /// Size in points per em.
    pub(super) size: f64,
    pub(super) ink: Ink,
    pub(super) anchor: Anchor,
    /// True if it runs from bottom to top.
    pub(super) upright: bool,
}

/// What charts are drawn on.
pub(super) trait Canvas {
    /// Width and height in points.
    fn size(&self) -> Point;
    fn line(&mut self, points: &[Point], ink: Ink, width: f64) -> Result<(), Error>;
    fn area(&mut self, points: &[Point], ink: Ink) -> Result<(), Error>;
    fn rectangle(&mut self, from: Point, to: Point, ink: Ink) -> Result<(), Error>;
    fn dot(&mut self, at: Point, radius: f64, ink: Ink) -> Result<(), Error>;
    /// `at` lies on the baseline.
    fn text(&mut self, text: &str, at: Point, lettering: Lettering) -> Result<(), Error>;
    /// Width of a text in points.
    fn width_of(&self, text: &str, size: f64) -> f64;
}

/// An SVG picture.
pub(super) fn svg(size: (u32, u32), compose: impl FnOnce(&mut dyn Canvas) -> Result<(), Error>) -> Result<Vec<u8>, Error> {
    let font = Font::built_in()?;
    let (width, height) = (size.0 * SVG_SCALE, size.1 * SVG_SCALE);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        let mut sheet = Sheet { area, scale: f64::from(SVG_SCALE), font, pixels: false };
        compose_on(&mut sheet, compose)?;
    }
    let counted = format!("width=\"{width}\" height=\"{height}\"");
    let shown = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    Ok(text.replacen(&counted, &shown, 1).into_bytes())
}

/// A PNG picture.
pub(super) fn png(size: (u32, u32), compose: impl FnOnce(&mut dyn Canvas) -> Result<(), Error>) -> Result<Vec<u8>, Error> {
    let font = Font::built_in()?;
    let scale = PNG_SCALE * SMOOTHING;
    let (width, height) = (size.0 * scale, size.1 * scale);
    let mut pixels = vec![0u8; width as usize * height as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        let mut sheet = Sheet { area, scale: f64::from(scale), font, pixels: true };
        compose_on(&mut sheet, compose)?;
    }
    let small = shrunk(&pixels, width as usize, SMOOTHING as usize);
    encoded(&small, size.0 * PNG_SCALE, size.1 * PNG_SCALE)
}

fn compose_on<DB: DrawingBackend>(
    sheet: &mut Sheet<DB>,
    compose: impl FnOnce(&mut dyn Canvas) -> Result<(), Error>,
) -> Result<(), Error> {
    sheet.area.fill(&WHITE).map_err(drawing)?;
    compose(sheet)?;
    sheet.area.present().map_err(drawing)
}

struct Sheet<DB: DrawingBackend> {
    area: DrawingArea<DB, Shift>,
    /// Units of the backend per point.
    scale: f64,
    font: Font,
    /// True if it is made of pixels: then letters and the joints of lines are drawn here, better than the backend does.
    pixels: bool,
}

impl<DB: DrawingBackend> Sheet<DB> {
    fn at(&self, point: Point) -> (i32, i32) {
        let unit = |value: f64| (value * self.scale).round().clamp(-1e6, 1e6) as i32;
        (unit(point.0), unit(point.1))
    }

    fn all(&self, points: &[Point]) -> Vec<(i32, i32)> {
        points.iter().map(|point| self.at(*point)).collect()
    }

    fn length(&self, length: f64) -> u32 {
        (length * self.scale).round().max(1.0) as u32
    }

    fn put<E>(&self, element: E) -> Result<(), Error>
    where
        for<'b> &'b E: PointCollection<'b, (i32, i32)>,
        E: Drawable<DB>,
    {
        self.area.draw(&element).map_err(drawing)
    }

    fn letters(&self, text: &str, at: Point, lettering: Lettering) -> Result<(), Error> {
        let em = lettering.size * self.scale;
        let shift = lettering.anchor.shift() * self.font.width(text, em);
        let (left, base) = (at.0 * self.scale, at.1 * self.scale);
        let (width, height) = self.area.dim_in_pixel();
        let mut failed = Ok(());
        self.font.draw(text, em, |x, y, cover| {
            let (x, y) = (x + shift, y);
            let (x, y) = if lettering.upright { (left + y, base - x) } else { (left + x, base + y) };
            let inside = x >= 0.0 && y >= 0.0 && x < f64::from(width) && y < f64::from(height);
            if inside && failed.is_ok() {
                failed = self.area.draw_pixel((x as i32, y as i32), &lettering.ink.mix(cover));
            }
        });
        failed.map_err(drawing)
    }

    fn words(&self, text: &str, at: Point, lettering: Lettering) -> Result<(), Error> {
        let down = SVG_BASELINE_EM * lettering.size;
        let point = if lettering.upright { (at.0 - down, at.1) } else { (at.0, at.1 - down) };
        let across = match lettering.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = (FAMILY, lettering.size * self.scale * SVG_SIZE_PER_EM).into_font();
        let font = if lettering.upright { font.transform(FontTransform::Rotate270) } else { font };
        let style: TextStyle<'_> = font.into_text_style(&self.area).color(&lettering.ink).pos(Pos::new(across, VPos::Top));
        self.area.draw_text(text, &style, self.at(point)).map_err(drawing)
    }
}

impl<DB: DrawingBackend> Canvas for Sheet<DB> {
    fn size(&self) -> Point {
        let (width, height) = self.area.dim_in_pixel();
        (f64::from(width) / self.scale, f64::from(height) / self.scale)
    }

    fn line(&mut self, points: &[Point], ink: Ink, width: f64) -> Result<(), Error> {
        let stroke = ink.stroke_width(self.length(width));
        if !self.pixels || points.len() < 3 {
            return self.put(PathElement::new(self.all(points), stroke));
        }
        points.windows(2).try_for_each(|pair| self.put(PathElement::new(self.all(pair), stroke)))?;
        points[1..points.len() - 1].iter().try_for_each(|at| self.dot(*at, width / 2.0 - 0.15, ink))
    }

    fn area(&mut self, points: &[Point], ink: Ink) -> Result<(), Error> {
        self.put(Polygon::new(self.all(points), ink.filled()))
    }

    fn rectangle(&mut self, from: Point, to: Point, ink: Ink) -> Result<(), Error> {
        self.put(Rectangle::new([self.at(from), self.at(to)], ink.filled()))
    }

    fn dot(&mut self, at: Point, radius: f64, ink: Ink) -> Result<(), Error> {
        self.put(Circle::new(self.at(at), self.length(radius), ShapeStyle::from(&ink).filled()))
    }

    fn text(&mut self, text: &str, at: Point, lettering: Lettering) -> Result<(), Error> {
        // Characters that the format of an SVG forbids must not get there.
        let clean: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}')).collect();
        if self.pixels { self.letters(&clean, at, lettering) } else { self.words(&clean, at, lettering) }
    }

    fn width_of(&self, text: &str, size: f64) -> f64 {
        // A viewer of the SVG without the font shows a wider one: leave room for it, alike in both pictures.
        self.font.width(text, size) * 1.15
    }
}

pub(super) fn drawing(error: impl std::fmt::Display) -> Error {
    Error::Drawing { problem: error.to_string() }
}

/// A picture made smaller by a whole factor: each pixel is the mean of those it takes the place of.
fn shrunk(pixels: &[u8], width: usize, factor: usize) -> Vec<u8> {
    let row_bytes = width * 3;
    let share = (factor * factor) as u32;
    let mut sums = vec![0u32; row_bytes / factor];
    let mut small = Vec::with_capacity(pixels.len() / (factor * factor));
    for rows in pixels.chunks_exact(row_bytes * factor) {
        sums.fill(share / 2);
        for row in rows.chunks_exact(row_bytes) {
            for (block, sum) in row.chunks_exact(3 * factor).zip(sums.chunks_exact_mut(3)) {
                for pixel in block.chunks_exact(3) {
                    sum[0] += u32::from(pixel[0]);
                    sum[1] += u32::from(pixel[1]);
                    sum[2] += u32::from(pixel[2]);
                }
            }
        }
        small.extend(sums.iter().map(|sum| (sum / share) as u8));
    }
    small
}

fn encoded(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(drawing)?;
    writer.write_image_data(pixels).map_err(drawing)?;
    writer.finish().map_err(drawing)?;
    Ok(bytes)
}
