//! The run as one HTML page that needs nothing else: a picture to zoom into, the faults, the findings and the story.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::scene::Scene;
use super::{Report, text};
use crate::time::SimTime;
use crate::verdict::Finding;

/// How the page looks, and what it does.
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the picture shows and a reader may switch off.
const LAYERS: [(&str, &str); 8] = [
    ("requests", "requests"),
    ("session", "sessions"),
    ("lease", "leases"),
    ("job", "jobs"),
    ("lock", "locks"),
    ("fact", "facts"),
    ("routine", "routine"),
    ("log", "logs"),
];

/// The run as an HTML page.
pub fn page(report: &Report<'_>) -> String {
    let scene = Scene::of(report);
    let outcome = &report.trial.outcome;
    let worst = outcome.verdict.worst();
    let title = format!("{} seed {}", report.case.scenario, report.case.seed);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.replay { code { (report.replay) } button #copy type="button" { "copy" } }
                    h1 { (report.case.scenario) " " small { "seed " (report.case.seed) ", " (report.case.variant) } }
                    p { (report.scenario.summary()) }
                    (verdict(worst))
                    p.quiet {
                        "Ran " (outcome.ended_at) " of simulated time, " (outcome.exchanges) " requests answered, digest "
                        code { (outcome.digest) } "."
                    }
                }
                (picture())
                (faults(&scene))
                (findings(&outcome.verdict.findings))
                section {
                    h2 { "Story" }
                    details { summary { "as text" } pre { (text(report)) } }
                }
                script #scene type="application/json" { (PreEscaped(embedded(&scene))) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn verdict(worst: Option<&Finding>) -> Markup {
    html! {
        @match worst {
            Some(worst) => p.verdict.bad {
                strong { (worst.severity) ": " (worst.invariant) } " at " (worst.at) ". " (worst.message)
            },
            None => p.verdict.good { strong { "pass" } ". Every invariant held." },
        }
    }
}

fn picture() -> Markup {
    html! {
        section #picture {
            div.tools {
                @for (layer, name) in LAYERS {
                    label { input type="checkbox" data-layer=(layer) checked; " " (name) }
                }
                input #filter type="search" placeholder="filter by text";
                button #whole type="button" { "whole run" }
                button #failure type="button" { "failure" }
                span.quiet { "wheel zooms, drag moves, hover tells" }
            }
            div #lanes {}
            svg #timeline role="img" aria-label="what happened, by machine and time" {}
            div #tip hidden {}
        }
    }
}

fn faults(scene: &Scene) -> Markup {
    html! {
        section {
            h2 { "Faults" }
            @if scene.bands.is_empty() { p { "None." } } @else {
                table {
                    tr { th { "from" } th { "to" } th { "what" } th { "clock" } th { "effects" } }
                    @for band in &scene.bands {
                        tr.idle[band.effects == 0] {
                            td { (clock(band.from_ms)) } td { (clock(band.to_ms)) } td { (band.what) }
                            td { (band.clock.as_deref().unwrap_or("")) } td.number { (band.effects) }
                        }
                    }
                }
            }
        }
    }
}

fn findings(findings: &[Finding]) -> Markup {
    html! {
        @if findings.len() > 1 {
            section {
                h2 { "Findings" }
                table {
                    tr { th { "at" } th { "verdict" } th { "invariant" } th { "what" } }
                    @for found in findings {
                        tr { td { (found.at) } td { (found.severity) } td { (found.invariant) } td { (found.message) } }
                    }
                }
            }
        }
    }
}

fn clock(at_ms: f64) -> SimTime {
    SimTime::from_millis(at_ms as u64)
}

/// JSON that can stand inside of a script element: no text in it may end that element.
fn embedded(scene: &Scene) -> String {
    serde_json::to_string(scene).expect("plain data").replace('<', "\\u003c")
}
