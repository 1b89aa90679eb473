//! Owns charts over time as SVG: a title, lines with their names, spans that are marked, drawn by plotters.
//!
//! ```text
//!   Chart { title, lines, marked, .. } ──> svg() ──> <svg …> with text as text, no script, nothing from elsewhere
//! ```
//! Time runs from the left, in seconds; values begin at zero. Who makes a chart says how its values are written.

use crate::moment;
use anyhow::{Context, Result, anyhow, bail};
use plotters::prelude::*;
use plotters::style::FontFamily;
use std::io::Read;
use std::path::Path;

const SIZE: (u32, u32) = (860, 240);
/// Told apart by people who see few colours, on white.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 90, 181), RGBColor(220, 50, 32), RGBColor(120, 120, 120), RGBColor(0, 140, 90)];
const MARK: RGBColor = RGBColor(255, 226, 170);

/// A chart.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// To the right end, in seconds.
    pub(crate) seconds: f64,
    pub(crate) lines: Vec<Line<'a>>,
    /// Spans that are shaded.
    pub(crate) marked: Vec<Mark>,
    /// The least value that is shown.
    pub(crate) from: f64,
    /// How a value is written at the axis.
    pub(crate) value: fn(f64) -> String,
}

/// A span of a chart, from and to in seconds, with a name or none.
#[derive(Clone)]
pub(crate) struct Mark {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) name: String,
}

/// A line of a chart: points of seconds and value. A gap where a value is not a number.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// As an element that stands in a page, or alone in a file.
    pub(crate) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        self.draw(SVGBackend::with_string(&mut text, SIZE)).map_err(|error| anyhow!("drawing a chart: {error}"))?;
        Ok(text)
    }

    fn draw(&self, onto: SVGBackend<'_>) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = onto.into_drawing_area();
        area.fill(&WHITE)?;
        let (seconds, top) = (self.seconds.max(1e-3), self.top());
        let font = |size: u32| (FontFamily::SansSerif, size).into_font().color(&BLACK);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, font(16))
            .margin(8)
            .margin_right(24)
            .x_label_area_size(24)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..self.right(seconds), self.from..top)?;
        let mark = |mark: &Mark| Rectangle::new([(mark.from, self.from), (mark.to, top)], MARK.filled());
        chart.draw_series(self.marked.iter().map(mark))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_labels(8)
            .y_labels(5)
            .label_style(font(12))
            .x_label_formatter(&|second| clock(*second))
            .y_label_formatter(&|value| (self.value)(*value))
            .draw()?;
        let name = |mark: &Mark| Text::new(mark.name.clone(), (mark.from, top), font(11));
        chart.draw_series(self.marked.iter().filter(|mark| !mark.name.is_empty()).map(name))?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let whole = line.points.split(|(_, value)| value.is_nan());
            for (number, points) in whole.filter(|points| !points.is_empty()).enumerate() {
                let series = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
                let drawn = chart.draw_series(series)?;
                if number == 0 {
                    let key = |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
                    drawn.label(line.name).legend(key);
                }
            }
        }
        if self.lines.len() > 1 {
            let labels = &mut chart.configure_series_labels();
            let labels = labels.position(SeriesLabelPosition::UpperRight).background_style(WHITE);
            labels.label_font(font(12)).draw()?;
        }
        area.present()?;
        Ok(())
    }

    /// The names of several lines stand to the right of what they did.
    fn right(&self, seconds: f64) -> f64 {
        if self.lines.len() > 1 { seconds * 1.28 } else { seconds }
    }

    /// A little more than the greatest value.
    fn top(&self) -> f64 {
        let values = self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let most = values.filter(|value| !value.is_nan()).fold(self.from, f64::max);
        if most > self.from { most + (most - self.from) * 0.15 } else { self.from + 1.0 }
    }
}

/// Charts below each other, as one picture.
pub(crate) fn picture(charts: &[Chart<'_>]) -> Result<String> {
    let (width, height) = SIZE;
    let all = height as usize * charts.len();
    let mut text = format!("<svg width=\"{width}\" height=\"{all}\" xmlns=\"http://www.w3.org/2000/svg\">\n");
    for (number, chart) in charts.iter().enumerate() {
        let y = height as usize * number;
        text += &chart.svg()?.replacen("<svg ", &format!("<svg y=\"{y}\" "), 1);
    }
    text += "</svg>\n";
    Ok(text)
}

/// Refuses a file that is there and does not begin with the mark: it is somebody else's.
pub(crate) fn is_own(to: &Path, mark: &str) -> Result<()> {
    let shown = to.display();
    match std::fs::File::open(to) {
        Ok(file) => {
            let mut head = Vec::new();
            file.take(mark.len() as u64).read_to_end(&mut head).with_context(|| format!("reading {shown}"))?;
            if head != mark.as_bytes() {
                bail!("{shown} is there and was not made by this command; choose another file, or remove it");
            }
            Ok(())
        }
        // Before hours of work, and not after them.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match to.parent() {
            Some(dir) if !dir.as_os_str().is_empty() && !dir.is_dir() => {
                bail!("{shown} cannot be written: there is no directory {}; make it, or choose another", dir.display())
            }
            _ => Ok(()),
        },
        Err(error) => Err(error).with_context(|| format!("reading {shown}")),
    }
}

/// Writes a file that begins with a mark, over one that does so as well; any other stays as it is.
pub(crate) fn write_over_own(to: &Path, mark: &str, text: &str) -> Result<()> {
    is_own(to, mark)?;
    std::fs::write(to, format!("{mark}{text}")).with_context(|| format!("writing {}", to.display()))
}

/// A moment at the axis: no parts of a second where they tell nothing.
fn clock(seconds: f64) -> String {
    let ms = if seconds < 10.0 { (seconds * 1000.0).round() } else { seconds.round() * 1000.0 };
    let told = moment::duration(ms as u64);
    told.replace(".0s", "s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_made_is_told_before_the_work() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(is_own(&dir.path().join("new.svg"), "<!-- -->").is_ok() && is_own(Path::new("new.svg"), "x").is_ok());
        let told = is_own(&dir.path().join("none/new.svg"), "<!-- -->").expect_err("no such directory");
        assert!(told.to_string().contains("there is no directory"), "{told}");
    }

    #[test]
    fn a_chart_is_text_that_stands_alone_whatever_its_title() {
        let line =
            |name, value: fn(u32) -> f64| Line { name, points: (0..50).map(|n| (f64::from(n), value(n))).collect() };
        let gap = |n| if (10..20).contains(&n) { f64::NAN } else { f64::from(n) };
        let chart = Chart {
            title: "a < b & \"c\"",
            seconds: 50.0,
            lines: vec![line("grows", gap), line("nothing", |_| 0.0)],
            marked: vec![Mark { from: 10.0, to: 20.0, name: "a mark".into() }],
            from: 0.0,
            value: |value| format!("{value:.0}/s"),
        };
        let svg = chart.svg().expect("draws");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("href"), "{svg}");
        assert_eq!(
            svg.matches("<polyline").count(),
            3 + 2 + svg.matches("opacity=\"1\" stroke=\"#000000\"").count(),
            "{svg}"
        );
        let empty = Chart { seconds: 0.0, lines: Vec::new(), marked: Vec::new(), ..chart };
        assert!(empty.svg().expect("draws").ends_with("</svg>\n"));
    }
}
