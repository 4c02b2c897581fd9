//! A comparison as one self-contained HTML page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use squall_protocol::retry::Span;

use super::compare::{Row, Spread};
use super::measure::MEASURES;
use super::overload::Region;
use super::plots::{self, Axis, Cell, Line, Point};
use super::trial::Trial;

/// Load beyond this many times the capacity is cut off in plots.
const LOAD_SHOWN_MAX: f64 = 8.0;
/// A line of load has about so many points; each is the busiest second of its part.
const LOAD_POINTS: f64 = 200.0;
/// Seconds of load that are shown after heal.
const LOAD_SHOWN_S: f64 = 180.0;

const STYLE: &str = "
:root { color-scheme: light dark; --text: #222; --paper: #fff; --quiet: #555; --rule: #e4e4e4; --best: #d7eee2; --worst: #fbe3d3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --paper: #1b1c1e; --quiet: #a8a8a8; --rule: #3a3b3e; --best: #1d4433; --worst: #55301b; }
  svg { border-radius: 4px; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper); margin: 0 auto;
  max-width: 1480px; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { margin: 2.4rem 0 .2rem; } h3 { font-size: 1rem; margin: 1rem 0 .2rem; }
p { margin: .3rem 0; max-width: 48rem; } .note { color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .8rem 0; padding: .4rem 0; position: sticky; top: 0;
  background: var(--paper); }
.legend span::before { content: ''; display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
  margin-right: .35rem; vertical-align: -1px; background: var(--colour); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: .5rem 1rem; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(290px, 100%), 1fr)); gap: .5rem 1rem; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; overflow-wrap: anywhere; } svg { width: 100%; height: auto; }
.small figcaption { font-weight: 400; font-size: 13px; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; margin: .6rem 0; }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); max-width: 18rem; white-space: normal; overflow-wrap: anywhere; }
.best { background: var(--best); } .worst { background: var(--worst); } td small { display: block; color: var(--quiet); }
dt { font-weight: 600; } dd { margin: 0 0 .3rem 1rem; }
";

/// The page of some regions.
pub fn regions(regions: &[(String, Region)]) -> String {
    let shown = |region: &Region| {
        let columns: Vec<String> = region.triggers_ms.iter().map(|ms| Span::millis(*ms).to_string()).collect();
        let rows: Vec<String> = region.loads.iter().map(|load| format!("{load} %")).collect();
        let cell = |after: &Option<usize>| match after {
            Some(after) => Cell { text: format!("{after} s"), shade: (*after as f64 / 60.0).min(0.6) },
            None => Cell { text: "never".to_owned(), shade: 1.0 },
        };
        let cells: Vec<Vec<Cell>> = region.normal_after_s.iter().map(|row| row.iter().map(cell).collect()).collect();
        plots::region(&columns, &rows, &cells, "how long the service stood still", "load, % of what the service can do")
    };
    framed(
        "From which overloads a service returns",
        &html! {
            p { "A service of 10 requests a second stands still for a while; callers wait 500 ms. Each cell is a run: how long it takes after that until calls succeed as before, or that they never do, although nothing is wrong any more." }
            div.plots {
                @for (name, region) in regions {
                    figure {
                        figcaption { (name) }
                        (PreEscaped(shown(region)))
                        p.note { (region.verdict()) }
                    }
                }
            }
        },
    )
}

/// A page with a title and a content.
fn framed(title: &str, content: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { h1 { (title) } (content) }
        }
    }
    .into_string()
}

/// The page of some rows.
pub fn html(rows: &[Row]) -> String {
    let policies = policies(rows);
    let mut trials: Vec<Trial> = rows.iter().map(|row| row.trial).collect();
    trials.dedup();
    let (agents, seeds) = rows.first().map_or((0, 0), |row| (row.agents, row.seeds));
    framed(
        "Retry policies compared",
        &html! {
            p { (agents) " agents, " (seeds) (if seeds == 1 { " seed" } else { " seeds" }) " for each policy and trial. Renewals alone use half of the server's capacity." }
            div.legend {
                @for (n, policy) in policies.iter().enumerate() {
                    span style={ "--colour:" (plots::css_colour(n)) } { (policy) }
                }
            }
            @for trial in trials {
                (section(trial, &rows.iter().filter(|row| row.trial == trial).collect::<Vec<_>>(), &policies))
            }
            (glossary())
        },
    )
}

fn policies(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        if !names.contains(&row.policy) {
            names.push(row.policy.clone());
        }
    }
    names
}

fn section(trial: Trial, rows: &[&Row], policies: &[String]) -> Markup {
    let colour = |row: &Row| policies.iter().position(|policy| *policy == row.policy).unwrap_or(0);
    html! {
        h2 { (trial) }
        p.note { "In this trial " (trial.summary()) "." }
        h3 { "Load over time" }
        p.note { "Level line: what the server can do. Upright line: the heal, where trouble ends. Each point is the busiest second of a few." }
        div.small {
            @for (row, plot) in rows.iter().zip(load(rows, colour)) {
                figure { figcaption { (row.policy) } (PreEscaped(plot)) }
            }
        }
        div.plots {
            figure { figcaption { "Recovery" } (PreEscaped(recovery(rows, colour))) }
            figure {
                figcaption { "Recovery time against peak load" }
                (PreEscaped(pareto(rows, colour)))
                p.note { "Filled: no other is both sooner back and lighter on the server." }
            }
        }
        (table(rows))
        @for warning in rows.iter().flat_map(|row| row.warnings()) { p.note { (warning) "." } }
    }
}

/// The load of each policy's first seed, from the beginning of trouble to some minutes after heal, over the same axes.
fn load(rows: &[&Row], colour: impl Fn(&Row) -> usize) -> Vec<String> {
    let heal = rows.iter().map(|row| row.course.heal_s).fold(0.0, f64::max);
    let shown = heal + LOAD_SHOWN_S;
    let seconds = (shown / LOAD_POINTS).ceil().max(1.0) as usize;
    let lines: Vec<Line> = rows
        .iter()
        .map(|row| {
            let busiest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
            let parts = row.course.load.chunks(seconds).enumerate();
            let points = parts.map(|(n, part)| ((n * seconds) as f64, busiest(part)));
            Line { colour: colour(row), points: points.take_while(|(at, _)| *at <= shown).collect() }
        })
        .collect();
    let peak = lines.iter().flat_map(|line| &line.points).map(|(_, load)| *load).fold(1.2, f64::max);
    let x = Axis { label: "seconds since trouble began", to: shown };
    let y = Axis { label: "load / capacity", to: (peak * 1.05).min(LOAD_SHOWN_MAX) };
    lines.iter().map(|line| plots::small(line, &x, &y, (heal, 1.0))).collect()
}

/// How many of the agents are back, over the time since heal.
fn recovery(rows: &[&Row], colour: impl Fn(&Row) -> usize) -> String {
    let back = |row: &Row| {
        let all = f64::from(row.agents.max(1));
        let steps = row.course.back_s.iter().enumerate().map(move |(n, at)| (*at, (n + 1) as f64 * 100.0 / all));
        std::iter::once((0.0, 0.0)).chain(steps).collect::<Vec<_>>()
    };
    let lines: Vec<Line> = rows.iter().map(|row| Line { colour: colour(row), points: back(row) }).collect();
    let longest = lines.iter().filter_map(|line| line.points.last()).map(|(at, _)| *at).fold(1.0, f64::max);
    let x = Axis { label: "seconds since heal", to: longest.min(600.0) * 1.02 };
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|line| Line { points: line.points.into_iter().filter(|(at, _)| *at <= x.to).collect(), ..line })
        .collect();
    plots::lines(&lines, &x, &Axis { label: "agents that are back, %", to: 102.0 })
}

fn pareto(rows: &[&Row], colour: impl Fn(&Row) -> usize) -> String {
    let at = |row: &Row| (row.value("recovery_ms_p99").median / 1_000.0, row.value("load_over_capacity").median);
    let rows: Vec<&&Row> = rows.iter().filter(|row| !at(row).0.is_nan()).collect();
    let best = non_dominated(&rows.iter().map(|row| at(row)).collect::<Vec<_>>());
    let points: Vec<Point> = rows
        .iter()
        .zip(best)
        .map(|(row, best)| Point { colour: colour(row), name: row.policy.clone(), at: at(row), best })
        .collect();
    plots::pareto(&points, "seconds until 99 % are back", "peak load / capacity in the minute after heal")
}

/// Which of some points no other beats in both ways, where less is better.
pub fn non_dominated(points: &[(f64, f64)]) -> Vec<bool> {
    let beats = |a: &(f64, f64), b: &(f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    points.iter().map(|point| !points.iter().any(|other| beats(other, point))).collect()
}

fn table(rows: &[&Row]) -> Markup {
    // A run that was ended early has counted less of everything.
    let is_whole = |row: &Row| row.cut_short == 0;
    let extremes: Vec<(f64, f64)> = (0..MEASURES.len())
        .map(|n| {
            let medians = rows.iter().filter(|row| is_whole(row)).map(|row| row.values[n].median);
            medians.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)))
        })
        .collect();
    let class = |n: usize, value: f64| match extremes[n] {
        (least, most) if least == most => "",
        (least, _) if value == least => "best",
        (_, most) if value == most => "worst",
        _ => "",
    };
    html! {
        div.table {
            table {
                tr {
                    th { "policy" }
                    @for measure in MEASURES { th title=(measure.summary) { (measure.short) } }
                }
                @for row in rows {
                    tr {
                        td { (row.policy) }
                        @for (n, Spread { median, iqr }) in row.values.iter().enumerate() {
                            td class=(if is_whole(row) { class(n, *median) } else { "" }) { (number(*median)) @if *iqr > 0.0 { small { "±" (number(iqr / 2.0)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    if value.fract() == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn glossary() -> Markup {
    html! {
        h2 { "What is measured" }
        p {
            "Medians over the seeds; ± is half of the distance between the quartiles. For every measure less is better: the "
            span.best { "best" } " and the " span.worst { "worst" } " of a trial are marked. Plots of load and recovery show the first seed."
        }
        dl {
            @for measure in MEASURES {
                dt { (measure.short) " (" code { (measure.name) } ")" }
                dd { (measure.summary) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_nobody_beats_are_kept() {
        assert_eq!(non_dominated(&[(1.0, 3.0), (2.0, 2.0), (2.0, 3.0), (3.0, 1.0)]), [true, true, false, true]);
        assert_eq!(non_dominated(&[(1.0, 1.0), (1.0, 1.0)]), [true, true]);
    }
}
