//! Pipelines: what is asked for, and how far a build is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{Job, Outcome};

/// A build that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildSpec {
    /// Its id.
    pub name: String,
    /// Its jobs, the first with number 1. At least one.
    pub jobs: Vec<JobSpec>,
}

/// A job of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Its stage, from 0; stages run one after another, the jobs of one at the same time.
    pub stage: u32,
    /// Where it runs.
    pub place: Place,
}

/// Where a job runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On this agent (`AGENT_ID`).
    Agent(String),
    /// On any agent of the environment (`AGENT_ENV_ID`).
    Environment,
    /// On the machine of an earlier job of the build, by its number (`AGENT_DEP_VAR`).
    SameAs(u32),
}

/// A build, and how far it is.
pub(super) struct Build {
    pub(super) id: String,
    pub(super) jobs: Vec<JobRun>,
    /// Which attempt it is, from 1.
    pub(super) execute_count: u32,
    /// How it ended, if it has.
    pub(super) ended: Option<Outcome>,
    pub(super) stage: u32,
    /// Did somebody ask for its end in this attempt?
    pub(super) end_asked: bool,
    /// Does the engine know?
    pub(super) cancelled: bool,
    pub(super) variables: BTreeMap<String, String>,
    /// The agents whose locks it has taken, by the job that uses them first.
    pub(super) holds: BTreeMap<u32, String>,
    /// The agents that such a job has left while others of the build are at work there.
    pub(super) left: BTreeSet<String>,
}

/// A job of a build, and how far it is.
pub(super) struct JobRun {
    pub(super) seq: u32,
    pub(super) spec: JobSpec,
    pub(super) phase: Phase,
    /// Which attempt of the build it was last run in.
    pub(super) execute_count: u32,
    /// Its agent, once it has one.
    pub(super) agent: Option<String>,
    /// Was the journal told that it is to run there?
    pub(super) offered: bool,
    /// Agents that could not start it in this attempt.
    pub(super) avoid: BTreeSet<String>,
    pub(super) task: Task,
    /// When its worker started, and which one it is if it said so.
    pub(super) started: Option<(Timestamp, Option<String>)>,
    pub(super) cancel_requested: bool,
    /// Tasks that the worker is to be told to end.
    pub(super) cancel_tasks: BTreeSet<String>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its stage has not begun.
    Waiting,
    /// It waits for its agent's lock.
    Locking,
    /// It waits for its agent's room.
    Dispatching,
    /// It is in its agent's queue, or in a worker.
    Dispatched,
    /// It has ended.
    Ended(Outcome),
}

/// How far the task of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Queued,
    Running,
    Done(Outcome),
}

impl Build {
    pub(super) fn new(spec: BuildSpec) -> Self {
        let jobs = (1..).zip(spec.jobs).map(|(seq, spec)| JobRun::new(seq, spec)).collect();
        Self {
            id: spec.name,
            jobs,
            execute_count: 1,
            ended: None,
            stage: 0,
            end_asked: false,
            cancelled: false,
            variables: BTreeMap::new(),
            holds: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    /// Is a job of it on an agent that may have started there?
    pub(super) fn is_at_work_on(&self, agent: &str) -> bool {
        self.jobs.iter().any(|job| job.phase == Phase::Dispatched && job.agent.as_deref() == Some(agent))
    }

    /// The build's name in the journal.
    pub(super) fn fact(&self) -> Job {
        self.id.as_str().into()
    }

    /// A job's name in the journal.
    pub(super) fn job_fact(&self, seq: u32) -> Job {
        job_name(&self.id, seq).into()
    }

    pub(super) fn job(&self, seq: u32) -> Option<&JobRun> {
        self.jobs.iter().find(|job| job.seq == seq)
    }

    pub(super) fn job_mut(&mut self, seq: u32) -> Option<&mut JobRun> {
        self.jobs.iter_mut().find(|job| job.seq == seq)
    }

    /// The job whose agent another one uses; itself when it has one of its own.
    pub(super) fn root_of(&self, seq: u32) -> u32 {
        match self.job(seq).map(|job| &job.spec.place) {
            // Only earlier jobs can be meant, so this ends.
            Some(Place::SameAs(earlier)) if *earlier < seq => self.root_of(*earlier),
            _ => seq,
        }
    }

    /// Does a job of its own stage use this one's agent?
    pub(super) fn has_sibling(&self, root: u32) -> bool {
        let stage = self.job(root).map(|job| job.spec.stage);
        self.jobs.iter().any(|job| job.seq != root && Some(job.spec.stage) == stage && self.root_of(job.seq) == root)
    }

    /// The job of an earlier stage whose workspace another one builds on.
    pub(super) fn builds_on(&self, seq: u32) -> Option<u32> {
        let job = self.job(seq)?;
        let root = self.root_of(seq);
        let earlier = self.jobs.iter().filter(|other| other.seq < seq && other.spec.stage < job.spec.stage);
        earlier
            .filter(|other| self.root_of(other.seq) == root && !self.is_beside(other))
            .map(|other| other.seq)
            .next_back()
            .filter(|_| root != seq)
    }

    /// Does it run beside its root, in a folder of its own?
    fn is_beside(&self, job: &JobRun) -> bool {
        let root = self.root_of(job.seq);
        root != job.seq && self.job(root).is_some_and(|root| root.spec.stage == job.spec.stage)
    }
}

impl JobRun {
    fn new(seq: u32, spec: JobSpec) -> Self {
        Self {
            seq,
            spec,
            phase: Phase::Waiting,
            execute_count: 1,
            agent: None,
            offered: false,
            avoid: BTreeSet::new(),
            task: Task::Queued,
            started: None,
            cancel_requested: false,
            cancel_tasks: BTreeSet::new(),
        }
    }

    /// Back to the beginning, for an attempt.
    pub(super) fn reset(&mut self, execute_count: u32) {
        *self = Self { execute_count, ..Self::new(self.seq, self.spec.clone()) };
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// The name of its task.
    pub(super) fn task_id(&self) -> String {
        format!("e-{}", self.seq)
    }
}

/// A job's name.
pub fn job_name(build: &str, seq: u32) -> String {
    format!("{build}/{seq}")
}

/// The variable with the agent of a job.
pub(super) fn agent_variable(seq: u32) -> String {
    format!("jobs.job_{seq}.container.agent_id")
}

/// Is it a variable with the agent of a job?
pub(super) fn names_agent(variable: &str) -> bool {
    variable.ends_with(".container.agent_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_builds_on_the_last_one_of_its_chain() {
        let job = |stage, place| JobSpec { stage, place };
        let jobs = vec![
            job(0, Place::Agent("a".into())),
            job(0, Place::SameAs(1)),
            job(1, Place::SameAs(1)),
            job(2, Place::SameAs(3)),
            job(2, Place::Environment),
        ];
        let build = Build::new(BuildSpec { name: "b".into(), jobs });
        assert_eq!([1, 2, 3, 4, 5].map(|seq| build.root_of(seq)), [1, 1, 1, 1, 5]);
        assert_eq!([1, 2, 3, 4, 5].map(|seq| build.builds_on(seq)), [None, None, Some(1), Some(3), None]);
        assert_eq!((build.has_sibling(1), build.has_sibling(5)), (true, false));
    }
}
