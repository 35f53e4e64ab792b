//! Drawings as pixels, for PNG files.
//!
//! Letters come from a bitmap font that is part of the program, so that a drawing looks the same
//! on a server that has no fonts.

use std::convert::Infallible;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle, iso_8859_1};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};
use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// Pixels for each unit of a drawing: at 1.5 the labels have the size of the largest font.
const SCALE: f32 = 1.5;

/// A drawing surface.
pub(super) struct Canvas<'a> {
    pixels: &'a mut Pixmap,
}

impl<'a> Canvas<'a> {
    /// Draws on these pixels, which [`blank`] made.
    pub(super) fn on(pixels: &'a mut Pixmap) -> Self {
        Self { pixels }
    }

    fn fill(&mut self, path: Option<Path>, colour: BackendColor) {
        if let Some(path) = path {
            self.pixels.fill_path(&path, &paint(colour), FillRule::Winding, scaled(), None);
        }
    }

    fn stroke(&mut self, path: Option<Path>, style: &impl BackendStyle) {
        let stroke = Stroke { width: style.stroke_width() as f32, ..Stroke::default() };
        if let Some(path) = path {
            self.pixels.stroke_path(&path, &paint(style.color()), &stroke, scaled(), None);
        }
    }
}

/// White pixels for a drawing of this size. `None`: there is no such size.
pub(super) fn blank((width, height): (u32, u32)) -> Option<Pixmap> {
    let pixels = |n: u32| (n as f32 * SCALE) as u32;
    Pixmap::new(pixels(width), pixels(height))
}

fn scaled() -> Transform {
    Transform::from_scale(SCALE, SCALE)
}

fn paint(colour: BackendColor) -> Paint<'static> {
    let (r, g, b) = colour.rgb;
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, (colour.alpha.clamp(0.0, 1.0) * 255.0).round() as u8);
    paint
}

/// Lines run through the middle of pixels.
fn middle((x, y): BackendCoord) -> (f32, f32) {
    (x as f32 + 0.5, y as f32 + 0.5)
}

fn path(points: impl IntoIterator<Item = BackendCoord>, closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (i, point) in points.into_iter().enumerate() {
        let (x, y) = middle(point);
        if i == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
    }
    if closed {
        builder.close();
    }
    builder.finish()
}

/// The font nearest to a height, its cells measured in the drawing's units.
struct Letters {
    font: &'static MonoFont<'static>,
    wide: f32,
    high: f32,
}

impl Letters {
    fn of(style: &impl BackendTextStyle) -> Self {
        let wanted = style.size() as f32 * SCALE;
        let font = if wanted < 23.0 { &iso_8859_1::FONT_9X18 } else { &iso_8859_1::FONT_10X20 };
        let Size { width, height } = font.character_size;
        Self { font, wide: width as f32 / SCALE, high: height as f32 / SCALE }
    }

    fn size(&self, text: &str) -> (f32, f32) {
        (self.wide * text.chars().count() as f32, self.high)
    }
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        let units = |n: u32| (n as f32 / SCALE).round() as u32;
        (units(self.pixels.width()), units(self.pixels.height()))
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        let dot = Rect::from_xywh(x as f32, y as f32, 1.0, 1.0);
        self.fill(dot.map(PathBuilder::from_rect), colour);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, s: &S) -> Drawn {
        self.stroke(path([from, to], false), s);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        if fill {
            let (x, y) = (left as f32, top as f32);
            let all = Rect::from_ltrb(x, y, right as f32 + 1.0, bottom as f32 + 1.0);
            self.fill(all.map(PathBuilder::from_rect), style.color());
        } else {
            let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
            self.stroke(path(corners, true), style);
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn {
        self.stroke(path(points, false), style);
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        centre: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let (x, y) = middle(centre);
        let circle = PathBuilder::from_circle(x, y, radius as f32);
        if fill {
            self.fill(circle, style.color())
        } else {
            self.stroke(circle, style)
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        self.fill(path(corners, true), style.color());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, s: &S, at: BackendCoord) -> Drawn {
        let letters = Letters::of(s);
        let (width, height) = letters.size(text);
        let left = match s.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Right => width,
            HPos::Center => width / 2.0,
        };
        let above = match s.anchor().v_pos {
            VPos::Top => 0.0,
            VPos::Center => height / 2.0,
            VPos::Bottom => height,
        };
        let turn = s.transform();
        let colour = paint(s.color());
        let from = ((left * SCALE) as i32, (above * SCALE) as i32);
        let at = ((at.0 as f32 * SCALE) as i32, (at.1 as f32 * SCALE) as i32);
        let mut ink = Ink(|Point { x, y }: Point| {
            let (x, y) = turn.transform(x - from.0, y - from.1);
            let (x, y) = ((at.0 + x) as f32, (at.1 + y) as f32);
            if let Some(dot) = Rect::from_xywh(x, y, 1.0, 1.0) {
                self.pixels.fill_rect(dot, &colour, Transform::identity(), None);
            }
        });
        let style = MonoTextStyle::new(letters.font, BinaryColor::On);
        let Ok(_) = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut ink);
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (width, height) = Letters::of(style).size(text);
        Ok((width.ceil() as u32, height.ceil() as u32))
    }
}

/// Takes the pixels of letters.
struct Ink<F>(F);

impl<F: FnMut(Point)> OriginDimensions for Ink<F> {
    fn size(&self) -> Size {
        // Wherever a letter lies: what is outside the canvas is cut there.
        Size::new(u32::MAX, u32::MAX)
    }
}

impl<F: FnMut(Point)> DrawTarget for Ink<F> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            if colour.is_on() {
                (self.0)(at);
            }
        }
        Ok(())
    }
}
