//! The pictures, as SVG. Everything that tells two things apart is a shape, a shade or a word as well
//! as a colour, so that they can be read in black and white.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Failure;
use crate::timeline::Timeline;

const WIDTH: u32 = 760;
const DARK: RGBColor = RGBColor(0, 84, 147);
const LIGHT: RGBColor = RGBColor(198, 212, 225);
/// From the palette of Okabe and Ito, which the colour-blind can tell apart, dark to light.
const LINES: [RGBColor; 6] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 84, 147),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(140, 140, 140),
];

/// One horizontal bar a row, with its value as a word behind it.
pub(crate) fn bars(title: &str, rows: &[(String, f64, String)]) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let height = 50 + 26 * rows.len() as u32;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        heading(&area, title)?;
        let largest = rows.iter().map(|(_, value, _)| *value).fold(f64::MIN_POSITIVE, f64::max);
        for (number, (name, value, words)) in rows.iter().enumerate() {
            let top = 40 + 26 * number as i32;
            let end = 190 + (value / largest * 440.0).round() as i32;
            area.draw(&Text::new(name.clone(), (180, top + 9), right_aligned()))?;
            area.draw(&Rectangle::new([(190, top), (end.max(191), top + 18)], DARK.filled()))?;
            area.draw(&Text::new(words.clone(), (end + 8, top + 9), left_aligned()))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A line with marks of its own shape for each series; both axes are logarithmic, and 0 on the first
/// one is drawn at 0.5.
pub(crate) fn lines(
    title: &str,
    (x_words, y_words): (&str, &str),
    series: &[(String, Vec<(f64, f64)>)],
) -> Result<String, Failure> {
    let points = || series.iter().flat_map(|(_, points)| points).map(|&(x, y)| (x.max(0.5), y));
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
        for (number, (name, points)) in series.iter().enumerate() {
            let colour = colour_of(number);
            let points: Vec<(f64, f64)> =
                points.iter().map(|&(x, y)| (x.max(0.5), y.max(0.01))).collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            for &(x, y) in &points {
                let (x, y) = chart.backend_coord(&(x, y));
                mark(&area, number, (x, y), colour)?;
            }
            let top = 20 + 22 * number as i32;
            let (x, y) = names.map_coordinate(&(12, top));
            mark(&area, number, (x, y), colour)?;
            names.draw(&Text::new(name.clone(), (24, top), left_aligned()))?;
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
        let end = timeline.visits.iter().map(|visit| visit.last_byte).fold(0.1, f64::max);
        let place = |seconds: f64| 110 + (seconds / end * 610.0).round() as i32;
        for (number, visit) in timeline.visits.iter().enumerate() {
            let top = 40 + 24 * number as i32;
            let name =
                format!("client {}{}", number + 1, if visit.is_slow { " (slow)" } else { "" });
            area.draw(&Text::new(name, (102, top + 8), right_aligned()))?;
            let bar = |from, to, style| {
                Rectangle::new(
                    [(place(from), top), (place(to).max(place(from) + 1), top + 16)],
                    style,
                )
            };
            area.draw(&bar(visit.asked, visit.first_byte, LIGHT.filled()))?;
            area.draw(&bar(visit.first_byte, visit.last_byte, DARK.filled()))?;
            area.draw(&bar(visit.asked, visit.last_byte, BLACK.stroke_width(1)))?;
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
