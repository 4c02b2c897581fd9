//! Plots as SVG.

use std::ops::Range;

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
/// A plot, in pixels of its own: a page may show it smaller.
const SIZE: (u32, u32) = (720, 380);
/// A plot that stands beside others of its kind.
const SMALL: (u32, u32) = (400, 210);
/// Names and numbers. Some colours of policies are too light to be read.
const INK: RGBColor = RGBColor(50, 50, 50);
const GRID: RGBColor = RGBColor(225, 225, 225);
const AXIS: RGBColor = RGBColor(90, 90, 90);

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

/// Lines over linear axes from zero.
pub fn lines(lines: &[Line], x: &Axis<'_>, y: &Axis<'_>) -> String {
    drawn(SIZE, |area| over_axes(area, lines, x, y, None))
}

/// One line over linear axes from zero, in a small plot, with an upright mark and a level one.
pub fn small(line: &Line, x: &Axis<'_>, y: &Axis<'_>, marks: (f64, f64)) -> String {
    drawn(SMALL, |area| over_axes(area, std::slice::from_ref(line), x, y, Some(marks)))
}

fn over_axes(area: &Area<'_>, lines: &[Line], x: &Axis<'_>, y: &Axis<'_>, marks: Option<(f64, f64)>) -> Drawn {
    let (wide, _) = area.dim_in_pixel();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..x.to.max(1e-9), 0.0..y.to.max(1e-9))?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(GRID).axis_style(AXIS);
    mesh.x_labels(wide as usize / 80).y_labels(6).x_label_formatter(&plain).y_label_formatter(&plain);
    mesh.x_desc(x.label).y_desc(y.label).label_style((FONT, TEXT_PX)).axis_desc_style((FONT, TEXT_PX)).draw()?;
    if let Some((at_x, at_y)) = marks {
        let grey = RGBColor(110, 110, 110);
        chart.draw_series([PathElement::new([(at_x, 0.0), (at_x, y.to)], grey)])?;
        chart.draw_series([PathElement::new([(0.0, at_y), (x.to, at_y)], grey)])?;
    }
    for line in lines {
        let points = line.points.iter().map(|(at, value)| (*at, value.min(y.to)));
        chart.draw_series(LineSeries::new(points, colour(line.colour).stroke_width(2)))?;
    }
    Ok(())
}

/// A number on an axis, without digits that say nothing.
fn plain(at: &f64) -> String {
    let rounded = (at * 100.0).round() / 100.0;
    rounded.to_string()
}

/// Where a logarithmic axis has its numbers: 1, 2 and 5 times each power of ten.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let powers = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    all.filter(|at| range.contains(at)).collect()
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
    let range = |pick: fn(&Point) -> f64, above: f64| {
        let values = points.iter().map(|point| pick(point).max(1e-3));
        let (least, most) = values.fold((f64::MAX, 1e-3), |(least, most), value| (value.min(least), value.max(most)));
        least.min(most) / 1.6..most * above
    };
    // To the right there is room for names.
    let (across, up) = (range(|point| point.at.0, 2.5), range(|point| point.at.1, 1.6));
    drawn(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(across.clone().log_scale(), up.clone().log_scale())?;
        let mut mesh = chart.configure_mesh();
        // Its own numbers begin at the first power of ten, and some plots end before that.
        let none = |_: &f64| String::new();
        mesh.disable_mesh().axis_style(AXIS).set_all_tick_mark_size(0);
        mesh.x_label_formatter(&none)
            .y_label_formatter(&none)
            .x_desc(x_label)
            .y_desc(y_label)
            .axis_desc_style((FONT, TEXT_PX))
            .draw()?;
        let number = |horizontal, vertical| (FONT, TEXT_PX).into_font().color(&INK).pos(Pos::new(horizontal, vertical));
        for at in ticks(&across) {
            chart.draw_series([PathElement::new([(at, up.start), (at, up.end)], GRID)])?;
            let (x, y) = chart.backend_coord(&(at, up.start));
            area.draw(&Text::new(plain(&at), (x, y + 6), number(HPos::Center, VPos::Top)))?;
        }
        for at in ticks(&up) {
            chart.draw_series([PathElement::new([(across.start, at), (across.end, at)], GRID)])?;
            let (x, y) = chart.backend_coord(&(across.start, at));
            area.draw(&Text::new(plain(&at), (x - 6, y), number(HPos::Right, VPos::Center)))?;
        }
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
            let (text, at) = (shortened(name), (pixel.0 + offset.0, pixel.1 + offset.1));
            let corner = |right: i32, down: i32| (at.0 + right, at.1 + down);
            let (wide, half) = (text.chars().count() as i32 * (LETTER_PX - 2), TEXT_PX as i32 / 2);
            area.draw(&Rectangle::new([corner(-1, -half), corner(wide, half)], WHITE.mix(0.8).filled()))?;
            area.draw(&Text::new(text, at, number(HPos::Left, VPos::Center)))?;
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

/// A cell of a grid.
pub struct Cell {
    /// What stands in it.
    pub text: String,
    /// From 0 (well) to 1 (not at all well).
    pub shade: f64,
}

/// A grid of cells, row by row from below.
pub fn region(columns: &[String], rows: &[String], cells: &[Vec<Cell>], x_label: &str, y_label: &str) -> String {
    let (wide, high) = (columns.len(), rows.len());
    drawn(SIZE, |area| {
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
        mesh.disable_mesh().x_labels(wide * 2 + 1).y_labels(high * 2 + 1).axis_style(AXIS);
        mesh.x_label_formatter(&by_column).y_label_formatter(&by_row).x_desc(x_label).y_desc(y_label);
        mesh.label_style((FONT, TEXT_PX)).axis_desc_style((FONT, TEXT_PX)).draw()?;
        for (row, cells) in cells.iter().enumerate() {
            for (column, Cell { text, shade }) in cells.iter().enumerate() {
                let (x, y) = (column as f64, row as f64);
                let blend = |well: f64, ill: f64| (well + (ill - well) * shade.clamp(0.0, 1.0)) as u8;
                let fill = RGBColor(blend(215.0, 213.0), blend(238.0, 94.0), blend(226.0, 0.0));
                chart.draw_series([Rectangle::new([(x + 0.02, y + 0.02), (x + 0.98, y + 0.98)], fill.filled())])?;
                let ink = if *shade > 0.8 { WHITE } else { INK };
                let centred = (FONT, TEXT_PX).into_font().color(&ink).pos(Pos::new(HPos::Center, VPos::Center));
                area.draw(&Text::new(text.as_str(), chart.backend_coord(&(x + 0.5, y + 0.5)), centred))?;
            }
        }
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn drawn(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
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
    fn a_logarithmic_axis_has_numbers_all_along() {
        assert_eq!(ticks(&(15.0..340.0)), [20.0, 50.0, 100.0, 200.0]);
        assert_eq!(ticks(&(0.5..4.0)), [0.5, 1.0, 2.0]);
    }

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
