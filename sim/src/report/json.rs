//! Runs and campaigns as JSON, one object a line.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::Report;
use crate::coverage::{Family, Found};
use crate::explore::Summary;
use crate::trace::Event;
use crate::trial::Outcome;
use crate::verdict::Severity;

/// One run of a campaign.
#[derive(Clone, Debug, Serialize)]
pub struct RunLine<'a> {
    scenario: &'a str,
    variant: &'a str,
    seed: u64,
    digest: &'a str,
    verdict: Severity,
    invariant: Option<&'a str>,
    fingerprint: Option<String>,
    sim_ms: u64,
    wall_us: u64,
    exchanges: u64,
    faults: usize,
    faults_effective: usize,
}

impl<'a> RunLine<'a> {
    /// The line of a run that cost this real time.
    pub fn of(outcome: &'a Outcome, wall: Duration) -> Self {
        let worst = outcome.verdict.worst();
        Self {
            scenario: &outcome.scenario,
            variant: &outcome.variant,
            seed: outcome.seed,
            digest: &outcome.digest,
            verdict: outcome.verdict.severity(),
            invariant: worst.map(|worst| worst.invariant.as_str()),
            fingerprint: worst.map(|worst| worst.fingerprint()),
            sim_ms: outcome.ended_at.as_millis(),
            wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            exchanges: outcome.exchanges,
            faults: outcome.faults.len(),
            faults_effective: outcome.faults_effective(),
        }
    }
}

/// The last line of campaigns.
#[derive(Clone, Debug, Serialize)]
pub struct SummaryLine<'a> {
    summary: bool,
    seeds: u64,
    failed: u64,
    wall_ms: u64,
    seeds_per_s: f64,
    interrupted: bool,
    campaigns: Vec<CampaignLine<'a>>,
}

/// One campaign within the last line.
#[derive(Clone, Debug, Serialize)]
struct CampaignLine<'a> {
    scenario: &'a str,
    variant: &'a str,
    seeds: u64,
    failed: u64,
    verdict: Severity,
    wall_ms: u64,
    exchanges: u64,
    fingerprints: &'a BTreeMap<String, Found>,
    families: &'a BTreeMap<String, Family>,
    invariants: BTreeMap<&'static str, u64>,
    gaps: Vec<String>,
}

impl<'a> SummaryLine<'a> {
    /// The line of these campaigns.
    pub fn of(campaigns: &'a [Summary]) -> Self {
        let wall: Duration = campaigns.iter().map(|campaign| campaign.wall).sum();
        let seeds = campaigns.iter().map(|campaign| campaign.seeds).sum();
        Self {
            summary: true,
            seeds,
            failed: campaigns.iter().map(|campaign| campaign.failed).sum(),
            wall_ms: millis(wall),
            seeds_per_s: (seeds as f64 / wall.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
            interrupted: campaigns.iter().any(|campaign| campaign.interrupted),
            campaigns: campaigns.iter().map(CampaignLine::of).collect(),
        }
    }
}

impl<'a> CampaignLine<'a> {
    fn of(campaign: &'a Summary) -> Self {
        Self {
            scenario: &campaign.scenario,
            variant: &campaign.variant,
            seeds: campaign.seeds,
            failed: campaign.failed,
            verdict: campaign.worst,
            wall_ms: millis(campaign.wall),
            exchanges: campaign.coverage.exchanges,
            fingerprints: &campaign.coverage.fingerprints,
            families: &campaign.coverage.families,
            invariants: campaign.coverage.tallies.iter().map(|tally| (tally.invariant, tally.subjects)).collect(),
            gaps: campaign.coverage.gaps().iter().map(ToString::to_string).collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A run in full: a first line as in a campaign, with its findings, nodes and case; then each event on a line.
pub fn run(report: &Report<'_>, wall: Duration) -> String {
    let (outcome, ended) = (&report.trial.outcome, &report.trial.ended);
    let mut first = to_value(&RunLine::of(outcome, wall));
    first["replay"] = json!(report.replay);
    first["findings"] = to_value(&outcome.verdict.findings);
    first["effects"] = outcome.faults.iter().map(|fault| fault.effects).collect();
    first["nodes"] = to_value(&ended.nodes);
    first["case"] = to_value(report.case);
    let mut text = format!("{first}\n");
    for event in &ended.events {
        text += &event_line(event, &ended.nodes);
        text.push('\n');
    }
    text
}

fn event_line(event: &Event, nodes: &[String]) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        at_ns: u64,
        node: &'a str,
        #[serde(flatten)]
        what: &'a crate::trace::What,
    }
    let node = nodes.get(event.node.0 as usize).map(String::as_str).unwrap_or_default();
    let line = Line { at_ns: event.at.as_nanos(), node, what: &event.what };
    serde_json::to_string(&line).expect("events are plain data")
}

fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("reports are plain data")
}
