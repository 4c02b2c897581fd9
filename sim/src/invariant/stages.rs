//! Stages of jobs: they are bounded, and somebody hears of those that are not.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Job, Stage};

use crate::time::SimTime;
use crate::trace::NodeId;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::running::{Change, Counts, Running};
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// A stage of a job ends in time. While its machine is suspended, no time passes for it.
#[derive(Clone, Debug)]
pub struct StageEnds {
    /// The stage, or every stage. Default: every one.
    pub stage: Option<Stage>,
    /// How long it may take. Default: 1 minute.
    pub bound: Duration,
    /// From when on time counts. Default: [`Counting::DespiteFaults`].
    pub counting: Counting,
}

/// From when on the time of a stage counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// From its beginning: what a stage does is not so important that a fault may prolong it.
    DespiteFaults,
    /// From its beginning, or from heal if that is later.
    AfterHeal,
}

impl Default for StageEnds {
    fn default() -> Self {
        Self { stage: None, bound: Duration::from_secs(60), counting: Counting::DespiteFaults }
    }
}

impl Rule for StageEnds {
    const NAME: &'static str = "stage-ends";
    const SUMMARY: &'static str = "A stage of a job, with its best-effort traffic, ends in time.";
    const SUBJECT: &'static str = "stage";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let suspensions = Suspensions::of(history);
        let mut machines: BTreeMap<Place<'_>, NodeId> = BTreeMap::new();
        let mut endings = Endings::default();
        let mut open: Deadlines<Place<'_>> = match self.counting {
            Counting::DespiteFaults => Deadlines::despite_faults(self.bound),
            Counting::AfterHeal => Deadlines::after_heal(history, self.bound),
        };
        let tell = |found: &mut Findings, machine: Option<&NodeId>, (job, stage): Place<'_>, due: Due, at: SimTime| {
            found.subject();
            let since = SimTime::ZERO + due.deadline.since(SimTime::ZERO + self.bound);
            let awake = machine.map_or(self.bound, |machine| suspensions.awake(&[*machine], since, at));
            if due.missed && awake > self.bound {
                let message = format_args!(
                    "stage {stage:?} of {job} began at {} and had not ended by {} ({} are its bound)",
                    due.since,
                    due.deadline,
                    Span(self.bound),
                    stage = &*stage.0
                );
                found.breach(name((job, stage)), due.deadline, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::StageBegan { job, stage } if self.stage.as_ref().is_none_or(|only| only == stage) => {
                    open.arise((job, stage), entry.at);
                    machines.insert((job, stage), entry.node);
                }
                Fact::StageEnded { job, stage } => {
                    let (place, machine) = ((job, stage), machines.get(&(job, stage)));
                    let due = open.settle(&place, entry.at);
                    due.into_iter().for_each(|due| tell(found, machine, place, due, entry.at));
                }
                _ => {}
            }
            // A stage that is cut off with its worker has ended, too.
            if let Some(ended) = endings.follow(entry) {
                for place in open.open(|(job, _)| *job == ended) {
                    let due = open.settle(&place, entry.at);
                    due.into_iter().for_each(|due| tell(found, machines.get(&place), place, due, entry.at));
                }
            }
        }
        open.missed(history.end).for_each(|(place, due)| tell(found, machines.get(&place), place, due, history.end));
    }
}

/// A monitor raises an alert for a stage that takes too long, and for no other.
#[derive(Clone, Debug)]
pub struct SlowStageAlerted {
    /// The stage that is watched, or every stage. Default: every one.
    pub stage: Option<Stage>,
    /// How long a stage may take before it is slow. Default: 1 minute.
    pub threshold: Duration,
    /// How long the alert may take, from heal on. Default: 2 minutes.
    pub within: Duration,
}

impl Default for SlowStageAlerted {
    fn default() -> Self {
        Self { stage: None, threshold: Duration::from_secs(60), within: Duration::from_secs(2 * 60) }
    }
}

struct Watch {
    began: SimTime,
    ended: Option<SimTime>,
    alerted: bool,
}

impl Rule for SlowStageAlerted {
    const NAME: &'static str = "slow-stage-alerted";
    const SUMMARY: &'static str = "A monitor raises an alert for a stage that takes too long, and for no other.";
    const SUBJECT: &'static str = "stage";

    fn within(&self) -> Option<Duration> {
        Some(self.within)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut endings = Endings::default();
        let first = Stage::from("");
        let mut watched: BTreeMap<Place<'_>, Watch> = BTreeMap::new();
        let mut unheard: Deadlines<Place<'_>> = Deadlines::after_heal(history, self.within);
        let watches = |stage: &Stage| self.stage.as_ref().is_none_or(|only| only == stage);
        for entry in history.journal {
            match &entry.fact {
                Fact::StageBegan { job, stage } if watches(stage) => {
                    let watch = Watch { began: entry.at, ended: None, alerted: false };
                    if let Some(before) = watched.insert((job, stage), watch) {
                        self.close((job, stage), &before, entry.at, &mut unheard);
                    }
                }
                Fact::StageEnded { job, stage } => {
                    if let Some(watch) = watched.get_mut(&(job, stage)) {
                        watch.ended.get_or_insert(entry.at);
                        self.close((job, stage), watch, entry.at, &mut unheard);
                    }
                }
                Fact::StageAlert { job, stage } if watches(stage) => {
                    self.hear((job, stage), entry.at, &mut watched, &mut unheard, found);
                }
                _ => {}
            }
            if let Some(ended) = endings.follow(entry) {
                let its_stages = watched.range_mut((ended, &first)..).take_while(|((job, _), _)| *job == ended);
                for (place, watch) in its_stages.filter(|(_, watch)| watch.ended.is_none()) {
                    watch.ended = Some(entry.at);
                    self.close(*place, watch, entry.at, &mut unheard);
                }
            }
        }
        for (place, watch) in watched.iter().filter(|(_, watch)| watch.ended.is_none()) {
            self.close(*place, watch, history.end, &mut unheard);
        }
        unheard.missed(history.end).for_each(|(place, due)| self.tell(place, due, found));
    }
}

impl SlowStageAlerted {
    /// A stage is over: if it was slow and nobody has said so, somebody has to.
    fn close<'a>(&self, place: Place<'a>, watch: &Watch, at: SimTime, unheard: &mut Deadlines<Place<'a>>) {
        let until = watch.ended.unwrap_or(at);
        if !watch.alerted && until.since(watch.began) > self.threshold {
            unheard.arise(place, watch.began + self.threshold);
        }
    }

    /// An alert is raised: it settles the stage it is about, unless that was not slow.
    fn hear<'a>(
        &self,
        place: Place<'a>,
        at: SimTime,
        watched: &mut BTreeMap<Place<'a>, Watch>,
        unheard: &mut Deadlines<Place<'a>>,
        found: &mut Findings,
    ) {
        if let Some(due) = unheard.settle(&place, at) {
            if let Some(watch) = watched.get_mut(&place) {
                watch.alerted = true;
            }
            return self.tell(place, due, found);
        }
        let watch = watched.get_mut(&place);
        let ran = watch.as_ref().map(|watch| watch.ended.unwrap_or(at).since(watch.began));
        match (watch, ran) {
            (Some(watch), Some(ran)) if ran >= self.threshold => {
                if !watch.alerted {
                    watch.alerted = true;
                    unheard.arise(place, watch.began + self.threshold);
                    unheard.settle(&place, at).into_iter().for_each(|due| self.tell(place, due, found));
                }
            }
            _ => {
                let (job, stage) = place;
                let (ran, threshold) = (Span(ran.unwrap_or_default()), Span(self.threshold));
                let message = format_args!(
                    "an alert was raised at {at} for stage {:?} of {job}, which had taken {ran}; {threshold} are slow",
                    &*stage.0
                );
                found.breach(name(place), at, message);
            }
        }
    }

    fn tell(&self, place: Place<'_>, due: Due, found: &mut Findings) {
        found.subject();
        if due.missed {
            let (job, stage) = place;
            let message = format_args!(
                "stage {:?} of {job} was slow at {}, after {}, and no alert had been raised by {}",
                &*stage.0,
                due.since,
                Span(self.threshold),
                due.deadline
            );
            found.breach(name(place), due.deadline, message);
        }
    }
}

type Place<'a> = (&'a Job, &'a Stage);

fn name((job, stage): Place<'_>) -> String {
    format!("{job}/{stage}")
}

/// Notices when the last worker of a job stops.
#[derive(Default)]
struct Endings<'a> {
    running: Running<'a>,
    workers: Counts<&'a Job>,
}

impl<'a> Endings<'a> {
    fn follow(&mut self, entry: &'a crate::journal::Entry) -> Option<&'a Job> {
        match self.running.follow(entry)? {
            Change::Started(run) => {
                self.workers.add(run.job);
                None
            }
            Change::Stopped(run, _) => self.workers.remove(&run.job).then_some(run.job),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn stages_end_in_time_or_with_their_worker() {
        let facts = vec![
            (1, started("j", 1, "a", "w")),
            (1, stage_began("j", "checkout")),
            (61, stage_ended("j", "checkout")),
            (70, stage_began("j", "post-job")),
            (100, stopped("j", 1, "w")),
        ];
        holds(&StageEnds::default(), 2, facts.clone());
        holds(&StageEnds { stage: Some("post-job".into()), ..StageEnds::default() }, 1, facts);
    }

    #[test]
    fn a_stage_that_takes_too_long_is_a_breach() {
        let broken = (61, "j/post-job", "stage-ends/stage");
        let facts = vec![(1, started("j", 1, "a", "w")), (1, stage_began("j", "post-job"))];
        breaks(&StageEnds::default(), broken, &["\"post-job\"", "0:00:01", "0:01:01", "60 s"], facts.clone());
        for end in [stage_ended("j", "post-job"), stopped("j", 1, "w")] {
            breaks(&StageEnds::default(), broken, &[], [facts.clone(), vec![(62, end)]].concat());
        }
        let after_heal = StageEnds { counting: Counting::AfterHeal, ..StageEnds::default() };
        holds(&after_heal, 1, [facts.clone(), vec![(1_060, stage_ended("j", "post-job"))]].concat());
        breaks(&after_heal, (1_060, broken.1, broken.2), &[], facts);
    }

    #[test]
    fn a_suspended_machine_s_time_does_not_count() {
        let facts = |resumed| {
            vec![
                (1, started("j", 1, "a", "w")),
                (1, stage_began("j", "post-job")),
                (11, Fact::MachineSuspended { machine: "a".into() }),
                (resumed, Fact::MachineResumed { machine: "a".into() }),
                // Awake for 10 s before its machine slept, and for 45 s after it.
                (385, stage_ended("j", "post-job")),
            ]
        };
        holds(&StageEnds::default(), 1, facts(340));
        breaks(&StageEnds::default(), (61, "j/post-job", "stage-ends/stage"), &[], facts(310));
    }

    #[test]
    fn slow_stages_are_alerted() {
        let facts = vec![
            (2_000, started("j", 1, "a", "w")),
            (2_000, stage_began("j", "running")),
            (2_060, stage_ended("j", "running")),
            (2_100, stage_began("j", "post-job")),
            (2_200, alert("j", "post-job")),
            (2_250, stage_ended("j", "post-job")),
            (2_260, alert("j", "post-job")),
            (2_300, stage_began("j", "late alert")),
            (2_390, stopped("j", 1, "w")),
            (2_480, alert("j", "late alert")),
            (2_481, alert("j", "late alert")),
        ];
        holds(&SlowStageAlerted::default(), 2, facts);
    }

    #[test]
    fn a_slow_stage_without_an_alert_is_a_breach() {
        let broken = (2_180, "j/post-job", "slow-stage-alerted/stage");
        let began = vec![(1_990, started("j", 1, "a", "w")), (2_000, stage_began("j", "post-job"))];
        let rest = [
            vec![],
            vec![(2_061, stage_ended("j", "post-job"))],
            vec![(2_100, stopped("j", 1, "w"))],
            vec![(2_181, alert("j", "post-job"))],
            vec![(2_100, stage_ended("j", "post-job")), (2_181, alert("j", "post-job"))],
            vec![(2_100, stage_began("j", "post-job")), (2_110, stage_ended("j", "post-job"))],
        ];
        for rest in rest {
            let words = &["\"post-job\" of j", "0:34:20", "60 s", "0:36:20"];
            breaks(&SlowStageAlerted::default(), broken, words, [began.clone(), rest].concat());
        }
    }

    #[test]
    fn a_false_alarm_is_a_breach() {
        let facts = vec![(2_000, stage_began("j", "s")), (2_059, alert("j", "s")), (2_060, stage_ended("j", "s"))];
        let broken = (2_059, "j/s", "slow-stage-alerted/stage");
        breaks(&SlowStageAlerted::default(), broken, &["59 s"], facts);
        breaks(&SlowStageAlerted::default(), broken, &["0 ms"], vec![(2_059, alert("j", "s"))]);
    }
}
