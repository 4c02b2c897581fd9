//! A run as a picture has it: lanes, arrows, bars, bands and marks.

use std::collections::BTreeMap;

use serde::Serialize;
use squall_protocol::Fact;

use super::{Report, story, words};
use crate::fault::{Fault, FaultKind};
use crate::time::SimTime;
use crate::trace::{Event, NodeId, What};

/// Everything that a picture of a run shows. Times are milliseconds of true time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Scene {
    /// The machines, by number; the first is the world itself.
    pub(crate) lanes: Vec<String>,
    /// When the run ended, and from when on no fault acted.
    pub(crate) end_ms: f64,
    pub(crate) heal_ms: f64,
    pub(crate) requests: Vec<Request>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) bands: Vec<Band>,
    pub(crate) marks: Vec<Mark>,
    /// What was found, the worst first.
    pub(crate) findings: Vec<Found>,
}

/// A request, from its sender to the answer or to whatever took its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Request {
    pub(crate) from: u32,
    /// The lane of its server, if that is a machine of this world.
    pub(crate) to: Option<u32>,
    pub(crate) what: String,
    pub(crate) sent_ms: f64,
    pub(crate) ended_ms: f64,
    pub(crate) outcome: String,
    pub(crate) good: bool,
}

/// Something that lasts and belongs to a machine: a session, a lease, an execution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    pub(crate) lane: u32,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    /// How it ended.
    pub(crate) end: String,
}

/// A fault of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Band {
    pub(crate) family: String,
    pub(crate) what: String,
    /// The lanes that it acts on; none for all of them.
    pub(crate) lanes: Vec<u32>,
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    pub(crate) effects: u64,
    /// How wrong it makes a clock, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<String>,
}

/// Something that happened at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Mark {
    pub(crate) lane: u32,
    pub(crate) at_ms: f64,
    /// `fact`, `routine` for facts that say that something goes on as before, `log` or `process`.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// A finding, as a picture marks it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Found {
    pub(crate) at_ms: f64,
    pub(crate) invariant: String,
    pub(crate) severity: String,
    pub(crate) message: String,
}

impl Scene {
    /// The picture of a run whose events were kept.
    pub(crate) fn of(report: &Report<'_>) -> Self {
        let ended = &report.trial.ended;
        let mut scene = Self {
            lanes: ended.nodes.clone(),
            end_ms: ms(ended.at),
            heal_ms: report.case.plan.heal_at_ms as f64,
            ..Self::default()
        };
        let mut stage = Stage::default();
        ended.events.iter().for_each(|event| stage.play(event, &mut scene));
        stage.close(&mut scene);
        let plan = report.case.plan.faults.iter().enumerate();
        scene.bands = plan.map(|(id, fault)| band(fault, ended.effects.of(id), &scene)).collect();
        scene.findings = report
            .trial
            .outcome
            .verdict
            .findings
            .iter()
            .map(|found| Found {
                at_ms: ms(found.at),
                invariant: found.invariant.clone(),
                severity: found.severity.to_string(),
                message: found.message.clone(),
            })
            .collect();
        scene
    }

    fn lane(&self, name: &str) -> Option<u32> {
        self.lanes.iter().position(|lane| lane == name).map(|place| place as u32)
    }
}

fn ms(at: SimTime) -> f64 {
    at.as_nanos() as f64 / 1e6
}

fn band(fault: &Fault, effects: u64, scene: &Scene) -> Band {
    let target = [&fault.target.node, &fault.target.peer];
    let clock = match fault.kind {
        FaultKind::ClockStep { by_ms } => Some(format!("{:+.1} s", by_ms as f64 / 1e3)),
        FaultKind::ClockDrift { ppm } => Some(format!("{ppm:+} ppm")),
        _ => None,
    };
    Band {
        family: fault.kind.family().to_owned(),
        what: words::fault(fault),
        lanes: target.into_iter().flatten().filter_map(|name| scene.lane(name)).collect(),
        from_ms: fault.at_ms as f64,
        to_ms: fault.at_ms.saturating_add(fault.for_ms).min(scene.heal_ms as u64) as f64,
        effects,
        clock,
    }
}

/// What has begun and not yet ended.
#[derive(Default)]
struct Stage {
    requests: BTreeMap<u64, (SimTime, NodeId, String, String)>,
    /// By kind and name: its lane, and since when.
    bars: BTreeMap<(&'static str, String), (u32, SimTime)>,
}

impl Stage {
    fn play(&mut self, event: &Event, scene: &mut Scene) {
        match &event.what {
            What::RequestSent { id, to, method, path } => {
                let path = path.split('?').next().unwrap_or(path);
                self.requests.insert(*id, (event.at, event.node, to.clone(), format!("{method} {to}{path}")));
            }
            What::Answered { id, status } => {
                self.answered(event.at, *id, status.to_string(), *status < 400, scene);
            }
            What::RequestFailed { id, error } => self.answered(event.at, *id, error.clone(), false, scene),
            What::RequestDropped { id } => {
                self.answered(event.at, *id, "its sender stops waiting".to_owned(), false, scene);
            }
            What::Fact { fact } => self.fact(event, fact, scene),
            What::Log { level, message } => mark(event, "log", format!("{level}: {message}"), scene),
            What::ProcessStarted { process } => mark(event, "process", format!("{process} starts"), scene),
            What::ProcessEnded { process, how } => mark(event, "process", format!("{process} {how}"), scene),
            _ => {}
        }
    }

    fn answered(&mut self, at: SimTime, id: u64, outcome: String, good: bool, scene: &mut Scene) {
        let Some((sent, from, to, what)) = self.requests.remove(&id) else { return };
        let to = scene.lane(to.split(':').next().unwrap_or(&to));
        let (sent_ms, ended_ms) = (ms(sent), ms(at));
        scene.requests.push(Request { from: from.0, to, what, sent_ms, ended_ms, outcome, good });
    }

    fn fact(&mut self, event: &Event, fact: &Fact, scene: &mut Scene) {
        let lane_of =
            |agent: &squall_protocol::facts::Agent, scene: &Scene| scene.lane(&agent.0).unwrap_or(event.node.0);
        match fact {
            Fact::ClientLoad { .. } | Fact::MinuteLoad { .. } => return,
            Fact::SessionOpened { session, agent } => {
                self.begin("session", session.to_string(), lane_of(agent, scene), event.at);
            }
            Fact::SessionClosed { session, why, .. } => {
                self.end("session", session.to_string(), event.at, &format!("{why:?}").to_lowercase(), scene);
            }
            Fact::LeaseGranted { job, attempt, agent, .. } => {
                self.begin("lease", format!("{job} #{attempt}"), lane_of(agent, scene), event.at);
            }
            Fact::LeaseExpired { job, attempt } => {
                self.end("lease", format!("{job} #{attempt}"), event.at, "expired", scene);
            }
            Fact::LeaseReleased { job, attempt } => {
                self.end("lease", format!("{job} #{attempt}"), event.at, "released", scene);
            }
            Fact::JobStarted { job, attempt, agent, worker } => {
                self.begin("job", format!("{job} #{attempt} by {worker}"), lane_of(agent, scene), event.at);
            }
            Fact::JobStopped { job, attempt, worker, outcome } => {
                let name = format!("{job} #{attempt} by {worker}");
                self.end("job", name, event.at, &format!("{outcome:?}").to_lowercase(), scene);
            }
            Fact::LockTaken { lock, holder, token } => {
                self.begin("lock", format!("{lock} ({token})"), lane_of(holder, scene), event.at);
            }
            Fact::LockReleased { lock, token } => {
                self.end("lock", format!("{lock} ({token})"), event.at, "released", scene);
            }
            Fact::LockExpired { lock, token } => {
                self.end("lock", format!("{lock} ({token})"), event.at, "expired", scene);
            }
            _ => {}
        }
        let kind = if story::routine(fact).is_some() { "routine" } else { "fact" };
        mark(event, kind, words::fact(fact), scene);
    }

    fn begin(&mut self, kind: &'static str, name: String, lane: u32, at: SimTime) {
        self.bars.insert((kind, name), (lane, at));
    }

    fn end(&mut self, kind: &'static str, name: String, at: SimTime, end: &str, scene: &mut Scene) {
        let Some((lane, since)) = self.bars.remove(&(kind, name.clone())) else { return };
        scene.bars.push(Bar { lane, kind, name, from_ms: ms(since), to_ms: ms(at), end: end.to_owned() });
    }

    /// What has not ended when the run has.
    fn close(self, scene: &mut Scene) {
        let end_ms = scene.end_ms;
        for ((kind, name), (lane, since)) in self.bars {
            scene.bars.push(Bar { lane, kind, name, from_ms: ms(since), to_ms: end_ms, end: "goes on".to_owned() });
        }
        for (sent, from, to, what) in self.requests.into_values() {
            let (to, outcome) = (scene.lane(&to), "no answer before the end".to_owned());
            let sent_ms = ms(sent);
            scene.requests.push(Request { from: from.0, to, what, sent_ms, ended_ms: end_ms, outcome, good: false });
        }
        scene.requests.sort_by(|a, b| a.sent_ms.total_cmp(&b.sent_ms));
        scene.bars.sort_by(|a, b| a.from_ms.total_cmp(&b.from_ms));
    }
}

fn mark(event: &Event, kind: &'static str, text: String, scene: &mut Scene) {
    scene.marks.push(Mark { lane: event.node.0, at_ms: ms(event.at), kind, text });
}
