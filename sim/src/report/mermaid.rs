//! The run as a Mermaid sequence diagram, to be pasted into an issue: what happened shortly before and after the failure.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Report;
use super::cast::Cast;
use super::scene::Scene;
use super::words;
use crate::time::SimTime;

/// A diagram with more arrows than this is not read.
const LINES_MAX: usize = 60;
/// Longer texts are cut.
const TEXT_CHARS_MAX: usize = 90;

/// What a diagram shows at one instant.
struct Line {
    at_ms: f64,
    text: String,
    lanes: Vec<u32>,
}

/// The run as a sequence diagram of those whom its failure concerns. Of a long run it shows the last lines before it.
pub fn mermaid(report: &Report<'_>) -> String {
    let scene = Scene::of(report);
    let failed_ms = scene.findings.first().map_or(scene.end_ms, |found| found.at_ms);
    let worst = report.trial.outcome.verdict.worst();
    let cast = Cast::of(&report.trial.ended, worst);
    let is_told = |lane: &u32| cast.concerns(std::slice::from_ref(&scene.lanes[*lane as usize]));
    let mut lines = lines(&scene);
    lines.retain(|line| line.lanes.iter().all(is_told));
    lines.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let until = lines.partition_point(|line| line.at_ms <= failed_ms);
    let from = until.saturating_sub(LINES_MAX);
    let shown = &lines[from..until];
    let mut to = format!("sequenceDiagram\n    %% {}\n", report.replay);
    let used: BTreeSet<u32> = shown.iter().flat_map(|line| line.lanes.iter().copied()).collect();
    let put = "writing into a string never fails";
    for lane in &used {
        writeln!(to, "    participant n{lane} as {}", scene.lanes[*lane as usize]).expect(put);
    }
    if from > 0 {
        let lane = used.first().copied().unwrap_or_default();
        writeln!(to, "    Note over n{lane}: {from} earlier lines are left out").expect(put);
    }
    shown.iter().for_each(|line| writeln!(to, "    {}", line.text).expect(put));
    if let (Some(found), Some(lane)) = (scene.findings.first(), used.first()) {
        let over = used.last().filter(|last| *last != lane).map_or_else(String::new, |last| format!(",n{last}"));
        let text = plain(&format!("{}: {}: {}", found.severity, found.invariant, found.message));
        writeln!(to, "    Note over n{lane}{over}: {} {text}", clock(found.at_ms)).expect(put);
    }
    to
}

fn lines(scene: &Scene) -> Vec<Line> {
    let requests = scene.requests.iter().filter_map(|request| {
        let (from, to) = (request.from, request.to?);
        // A lost answer is an arrow that ends in a cross.
        let arrow = if request.good { "->>" } else { "-x" };
        let took = words::duration(std::time::Duration::from_secs_f64((request.ended_ms - request.sent_ms) / 1e3));
        let what = plain(&format!("{} → {} after {took}", request.what, request.outcome));
        let text = format!("n{from}{arrow}n{to}: {} {what}", clock(request.sent_ms));
        Some(Line { at_ms: request.sent_ms, text, lanes: vec![from, to] })
    });
    let marks = scene.marks.iter().filter(|mark| mark.kind == "fact").map(|mark| Line {
        at_ms: mark.at_ms,
        text: format!("Note over n{}: {} {}", mark.lane, clock(mark.at_ms), plain(&mark.text)),
        lanes: vec![mark.lane],
    });
    let faults = scene.bands.iter().filter(|band| band.effects > 0).map(|band| {
        let lane = band.lanes.first().copied().unwrap_or_default();
        let text = format!("Note over n{lane}: {} FAULT {}", clock(band.from_ms), plain(&band.what));
        Line { at_ms: band.from_ms, text, lanes: vec![lane] }
    });
    requests.chain(marks).chain(faults).collect()
}

fn clock(at_ms: f64) -> String {
    SimTime::from_millis(at_ms as u64).to_string()
}

/// Without what means something to Mermaid, and not too long.
fn plain(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if matches!(c, ';' | '#' | '\n' | '"' | '<' | '>') { ' ' } else { c }).collect();
    match plain.char_indices().nth(TEXT_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &plain[..cut]),
        None => plain,
    }
}
