//! Runs and campaigns as JSON, one object a line.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Report;
use crate::coverage::{Coverage, Family, Found, Gap};
use crate::explore::{Run, Shard, Summary};
use crate::invariant::{Kind, Tally};
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
    /// The file of a case of the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
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
            file: None,
        }
    }

    /// The line of a run of a campaign.
    pub fn of_run(run: &'a Run) -> Self {
        Self { file: run.file.as_deref(), ..Self::of(&run.outcome, run.wall) }
    }
}

/// The last line of campaigns. It holds all that is needed to add up the parts of a campaign.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SummaryLine {
    summary: bool,
    /// Which part of the seeds it is about.
    pub shard: String,
    seeds: u64,
    failed: u64,
    wall_ms: u64,
    seeds_per_s: f64,
    interrupted: bool,
    campaigns: Vec<CampaignLine>,
}

/// One campaign within the last line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CampaignLine {
    scenario: String,
    variant: String,
    seeds: u64,
    cases: u64,
    failed: u64,
    verdict: Severity,
    wall_ms: u64,
    seeds_per_s: f64,
    interrupted: bool,
    exchanges: u64,
    jobs_queued: u64,
    jobs_started: u64,
    fingerprints: BTreeMap<String, Found>,
    families: BTreeMap<String, Family>,
    /// How many things each invariant applied to,
    invariants: BTreeMap<String, u64>,
    /// and how often what is asked for only sometimes was shown.
    sometimes: BTreeMap<String, u64>,
    lost_cases: BTreeMap<String, String>,
    /// What was not tried, and
    gaps: Vec<String>,
    /// what of it the campaign fails for.
    failing_gaps: Vec<String>,
}

impl SummaryLine {
    /// The line of these campaigns.
    pub fn of(campaigns: &[Summary], shard: Shard) -> Self {
        let wall: Duration = campaigns.iter().map(|campaign| campaign.wall).sum();
        let seeds = campaigns.iter().map(|campaign| campaign.seeds).sum();
        Self {
            summary: true,
            shard: shard.to_string(),
            seeds,
            failed: campaigns.iter().map(|campaign| campaign.failed).sum(),
            wall_ms: millis(wall),
            seeds_per_s: rounded(seeds as f64 / wall.as_secs_f64().max(1e-9)),
            interrupted: campaigns.iter().any(|campaign| campaign.interrupted),
            campaigns: campaigns.iter().map(CampaignLine::of).collect(),
        }
    }

    /// The campaigns that the line is about.
    pub fn campaigns(self) -> Vec<Summary> {
        self.campaigns.into_iter().map(CampaignLine::summary).collect()
    }
}

impl CampaignLine {
    fn of(campaign: &Summary) -> Self {
        let coverage = &campaign.coverage;
        let told = |gaps: Vec<Gap>| gaps.iter().map(ToString::to_string).collect();
        let tallies = |sometimes: bool| {
            let tallies = coverage.tallies.iter().filter(|tally| (tally.kind == Kind::Sometimes) == sometimes);
            tallies.map(|tally| (tally.invariant.clone(), tally.subjects)).collect()
        };
        Self {
            scenario: campaign.scenario.clone(),
            variant: campaign.variant.clone(),
            seeds: campaign.seeds,
            cases: campaign.cases,
            failed: campaign.failed,
            verdict: campaign.worst,
            wall_ms: millis(campaign.wall),
            seeds_per_s: rounded(campaign.seeds_per_s()),
            interrupted: campaign.interrupted,
            exchanges: coverage.exchanges,
            jobs_queued: coverage.jobs_queued,
            jobs_started: coverage.jobs_started,
            fingerprints: coverage.fingerprints.clone(),
            families: coverage.families.clone(),
            invariants: tallies(false),
            sometimes: tallies(true),
            lost_cases: coverage.lost_cases.clone(),
            gaps: told(coverage.gaps()),
            failing_gaps: told(coverage.certain_gaps()),
        }
    }

    fn summary(self) -> Summary {
        // Of a kind a campaign only knows whether it is asked for always.
        let tally = |kind| move |(invariant, subjects)| Tally { invariant, kind, subjects, breaches: 0 };
        let always = self.invariants.into_iter().map(tally(Kind::Always));
        let tallies: Vec<Tally> = always.chain(self.sometimes.into_iter().map(tally(Kind::Sometimes))).collect();
        let mut coverage = Coverage {
            families: self.families,
            fingerprints: self.fingerprints,
            trials: self.seeds + self.cases,
            exchanges: self.exchanges,
            jobs_queued: self.jobs_queued,
            jobs_started: self.jobs_started,
            lost_cases: self.lost_cases,
            ..Coverage::default()
        };
        coverage.tallies.add(&tallies);
        Summary {
            scenario: self.scenario,
            variant: self.variant,
            seeds: self.seeds,
            cases: self.cases,
            failed: self.failed,
            worst: self.verdict,
            wall: Duration::from_millis(self.wall_ms),
            coverage,
            interrupted: self.interrupted,
        }
    }
}

/// To one decimal.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
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
