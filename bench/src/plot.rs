//! Plots as SVG.

use crate::Outcome;
use plotters::prelude::*;
use std::path::Path;

const INK: RGBColor = RGBColor(60, 60, 60);
const OURS: RGBColor = RGBColor(20, 110, 180);
const OTHERS: RGBColor = RGBColor(170, 170, 170);
const FONT: &str = "sans-serif";

/// One bar: a label, a figure, and whether it is strata's.
pub type Bar = (String, f64, bool);

/// Horizontal bars on a logarithmic axis of seconds.
///
/// # Errors
/// When the file cannot be written.
pub fn bars(path: &Path, title: &str, bars: &[Bar]) -> Outcome<()> {
    let height = 90 + 34 * u32::try_from(bars.len())?;
    let root = SVGBackend::new(path, (820, height)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (20, 14), (FONT, 18).into_font().color(&INK)))?;
    let least = bars.iter().map(|(_, figure, _)| *figure).fold(f64::INFINITY, f64::min);
    let most = bars.iter().map(|(_, figure, _)| *figure).fold(0.0, f64::max);
    let from = 10_f64.powf(least.log10().floor());
    let to = (most * 4.0).max(from * 10.0);
    let (left, right) = (230.0, 790.0);
    let at = |figure: f64| left + (figure / from).log10() / (to / from).log10() * (right - left);
    let mut decade = from;
    while decade <= to {
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let x = at(decade) as i32;
        let bottom = i32::try_from(height)? - 36;
        root.draw(&PathElement::new(vec![(x, 46), (x, bottom)], OTHERS.mix(0.4)))?;
        let label = format!("{decade} s");
        root.draw(&Text::new(label, (x - 8, bottom + 8), (FONT, 13).into_font().color(&INK)))?;
        decade *= 10.0;
    }
    for ((label, figure, ours), index) in bars.iter().zip(0_i32..) {
        let top = 50 + 34 * index;
        let colour = if *ours { OURS } else { OTHERS };
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let (start, end) = (left as i32, at(*figure) as i32);
        root.draw(&Rectangle::new([(start, top), (end, top + 22)], colour.filled()))?;
        let font = (FONT, 14).into_font().color(&INK);
        root.draw(&Text::new(label.clone(), (20, top + 4), font.clone()))?;
        root.draw(&Text::new(format!("{figure:.2} s"), (end + 6, top + 4), font))?;
    }
    Ok(root.present()?)
}

/// One line of a growth plot: its name, and points of (hosts, figure).
pub type Series = (String, Vec<(f64, f64)>);

/// Lines on two logarithmic axes, the horizontal one of hosts.
///
/// # Errors
/// When the file cannot be written.
pub fn growth(path: &Path, title: &str, series: &[Series]) -> Outcome<()> {
    let all = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let bounds = |pick: fn((f64, f64)) -> f64| {
        let (least, most) = all()
            .map(pick)
            .fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), x| (a.min(x), b.max(x)));
        10_f64.powf(least.log10().floor())..10_f64.powf(most.log10().ceil())
    };
    let (hosts, figures) = (bounds(|point| point.0), bounds(|point| point.1));
    let root = SVGBackend::new(path, (820, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 18).into_font().color(&INK))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(hosts.log_scale(), figures.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("hosts")
        .light_line_style(OTHERS.mix(0.15))
        .bold_line_style(OTHERS.mix(0.4))
        .y_label_formatter(&|figure| format!("{figure}"))
        .draw()?;
    let colours = [OURS, RGBColor(200, 90, 30), RGBColor(60, 150, 60), INK];
    for ((name, points), colour) in series.iter().zip(colours) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(OTHERS)
        .background_style(WHITE)
        .label_font((FONT, 13).into_font().color(&INK))
        .draw()?;
    drop(chart);
    Ok(root.present()?)
}
