//! The pictures, as SVG. Everything that tells two things apart is a shape, a shade or a word as well
//! as a colour, so that they can be read in black and white.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Failure;
use crate::timeline::Timeline;

const WIDTH: u32 = 760;
const DARK: RGBColor = RGBColor(0, 84, 147);
const LIGHT: RGBColor = RGBColor(198, 212, 225);
/// Of floors.
const GREY: RGBColor = RGBColor(110, 110, 110);
/// From the palette of Okabe and Ito, which the colour-blind can tell apart, dark to light.
const LINES: [RGBColor; 6] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 84, 147),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(140, 140, 140),
];

/// One horizontal bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: Option<f64>,
    /// What stands behind it.
    pub(crate) words: String,
    pub(crate) is_floor: bool,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) is_floor: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One horizontal bar a row, with its value as a word behind it. The first floor is a line through all of them.
pub(crate) fn bars(title: &str, rows: &[Bar]) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let height = 50 + 26 * rows.len() as u32;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        heading(&area, title)?;
        let largest = rows.iter().filter_map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let end_of = |value: f64| 190 + (value / largest * 400.0).round() as i32;
        for (number, bar) in rows.iter().enumerate() {
            let top = 40 + 26 * number as i32;
            let end = bar.value.map_or(190, |value| end_of(value).max(191));
            let colour = if bar.is_floor { GREY } else { DARK };
            area.draw(&Text::new(bar.name.clone(), (180, top + 9), right_aligned()))?;
            area.draw(&Rectangle::new([(190, top), (end, top + 18)], colour.filled()))?;
            area.draw(&Text::new(bar.words.clone(), (end + 8, top + 9), left_aligned()))?;
        }
        if let Some(value) = rows.iter().find(|bar| bar.is_floor).and_then(|bar| bar.value) {
            let x = end_of(value);
            for y in (36..height as i32 - 8).step_by(8) {
                area.draw(&PathElement::new([(x, y), (x, y + 4)], GREY))?;
            }
        }
        area.present()?;
    }
    Ok(svg)
}

/// A line with marks of its own shape for each series, that of a floor broken; both axes are logarithmic, and 0
/// on the first one is drawn at 0.5.
pub(crate) fn lines(
    title: &str,
    (x_words, y_words): (&str, &str),
    series: &[Line],
) -> Result<String, Failure> {
    let points = || series.iter().flat_map(|line| &line.points).map(|&(x, y)| (x.max(0.5), y));
    let (Some(right), Some(top), Some(bottom)) = (
        points().map(|(x, _)| x).max_by(f64::total_cmp),
        points().map(|(_, y)| y).max_by(f64::total_cmp),
        points().map(|(_, y)| y).min_by(f64::total_cmp),
    ) else {
        return Ok(String::new());
    };
    let left = points().map(|(x, _)| x).fold(right, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, 380)).into_drawing_area();
        area.fill(&WHITE)?;
        heading(&area, title)?;
        let (_, below) = area.split_vertically(30);
        let (plot, names) = below.split_horizontally(WIDTH - 170);
        let mut chart = ChartBuilder::on(&plot)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(
                (left..right * 1.2).log_scale(),
                (bottom.max(0.01) * 0.8..top * 1.5).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(x_words)
            .y_desc(y_words)
            .y_label_formatter(&|y| if *y < 1.0 { format!("{y:.2}") } else { format!("{y:.0}") })
            .x_label_formatter(&|x| if *x < 1.0 { "0".to_owned() } else { format!("{x:.0}") })
            .draw()?;
        for (number, line) in series.iter().enumerate() {
            let colour = if line.is_floor { GREY } else { colour_of(number) };
            let points: Vec<(f64, f64)> =
                line.points.iter().map(|&(x, y)| (x.max(0.5), y.max(0.01))).collect();
            let stroke = colour.stroke_width(2);
            if line.is_floor {
                chart.draw_series(DashedLineSeries::new(points.iter().copied(), 6, 4, stroke))?;
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), stroke))?;
            }
            for &(x, y) in &points {
                let (x, y) = chart.backend_coord(&(x, y));
                mark(&area, number, (x, y), colour)?;
            }
            let top = 20 + 22 * number as i32;
            let (x, y) = names.map_coordinate(&(12, top));
            mark(&area, number, (x, y), colour)?;
            names.draw(&Text::new(line.name.clone(), (24, top), left_aligned()))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A bar a client: light while it waits for the first byte, dark from then to the last one.
pub(crate) fn timeline(timeline: &Timeline) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let height = 96 + 24 * timeline.visits.len() as u32;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        heading(&area, &format!("{}: eight clients, the third one slow", timeline.name))?;
        let end = timeline.visits.iter().map(|visit| visit.last_byte_s).fold(0.1, f64::max);
        let place = |seconds: f64| 110 + (seconds / end * 610.0).round() as i32;
        for (number, visit) in timeline.visits.iter().enumerate() {
            let top = 40 + 24 * number as i32;
            let name =
                format!("client {}{}", visit.client, if visit.is_slow { " (slow)" } else { "" });
            area.draw(&Text::new(name, (102, top + 8), right_aligned()))?;
            let bar = |from, to, style| {
                Rectangle::new(
                    [(place(from), top), (place(to).max(place(from) + 1), top + 16)],
                    style,
                )
            };
            area.draw(&bar(visit.asked_s, visit.first_byte_s, LIGHT.filled()))?;
            area.draw(&bar(visit.first_byte_s, visit.last_byte_s, DARK.filled()))?;
            area.draw(&bar(visit.asked_s, visit.last_byte_s, BLACK.stroke_width(1)))?;
        }
        let bottom = 40 + 24 * timeline.visits.len() as i32;
        area.draw(&PathElement::new([(110, bottom), (720, bottom)], BLACK))?;
        for part in 0..=4 {
            let seconds = end * f64::from(part) / 4.0;
            let text = format!("{seconds:.2} s");
            area.draw(&Text::new(text, (place(seconds), bottom + 6), centred()))?;
        }
        area.draw(&Rectangle::new([(110, bottom + 34), (130, bottom + 46)], LIGHT.filled()))?;
        area.draw(&Text::new("waits for its first byte", (136, bottom + 40), left_aligned()))?;
        area.draw(&Rectangle::new([(330, bottom + 34), (350, bottom + 46)], DARK.filled()))?;
        area.draw(&Text::new("is being answered", (356, bottom + 40), left_aligned()))?;
        area.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn heading(area: &Area<'_>, title: &str) -> Result<(), Failure> {
    let style = TextStyle::from(("sans-serif", 16)).pos(Pos::new(HPos::Left, VPos::Top));
    Ok(area.draw(&Text::new(title.to_owned(), (10, 8), style))?)
}

/// The second time round, a shape comes with another colour.
fn colour_of(number: usize) -> RGBColor {
    LINES[(number + number / LINES.len() * 3) % LINES.len()]
}

/// A mark in one of six shapes.
fn mark(
    area: &Area<'_>,
    number: usize,
    (x, y): (i32, i32),
    colour: RGBColor,
) -> Result<(), Failure> {
    let square = [(x - 4, y - 4), (x + 4, y + 4)];
    match number % 6 {
        0 => area.draw(&Circle::new((x, y), 5, colour.filled()))?,
        1 => area.draw(&Rectangle::new(square, colour.filled()))?,
        2 => area.draw(&TriangleMarker::new((x, y), 6, colour.filled()))?,
        3 => area.draw(&Circle::new((x, y), 5, colour.stroke_width(2)))?,
        4 => area.draw(&Rectangle::new(square, colour.stroke_width(2)))?,
        _ => area.draw(&Cross::new((x, y), 5, colour.stroke_width(2)))?,
    }
    Ok(())
}

fn text_style() -> TextStyle<'static> {
    TextStyle::from(("sans-serif", 13))
}

fn left_aligned() -> TextStyle<'static> {
    text_style().pos(Pos::new(HPos::Left, VPos::Center))
}

fn right_aligned() -> TextStyle<'static> {
    text_style().pos(Pos::new(HPos::Right, VPos::Center))
}

fn centred() -> TextStyle<'static> {
    text_style().pos(Pos::new(HPos::Center, VPos::Top))
}
