//! Progress: a running job works, and nothing else keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::WorkerId;

use crate::time::SimTime;

use super::findings::Span;
use super::running::{Change, Run, Running};
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// What a worker does besides the work of its job adds no more than a bound to it, whatever goes wrong elsewhere.
///
/// A job that works has effects. So there is no longer time without one between its start, its effects and its stop. A
/// suspended machine's time does not count.
#[derive(Clone, Debug)]
pub struct WorkNotHeldUp {
    /// The longest time without an effect: that between two effects of a job that works, and what may come on top.
    /// Default: 1 minute.
    pub bound: Duration,
}

impl Default for WorkNotHeldUp {
    fn default() -> Self {
        Self { bound: Duration::from_secs(60) }
    }
}

impl Rule for WorkNotHeldUp {
    const NAME: &'static str = "work-not-held-up";
    const SUMMARY: &'static str =
        "Best-effort traffic adds no more than a bound to a job, whatever goes wrong elsewhere.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let suspensions = Suspensions::of(history);
        let mut running = Running::default();
        let mut last: BTreeMap<&WorkerId, (Run<'_>, SimTime)> = BTreeMap::new();
        let look = |found: &mut Findings, run: Run<'_>, since: SimTime, at: SimTime| {
            let idle = suspensions.awake(&[run.node], since, at);
            if idle > self.bound {
                let message = format_args!(
                    "{} had no effect for {} between {since} and {at} while it executed {} ({} are the bound)",
                    run.worker,
                    Span(idle),
                    run.job,
                    Span(self.bound)
                );
                found.breach(run.job, at, message);
            }
        };
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => {
                    found.subject();
                    last.insert(run.worker, (run, entry.at));
                }
                Some(Change::Stopped(run, _)) => {
                    let before = last.remove(run.worker);
                    before.into_iter().for_each(|(run, since)| look(found, run, since, entry.at));
                }
                None => {}
            }
            if let Fact::JobEffect { worker, .. } = &entry.fact
                && let Some((run, since)) = last.get_mut(worker)
            {
                look(found, *run, *since, entry.at);
                *since = entry.at;
            }
        }
        last.into_values().for_each(|(run, since)| look(found, run, since, history.end));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn begun() -> Vec<(u64, Fact)> {
        vec![(1, started("j", 1, "a", "w")), (1, effect("j", 1, "w")), (61, effect("j", 1, "w"))]
    }

    #[test]
    fn a_job_that_works_is_fine() {
        let facts = [begun(), vec![(121, effect("j", 1, "w")), (181, stopped("j", 1, "w"))]].concat();
        holds(&WorkNotHeldUp::default(), 1, facts);
    }

    #[test]
    fn a_job_that_is_kept_waiting_is_a_breach() {
        for late in [effect("j", 1, "w"), stopped("j", 1, "w")] {
            let facts = [begun(), vec![(200, late), (201, stopped("j", 1, "w"))]].concat();
            let broken = (200, "j", "work-not-held-up/job");
            breaks(&WorkNotHeldUp::default(), broken, &["w had no effect", "0:01:01", "60 s"], facts);
        }
        let unheard_of = (END_S, "j", "work-not-held-up/job");
        breaks(&WorkNotHeldUp::default(), unheard_of, &[], begun());
    }

    #[test]
    fn sleep_does_not_count() {
        let asleep = vec![
            (70, Fact::MachineSuspended { machine: "a".into() }),
            (500, Fact::MachineResumed { machine: "a".into() }),
            (550, stopped("j", 1, "w")),
        ];
        holds(&WorkNotHeldUp::default(), 1, [begun(), asleep].concat());
    }
}
