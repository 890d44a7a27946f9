//! The built-in font: how wide a text is, and which pixels its letters cover.

use super::Error;
use super::canvas::drawing;
use ab_glyph::{Font as _, FontRef, GlyphId, ScaleFont, point};

/// Ubuntu Light, from the crate `epaint_default_fonts`, under the Ubuntu Font Licence 1.0.
#[derive(Debug, Clone)]
pub(super) struct Font {
    font: FontRef<'static>,
}

impl Font {
    pub(super) fn built_in() -> Result<Self, Error> {
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).map_err(drawing)?;
        Ok(Self { font })
    }

    /// Width of `text` in the unit of `em`.
    pub(super) fn width(&self, text: &str, em: f64) -> f64 {
        self.places(text, em).1
    }

    /// Calls `pixel` with each place covered, from the beginning of the baseline, and how much of it is (0 to 1).
    pub(super) fn draw(&self, text: &str, em: f64, mut pixel: impl FnMut(f64, f64, f64)) {
        for (id, x) in self.places(text, em).0 {
            let glyph = id.with_scale_and_position(self.height(em), point(x as f32, 0.0));
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, cover| {
                if cover > 0.0 {
                    pixel(
                        f64::from(corner.x) + f64::from(dx),
                        f64::from(corner.y) + f64::from(dy),
                        f64::from(cover).min(1.0),
                    );
                }
            });
        }
    }

    /// Each letter with the place where it begins, and where the last one ends.
    fn places(&self, text: &str, em: f64) -> (Vec<(GlyphId, f64)>, f64) {
        let scaled = self.font.as_scaled(self.height(em));
        let (mut places, mut x, mut before) = (Vec::new(), 0.0, None);
        for id in text.chars().map(|c| self.font.glyph_id(c)) {
            x += before.map_or(0.0, |before| f64::from(scaled.kern(before, id)));
            places.push((id, x));
            x += f64::from(scaled.h_advance(id));
            before = Some(id);
        }
        (places, x)
    }

    /// The library takes the height of a line for a size.
    fn height(&self, em: f64) -> f32 {
        let units = self.font.units_per_em().unwrap_or(1000.0);
        em as f32 * self.font.height_unscaled() / units
    }
}
