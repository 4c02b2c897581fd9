//! Plots as SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that most eyes tell apart (Okabe and Ito), and some more.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
    RGBColor(148, 82, 30),
    RGBColor(120, 94, 240),
    RGBColor(160, 160, 0),
    RGBColor(0, 128, 128),
    RGBColor(190, 30, 45),
];
const FONT: &str = "sans-serif";
const TEXT_PX: u32 = 16;
/// About how wide a letter of that size is.
const LETTER_PX: i32 = 8;
const SIZE: (u32, u32) = (720, 380);

/// The colour of the n-th policy.
pub fn colour(n: usize) -> RGBColor {
    COLOURS[n % COLOURS.len()]
}

/// The same for a style sheet.
pub fn css_colour(n: usize) -> String {
    let RGBColor(red, green, blue) = colour(n);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A line of a plot: which colour, and its points.
pub struct Line {
    /// Whose colour it has.
    pub colour: usize,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// An axis: what it shows, and how far it goes.
pub struct Axis<'a> {
    /// What it shows.
    pub label: &'a str,
    /// Where it ends.
    pub to: f64,
}

/// Lines over linear axes from zero, with a vertical mark and a horizontal one where something is to be seen.
pub fn lines(lines: &[Line], x: &Axis<'_>, y: &Axis<'_>, mark_x: Option<f64>, mark_y: Option<f64>) -> String {
    drawn(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..x.to.max(1e-9), 0.0..y.to.max(1e-9))?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(WHITE).bold_line_style(RGBColor(225, 225, 225)).axis_style(RGBColor(90, 90, 90));
        mesh.x_labels(8).y_labels(7).x_label_formatter(&plain).y_label_formatter(&plain);
        mesh.x_desc(x.label).y_desc(y.label).label_style((FONT, TEXT_PX)).axis_desc_style((FONT, TEXT_PX)).draw()?;
        let grey = RGBColor(110, 110, 110);
        if let Some(at) = mark_x {
            chart.draw_series([PathElement::new([(at, 0.0), (at, y.to)], grey)])?;
        }
        if let Some(at) = mark_y {
            chart.draw_series([PathElement::new([(0.0, at), (x.to, at)], grey)])?;
        }
        for line in lines {
            let points = line.points.iter().map(|(at, value)| (*at, value.min(y.to)));
            chart.draw_series(LineSeries::new(points, colour(line.colour).stroke_width(2)))?;
        }
        Ok(())
    })
}

/// A number on an axis, without digits that say nothing.
fn plain(at: &f64) -> String {
    let rounded = (at * 100.0).round() / 100.0;
    rounded.to_string()
}

/// A point with a name.
pub struct Point {
    /// Whose colour it has.
    pub colour: usize,
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub at: (f64, f64),
    /// No other point is better in both ways.
    pub best: bool,
}

/// Points over logarithmic axes; a line joins those that no other beats in both ways.
pub fn pareto(points: &[Point], x_label: &str, y_label: &str) -> String {
    let range = |pick: fn(&Point) -> f64| {
        let values = points.iter().map(|point| pick(point).max(1e-3));
        let (least, most) = values.fold((f64::MAX, 1e-3), |(least, most), value| (value.min(least), value.max(most)));
        least.min(most) / 1.6..most * 2.5
    };
    drawn(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(range(|point| point.at.0).log_scale(), range(|point| point.at.1).log_scale())?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(WHITE).bold_line_style(RGBColor(225, 225, 225)).axis_style(RGBColor(90, 90, 90));
        mesh.x_label_formatter(&plain).y_label_formatter(&plain);
        mesh.x_desc(x_label).y_desc(y_label).label_style((FONT, TEXT_PX)).axis_desc_style((FONT, TEXT_PX)).draw()?;
        let mut best: Vec<(f64, f64)> = points.iter().filter(|point| point.best).map(|point| point.at).collect();
        best.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(best, RGBColor(150, 150, 150)))?;
        let places: Vec<(f64, f64)> = points.iter().map(|point| (point.at.0.max(1e-3), point.at.1.max(1e-3))).collect();
        let pixels: Vec<(i32, i32)> = places.iter().map(|at| chart.backend_coord(at)).collect();
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        let offsets = apart(&pixels, &names);
        for (((Point { colour: n, name, best, .. }, at), pixel), offset) in
            points.iter().zip(places).zip(pixels).zip(offsets)
        {
            let style = if *best { colour(*n).filled() } else { colour(*n).stroke_width(2) };
            chart.draw_series([Circle::new(at, 5, style)])?;
            let label = (FONT, TEXT_PX).into_font().color(&colour(*n)).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(shortened(name), (pixel.0 + offset.0, pixel.1 + offset.1), label))?;
        }
        Ok(())
    })
}

/// The longest label of a point, in letters; the legend has the whole name.
const LABEL_MAX: usize = 28;

fn shortened(name: &str) -> String {
    if name.chars().count() <= LABEL_MAX {
        return name.to_owned();
    }
    name.chars().take(LABEL_MAX - 1).chain(['…']).collect()
}

/// Where each label goes, seen from its point: to the right or the left of it, as far up or down as it takes to lie over
/// no other label and no other point.
fn apart(points: &[(i32, i32)], names: &[&str]) -> Vec<(i32, i32)> {
    let high = TEXT_PX as i32 + 1;
    let mut taken: Vec<[i32; 4]> = points.iter().map(|(x, y)| [x - 6, y - 6, x + 6, y + 6]).collect();
    let overlap = |a: &[i32; 4], b: &[i32; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    let mut offsets = Vec::new();
    for ((x, y), name) in points.iter().zip(names) {
        let wide = shortened(name).chars().count() as i32 * LETTER_PX;
        let near = (0..12).flat_map(|step| [step * high / 2, -step * high / 2]);
        let tried = near.flat_map(|down| [(9, down), (-9 - wide, down)]);
        let label = |(right, down): (i32, i32)| [x + right, y + down - high / 2, x + right + wide, y + down + high / 2];
        let fits = |offset: &(i32, i32)| {
            let place = label(*offset);
            let inside = place[0] > 60 && place[2] < SIZE.0 as i32 - 4 && place[1] > 4 && place[3] < SIZE.1 as i32 - 50;
            inside && taken.iter().all(|other| !overlap(&place, other))
        };
        let offset = tried.into_iter().find(fits).unwrap_or((9, 0));
        taken.push(label(offset));
        offsets.push(offset);
    }
    offsets
}

/// A grid of cells, each with a shade from 0 (well) to 1 (not at all well).
pub fn region(columns: &[String], rows: &[String], shades: &[Vec<f64>], x_label: &str, y_label: &str) -> String {
    let (wide, high) = (columns.len(), rows.len());
    drawn(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..wide as f64, 0.0..high as f64)?;
        let name = |names: &[String], at: f64| {
            let place = at.floor() as usize;
            if (at - at.floor() - 0.5).abs() < 0.01 {
                names.get(place).cloned().unwrap_or_default()
            } else {
                String::new()
            }
        };
        let (by_column, by_row) = (|at: &f64| name(columns, *at), |at: &f64| name(rows, *at));
        let mut mesh = chart.configure_mesh();
        mesh.disable_mesh().x_labels(wide * 2 + 1).y_labels(high * 2 + 1).axis_style(RGBColor(90, 90, 90));
        mesh.x_label_formatter(&by_column).y_label_formatter(&by_row).x_desc(x_label).y_desc(y_label);
        mesh.label_style((FONT, TEXT_PX)).axis_desc_style((FONT, TEXT_PX)).draw()?;
        for (row, shades) in shades.iter().enumerate() {
            for (column, shade) in shades.iter().enumerate() {
                let (x, y) = (column as f64, row as f64);
                let blend = |well: f64, ill: f64| (well + (ill - well) * shade.clamp(0.0, 1.0)) as u8;
                let fill = RGBColor(blend(215.0, 213.0), blend(238.0, 94.0), blend(226.0, 0.0));
                chart.draw_series([Rectangle::new([(x + 0.02, y + 0.02), (x + 0.98, y + 0.98)], fill.filled())])?;
            }
        }
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn drawn(draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)
            .and_then(|()| {
                draw(&area).expect("a string takes every drawing");
                area.present()
            })
            .expect("a string takes every drawing");
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_near_points_do_not_overlap() {
        let points = [(300, 150), (302, 151), (304, 149), (300, 152)];
        let offsets = apart(&points, &["full-jitter", "decorrelated", "exponential", "fixed"]);
        let mut labels: Vec<(i32, i32)> =
            points.iter().zip(offsets).map(|(at, offset)| (offset.0.signum(), at.1 + offset.1)).collect();
        labels.sort_unstable();
        for pair in labels.windows(2) {
            assert!(pair[0].0 != pair[1].0 || pair[1].1 - pair[0].1 >= TEXT_PX as i32, "{labels:?}");
        }
    }
}
