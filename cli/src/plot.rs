//! Drawings as SVG and PNG files.

mod canvas;

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont,
    LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};

use crate::failure::Failure;
use crate::recorder;
use canvas::Canvas;

const WIDTH: u32 = 960;
const PANEL: u32 = 400;
const HEAD: u32 = 64;

/// Told apart by colour-blind readers, too.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 90, 160),
    RGBColor(213, 94, 0),
    RGBColor(0, 140, 100),
    RGBColor(170, 60, 140),
    RGBColor(90, 90, 90),
    RGBColor(200, 150, 0),
    RGBColor(70, 160, 220),
    RGBColor(120, 60, 20),
];

/// What an axis counts, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Time spans in ns, by powers of ten.
    Nanoseconds,
    /// Fractions from 0 to below 1, opened up towards 1: 0.9, 0.99, 0.999 at equal distances.
    Percentile,
    /// Plain numbers from 0.
    Plain,
}

/// A line with its name.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One diagram of a drawing.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) x: (&'static str, Scale),
    pub(crate) y: (&'static str, Scale),
    pub(crate) series: Vec<Series>,
}

/// What the end of a drawing's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Svg,
    Png,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Failure> {
        let end = path.extension().map(|end| end.to_ascii_lowercase());
        match end.as_ref().and_then(|end| end.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(Failure::usage(format!("--plot {}: neither SVG nor PNG", path.display()))
                .remedy("name it FILE.svg or FILE.png")),
        }
    }
}

/// Can a drawing of this name be made? Asked before anything is measured.
pub(crate) fn check(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    Kind::of(path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    match dir.map(std::fs::metadata) {
        Some(Ok(dir)) if dir.is_dir() => Ok(()),
        Some(_) => {
            let what = format!("--plot {}: there is no such directory", path.display());
            Err(Failure::usage(what).remedy("name one that is there"))
        }
        None => Ok(()),
    }
}

/// Draws the panels below each other.
pub(crate) fn draw(path: &Path, title: &str, below: &str, panels: &[Panel]) -> Result<(), Failure> {
    let drawn = match Kind::of(path)? {
        Kind::Svg => svg(title, below, panels),
        Kind::Png => png(title, below, panels),
    };
    let bytes = drawn.map_err(|e| Failure::new(format!("cannot draw {}: {e}", path.display())))?;
    let written = recorder::create(path).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|e| {
        Failure::new(format!("cannot write {}: {}", path.display(), crate::failure::io_text(&e)))
    })
}

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

fn size(panels: &[Panel]) -> (u32, u32) {
    (WIDTH, HEAD + PANEL * panels.len() as u32)
}

fn svg(title: &str, below: &str, panels: &[Panel]) -> Drawn<Vec<u8>> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, size(panels)).into_drawing_area();
    render(&root, title, below, panels)?;
    drop(root);
    Ok(text.into_bytes())
}

fn png(title: &str, below: &str, panels: &[Panel]) -> Drawn<Vec<u8>> {
    let mut pixels = canvas::blank(size(panels)).ok_or("it has no size")?;
    render(&Canvas::on(&mut pixels).into_drawing_area(), title, below, panels)?;
    Ok(pixels.encode_png()?)
}

fn render<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    title: &str,
    below: &str,
    panels: &[Panel],
) -> Drawn<()>
where
    B::ErrorType: 'static,
{
    root.fill(&WHITE)?;
    root.draw_text(title, &("sans-serif", 20).into_font().color(&BLACK), (16, 14))?;
    let grey = BLACK.mix(0.65);
    root.draw_text(below, &("sans-serif", 13).into_font().color(&grey), (16, 40))?;
    let (_, body) = root.split_vertically(HEAD);
    for (panel, area) in panels.iter().zip(body.split_evenly((panels.len().max(1), 1))) {
        panel.draw(&area)?;
    }
    root.present()?;
    Ok(())
}

impl Panel {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<()>
    where
        B::ErrorType: 'static,
    {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let (x, y) = (self.x.1, self.y.1);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(12)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d(
                x.axis(points().map(|p| p.0), 0.0),
                y.axis(points().map(|p| p.1), self.headroom()),
            )?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .axis_style(BLACK.mix(0.5))
            .x_desc(self.x.0)
            .y_desc(self.y.0)
            .axis_desc_style(("sans-serif", 14))
            .label_style(("sans-serif", 13))
            .draw()?;
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            if let [one] = series.points[..] {
                chart.draw_series([Circle::new(one, 3, colour.filled())])?;
            }
            chart
                .draw_series(LineSeries::new(
                    series.points.iter().copied(),
                    colour.stroke_width(2),
                ))?
                .label(&series.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
        }
        if self.series.len() < 2 {
            return Ok(());
        }
        let corner = if x == Scale::Percentile {
            SeriesLabelPosition::UpperLeft
        } else {
            SeriesLabelPosition::UpperRight
        };
        chart
            .configure_series_labels()
            .position(corner)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 13))
            .draw()?;
        Ok(())
    }

    /// What the names of the lines take of the height, where they stand above the lines.
    fn headroom(&self) -> f64 {
        const ROW: f64 = 0.055;
        match self.series.len() {
            0 | 1 => 0.0,
            // A curve of percentiles rises: it leaves their corner free.
            _ if self.x.1 == Scale::Percentile => 0.0,
            rows => (rows as f64 * ROW + 0.08).min(0.5),
        }
    }
}

/// An axis: the places of its ends and of its ticks.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (self.scale.place(*value) - self.low) / (self.high - self.low);
        first + (part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|place| self.scale.value(*place)).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.scale.value(self.low)..self.scale.value(self.high)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.scale.label(*value)
    }
}

impl Scale {
    /// Where a value lies on the axis.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Nanoseconds => value.max(1.0).log10(),
            Self::Percentile => -(1.0 - value.clamp(0.0, 0.999_999_999)).log10(),
            Self::Plain => value,
        }
    }

    /// The value at a place.
    fn value(self, place: f64) -> f64 {
        match self {
            Self::Nanoseconds => 10_f64.powf(place),
            Self::Percentile => 1.0 - 10_f64.powf(-place),
            Self::Plain => place,
        }
    }

    /// An axis for these values, with ticks at round numbers, that leaves this share of itself
    /// free above them.
    fn axis(self, values: impl Iterator<Item = f64>, free: f64) -> Axis {
        let places = values.map(|v| self.place(v));
        let (low, high) = places
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let scale = self;
        let (low, high, mut ticks): (f64, f64, Vec<f64>) = match self {
            Self::Nanoseconds => {
                let (low, high) = (low - 0.08, high + 0.2);
                let high = low + (high - low) / (1.0 - free);
                // 1, 2 and 5 of each power where there is room for them.
                let steps: &[f64] = if high - low > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decades = low.floor() as i32..=high.ceil() as i32;
                let ticks = decades
                    .flat_map(|decade| steps.iter().map(move |n| f64::from(decade) + n.log10()));
                (low, high, ticks.collect())
            }
            Self::Percentile => {
                let ticks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
                let high = high.max(1.0);
                (0.0, high + 0.02, ticks.iter().map(|t| self.place(*t)).collect())
            }
            Self::Plain => {
                let high = if high > 0.0 { high } else { 1.0 };
                let high = high / (1.0 - free);
                let step = round_step(high / 6.0);
                let ticks = (0..=(high / step) as u32 + 1).map(|n| f64::from(n) * step);
                (0.0, high * 1.06, ticks.collect())
            }
        };
        ticks.retain(|tick| (low..=high).contains(tick));
        Axis { scale, low, high, ticks }
    }

    /// A value in words, without decimals that round numbers do not need.
    fn label(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => match value.round() {
                v if v < 1e3 => format!("{v} ns"),
                v if v < 1e6 => format!("{} µs", (v / 100.0).round() / 10.0),
                v if v < 1e9 => format!("{} ms", (v / 1e5).round() / 10.0),
                v => format!("{} s", (v / 1e8).round() / 10.0),
            },
            Self::Percentile => format!("{} %", (value * 1e6).round() / 1e4),
            Self::Plain => Short(value).to_string(),
        }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    steps.into_iter().find(|step| *step >= rough).unwrap_or(rough)
}

/// 250000 as 250k.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        let (value, unit) = match value {
            v if v >= 1e9 => (v / 1e9, "G"),
            v if v >= 1e6 => (v / 1e6, "M"),
            v if v >= 1e3 => (v / 1e3, "k"),
            v => (v, ""),
        };
        write!(f, "{}{unit}", (value * 1000.0).round() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_round() {
        let again = |scale: Scale, value: f64| scale.label(scale.value(scale.place(value)));
        assert_eq!(again(Scale::Nanoseconds, 20_000.0), "20 µs");
        assert_eq!(again(Scale::Percentile, 0.999), "99.9 %");
        assert_eq!(again(Scale::Plain, 250_000.0), "250k");
        assert!((round_step(0.3) - 0.5).abs() < 1e-9 && (round_step(41.0) - 50.0).abs() < 1e-9);
    }

    fn panel(points: Vec<(f64, f64)>) -> Panel {
        Panel {
            title: "t",
            x: ("x", Scale::Percentile),
            y: ("y", Scale::Nanoseconds),
            series: vec![Series { name: "line".into(), points }],
        }
    }

    #[test]
    fn a_drawing_without_any_points_is_a_drawing() {
        let text = String::from_utf8(svg("title", "", &[panel(vec![])]).unwrap()).unwrap();
        assert!(text.starts_with("<svg") && text.contains("title"));
        assert!(png("title", "", &[panel(vec![])]).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn a_picture_has_its_line_and_its_letters() {
        let line = (0..100).map(|i| (f64::from(i) / 100.0, 1e3 + f64::from(i) * 1e4)).collect();
        let panels = [panel(line)];
        let dark = |title: &str, below: &str| {
            let picture = tiny_skia::Pixmap::decode_png(&png(title, below, &panels).unwrap());
            let picture = picture.unwrap();
            assert_eq!((picture.width(), picture.height()), (1440, 696));
            let count = |blue: bool| {
                let of = |p: &&tiny_skia::PremultipliedColorU8| {
                    if blue { p.red() < 60 && p.blue() > 120 } else { p.blue() < 60 }
                };
                picture.pixels().iter().filter(of).count()
            };
            (count(true), count(false))
        };
        let (blue, black) = dark("round trips", "");
        assert!(blue > 1_000, "{blue} pixels of a line across the picture");
        assert!(dark("round trips and more", "").1 > black + 200);
        // Letters that the font has, and letters that it has not.
        assert!(dark("round trips µ \u{4e00}", "").1 > black);
    }

    #[test]
    fn the_name_says_what_it_is() {
        let of = |name: &str| Kind::of(Path::new(name)).ok();
        assert_eq!((of("a.svg"), of("b.c.PNG")), (Some(Kind::Svg), Some(Kind::Png)));
        assert_eq!((of("png"), of("x.gif"), of("x")), (None, None, None));
    }
}
