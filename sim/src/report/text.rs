//! The story of a run for somebody who does not know the code.

use std::fmt::{self, Write};
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use super::cast::Cast;
use super::story::Line;
use super::{Report, series, story, words};
use crate::invariant::Kind;
use crate::time::SimTime;
use crate::trace::NodeId;
use crate::verdict::{Finding, Severity};

/// Settings longer than this many characters are cut: a case file has them in full.
const SETTINGS_CHARS_MAX: usize = 200;
/// Of a long story this many lines are told from its beginning,
const LINES_HEAD: usize = 40;
/// this many before its failure,
const LINES_BEFORE: usize = 240;
/// and this many after.
const LINES_AFTER: usize = 40;
/// Further findings that are told besides the worst.
const FINDINGS_MAX: usize = 10;

/// The run as a text: how to replay it, what went wrong, the faults, a timeline and the verdict.
pub fn text(report: &Report<'_>) -> String {
    let mut text = String::new();
    write(report, &mut text).expect("writing into a string never fails");
    text
}

fn write(report: &Report<'_>, to: &mut String) -> fmt::Result {
    writeln!(to, "{}\n", report.replay)?;
    header(report, to)?;
    faults(report, to)?;
    timeline(report, to)?;
    verdict(report, to)
}

fn header(report: &Report<'_>, to: &mut String) -> fmt::Result {
    let (case, outcome) = (report.case, &report.trial.outcome);
    writeln!(to, "scenario    {}: {}", case.scenario, report.scenario.summary())?;
    writeln!(to, "seed        {}, variant {}", case.seed, case.variant)?;
    match outcome.verdict.worst() {
        Some(worst) => writeln!(to, "verdict     {}: {} ({})", worst.severity, worst.invariant, subject(worst))?,
        None => writeln!(to, "verdict     pass")?,
    }
    let (lasted, exchanges) = (outcome.ended_at, outcome.exchanges);
    writeln!(to, "ran         {lasted} of simulated time, {exchanges} requests answered, digest {}", outcome.digest)?;
    for (name, settings) in [("parameters", &case.parameters), ("choices", &case.choices), ("workload", &case.workload)]
    {
        if let Some(settings) = told(settings) {
            writeln!(to, "{name:<10}  {settings}")?;
        }
    }
    writeln!(to)
}

/// Settings as `name=value`, nested names with dots.
fn told(settings: &Value) -> Option<String> {
    let mut pairs = Vec::new();
    flatten(settings, String::new(), &mut pairs);
    let told = pairs.join(" ");
    if told.is_empty() {
        return None;
    }
    Some(match told.char_indices().nth(SETTINGS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &told[..end]),
        None => told,
    })
}

fn flatten(value: &Value, path: String, pairs: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            flatten(value, path, pairs);
        }),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(n, item)| flatten(item, format!("{path}[{n}]"), pairs));
        }
        Value::Null => {}
        Value::String(text) => pairs.push(format!("{path}={text}")),
        other => pairs.push(format!("{path}={other}")),
    }
}

fn faults(report: &Report<'_>, to: &mut String) -> fmt::Result {
    let plan = &report.case.plan;
    if plan.faults.is_empty() {
        return writeln!(to, "no faults\n");
    }
    writeln!(to, "faults, all over at {}", SimTime::from_millis(plan.heal_at_ms))?;
    for (id, fault) in plan.faults.iter().enumerate() {
        let begin = SimTime::from_millis(fault.at_ms);
        let end = match fault.for_ms {
            0 => String::new(),
            _ => SimTime::from_millis(fault.at_ms.saturating_add(fault.for_ms).min(plan.heal_at_ms)).to_string(),
        };
        let effects = match report.trial.ended.effects.of(id) {
            0 => "no effect".to_owned(),
            1 => "1 effect".to_owned(),
            effects => format!("{effects} effects"),
        };
        writeln!(to, "  {id:>2}  {begin:>13}  {end:>13}  {} ({effects})", words::fault(fault))?;
        let own = report.scenario.system_faults().iter().find(|(name, _)| *name == fault.kind.family());
        if let Some((_, about)) = own {
            writeln!(to, "  {:>2}  {:>13}  {:>13}  {about}", "", "", "")?;
        }
    }
    writeln!(to)
}

fn timeline(report: &Report<'_>, to: &mut String) -> fmt::Result {
    let nodes = &report.trial.ended.nodes;
    let width = nodes.iter().map(String::len).max().unwrap_or(0);
    let name = |node: NodeId| nodes.get(node.0 as usize).map(String::as_str).unwrap_or_default();
    let worst = report.trial.outcome.verdict.worst();
    let cast = Cast::of(&report.trial.ended, worst);
    let lines = series::fold(story::lines(report, &cast));
    match cast.left_out() {
        (out, _) if out.is_empty() => writeln!(to, "timeline")?,
        (out, told) => {
            writeln!(to, "timeline of {}; what concerns only {} is left out", told.join(", "), out.join(", "))?;
        }
    }
    let (head, tail) = around(&lines, worst.map_or(SimTime::MAX, |worst| worst.at));
    for (n, line) in lines.iter().enumerate() {
        if head.contains(&n) || tail.contains(&n) {
            writeln!(to, "  {:>13}  {:<width$}  {}", line.at.to_string(), name(line.node), line.text)?;
        } else if n == head.end || n + 1 == lines.len() {
            writeln!(to, "  {:>13}  (lines left out; --format json has every event)", "…")?;
        }
    }
    writeln!(to, "  {:>13}  {:<width$}  the run ends", report.trial.ended.at.to_string(), name(NodeId::WORLD))?;
    writeln!(to)
}

/// The lines of a long story that are told: its beginning, and what is around the failure.
fn around(lines: &[Line], failure: SimTime) -> (Range<usize>, Range<usize>) {
    if lines.len() <= LINES_HEAD + LINES_BEFORE + LINES_AFTER {
        return (0..lines.len(), 0..0);
    }
    let place = lines.partition_point(|line| line.at <= failure);
    let end = (place + LINES_AFTER).min(lines.len());
    (0..LINES_HEAD, end.saturating_sub(LINES_BEFORE + LINES_AFTER).max(LINES_HEAD)..end)
}

fn verdict(report: &Report<'_>, to: &mut String) -> fmt::Result {
    let findings = &report.trial.outcome.verdict.findings;
    let Some((worst, others)) = findings.split_first() else {
        return writeln!(to, "verdict: pass, every invariant held");
    };
    writeln!(to, "verdict: {}", worst.severity)?;
    match asked(report, &worst.invariant) {
        Some(asked) => writeln!(to, "  invariant  {}: {asked}", worst.invariant)?,
        None => writeln!(to, "  invariant  {}", worst.invariant)?,
    }
    writeln!(to, "  subject    {}", subject(worst))?;
    writeln!(to, "  at         {}", worst.at)?;
    writeln!(to, "  what       {}", worst.message)?;
    if !others.is_empty() {
        writeln!(to, "also found:")?;
    }
    for other in others.iter().take(FINDINGS_MAX) {
        writeln!(to, "  {:>13}  {}: {}: {}", other.at.to_string(), other.severity, other.invariant, other.message)?;
    }
    if others.len() > FINDINGS_MAX {
        writeln!(to, "  … and {} more", others.len() - FINDINGS_MAX)?;
    }
    Ok(())
}

/// What the invariant of this name asks for.
fn asked(report: &Report<'_>, name: &str) -> Option<String> {
    // A panic of the scenario's own code has become a verdict before; a report must not panic anew.
    if report.trial.outcome.verdict.severity() == Severity::Panic {
        return None;
    }
    let invariants = report.scenario.invariants(report.case);
    let invariant = invariants.iter().find(|invariant| invariant.name() == name)?;
    Some(match invariant.kind() {
        Kind::EventuallyWithin(Duration::ZERO) => format!("{} (once the faults are over)", invariant.summary()),
        Kind::EventuallyWithin(bound) => {
            format!("{} (within {} after the faults are over)", invariant.summary(), words::duration(bound))
        }
        Kind::Always | Kind::Sometimes => invariant.summary().to_owned(),
    })
}

fn subject(finding: &Finding) -> String {
    if finding.subject == finding.subject_kind {
        finding.subject.clone()
    } else {
        format!("{} {}", finding.subject_kind, finding.subject)
    }
}
